"""Whether something can be relied on: down after it failed for a while, up again only after a stretch of health."""

from collections.abc import Callable

from msgspec import Struct


class Patience(Struct, frozen=True, kw_only=True):
    """
    When to give something up, and when to trust it again. Durations in seconds.

    A condition that goes down stays there for `well_s` at least, so in a minute it changes at most `2 + 120 / well_s`
    times, whatever happens.
    """

    failures: int = 1
    """So many failures in a row,"""
    ill_s: float = 0.0
    """and it is so long since the first of them: down."""
    proofs: int = 1
    """So many proofs of health without a failure in between,"""
    well_s: float = 1.0
    """and it is so long since the first of them: up."""
    well_max_s: float = 30.0
    calm_s: float = 10.0
    """If it goes down again sooner than this after it came up, the stretch of health must be twice as long."""


class Condition:
    """Up until told otherwise. *clock* is monotonic, in seconds."""

    def __init__(self, patience: Patience, clock: Callable[[], float]) -> None:
        self.is_down = False
        self.changes = 0
        self._patience = patience
        self._clock = clock
        self._failures = self._proofs = 0
        self._ill_since = self._well_since = 0.0
        self._up_at = float("-inf")
        self._well_s = patience.well_s

    def ill(self) -> None:
        """It failed, or took too long."""
        self._proofs = 0
        if self.is_down:
            return
        now, patience = self._clock(), self._patience
        if not self._failures:
            self._ill_since = now
        self._failures += 1
        if self._failures >= patience.failures and now - self._ill_since >= patience.ill_s:
            is_soon = now - self._up_at < patience.calm_s
            self._well_s = min(2 * self._well_s, patience.well_max_s) if is_soon else patience.well_s
            self.is_down = True
            self.changes += 1

    def well(self) -> None:
        """It did what it should."""
        self._failures = 0
        if not self.is_down:
            return
        now = self._clock()
        if not self._proofs:
            self._well_since = now
        self._proofs += 1
        if self._proofs >= self._patience.proofs and now - self._well_since >= self._well_s:
            self.is_down, self._up_at, self._proofs = False, now, 0
            self.changes += 1

    def note(self, *, is_well: bool) -> None:
        if is_well:
            self.well()
        else:
            self.ill()
