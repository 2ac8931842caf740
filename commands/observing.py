"""Counters on the ladder: decisions do without them where they fail or take too long, or there is no time for them."""

from collections.abc import Callable, Mapping, Sequence

from commands.activity import Activity, Conduct
from commands.items import Ready
from commands.ladder import Ladder, is_shed
from domain.events import ImpressionEvent, ImpressionRendered
from domain.ids import ImpressionId
from domain.pack import Pack
from domain.signals import Signal
from domain.suspicion import geometry
from domain.vocabulary import Rung

SLOW_S = 0.010
"""A look at one batch that takes longer is a failure: two thirds of it are left for the ledger then."""
PROBE_EVERY_S = 0.5
"""While they are not relied on, counters are asked this often, to see whether they can be again."""
UNKNOWN = Conduct(rungs=(Rung.PARTIAL_COUNTERS,))
SHED = Conduct(rungs=(Rung.SHED,))


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


class SheddingActivity:
    """
    An `Activity` that leaves out, under load, a share of the renders that nothing stands against.

    What any rule of the screen or any measure speaks against is always looked at. All renders are counted.
    """

    def __init__(self, activity: Activity, ladder: Ladder, pack: Pack) -> None:
        self._activity = activity
        self._ladder = ladder
        self._pack = pack
        self.shed = 0
        """How many renders were not looked at."""
        self.count: Callable[[Sequence[ImpressionRendered]], None] = activity.count
        self.recall: Callable[[ImpressionId, Sequence[ImpressionEvent]], None] = activity.recall

    def look(self, renders: Sequence[Ready]) -> Mapping[int, Conduct]:
        """See `Activity.look`."""
        if not self._ladder.is_shedding:
            return self._activity.look(renders)
        places = [place for place, item in enumerate(renders) if not self._is_shed(item)]
        looked = self._activity.look([renders[place] for place in places])
        found = dict.fromkeys(range(len(renders)), SHED)
        for place in places:
            del found[place]
        self.shed += len(found)
        return {**found, **{places[at]: conduct for at, conduct in looked.items()}}

    def _is_shed(self, item: Ready) -> bool:
        return not item.reasons and is_shed(item.impression) and not self._signals(item)

    def _signals(self, item: Ready) -> tuple[Signal, ...]:
        return geometry(item.claim, self._pack)


def _unknown(renders: int) -> dict[int, Conduct]:
    return dict.fromkeys(range(renders), UNKNOWN)
