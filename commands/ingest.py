"""
One batch of prepared renders: recognise, decide, append in one call, answer.

Where a stream stands otherwise than assumed, the ledger refuses; it is read, folded and decided again. So the ledger's
"no stream", not this process's memory, is the final word.
"""

from collections.abc import Callable, Iterable, Sequence
from uuid import uuid4

from msgspec import Struct

from commands.items import Answer, Fault, Item, Malformed, Ready, Refused, Slot, Status
from commands.quarantine import Holding
from commands.recent import FirstAnswer, RecentAnswers, RecentSlots, Shown, shown
from domain.aggregates import AnswersCounted
from domain.decide import AdmitRender, CommandRefused, RecordView, Refusal, decide
from domain.events import (
    ImpressionDeduped,
    ImpressionEvent,
    ImpressionReconciled,
    ImpressionScored,
    Versions,
)
from domain.ids import CauseId, ImpressionId
from domain.impression import Decided, Impression, Unseen, conflicts, fold
from domain.pack import Measures, Pack
from domain.reasons import Reason, Verdict
from domain.render import Kind
from domain.screen import claimed, cut_of, in_order
from domain.standing import in_gross
from domain.vocabulary import Rung
from ledger.codec import decode
from ledger.store import READ_MAX, Append, Appended, Commit, Conflict, EventStore, LedgerUnavailable, Outcome

ROUNDS_MAX = 8
"""A stream that others keep writing to is decided again this often; then the caller is told to retry."""

RUNG = Rung.MODEL_FALLBACK
"""No model is trained yet, so rules alone decide; every decision says so."""


class _Group(Struct):
    """The renders of one impression in one batch, and what came of them."""

    members: list[tuple[int, Ready]]
    must_read: bool = False
    version: int = 0
    state: Impression = Unseen()
    events: tuple[ImpressionEvent, ...] = ()
    made: list[tuple[Ready, ImpressionEvent]] = []
    unmoved: int = 0
    repeats: int = 0


class _Batch(Struct):
    """One batch on its way: answers by place, what is still open, what is to be counted or kept aside."""

    answers: dict[int, Answer] = {}
    open: dict[ImpressionId, _Group] = {}
    refused: dict[Reason, int] = {}
    unmoved: int = 0
    repeats: int = 0
    quarantine: list[Malformed] = []
    early: list[tuple[int, Ready]] = []

    @property
    def uncounted(self) -> bool:
        return bool(self.refused or self.unmoved or self.repeats)


