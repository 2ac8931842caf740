"""What a model thinks of renders: the port of scoring, and the `Activity` that has every render scored."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from msgspec.structs import replace

from commands.activity import PLAIN, Activity, Conduct
from commands.items import Ready
from commands.ladder import Ladder, is_shed
from commands.thoughts import Thought
from domain.events import ImpressionEvent, ImpressionRendered
from domain.ids import ImpressionId
from domain.pack import Pack
from domain.suspicion import fingerprint, geometry
from domain.vocabulary import Rung


class Scoring(Protocol):
    """Models over the renders of a batch; belongs to one task."""

    def think(self, renders: Sequence[Ready], shed: Collection[int]) -> Sequence[Thought | None]:
        """
        Return what is thought of each of *renders*, which were just looked at, in order; None of what is not scored.

        Those at the places *shed* are not, but for the random sample, whose thoughts do not decide then.
        """


class Shedding:
    """Which renders go without a score under load: a share of those that nothing stands against."""

    def __init__(self, ladder: Ladder, pack: Pack) -> None:
        self._ladder = ladder
        self._pack = pack
        self.shed = 0
        """How many renders were not scored."""

    def places(self, renders: Sequence[Ready], found: Mapping[int, Conduct]) -> Collection[int]:
        """Return the places of *renders* that are shed; what the screen, a measure or *found* speaks against is not."""
        if not self._ladder.is_shedding:
            return ()
        shed = {place for place, item in enumerate(renders) if self._is_shed(item, found.get(place, PLAIN))}
        self.shed += len(shed)
        return shed

    def _is_shed(self, item: Ready, conduct: Conduct) -> bool:
        is_plain = not item.reasons and not conduct.abusive and not conduct.signals
        stands_out = geometry(item.claim, self._pack) or fingerprint(item.claim, self._pack)
        return is_plain and is_shed(item.impression) and not stands_out


class ScoringActivity:
    """
    An `Activity` that also has the renders scored. It never stands in the way: without a score the rules decide.

    Without *shedding* nothing is shed, as for what is decided again.
    """

    def __init__(self, activity: Activity, scoring: Scoring, ladder: Ladder, shedding: Shedding | None = None) -> None:
        self._activity = activity
        self._scoring = scoring
        self._ladder = ladder
        self._shedding = shedding
        self.count: Callable[[Sequence[ImpressionRendered]], None] = activity.count
        self.recall: Callable[[ImpressionId, Sequence[ImpressionEvent]], None] = activity.recall
        self.failed = 0
        """How often scoring failed."""
        self.says = ""
        """The type of the last error."""

    def look(self, renders: Sequence[Ready]) -> Mapping[int, Conduct]:
        """See `Activity.look`."""
        if not renders:
            return {}
        found = self._activity.look(renders)
        shed = () if self._shedding is None else self._shedding.places(renders, found)
        conducts = {at: Conduct(False, (), (), thought) for at, thought in enumerate(self._think(renders, shed))}
        for place, seen in found.items():
            conducts[place] = Conduct(seen.abusive, seen.signals, seen.rungs, conducts[place].thought)
        for place in shed:
            conducts[place] = replace(conducts[place], rungs=(*conducts[place].rungs, Rung.SHED))
        return conducts

    def _think(self, renders: Sequence[Ready], shed: Collection[int]) -> Sequence[Thought | None]:
        try:
            thoughts = self._scoring.think(renders, shed)
        except Exception as error:  # noqa: BLE001 (whatever is wrong with a model, the renders are decided)
            self.failed += 1
            self.says = type(error).__name__
            self._ladder.model.ill()
            return [None] * len(renders)
        self._ladder.model.well()
        return thoughts
