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
from domain.decide import AdmitRender, CommandRefused, RecordView, Refusal, decide, measures_of
from domain.events import (
    ImpressionDeduped,
    ImpressionEvent,
    ImpressionReconciled,
    ImpressionScored,
    Versions,
)
from domain.ids import CauseId, ImpressionId
from domain.impression import Decided, Impression, Unseen, conflicts, fold
from domain.pack import Pack
from domain.reasons import Reason, Verdict
from domain.render import Kind
from domain.screen import cut_of, in_order
from domain.standing import in_gross
from domain.vocabulary import Rung
from ledger.codec import decode
from ledger.store import READ_MAX, Append, Appended, Commit, Conflict, EventStore, LedgerUnavailable, Outcome

ROUNDS_MAX = 8
"""A stream that others keep writing to is decided again this often; then the caller is told to retry."""

RUNG = Rung.MODEL_FALLBACK
"""No model is trained yet, so rules alone decide; every decision says so."""


class _Group(Struct, gc=False):
    """The renders of one impression in one batch, and what came of them; `shown` are those that put it in gross."""

    impression: ImpressionId
    members: list[tuple[int, Ready]]
    must_read: bool
    version: int = 0
    state: Impression = Unseen()
    events: tuple[ImpressionEvent, ...] = ()
    first: FirstAnswer | None = None
    shown: tuple[Ready, ...] = ()
    unmoved: int = 0
    repeats: int = 0


class _Batch(Struct):
    """
    One batch on its way: answers by place, what is still open by impression, what is to be counted or kept aside.

    `now` (epoch ms) is when it is decided.
    """

    now: int
    answers: list[Answer | None]
    open: dict[int, _Group] = {}
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
        self._versions = Versions(pack=pack.id, lists=lists_version)
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
        batch = _Batch(self._clock(), [None] * len(items))
        self._slots.begin_batch()
        for at, item in enumerate(items):
            self._sort_in(batch, at, item)
        await self._settle(batch)
        if batch.early:
            await self._park(batch)
            await self._settle(batch)
        if batch.quarantine:
            await self._holding.quarantine(batch.quarantine)
        return [answer for answer in batch.answers if answer is not None]

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
            if item.claim.cause in reused:
                batch.answers[at] = self._refuse(batch, item)

    def _sort_in(self, batch: _Batch, at: int, item: Item) -> None:
        match item:
            case Ready():
                known = self._recent.get(item.impression)
                if known is not None and _is_retry(item, known):
                    batch.answers[at] = _decided(item, known.verdict, known.reason)
                    return
                group = batch.open.get(item.impression.int)
                if group is None:
                    group = batch.open[item.impression.int] = _Group(item.impression, [], known is not None)
                group.members.append((at, item))
                group.must_read |= item.kind is Kind.VIEW
            case Refused():
                batch.refused[item.reason] = batch.refused.get(item.reason, 0) + 1
                batch.answers[at] = _refused(item.event_id, item.impression_id, item.reason)
            case Malformed():
                batch.quarantine.append(item)
                batch.answers[at] = _quarantined(item)

    async def _round(self, batch: _Batch) -> None:
        """Read what must be read, decide what is open, append in one call; what conflicts stays open."""
        await self._read([group for group in batch.open.values() if group.must_read])
        groups: list[_Group] = []
        appends: list[Append] = []
        fresh: dict[Slot, list[Shown]] = {}
        for group in list(batch.open.values()):
            if fresh and self._waits(group, fresh):
                continue
            self._decide(group, batch)
            if not group.events:
                self._close(batch, group)
                continue
            for item in group.shown:
                if item.slot is not None:
                    fresh.setdefault(item.slot, []).append(shown(item))
            groups.append(group)
            appends.append(_append(group))
        counted = self._counts(batch)
        if counted is not None:
            appends.append(counted)
        outcomes = await self._store.append(appends, batch.now) if appends else []
        for group, outcome in zip(groups, outcomes, strict=False):
            if isinstance(outcome, Appended):
                self._remember(group)
                self._close(batch, group)
            else:
                group.must_read = True
        if counted is not None:
            self._counted(batch, counted, outcomes[-1])

    async def _read(self, groups: Sequence[_Group]) -> None:
        if not groups:
            return
        streams = await self._store.read_streams([group.impression for group in groups], READ_MAX)
        for group in groups:
            commits = streams.get(group.impression, [])
            group.state = fold(_events(commits))
            group.version = commits[-1].version + commits[-1].count if commits else 0
            group.must_read = False

    def _waits(self, group: _Group, fresh: dict[Slot, list[Shown]]) -> bool:
        """A double fire of an impression in the same batch waits until that one is durable."""
        for _, item in group.members:
            if item.slot in fresh and self._slots.near(item, fresh[item.slot]) is not None:
                return True
        return False

    def _decide(self, group: _Group, batch: _Batch) -> None:
        """Run the members, in order, over the state that the ledger has; they fold into one append."""
        state = group.state
        group.events, group.shown, group.first = (), (), None
        group.unmoved = group.repeats = 0
        for at, item in group.members:
            try:
                new = decide(state, self._command(item, batch.now))
            except CommandRefused as refused:
                batch.answers[at] = _not_taken(item, refused)
                continue
            if not new:
                batch.answers[at] = self._known(group, item, state)
                continue
            batch.answers[at] = self._made(group, item, new)
            if len(group.members) > 1:
                state = fold(new, state)

    def _made(self, group: _Group, item: Ready, new: tuple[ImpressionEvent, ...]) -> Answer:
        """Note what came of *item*; the answer follows from the last event."""
        group.events += new
        match last := new[-1]:
            case ImpressionDeduped():
                if last.before is None:
                    group.first = FirstAnswer(last.cause, last.digest, last.verdict, last.reason)
                if in_gross(last.after):
                    group.shown += (item,)
                return _decided(item, last.verdict, last.reason)
            case ImpressionReconciled():
                if in_gross(last.after):
                    group.shown += (item,)
                return _decided(item, last.after.verdict, last.after.reason)
            case _:
                return _decided(item, None, None)

    def _command(self, item: Ready, now: int) -> AdmitRender | RecordView:
        claim = item.claim
        if item.kind is Kind.VIEW:
            return RecordView(
                cause=claim.cause,
                digest=claim.digest,
                measures=measures_of(claim),
                viewed_at=claim.event_at,
                received_at=claim.received_at,
                pack=self._pack,
                decided_at=now,
            )
        original = self._slots.original_of(item)
        reasons = item.reasons if original is None else in_order({*item.reasons, Reason.DOUBLE_FIRE})
        scored = ImpressionScored(
            reasons=reasons, versions=self._versions, rung=RUNG, spent_ms=max(0, now - claim.received_at)
        )
        return AdmitRender(claim, scored, cut_of(claim, self._pack, item.data_set), self._pack, now, original)

    def _known(self, group: _Group, item: Ready, state: Impression) -> Answer:
        """The first answer again; or what is only counted: a view that moved nothing, one repeat of too many."""
        assert isinstance(state, Decided)
        first = state.absorbed.get(item.claim.cause)
        if item.kind is Kind.VIEW:
            group.unmoved += first is None
            return _decided(item, None, None)
        if first is not None:
            return _decided(item, first.verdict, first.reason)
        group.repeats += 1
        differs = conflicts(state.cut, item.claim)
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
            counted_at=batch.now,
        )
        batch.refused, batch.unmoved, batch.repeats = {}, 0, 0
        return Append(
            stream=self._counts_stream,
            expected=self._counts_version,
            cause=event.cause,
            digest=event.digest,
            events=(event,),
        )

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

    def _close(self, batch: _Batch, group: _Group) -> None:
        del batch.open[group.impression.int]
        batch.unmoved += group.unmoved
        batch.repeats += group.repeats
        for at, item in group.members:
            answer = batch.answers[at]
            assert answer is not None
            if answer.reason is Reason.EVENT_ID_REUSED:
                batch.answers[at] = self._refuse(batch, item)
            elif answer.status is Status.PARKED:
                batch.early.append((at, item))

    def _refuse(self, batch: _Batch, item: Ready) -> Answer:
        """The event id came before with another content: counted, and kept to be looked at."""
        batch.refused[Reason.EVENT_ID_REUSED] = batch.refused.get(Reason.EVENT_ID_REUSED, 0) + 1
        batch.quarantine.append(_reused(item))
        return _refused(item.claim.cause, item.impression, Reason.EVENT_ID_REUSED)

    def _remember(self, group: _Group) -> None:
        if group.first is not None:
            self._recent.remember(group.impression, group.first)
        for item in group.shown:
            self._slots.remember(item)


