"""
From the spool into the ledger, so that everything is there exactly once, however often it is begun again.

What was appended, or is there already, is done. Where a stream stands by the same cause the own copy is dropped; where
it stands by another render the event is decided again, by the ledger, as if it came now (as received when it was). What
a spool counted is added to the counts of its stream. What concerns a stream that cannot be read is put aside, alone.
"""

import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Protocol
from uuid import uuid5

from msgspec import Struct
from msgspec.structs import replace

from commands.activity import Activity
from commands.items import Answer, Item, Ready, Status
from commands.keyring import KEY_BYTES, Keyring
from commands.recent import Recent
from commands.redecide import PASSING
from commands.spool_records import (
    Kept,
    KeptAppend,
    KeptBody,
    KeptItem,
    KeptItems,
    append_of,
    body_of,
    item_of,
)
from commands.streams import length_of, state_of
from domain.decide import CommandRefused, NoteAnswer, decide
from domain.events import ImpressionDeduped, ImpressionEvent, ImpressionRendered, ImpressionScored
from domain.ids import CauseId, ImpressionId, day_of, minted_at
from domain.impression import ImpossibleTransition, Impression, fold
from domain.reasons import Reason, Verdict
from domain.render import Kind
from domain.vocabulary import Rung
from ledger.codec import UnreadableCommit, decode_impression, encode
from ledger.store import (
    READ_MAX,
    AlreadyAppended,
    Append,
    Appended,
    Commit,
    Conflict,
    EventStore,
    LedgerUnavailable,
    NoPartition,
    Outcome,
    StreamId,
)

CHUNK_MAX = 32
"""Appends in one call: enough to be quick, few enough not to hold up those who wait for an answer."""
_ROUNDS_MAX = 8
_COUNTED_MAX = 100_000
_ANSWERED = "answered"


class Decider(Protocol):
    """`commands.ingest.Ingest`, as draining needs it."""

    async def decide_spooled(self, items: Sequence[Item]) -> list[Answer]: ...

    def recall(self, impression: ImpressionId, events: Sequence[ImpressionEvent]) -> None: ...


class Drained(Struct):
    """
    What became of events: of those `drained`, so many found their own bytes there, or the stream by the same cause
    (`superseded`), or by another render (`decided_again`). `expired`: the key of their day is destroyed.

    `pending` are impressions that stand uncertain because the ledger was away. `aside` has streams that cannot be read,
    and why; what concerns them was not brought in.
    """

    drained: int = 0
    already: int = 0
    superseded: int = 0
    decided_again: int = 0
    expired: int = 0
    pending: list[ImpressionId] = []
    aside: dict[StreamId, str] = {}


