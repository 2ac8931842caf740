"""Counters on the ladder: decisions do without them where they fail or take too long."""

from collections.abc import Mapping, Sequence

from commands.activity import Activity, Conduct
from commands.items import Ready
from commands.ladder import Ladder
from domain.events import ImpressionEvent, ImpressionRendered
from domain.ids import ImpressionId
from domain.vocabulary import Rung

SLOW_S = 0.010
"""A look at one batch that takes longer is a failure: two thirds of it are left for the ledger then."""
PROBE_EVERY_S = 0.5
"""While they are not relied on, counters are asked this often, to see whether they can be again."""
UNKNOWN = Conduct(rungs=(Rung.PARTIAL_COUNTERS,))


class GuardedActivity:
    """
    An `Activity` that never stands in the way: without its counters each render is judged by itself, and says so.

    Counting goes on while they are not asked, so that they are right when they are again.
    """

    def __init__(self, activity: Activity, ladder: Ladder) -> None:
        self._activity = activity
        self._ladder = ladder
        self._clock = ladder.clock
        self._probe_at = float("-inf")
        self.failed = 0
        """How often counters failed or took too long."""
        self.says = ""
        """The type of the last error."""

    def look(self, renders: Sequence[Ready]) -> Mapping[int, Conduct]:
        """See `Activity.look`; never raises."""
        if not renders:
            return {}
        ladder = self._ladder
        if not ladder.is_without_counters:
            found = self._ask(renders)
            return _unknown(len(renders)) if found is None else found
        if ladder.counters.is_down and self._clock() >= self._probe_at:
            self._probe_at = self._clock() + PROBE_EVERY_S
            self._ask(renders)
        return _unknown(len(renders))

    def count(self, claims: Sequence[ImpressionRendered]) -> None:
        """See `Activity.count`; never raises: what is not counted can be missed, what is durable stays so."""
        try:
            self._activity.count(claims)
        except Exception as error:  # noqa: BLE001 (whatever is wrong with counters, the renders are decided)
            self._failed(type(error).__name__)

    def recall(self, impression: ImpressionId, events: Sequence[ImpressionEvent]) -> None:
        self._activity.recall(impression, events)

    def _ask(self, renders: Sequence[Ready]) -> Mapping[int, Conduct] | None:
        """Return what counters say, None if they cannot; what comes too late is used, but speaks against them."""
        began = self._clock()
        try:
            found = self._activity.look(renders)
        except Exception as error:  # noqa: BLE001
            self._failed(type(error).__name__)
            return None
        if self._clock() - began > SLOW_S:
            self._failed("slow")
        else:
            self._ladder.counters.well()
        return found

    def _failed(self, says: str) -> None:
        self.failed += 1
        self.says = says
        self._ladder.counters.ill()


def _unknown(renders: int) -> dict[int, Conduct]:
    return dict.fromkeys(range(renders), UNKNOWN)
