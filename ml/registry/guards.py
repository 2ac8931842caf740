"""Guardrails: what ends a canary by itself, before anybody looks. May be looked at all the time."""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from msgspec import Struct

from ml.registry.sequential import HarmBet

CANARY_ALPHA = 0.01
"""A canary that harms nothing is ended with this probability at most, however long it runs."""


class Guard(StrEnum):
    UNCERTAIN = "uncertain_share"
    DROPPED = "drop_share"
    ERRORS = "error_rate"
    """Renders that it could not score; the champion decided them."""
    SLOW = "slow_share"
    """Renders that it scored in more time than it may take."""


LIMITS: Mapping[Guard, float] = {Guard.UNCERTAIN: 0.02, Guard.DROPPED: 0.01, Guard.ERRORS: 0.005, Guard.SLOW: 0.05}
"""How much higher a share of the canary's impressions may be than of the champion's in the same batches."""


def parse_limits(text: str) -> dict[Guard, float]:
    """
    Return the limits of all guards; *text* has those that are not as `LIMITS` says, such as `drop_share=0.03`.

    Raises:
        ValueError: it names no guard, or a limit that is not over 0 and at most 1.
    """
    limits = dict(LIMITS)
    for word in text.split():
        name, _, limit = word.partition("=")
        limits[Guard(name)] = float(limit)
    if not all(0.0 < limit <= 1.0 for limit in limits.values()):
        raise ValueError("a limit is over 0 and at most 1")
    return limits


class Share(NamedTuple):
    """*hits* of *rows*: the renders of one model to which something happened, of all it had."""

    hits: int = 0
    rows: int = 0


class Tripped(Struct, frozen=True):
    """The guard that a canary went over after *batches*: how much higher its share is, and how much it may be."""

    guard: Guard
    difference: float
    limit: float
    batches: int

    @property
    def reason(self) -> str:
        return (
            f"guard: {self.guard.value} is {self.difference * 100:.1f} points over the champion's,"
            f" {self.limit * 100:g} are allowed ({self.batches} batches)"
        )


class Guardrails:
    """
    Watches one canary beside its champion, batch by batch.

    Both arms meet the same traffic at the same time, and which impression is whose is a hash's choice. So where the
    canary does no harm the expected difference of each batch is 0 whatever the traffic is like.
    """

    def __init__(self, limits: Mapping[Guard, float] = LIMITS, alpha: float = CANARY_ALPHA) -> None:
        self._limits = limits
        self._bets = {guard: HarmBet(limit, alpha / len(limits)) for guard, limit in limits.items()}
        self._open = dict.fromkeys(limits, (Share(), Share()))

    def observe(self, guard: Guard, canary: Share, champion: Share) -> None:
        """Take in what became of a batch; batches are put together until both models have a part in it."""
        ours, theirs = self._open[guard]
        ours = Share(ours.hits + canary.hits, ours.rows + canary.rows)
        theirs = Share(theirs.hits + champion.hits, theirs.rows + champion.rows)
        if ours.rows and theirs.rows:
            self._bets[guard].add(ours.hits / ours.rows - theirs.hits / theirs.rows)
            ours = theirs = Share()
        self._open[guard] = ours, theirs

    @property
    def tripped(self) -> Tripped | None:
        """The guard that the canary has gone over, None while there is none."""
        for guard, bet in self._bets.items():
            if bet.is_won:
                return Tripped(guard, bet.mean, self._limits[guard], bet.n)
        return None

    @property
    def differences(self) -> dict[Guard, float]:
        """By guard: how much higher the canary's share has been."""
        return {guard: bet.mean for guard, bet in self._bets.items()}
