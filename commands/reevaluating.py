"""
Looks at impressions again: reads their streams, asks what a later model would have of each, writes that down.

Safe to run twice, at once, out of order, or after a crash between any two steps: what was found stands once per
impression, the one that knew most, and what is due stays due until that is written. The ledger is only read.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeAlias

from msgspec import Struct

from commands.reevaluated import Reevaluated, ReevaluatedStore
from commands.reevaluations import Noted, Postponed, Reevaluations
from domain.ids import ImpressionId
from domain.impression import Decided, ImpossibleTransition, fold
from domain.reasons import Reason, Verdict
from domain.reevaluation import Change, Why, would_become
from ledger.codec import UnreadableCommit, decode_impression
from ledger.following import Seen
from ledger.store import READ_MAX, Commit, EventStore

STREAMS_MAX = 100
"""Streams in one read."""
EARLY_MS = 2_000
WAIT_MIN_MS, WAIT_MAX_MS = 60_000, 3_600_000
FAILING_MIN_MS, FAILING_MAX_MS = 180_000, 86_400_000
_WAIT_SHARE = 8
_DOUBLINGS_MAX = 10
_ERROR_MAX = 500
_ORDER = {why: place for place, why in enumerate(Why)}


class NoModel(Exception):
    """There is no model that could look again."""


class Opinion(Struct, frozen=True, kw_only=True):
    """What *model* would have of an impression, with what was known of it at *known_at* (epoch ms)."""

    model: str
    known_at: int
    verdict: Verdict
    reason: Reason | None
    risk: float
    pair: tuple[str, ...] = ()
    masked_risk: float | None = None


class TooEarly(Struct, frozen=True):
    """What came later is not known yet up to the last event of the impression."""


class Flaw(Struct, frozen=True):
    """Nothing can be said of the impression, and why."""

    why: str


Answer: TypeAlias = Opinion | TooEarly | Flaw


class Reviewer(Protocol):
    async def review(self, streams: Mapping[ImpressionId, Sequence[Seen]]) -> Mapping[ImpressionId, Answer]:
        """
        Say of each of *streams*, whose events are all there, what a later model would have of it.

        Raises:
            NoModel: there is none.
            LedgerUnavailable: a store did not answer.
        """


class Looked(Struct):
    """What became of impressions. `failing` is what nothing could be said of, and why; its neighbours are unharmed."""

    done: int = 0
    changed: int = 0
    absent: int = 0
    early: int = 0
    without_model: int = 0
    failing: dict[ImpressionId, str] = {}


class Reevaluator:
    """Looks again at what is noted. `clock` gives epoch ms. Belongs to one event loop; calls may overlap."""

    def __init__(
        self,
        *,
        ledger: EventStore,
        noted: Reevaluations,
        found: ReevaluatedStore,
        reviewer: Reviewer,
        clock: Callable[[], int],
    ) -> None:
        self._ledger = ledger
        self._noted = noted
        self._found = found
        self._reviewer = reviewer
        self._clock = clock

    async def look(self, impressions: Sequence[ImpressionId]) -> Looked:
        """
        Look at those of *impressions* that are due.

        Raises:
            LedgerUnavailable: it must be tried again; what was done stays.
        """
        looked = Looked()
        for start in range(0, len(impressions), STREAMS_MAX):
            now, rows = self._clock(), dict[ImpressionId, list[Noted]]()
            for row in await self._noted.noted(impressions[start : start + STREAMS_MAX], now):
                rows.setdefault(row.impression, []).append(row)
            if rows:
                await self._look(_Chunk(rows, looked, now))
        return looked

    async def _look(self, chunk: "_Chunk") -> None:
        chunk.learn(await self._ledger.read_streams(list(chunk.rows), READ_MAX))
        try:
            answers = await self._reviewer.review(chunk.streams) if chunk.streams else {}
        except NoModel:
            chunk.wait()
        else:
            chunk.hear(answers)
        await self._found.put(chunk.found)
        await self._noted.postpone(chunk.later)
        await self._noted.done(chunk.done)


class _Chunk:
    """Impressions that are looked at together, as of *now*, and what comes of it."""

    def __init__(self, rows: Mapping[ImpressionId, list[Noted]], looked: Looked, now: int) -> None:
        self.rows = rows
        self.streams: dict[ImpressionId, list[Seen]] = {}
        self.found: list[Reevaluated] = []
        self.done: list[Noted] = []
        self.later: list[Postponed] = []
        self._looked = looked
        self._now = now

    def learn(self, commits: Mapping[ImpressionId | str, list[Commit]]) -> None:
        """Take in what was read; what is not there is done with, what cannot be read comes later."""
        for impression, rows in self.rows.items():
            if impression not in commits:
                self._looked.absent += 1
                self.done += rows
                continue
            try:
                self.streams[impression] = [Seen(one, decode_impression(one.data)) for one in commits[impression]]
            except UnreadableCommit as error:
                self._fail(impression, str(error))

    def hear(self, answers: Mapping[ImpressionId, Answer]) -> None:
        for impression, stream in self.streams.items():
            match answers[impression]:
                case Opinion() as opinion:
                    self._note(impression, stream, opinion)
                case TooEarly():
                    self._looked.early += 1
                    self.later += [Postponed(row, self._now + EARLY_MS) for row in self.rows[impression]]
                case Flaw(why):
                    self._fail(impression, why)

    def wait(self) -> None:
        """Nobody can look: look again after an eighth of the time that it has waited."""
        for impression in self.streams:
            self._looked.without_model += 1
            for row in self.rows[impression]:
                pause = max(WAIT_MIN_MS, min((self._now - row.wanted_at) // _WAIT_SHARE, WAIT_MAX_MS))
                self.later.append(Postponed(row, self._now + pause))

    def _note(self, impression: ImpressionId, stream: Sequence[Seen], opinion: Opinion) -> None:
        try:
            state = fold(event for seen in stream for event in seen.events or ())
        except ImpossibleTransition as error:
            self._fail(impression, str(error))
            return
        assert isinstance(state, Decided), "a stream begins with a decision"
        self.found.append(self._row(stream, state, opinion))
        self.done += self.rows[impression]
        self._looked.done += 1
        self._looked.changed += self.found[-1].changes

    def _row(self, stream: Sequence[Seen], state: Decided, opinion: Opinion) -> Reevaluated:
        standing, last = state.standing, stream[-1]
        changes = (opinion.verdict, opinion.reason) != (standing.verdict, standing.reason)
        stays = Change(standing, standing, allowed=True)
        change = would_become(state, opinion.reason, self._now) if changes else stays
        return Reevaluated(
            impression=last.impression,
            version=last.commit.version + last.commit.count,
            known_at=opinion.known_at,
            looked_at=self._now,
            why=min((row.why for row in self.rows[last.impression]), key=_ORDER.__getitem__),
            model=opinion.model,
            risk=opinion.risk,
            from_verdict=standing.verdict,
            from_reason=standing.reason,
            to_verdict=opinion.verdict,
            to_reason=opinion.reason,
            changes=changes,
            allowed=change.allowed,
            pair=opinion.pair,
            masked_risk=opinion.masked_risk,
            micros=change.micros,
            currency=state.cut.currency,
            campaign=state.cut.campaign,
            event_at=state.cut.event_at,
        )

    def _fail(self, impression: ImpressionId, why: str) -> None:
        self._looked.failing[impression] = why
        for row in self.rows[impression]:
            pause = min(FAILING_MIN_MS << min(row.tries, _DOUBLINGS_MAX), FAILING_MAX_MS)
            self.later.append(Postponed(row, self._now + pause, why[:_ERROR_MAX]))
