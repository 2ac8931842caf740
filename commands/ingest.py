"""
One batch of prepared renders: recognise, decide, append in one call, answer.

Where a stream stands otherwise than assumed, the ledger refuses; it is read, folded and decided again. So the ledger's
"no stream", not this process's memory, is the final word.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import assert_never
from uuid import UUID, uuid4

import structlog

from commands.activity import Activity
from commands.answers import decided, deferred, quarantined, refused, reused
from commands.countdown import Countdown
from commands.counting import Counting
from commands.deciding import GroupDecider, is_paid
from commands.floods import Floods, write_due
from commands.funding import READY_WITHIN_S, UNHURRIED_S, Funds
from commands.items import Answer, Deferred, Item, Malformed, Ready, Refused, Slot, Status, slots_of
from commands.ladder import Ladder
from commands.quarantine import ANY_ROOM, ROOM, Holding, Parking, Room
from commands.quarantine_entries import REUSED
from commands.recent import FirstAnswer, Recent, RecentAnswers, RecentSlots, RecentStreams, Shown
from commands.stranded import Spooling, Stranded
from commands.streams import length_of, state_of
from commands.turns import Batch, Group, in_turn, news, number, show, waits
from domain.events import (
    ImpressionDeduped,
    ImpressionEvent,
    ImpressionReconciled,
    ImpressionRendered,
    ImpressionScored,
)
from domain.ids import ImpressionId
from domain.impression import ImpossibleTransition
from domain.pack import Pack
from domain.reasons import Reason
from domain.render import Kind
from domain.standing import in_gross
from domain.vocabulary import Rung
from ledger.breaker import NotAsked
from ledger.codec import UnreadableCommit, encode
from ledger.store import READ_MAX, Append, Appended, EventStore, LedgerUnavailable, Outcome

ROUNDS_MAX = 8
"""A stream that others keep writing to is decided again this often; then the caller is told to retry."""
FLOOD_ROUNDS_MAX = 8
"""In one of them each flooded impression has one event written; in between others take their turn."""

STREAMS_MAX = 8_192
"""Streams whose state is remembered for the views that follow on a render: the seconds that they take at full speed."""
_TOLD_MAX = 1_000
_QUARANTINE_FULL = "there is no room for another event that cannot be read; send it again later"
_NO_ROOM = "as many views wait for their render as may"
_UNREADABLE = "what is known of the impression cannot be read now"

log = structlog.get_logger()


class Ingest:
    """
    Decides batches. Belongs to one task; `clock` gives epoch ms, `name` tells this process's streams apart, `new_id`
    names what no client's event causes.
    """

    def __init__(  # noqa: PLR0913 (its collaborators)
        self,
        *,
        store: EventStore,
        pack: Pack,
        holding: Holding,
        activity: Activity,
        funds: Funds | None,
        recent_max: int,
        name: str,
        clock: Callable[[], int],
        spooling: Spooling | None = None,
        ladder: Ladder | None = None,
        countdown: Countdown | None = None,
        new_id: Callable[[], UUID] = uuid4,
        witness: Callable[[Sequence[ImpressionEvent]], None] | None = None,
    ) -> None:
        self._store = store
        self._ladder = ladder
        self._countdown = countdown
        self._witness = witness
        self._spooling = spooling
        self._pack = pack
        self._activity = activity
        self._funds = funds
        self._holding = holding
        self._recent = RecentAnswers(recent_max)
        self._streams = RecentStreams(min(recent_max, STREAMS_MAX))
        self.slots = self._slots = RecentSlots(recent_max, pack.double_fire_window_ms)
        self._decider = GroupDecider(pack, self._slots, funds)
        self._counting = Counting(name, new_id)
        self._told = Recent[int, bool](_TOLD_MAX)
        self._floods = Floods(pack.repeats_idle_ms, new_id)
        self._turn = asyncio.Lock()
        self._clock = clock

    async def decide_batch(self, items: Sequence[Item]) -> list[Answer]:
        """
        Decide *items* and return one answer each, in order; whatever is answered is durable.

        What the ledger does not take goes to the spool, if there is one.

        Raises:
            LedgerUnavailable: nothing may be answered; the same items may be sent again.
        """
        batch = Batch(self._clock(), [None] * len(items))
        async with self._turn:
            if self._ladder is not None:
                batch.rungs = self._ladder.for_batch()
            if self._countdown is not None:
                self._countdown.begin(len(items))
            try:
                await self._bring_in(batch, items)
            except LedgerUnavailable as error:
                if self._spooling is None:
                    raise
                await self._strand(self._spooling, batch, was_asked=not isinstance(error, NotAsked))
            except Exception:
                self._release(batch)
                raise
            finally:
                if self._countdown is not None:
                    self._countdown.end()
        return [answer for answer in batch.answers if answer is not None]

    async def decide_spooled(self, items: Sequence[Item]) -> list[Answer]:
        """
        Decide what comes out of a spool, by the ledger alone.

        Raises:
            LedgerUnavailable: it must be tried again.
        """
        batch = Batch(self._clock(), [None] * len(items), is_news=False)
        async with self._turn:
            await self._bring_in(batch, items)
        return [answer for answer in batch.answers if answer is not None]

    async def _bring_in(self, batch: Batch, items: Sequence[Item]) -> None:
        self._slots.begin_batch()
        for at, item in enumerate(items):
            self._sort_in(batch, at, item)
        room = ROOM if batch.is_news else ANY_ROOM
        await self._settle(batch)
        if batch.early:
            await self._park(batch, room)
            batch.early = []
            await self._settle(batch)
        if batch.quarantine:
            await self._quarantine(batch, room)

    async def _strand(self, spooling: Spooling, batch: Batch, *, was_asked: bool) -> None:
        """Have the spool keep what is not known to be in the ledger, and answer it as far as that can be."""
        members = [member for group in batch.open.values() for member in group.members]
        if not (was_asked and batch.sent):
            self._release(batch)
        counted = self._counting.append_of(batch)
        stranded = Stranded(
            now=batch.now,
            ready=[*members, *batch.early],
            sent=[append for append in batch.sent if was_asked and not isinstance(append.stream, str)],
            counts=[append for append in (*batch.sent, counted) if append and isinstance(append.stream, str)],
            malformed=[item for _, item in batch.quarantine],
            slots=self._slots,
            first=self._recent.get,
            remember=self._remember_spooled,
        )
        for (at, _), answer in zip(stranded.ready, await spooling.take(stranded), strict=True):
            batch.answers[at] = answer
            if self._ladder is not None and answer.rung is Rung.SPOOLED and answer.verdict is not None:
                self._ladder.decided(Rung.SPOOLED, ())

    def _release(self, batch: Batch) -> None:
        """Give back the money that was granted to what is not appended."""
        for group in batch.open.values():
            self._give_back(group)

    def _give_back(self, group: Group) -> None:
        if self._funds is not None:
            self._funds.settle(group.grants, is_appended=False)

    def _remember_spooled(self, item: Ready, answer: Answer) -> None:
        """A retry gets the same answer until the ledger knows better."""
        if answer.verdict is not None and self._recent.get(item.impression) is None:
            first = FirstAnswer(
                item.claim.cause.int, item.claim.digest, answer.verdict, answer.reason, answer.rung, is_stored=False
            )
            self._recent.remember(item.impression, first)

    def recall(self, impression: ImpressionId, events: Sequence[ImpressionEvent]) -> None:
        """Remember one commit of the ledger as if it had just been decided here."""
        for rendered, scored, decision in zip(events, events[1:], events[2:], strict=False):
            if not isinstance(rendered, ImpressionRendered) or not isinstance(scored, ImpressionScored):
                continue
            if isinstance(decision, ImpressionDeduped) and decision.before is None:
                cause, rung = decision.cause.int, scored.rung
                first = FirstAnswer(cause, decision.digest, decision.verdict, decision.reason, rung)
                self._recent.remember(impression, first)
            if isinstance(decision, ImpressionDeduped | ImpressionReconciled) and in_gross(decision.after):
                person = rendered.user or rendered.device
                for slot in slots_of(decision.cut.data_set, rendered.placement, rendered.creative, person):
                    self._slots.recall(slot, (impression.int, rendered.event_at))

    async def write_floods(self) -> int:
        """
        Write down repeats that were only counted, one event for many; return how many events. Called every second.

        Raises:
            LedgerUnavailable: the rest is written next time.
        """
        written = 0
        self._floods.pause(self._clock())
        for _ in range(FLOOD_ROUNDS_MAX):
            async with self._turn:
                now_written = await write_due(self._floods, self._store, self._clock())
            written += now_written
            if not now_written:
                break
        return written

    async def _settle(self, batch: Batch) -> None:
        for _ in range(ROUNDS_MAX):
            if not batch.open and not batch.uncounted:
                return
            await self._round(batch)
        raise LedgerUnavailable("streams of the batch kept changing")

    async def _park(self, batch: Batch, room: Room) -> None:
        """Keep views until their render arrives; what cannot be kept is answered by itself."""
        parked = await self._holding.park([item for _, item in batch.early], room)
        for (at, item), parking in zip(batch.early, parked, strict=True):
            match parking:
                case Parking.KEPT:
                    pass
                case Parking.REUSED:
                    batch.answers[at] = self._refuse(batch, at, item)
                case Parking.FULL:
                    self._sort_in(batch, at, Deferred(item.claim.cause, item.impression, _NO_ROOM))
                case Parking.EXPIRED:
                    self._sort_in(batch, at, Refused(item.claim.cause, Reason.TOKEN_EXPIRED, item.impression))
                case _:
                    assert_never(parking)

    async def _quarantine(self, batch: Batch, room: Room) -> None:
        """Keep what cannot be read, and what came under a used event id; that is refused, kept or not."""
        kept = await self._holding.quarantine([item for _, item in batch.quarantine], room)
        for (at, item), is_kept in zip(batch.quarantine, kept, strict=True):
            if not is_kept and item.fault.code != REUSED:
                batch.answers[at] = Answer(event_id=item.event_id, status=Status.DEFERRED, errors=(_QUARANTINE_FULL,))

    def _sort_in(self, batch: Batch, at: int, item: Item) -> None:
        match item:
            case Ready():
                known = self._recent.get(item.impression)
                if known is not None and batch.is_news and _is_retry(item, known):
                    batch.answers[at] = decided(
                        item, known.verdict, known.reason, known.rung, is_stored=known.is_stored
                    )
                    return
                group = batch.open.get(item.impression.int)
                if group is None:
                    group = batch.open[item.impression.int] = Group(item.impression, [], known is not None)
                group.members.append((at, item))
                group.must_read |= item.kind is Kind.VIEW
            case Refused():
                batch.refused[item.reason] = batch.refused.get(item.reason, 0) + 1
                batch.answers[at] = refused(item.event_id, item.impression_id, item.reason)
            case Deferred():
                batch.answers[at] = deferred(item)
            case Malformed():
                batch.quarantine.append((at, item))
                batch.answers[at] = quarantined(item)

    async def _round(self, batch: Batch) -> None:
        """
        Read what must be read, decide what is open, append in one call; what conflicts stays open, and what would not
        be appended, and so not be refused, by a state out of memory.
        """
        await self._read(
            batch, [group for group in batch.open.values() if group.must_read and not self._recalled(group)]
        )
        turn = in_turn(batch, self._slots)
        await self._observe(batch, turn)
        made: list[tuple[Group, Append]] = []
        fresh: dict[Slot, list[Shown]] = {}
        for group in turn:
            if fresh and waits(group, fresh, self._slots):
                continue
            self._decider.decide(group, batch)
            if not group.events and group.is_recalled:
                group.must_read = True
                continue
            if not group.events:
                self._give_back(group)
                self._close(batch, group)
                continue
            if batch.is_begun:
                show(group.shown, fresh)
            made.append((group, _append(group.impression, group.version, group.events)))
        made.sort(key=lambda one: number(one[0]))
        appends = [append for _, append in made]
        counted = self._counting.append_of(batch)
        if counted is not None:
            appends.append(counted)
        batch.sent = appends
        outcomes = await self._store.append(appends, batch.now) if appends else []
        batch.sent = ()
        batch.is_begun = True
        self._absorb(batch, made, outcomes)
        if counted is not None:
            self._counting.absorb(batch, counted, outcomes[-1])

    def _absorb(self, batch: Batch, made: Sequence[tuple[Group, Append]], outcomes: Sequence[Outcome]) -> None:
        """What was appended is done, remembered and counted; the rest is read and decided again."""
        appended: list[Group] = []
        for (group, append), outcome in zip(made, outcomes, strict=False):
            is_appended = isinstance(outcome, Appended)
            if self._funds is not None:
                self._funds.settle(group.grants, is_appended=is_appended)
            if is_appended:
                appended.append(group)
                self._remember(group, append)
                self._close(batch, group)
            else:
                group.must_read = True
        events = [event for group in appended for event in group.events]
        if self._ladder is not None:
            self._ladder.note_rungs([event for event in events if type(event) is ImpressionScored])
        if self._witness is not None:
            self._witness(events)
        self._activity.count([event for group in appended for event in group.rendered])

    async def _observe(self, batch: Batch, turn: Sequence[Group]) -> None:
        """
        Ask what stands out about the renders in *turn* that may be news, each counted after those before it in the
        ledger, and see to it that there is money for them.
        """
        in_ledger = sorted(turn, key=number)
        renders = [(at, item, group) for group in in_ledger for at, item in news(group, self._slots)]
        found = self._activity.look([item for _, item, _ in renders])
        batch.conduct = {renders[place][0]: conduct for place, conduct in found.items()}
        if self._funds is not None:
            await self._funds.ready(
                [
                    (item.claim, item.claim.event_at, item.reasons)
                    for _, item, group in renders
                    if is_paid(item, group.state)
                ],
                UNHURRIED_S if self._countdown is None else min(READY_WITHIN_S, self._countdown.left_s()),
            )

    def _recalled(self, group: Group) -> bool:
        """Take the state of *group* from memory, where there are only views, for which that mostly is right."""
        if not group.may_recall or any(item.kind is not Kind.VIEW for _, item in group.members):
            return False
        known = self._streams.get(group.impression)
        if known is None:
            return False
        group.state, group.version = known
        group.must_read, group.is_recalled, group.may_recall = False, True, False
        return True

    async def _read(self, batch: Batch, groups: Sequence[Group]) -> None:
        if not groups:
            return
        streams = await self._store.read_streams([group.impression for group in groups], READ_MAX)
        for group in groups:
            commits = streams.get(group.impression, [])
            try:
                group.state = state_of(commits)
            except (UnreadableCommit, ImpossibleTransition) as error:
                self._defer(batch, group, error)
                continue
            group.version = length_of(commits)
            group.must_read = group.is_recalled = False

    def _defer(self, batch: Batch, group: Group, error: Exception) -> None:
        """Nobody can decide on a stream that cannot be read; what is about others is decided."""
        if self._told.get(group.impression.int) is None:  # its senders come again and again
            self._told.put(group.impression.int, True)
            log.error("a stream cannot be read", impression=str(group.impression), error=str(error))
        del batch.open[group.impression.int]
        for at, item in group.members:
            batch.answers[at] = deferred(Deferred(item.claim.cause, item.impression, _UNREADABLE))

    def _close(self, batch: Batch, group: Group) -> None:
        del batch.open[group.impression.int]
        batch.unmoved += group.unmoved
        for reason, stored in group.repeats:
            batch.repeats[group.impression, reason] += 1
            self._floods.note(group.impression, reason, stored, batch.now)
        for at, item in group.members:
            answer = batch.answers[at]
            assert answer is not None
            if answer.reason is Reason.EVENT_ID_REUSED:
                batch.answers[at] = self._refuse(batch, at, item)
            elif answer.status is Status.PARKED:
                batch.early.append((at, item))

    def _refuse(self, batch: Batch, at: int, item: Ready) -> Answer:
        """The event id came before with another content: counted, and kept to be looked at."""
        batch.refused[Reason.EVENT_ID_REUSED] = batch.refused.get(Reason.EVENT_ID_REUSED, 0) + 1
        batch.quarantine.append((at, reused(item)))
        return refused(item.claim.cause, item.impression, Reason.EVENT_ID_REUSED)

    def _remember(self, group: Group, append: Append) -> None:
        self._streams.remember(append, group.state)
        if group.first is not None:
            self._recent.remember(group.impression, group.first)
        for item in group.shown:
            self._slots.remember(item)


def _append(impression: ImpressionId, version: int, events: tuple[ImpressionEvent, ...]) -> Append:
    first = events[0]
    assert not isinstance(first, ImpressionScored), "a score follows on its render"
    return Append(
        stream=impression,
        expected=version,
        cause=first.cause,
        digest=first.digest,
        events=events,
        data=encode(events),  # now, while they are in the processor's cache
    )


def _is_retry(item: Ready, known: FirstAnswer) -> bool:
    return item.claim.digest == known.digest and item.claim.cause.int == known.event_id