class Ingest:
    """Decides batches. Belongs to one task; `clock` gives epoch ms, `name` tells this process's streams apart."""

    def __init__(  # noqa: PLR0913 (its collaborators)
        self,
        *,
        store: EventStore,
        pack: Pack,
        lists_version: str,
        holding: Holding,
        recent_max: int,
        name: str,
        clock: Callable[[], int],
    ) -> None:
        self._store = store
        self._pack = pack
        self._versions = Versions(pack=pack.name, lists=lists_version)
        self._holding = holding
        self._recent = RecentAnswers(recent_max)
        self._slots = RecentSlots(recent_max, pack.double_fire_window_ms)
        self._counts_stream = f"rejects-{name}"
        self._counts_version = 0
        self._clock = clock

    async def decide_batch(self, items: Sequence[Item]) -> list[Answer]:
        """
        Decide *items* and return one answer each, in order; whatever is answered is durable.

        Raises:
            LedgerUnavailable: nothing may be answered; the same items may be sent again.
        """
        batch = _Batch()
        self._slots.begin_batch()
        for at, item in enumerate(items):
            self._sort_in(batch, at, item)
        await self._settle(batch)
        if batch.early:
            await self._park(batch)
            await self._settle(batch)
        if batch.quarantine:
            await self._holding.quarantine(batch.quarantine)
        return [batch.answers[at] for at in range(len(items))]

    async def _settle(self, batch: _Batch) -> None:
        for _ in range(ROUNDS_MAX):
            if not batch.open and not batch.uncounted:
                return
            await self._round(batch)
        raise LedgerUnavailable("streams of the batch kept changing")

    async def _park(self, batch: _Batch) -> None:
        """Keep views until their render arrives; an id that is parked with another content is refused."""
        reused = await self._holding.park([item for _, item in batch.early])
        for at, item in batch.early:
            if item.seen.render.event_id in reused:
                batch.answers[at] = self._refuse(batch, item)

    def _sort_in(self, batch: _Batch, at: int, item: Item) -> None:
        match item:
            case Ready():
                impression = item.seen.token.impression
                known = self._recent.get(impression)
                if known is not None and _is_retry(item, known):
                    batch.answers[at] = _decided(item, known.verdict, known.reason)
                    return
                group = batch.open.get(impression)
                if group is None:
                    group = batch.open[impression] = _Group([], must_read=known is not None)
                group.members.append((at, item))
                group.must_read |= item.seen.render.kind is Kind.VIEW
            case Refused():
                batch.refused[item.reason] = batch.refused.get(item.reason, 0) + 1
                batch.answers[at] = _refused(item.event_id, item.impression_id, item.reason)
            case Malformed():
                batch.quarantine.append(item)
                batch.answers[at] = _quarantined(item)

    async def _round(self, batch: _Batch) -> None:
        """Read what must be read, decide what is open, append in one call; what conflicts stays open."""
        await self._read([(key, group) for key, group in batch.open.items() if group.must_read])
        appends: list[Append] = []
        fresh: dict[Slot, list[Shown]] = {}
        for impression, group in list(batch.open.items()):
            if self._waits(group, fresh):
                continue
            self._decide(group, batch.answers)
            if not group.events:
                self._close(batch, impression)
                continue
            self._note(group, fresh)
            first = group.events[0]
            appends.append(
                Append(
                    stream=impression,
                    expected=group.version,
                    cause=first.cause,
                    digest=first.digest,
                    events=group.events,
                )
            )
        counted = self._counts(batch)
        if counted is not None:
            appends.append(counted)
        outcomes = await self._store.append(appends, self._clock()) if appends else []
        for append, outcome in zip(appends, outcomes, strict=True):
            self._absorb(batch, append, outcome)

    async def _read(self, groups: Sequence[tuple[ImpressionId, _Group]]) -> None:
        if not groups:
            return
        streams = await self._store.read_streams([impression for impression, _ in groups], READ_MAX)
        for impression, group in groups:
            commits = streams.get(impression, [])
            group.state = fold(_events(commits))
            group.version = commits[-1].version + commits[-1].count if commits else 0
            group.must_read = False

    def _waits(self, group: _Group, fresh: dict[Slot, list[Shown]]) -> bool:
        """A double fire of an impression in the same batch waits until that one is durable."""
        for _, item in group.members:
            if item.slot in fresh and self._slots.near(item, fresh[item.slot]) is not None:
                return True
        return False

    def _note(self, group: _Group, fresh: dict[Slot, list[Shown]]) -> None:
        for item, event in group.made:
            if item.slot is not None and _puts_in_gross(event):
                fresh.setdefault(item.slot, []).append(shown(item))

    def _decide(self, group: _Group, answers: dict[int, Answer]) -> None:
        """Run the members, in order, over the state that the ledger has; they fold into one append."""
        state = group.state
        events: tuple[ImpressionEvent, ...] = ()
        group.unmoved, group.repeats, group.made = 0, 0, []
        for at, item in group.members:
            try:
                new = decide(state, self._command(item))
            except CommandRefused as refused:
                answers[at] = _not_taken(item, refused)
                continue
            if not new:
                answers[at] = self._known(group, item, state)
                continue
            events += new
            group.made.append((item, new[-1]))
            answers[at] = _answer(item, new[-1])
            if len(group.members) > 1:
                state = fold(new, state)
        group.events = events

    def _command(self, item: Ready) -> AdmitRender | RecordView:
        seen, now = item.seen, self._clock()
        render = seen.render
        if render.kind is Kind.VIEW:
            return RecordView(
                cause=render.event_id,
                digest=seen.digest,
                measures=Measures(
                    format=seen.token.format,
                    area_px=seen.area_px,
                    visible_ratio=render.visible_ratio,
                    visible_ms=render.visible_ms,
                    duration_ms=render.duration_ms,
                    clicked=render.clicked,
                ),
                viewed_at=seen.event_at,
                received_at=seen.received_at,
                pack=self._pack,
                decided_at=now,
            )
        original = self._slots.original_of(item)
        reasons = item.reasons if original is None else in_order({*item.reasons, Reason.DOUBLE_FIRE})
        scored = ImpressionScored(
            cause=render.event_id,
            digest=seen.digest,
            reasons=reasons,
            versions=self._versions,
            rung=RUNG,
            spent_ms=max(0, now - seen.received_at),
        )
        return AdmitRender(claimed(seen), scored, cut_of(seen), self._pack, now, original)

    def _known(self, group: _Group, item: Ready, state: Impression) -> Answer:
        """The first answer again; or what is only counted: a view that moved nothing, one repeat of too many."""
        assert isinstance(state, Decided)
        first = state.absorbed.get(item.seen.render.event_id)
        if item.seen.render.kind is Kind.VIEW:
            group.unmoved += first is None
            return _decided(item, None, None)
        if first is not None:
            return _decided(item, first.verdict, first.reason)
        group.repeats += 1
        differs = conflicts(state.cut, claimed(item.seen))
        return _decided(item, Verdict.DUPLICATE, Reason.DUPLICATE_CONFLICT if differs else Reason.DUPLICATE_RENDER)

    def _counts(self, batch: _Batch) -> Append | None:
        """What touched no impression's stream is counted in one event of this process's own stream."""
        if not batch.uncounted:
            return None
        event = AnswersCounted(
            cause=uuid4(),
            digest="",
            refused=batch.refused,
            unmoved=batch.unmoved,
            repeats=batch.repeats,
            counted_at=self._clock(),
        )
        batch.refused, batch.unmoved, batch.repeats = {}, 0, 0
        return Append(
            stream=self._counts_stream,
            expected=self._counts_version,
            cause=event.cause,
            digest=event.digest,
            events=(event,),
        )

    def _absorb(self, batch: _Batch, append: Append, outcome: Outcome) -> None:
        if isinstance(append.stream, str):
            self._counted(batch, append, outcome)
        elif isinstance(outcome, Appended):
            self._remember(batch.open[append.stream])
            self._close(batch, append.stream)
        else:
            batch.open[append.stream].must_read = True

    def _counted(self, batch: _Batch, append: Append, outcome: Outcome) -> None:
        if not isinstance(outcome, Conflict):
            self._counts_version += 1
            return
        self._counts_version = outcome.current
        for event in append.events:
            assert isinstance(event, AnswersCounted)
            batch.unmoved += event.unmoved
            batch.repeats += event.repeats
            for reason, count in event.refused.items():
                batch.refused[reason] = batch.refused.get(reason, 0) + count

    def _close(self, batch: _Batch, impression: ImpressionId) -> None:
        group = batch.open.pop(impression)
        batch.unmoved += group.unmoved
        batch.repeats += group.repeats
        for at, item in group.members:
            if batch.answers[at].reason is Reason.EVENT_ID_REUSED:
                batch.answers[at] = self._refuse(batch, item)
            elif batch.answers[at].status is Status.PARKED:
                batch.early.append((at, item))

    def _refuse(self, batch: _Batch, item: Ready) -> Answer:
        """The event id came before with another content: counted, and kept to be looked at."""
        batch.refused[Reason.EVENT_ID_REUSED] = batch.refused.get(Reason.EVENT_ID_REUSED, 0) + 1
        batch.quarantine.append(_reused(item))
        return _refused(item.seen.render.event_id, item.seen.token.impression, Reason.EVENT_ID_REUSED)

    def _remember(self, group: _Group) -> None:
        for item, event in group.made:
            if isinstance(event, ImpressionDeduped) and event.before is None:
                first = FirstAnswer(event.cause, event.digest, event.verdict, event.reason)
                self._recent.remember(item.seen.token.impression, first)
            if _puts_in_gross(event):
                self._slots.remember(item)


