"""Signals: what speaks against a render without deciding. A sivt reason needs two of different families."""

from enum import StrEnum

from msgspec import Struct


class Family(StrEnum):
    """Where a signal comes from; two of one family are one witness."""

    AGENT = "agent"
    NETWORK = "network"
    FINGERPRINT = "fingerprint"
    RATE = "rate"
    GEOMETRY = "geometry"
    SEQUENCE = "sequence"
    LABEL = "label"
    MODEL = "model"


class Signal(Struct, frozen=True, gc=False):
    """The *value* that was on the wrong side of the *threshold*; *name* says of what."""

    family: Family
    name: str
    value: float
    threshold: float