class Drain:
    """Brings batches of spools into *store*; *rest* is awaited between calls, so that others get their turn."""

    def __init__(  # noqa: PLR0913 (its collaborators)
        self,
        store: EventStore,
        decider: Decider,
        *,
        activity: Activity,
        keyring: Keyring,
        clock: Callable[[], int],
        rest: Callable[[], Awaitable[None]],
    ) -> None:
        self._store = store
        self._decider = decider
        self._activity = activity
        self._keyring = keyring
        self._clock = clock
        self._rest = rest
        self._counted = Recent[int, bool](_COUNTED_MAX)

    async def bring_in(self, records: Sequence[Kept], label: str, done: Drained) -> None:
        """
        Bring *records*, one batch of the spool *label*, into the ledger, and note in *done* what became of them.

        Raises:
            LedgerUnavailable: they must be brought in again, all of them; what is there already does no harm,
                but that what is only counted is counted again.
        """
        await self._find_keys(records)
        waiting: list[KeptItem] = []
        told: list[KeptAppend] = []
        for chunk in _chunks([one for one in records if isinstance(one, KeptAppend) and one.impression is not None]):
            waiting += await self._append(chunk, label, done, told)
            await self._rest()
        waiting += [item for one in records if isinstance(one, KeptItems) for item in one.items]
        bodies = [one for one in records if isinstance(one, KeptBody)]
        found: list[Item | None] = [item_of(one, self._keyring) for one in waiting]
        found += [body_of(one, self._keyring) for one in bodies]
        items = [item for item in found if item is not None]
        for at in range(0, len(items), CHUNK_MAX):
            done.drained += await self._decide(items[at : at + CHUNK_MAX], done)
            await self._rest()
        expired = len(found) - len(items)
        done.drained += expired
        done.expired += expired
        counts = [one for one in records if isinstance(one, KeptAppend) and one.impression is None]
        for _, append in _appends(counts, label, done):
            await self._count(append)
        for chunk in _chunks(told):
            await self._note_answers({one.impression: one for one in chunk if one.impression is not None}, done)
            await self._rest()

    async def _find_keys(self, records: Iterable[Kept]) -> None:
        days = {day for one in records for day in _key_days(one)}
        if not self._keyring.has(days):
            await self._keyring.ensure(sorted(days), self._clock(), secrets.token_bytes(KEY_BYTES))

    async def _append(
        self, chunk: Sequence[KeptAppend], label: str, done: Drained, told: list[KeptAppend]
    ) -> list[KeptItem]:
        """
        Append *chunk*, of streams that differ; return what must be decided by the ledger.

        Those whose callers may have been told otherwise than what will stand there are added to *told*.
        """
        readable = _appends(chunk, label, done)
        outcomes = await self._outcomes(readable)
        causes = await self._causes([append for _, append in readable], outcomes, done)
        waiting: list[KeptItem] = []
        for (kept, append), outcome in zip(readable, outcomes, strict=True):
            assert kept.impression is not None
            known = _causes_of(append) if isinstance(outcome, Appended) else causes.get(kept.impression)
            if known is None:
                continue
            missing = [item for item in kept.items if known.get(item.claim.cause) != item.claim.digest]
            here = len(kept.items) - len(missing)
            done.drained += here
            is_own = isinstance(outcome, Appended)
            match outcome:
                case Appended():
                    self._learn(kept.impression, _impression_events(append), is_new=True)
                case AlreadyAppended(commit):
                    is_own = commit.data in (kept.data, encode(append.events))
                    done.already += here if is_own else 0
                    done.superseded += 0 if is_own else here
                    self._learn(kept.impression, decode_impression(commit.data), is_new=kept.is_sent and is_own)
                case Conflict():
                    done.superseded += here
                    done.decided_again += len(missing)
            if kept.is_sent or not is_own:
                told.append(kept)
            if _is_pending(_impression_events(append)):
                done.pending.append(kept.impression)
            waiting += missing
        return waiting

    async def _decide(self, items: Sequence[Item], done: Drained) -> int:
        """Have *items* decided; return how many were. What is about a stream that cannot be read is put aside."""
        aside = 0
        for item, answer in zip(items, await self._decider.decide_spooled(items), strict=True):
            if answer.status is Status.DEFERRED:
                assert isinstance(item, Ready), "nothing else has a stream"
                done.aside[item.impression] = ", ".join(answer.errors)
                aside += 1
        return len(items) - aside

    async def _note_answers(self, told: dict[ImpressionId, KeptAppend], done: Drained) -> None:
        """Write down in the streams of *told* where callers were told otherwise than what stands there now."""
        for _ in range(_ROUNDS_MAX):
            streams = await self._store.read_streams(list(told), READ_MAX)
            notes: list[Append] = []
            for stream, commits in streams.items():
                try:
                    note = _note(told, stream, commits)
                except (UnreadableCommit, ImpossibleTransition) as error:
                    done.aside[stream] = str(error)
                    continue
                if note is not None:
                    notes.append(note)
            if not notes:
                return
            outcomes = await self._store.append(notes, self._clock())
            left = {note.stream for note, outcome in zip(notes, outcomes, strict=True) if isinstance(outcome, Conflict)}
            told = {impression: one for impression, one in told.items() if impression in left}
            if not told:
                return
        raise LedgerUnavailable("streams of answered renders kept changing")

    async def _outcomes(self, chunk: Sequence[tuple[KeptAppend, Append]]) -> list[Outcome]:
        """A spool may be older than the days that are kept ready."""
        sets = {day_of(minted_at(one.impression)): one.items[0].data_set for one, _ in chunk if one.impression}
        for _ in range(len(sets) + 1):
            try:
                return await self._store.append([append for _, append in chunk], self._clock())
            except NoPartition as error:
                await self._store.prepare_days(error.day, error.day, sets[error.day])
        raise LedgerUnavailable("days cannot be made ready")

    async def _causes(
        self, appends: Sequence[Append], outcomes: Sequence[Outcome], done: Drained
    ) -> dict[ImpressionId, dict[CauseId, str]]:
        """Return causes and digests in streams that were there before; learn how their first renders were answered."""
        changed = [
            append.stream
            for append, outcome in zip(appends, outcomes, strict=True)
            if not isinstance(append.stream, str) and (append.expected or not isinstance(outcome, Appended))
        ]
        if not changed:
            return {}
        streams = await self._store.read_streams(changed, READ_MAX)
        causes: dict[ImpressionId, dict[CauseId, str]] = {}
        for impression in changed:
            try:
                commits = [decode_impression(commit.data) for commit in streams[impression]]
            except UnreadableCommit as error:
                done.aside[impression] = str(error)
                continue
            self._decider.recall(impression, commits[0])
            causes[impression] = {
                event.cause: event.digest
                for events in commits
                for event in events
                if not isinstance(event, ImpressionScored)
            }
        return causes

    def _learn(self, impression: ImpressionId, events: Sequence[ImpressionEvent], *, is_new: bool) -> None:
        """From now on retries are answered from the stream. What is pending is learnt when it is decided again."""
        if _is_pending(events):
            return
        self._decider.recall(impression, events)
        if not is_new:
            return
        renders = [event for event in events if isinstance(event, ImpressionRendered)]
        fresh = [one for one in renders if self._counted.get(one.cause.int) is None]  # they may be brought in again
        for one in fresh:
            self._counted.put(one.cause.int, True)
        self._activity.count(fresh)

    async def _count(self, append: Append) -> None:
        """A stream that only counts takes an append wherever it ends; the cause makes that once."""
        for _ in range(_ROUNDS_MAX):
            [outcome] = await self._store.append([append], self._clock())
            if not isinstance(outcome, Conflict):
                return
            append = replace(append, expected=outcome.current)
        raise LedgerUnavailable("a stream of counts kept changing")