def _puts_in_gross(event: ImpressionEvent) -> bool:
    return isinstance(event, ImpressionDeduped | ImpressionReconciled) and in_gross(event.after)


def _events(commits: Iterable[Commit]) -> Iterable[ImpressionEvent]:
    for commit in commits:
        for event in decode(commit.data):
            assert isinstance(event, ImpressionEvent), "an impression's stream has impression events only"
            yield event


def _is_retry(item: Ready, known: FirstAnswer) -> bool:
    return item.seen.render.event_id == known.event_id and item.seen.digest == known.digest


def _answer(item: Ready, event: ImpressionEvent) -> Answer:
    match event:
        case ImpressionDeduped():
            return _decided(item, event.verdict, event.reason)
        case ImpressionReconciled():
            return _decided(item, event.after.verdict, event.after.reason)
        case _:
            return _decided(item, None, None)


def _decided(item: Ready, verdict: Verdict | None, reason: Reason | None) -> Answer:
    return Answer(
        event_id=item.seen.render.event_id,
        impression_id=item.seen.token.impression,
        status=Status.DECIDED if item.seen.render.kind is Kind.RENDER else Status.RECORDED,
        verdict=verdict,
        reason=reason,
        provisional=verdict is Verdict.UNCERTAIN,
        rung=RUNG,
    )


def _refused(event_id: CauseId, impression: ImpressionId | None, reason: Reason) -> Answer:
    return Answer(event_id=event_id, impression_id=impression, status=Status.REFUSED, reason=reason)


def _not_taken(item: Ready, refused: CommandRefused) -> Answer:
    seen = item.seen
    if refused.refusal is Refusal.EVENT_ID_REUSED:
        return _refused(seen.render.event_id, seen.token.impression, Reason.EVENT_ID_REUSED)
    return Answer(event_id=seen.render.event_id, impression_id=seen.token.impression, status=Status.PARKED)


def _quarantined(item: Malformed) -> Answer:
    fault = item.fault
    return Answer(
        event_id=item.event_id, status=Status.QUARANTINED, errors=(f"{fault.code} at {fault.path}: {fault.detail}",)
    )


def _reused(item: Ready) -> Malformed:
    fault = Fault(code="event_id_reused", detail="the event id came before with another content", path="$.event_id")
    return Malformed(item.raw, fault, item.seen.received_at, item.seen.render.event_id)
