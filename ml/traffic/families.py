"""
The families of traffic that is not ordinary: which there are, which training may see, and what is true of each.

Source: semantics 20 of the design. People, the odd ones among them too, are always there and no family.
"""

from collections.abc import Iterable
from enum import StrEnum

from msgspec import Struct


class Of(StrEnum):
    """What a family tells apart: somebody who acts, a place, a client's version, or a way of sending."""

    ACTOR = "actor"
    PLACE = "place"
    CLIENT = "client"
    SENDING = "sending"


class Family(Struct, frozen=True):
    """
    `held_out`: generated for evaluation, never trained on. `invalid`: some of its impressions should not be paid for;
    of the others a person saw the ad, whatever is wrong with the event.
    """

    name: str
    of: Of
    invalid: bool
    held_out: bool = False


FAMILIES: tuple[Family, ...] = (
    Family("declared_crawler", Of.ACTOR, invalid=True),
    Family("cloud_bot", Of.ACTOR, invalid=True),
    Family("device_farm", Of.ACTOR, invalid=True),
    Family("ad_stacking", Of.PLACE, invalid=True),
    Family("hidden", Of.PLACE, invalid=True),
    Family("replay_same_id", Of.SENDING, invalid=True),
    Family("prefetch", Of.SENDING, invalid=False),
    Family("clock_skewed_sdk", Of.CLIENT, invalid=False),
    Family("double_fire_sdk", Of.CLIENT, invalid=True),
    Family("incomplete_logs", Of.SENDING, invalid=False),
    Family("residential_bot", Of.ACTOR, invalid=True, held_out=True),
    Family("slow_farm", Of.ACTOR, invalid=True, held_out=True),
    Family("falsified_view", Of.PLACE, invalid=True, held_out=True),
    Family("replay_new_ids", Of.ACTOR, invalid=True, held_out=True),
    Family("mixed_bot", Of.ACTOR, invalid=True, held_out=True),
    Family("double_fire_sdk_other", Of.CLIENT, invalid=True, held_out=True),
    Family("unit_change_sdk", Of.CLIENT, invalid=False, held_out=True),
    Family("late_flood", Of.SENDING, invalid=False, held_out=True),
)
BY_NAME = {family.name: family for family in FAMILIES}
TRAINABLE = tuple(family.name for family in FAMILIES if not family.held_out)
HELD_OUT = tuple(family.name for family in FAMILIES if family.held_out)

OF_DEED = {
    "prefetched": "prefetch",
    "loaded": "prefetch",
    "incomplete": "incomplete_logs",
    "replayed": "replay_same_id",
}
"""Deeds (`ml/traffic/deeds.py`) that are there only where their family takes part."""


def known(names: Iterable[str]) -> frozenset[str]:
    """
    Return *names* as a set.

    Raises:
        ValueError: there is no such family.
    """
    chosen = frozenset(names)
    if unknown := chosen - BY_NAME.keys():
        raise ValueError(f"no family is called {', '.join(sorted(unknown))}; there are {', '.join(BY_NAME)}")
    return chosen


def is_held_out(name: str) -> bool:
    return name in _HELD_OUT


_HELD_OUT = frozenset((*HELD_OUT, "adversary"))