def _append(group: _Group) -> Append:
    first = group.events[0]
    assert not isinstance(first, ImpressionScored), "a score follows on its render"
    return Append(
        stream=group.impression, expected=group.version, cause=first.cause, digest=first.digest, events=group.events
    )


def _events(commits: Iterable[Commit]) -> Iterable[ImpressionEvent]:
    for commit in commits:
        for event in decode(commit.data):
            assert not isinstance(event, AnswersCounted), "an impression's stream has impression events only"
            yield event


def _is_retry(item: Ready, known: FirstAnswer) -> bool:
    return item.claim.digest == known.digest and item.claim.cause == known.event_id


def _decided(item: Ready, verdict: Verdict | None, reason: Reason | None) -> Answer:
    return Answer(
        event_id=item.claim.cause,
        impression_id=item.impression,
        status=Status.DECIDED if item.kind is Kind.RENDER else Status.RECORDED,
        verdict=verdict,
        reason=reason,
        provisional=verdict is Verdict.UNCERTAIN,
        rung=RUNG,
    )


def _refused(event_id: CauseId, impression: ImpressionId | None, reason: Reason) -> Answer:
    return Answer(event_id=event_id, impression_id=impression, status=Status.REFUSED, reason=reason)


def _not_taken(item: Ready, refused: CommandRefused) -> Answer:
    if refused.refusal is Refusal.EVENT_ID_REUSED:
        return _refused(item.claim.cause, item.impression, Reason.EVENT_ID_REUSED)
    return Answer(event_id=item.claim.cause, impression_id=item.impression, status=Status.PARKED)


def _quarantined(item: Malformed) -> Answer:
    fault = item.fault
    return Answer(
        event_id=item.event_id, status=Status.QUARANTINED, errors=(f"{fault.code} at {fault.path}: {fault.detail}",)
    )


def _reused(item: Ready) -> Malformed:
    fault = Fault(code="event_id_reused", detail="the event id came before with another content", path="$.event_id")
    return Malformed(item.raw, fault, item.claim.received_at, item.claim.cause)
