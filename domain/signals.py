"""
Signals of invalid traffic: what stands out about a render, and of which family it is.

A signal decides nothing by itself. Source: MRC Invalid Traffic Detection and Filtration Standards Addendum, which asks
more than one point of corroboration of sophisticated invalid traffic; the families are ours.
"""

from enum import StrEnum

from msgspec import Struct


class Family(StrEnum):
    """Signals of one family come from one cause, so two of them are no better than one."""

    AGENT = "agent"
    NETWORK = "network"
    FINGERPRINT = "fingerprint"
    RATE = "rate"
    GEOMETRY = "geometry"
    SEQUENCE = "sequence"
    LABEL = "label"
    MODEL = "model"


class Signal(Struct, frozen=True, gc=False):
    """What stands out: a value over the threshold of that name in the rule pack, in the threshold's unit."""

    family: Family
    name: str
    value: float
    threshold: float