def _chunks(appends: Sequence[KeptAppend]) -> Iterable[list[KeptAppend]]:
    """Cut *appends* so that no stream stands twice in a chunk; in order per stream."""
    chunk: dict[ImpressionId | None, KeptAppend] = {}
    for one in appends:
        if one.impression in chunk or len(chunk) == CHUNK_MAX:
            yield list(chunk.values())
            chunk = {}
        chunk[one.impression] = one
    if chunk:
        yield list(chunk.values())


def _appends(chunk: Sequence[KeptAppend], label: str, done: Drained) -> list[tuple[KeptAppend, Append]]:
    """Return each of *chunk* with the append that it holds, without those that a newer program wrote."""
    found: list[tuple[KeptAppend, Append]] = []
    for one in chunk:
        try:
            append = append_of(one)
        except UnreadableCommit as error:
            done.aside[one.impression or one.stream] = str(error)
            continue
        found.append((one, _relabelled(append, label)))
    return found


def _note(told: Mapping[ImpressionId, KeptAppend], stream: StreamId, commits: Sequence[Commit]) -> Append | None:
    """Return what says of each render in *stream* what its caller was told, if it stands there otherwise."""
    assert not isinstance(stream, str), "only impressions are told of"
    state: Impression = state_of(commits)
    verdict, reason, answered_at = _answer_of(told[stream])
    events: list[ImpressionEvent] = []
    causes: list[CauseId] = []
    for item in told[stream].items:
        if item.kind is not Kind.RENDER:
            continue
        command = NoteAnswer(
            cause=answer_to(item.claim.cause),
            digest=_ANSWERED,
            of=item.claim.cause,
            verdict=verdict,
            reason=reason,
            answered_at=answered_at,
        )
        try:
            new = decide(state, command)
        except CommandRefused:  # it is only counted, or in quarantine as the reuse of an event id
            continue
        events += new
        causes += [command.cause] * len(new)
        state = fold(new, state)
    if not events:
        return None
    return Append(stream=stream, expected=length_of(commits), cause=causes[0], digest=_ANSWERED, events=tuple(events))


def _answer_of(kept: KeptAppend) -> tuple[Verdict, Reason | None, int]:
    """Return verdict and reason that callers were told, and when."""
    if kept.is_sent:
        return Verdict.UNCERTAIN, Reason.DEGRADED, kept.answered_at
    decision = append_of(kept).events[-1]
    assert isinstance(decision, ImpressionDeduped), "without the ledger a render is decided as the first"
    return decision.verdict, decision.reason, decision.decided_at


def answer_to(render: CauseId) -> CauseId:
    """Return the id of the note on what the sender of *render* was told."""
    return uuid5(render, _ANSWERED)


def _key_days(kept: Kept) -> list[int]:
    match kept:
        case KeptBody():
            return [kept.key_day]
        case KeptAppend() | KeptItems():
            return [item.key_day for item in kept.items if item.sealed]


def _relabelled(append: Append, label: str) -> Append:
    """
    Return *append* with its money under *label*.

    The lease that it was decided with may have been settled by the ledger since: as not spent, for it was not there.
    Should it have arrived after all, that copy stands, with its lease, and this one is not written. What was decided
    without the ledger has the label of its spool, which is another one in a folder that an operator gave another name.
    """
    events = tuple(
        replace(event, funding=replace(event.funding, lease=label))
        if isinstance(event, ImpressionDeduped) and event.funding is not None and event.funding.lease
        else event
        for event in append.events
    )
    return replace(append, events=events, data=b"")


def _causes_of(append: Append) -> dict[CauseId, str]:
    return {
        event.cause: event.digest for event in _impression_events(append) if not isinstance(event, ImpressionScored)
    }


def _impression_events(append: Append) -> tuple[ImpressionEvent, ...]:
    return tuple(event for event in append.events if isinstance(event, ImpressionEvent))


def _is_pending(events: Sequence[ImpressionEvent]) -> bool:
    """Tell whether it was decided without the ledger, and that decides it."""
    match events:
        case (ImpressionRendered(), ImpressionScored(rung=Rung.SPOOLED), ImpressionDeduped(reason=reason), *_):
            return reason in PASSING
        case _:
            return False
