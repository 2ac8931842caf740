"""
What was uncertain because something was away is decided again, with what is known now of how it was received.

The stored claim is screened again, under the pack of today, with counters, slots and registry as they are by now. The
correction's id follows from the render's, and its digest says no more than that: however often, by whomever and with
whatever result it is tried, it stands in the stream once.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import NamedTuple, Protocol
from uuid import uuid5

from msgspec import Struct
from msgspec.structs import replace

from commands.activity import PLAIN, Activity, Conduct
from commands.funding import Funds
from commands.items import Ready, slots_of
from commands.judge import render_of
from commands.recent import RecentSlots
from commands.streams import events_of, length_of
from domain.decide import CommandRefused, Reconcile, decide
from domain.events import (
    CorrectionKind,
    ImpressionDeduped,
    ImpressionEvent,
    ImpressionReconciled,
    ImpressionRendered,
    ImpressionScored,
    Versions,
)
from domain.funding import committed_micros
from domain.ids import CauseId, ImpressionId
from domain.impression import Decided, ImpossibleTransition, Impression, fold
from domain.pack import Pack
from domain.reasons import CLASS_OF, Reason, ReasonClass
from domain.render import Kind
from domain.screen import screen
from domain.standing import Standing, Uncertain, in_gross
from domain.vocabulary import Authority, DataSet
from ledger.codec import UnreadableCommit
from ledger.store import READ_MAX, Append, Commit, Conflict, EventStore, LedgerUnavailable, StreamId

CHUNK_MAX = 32
DIGEST = "redecision"
_ROUNDS_MAX = 8
_SLOTS_MAX = 16
PASSING = frozenset({Reason.DEGRADED, Reason.REGISTRY_BEHIND})
"""Reasons that pass by themselves once everything answers again."""
_OVER_BUDGET: tuple[Reason, ...] = (Reason.BUDGET_EXHAUSTED,)


def correction_of(render: CauseId) -> CauseId:
    """Return the id of the one correction by which a degraded decision about *render* is made again."""
    return uuid5(render, DIGEST)


class Over(Protocol):
    """Tells by how many micros campaigns have spent more than their budgets."""

    async def __call__(self, campaigns: Sequence[str]) -> dict[str, int]: ...


class Redecided(Struct):
    """
    How many were decided again, and how many remain uncertain for another reason. `unreadable` has those that stay as
    they are, because they cannot be read or what they may be a double fire of cannot, and why.
    """

    decided: int = 0
    undecided: int = 0
    unreadable: dict[StreamId, str] = {}


class _Pending(Struct):
    """An impression that waits, as its stream has it, with the render and the thought that it stands by."""

    impression: ImpressionId
    version: int
    state: Decided
    rendered: ImpressionRendered
    scored: ImpressionScored
    item: Ready


class _Judged(NamedTuple):
    """What holds against a render now, which impression it shows again, and what that was decided by."""

    reasons: tuple[Reason, ...]
    original: ImpressionId | None
    versions: Versions


class _Run:
    """
    One call of `redecide`: what became of all, and how far campaigns are `over` their budgets, in micros.

    Where money is short, whom nothing else speaks against is decided last, when it is known what the others give back.
    """

    def __init__(self, window_ms: int) -> None:
        self.done = Redecided()
        self.over: dict[str, int] = {}
        self.asked: set[str] = set()
        self._short: list[ImpressionId] = []
        self._is_last = False
        self._firsts = RecentSlots(0, window_ms)
        self._twins: set[ImpressionId] = set()

    def last(self) -> list[ImpressionId]:
        """Return those that wait; they are decided now."""
        self._is_last = True
        waiting, self._short = self._short, []
        return waiting

    def waits(self, one: _Pending) -> bool:
        """Put *one* off, if it must be. Of two in one slot one gives its money back, whichever it will be."""
        if self._is_last:
            return False
        is_twin = self._firsts.original_of(one.item) is not None
        if not is_twin and not self.is_over(one):
            return False
        self._short.append(one.impression)
        if is_twin:
            self._twins.add(one.impression)
            self._add(one, -committed_micros(one.state.standing))
        else:
            self._firsts.remember(one.item)
        return True

    def take_back(self, one: _Pending) -> None:
        """Whether *one* gives its money back is decided now."""
        if one.impression in self._twins:
            self._twins.remove(one.impression)
            self._add(one, committed_micros(one.state.standing))

    def is_over(self, one: _Pending) -> bool:
        return one.item.data_set is DataSet.LIVE and self.over.get(one.rendered.campaign, 0) > 0

    def moves(self, one: _Pending, before: Standing, after: Standing) -> None:
        """Take in what it changes that *one* stands at *after*."""
        self._add(one, committed_micros(after) - committed_micros(before))

    def _add(self, one: _Pending, micros: int) -> None:
        campaign = one.rendered.campaign
        if campaign in self.over and one.item.data_set is DataSet.LIVE:
            self.over[campaign] += micros


class Redecider:
    """Decides again. Belongs to the event loop of the gate whose *slots* and *activity* it asks."""

    def __init__(  # noqa: PLR0913 (its collaborators)
        self,
        store: EventStore,
        *,
        pack: Pack,
        slots: RecentSlots,
        activity: Activity,
        funds: Funds | None,
        over: Over,
        clock: Callable[[], int],
        rest: Callable[[], Awaitable[None]],
    ) -> None:
        self._store = store
        self._pack = pack
        self._slots = slots
        self._activity = activity
        self._funds = funds
        self._over = over
        self._clock = clock
        self._rest = rest

    async def redecide(self, impressions: Iterable[ImpressionId]) -> Redecided:
        """
        Decide those of *impressions* again that stand uncertain because something was away when they were decided.

        What a budget does not cover, when all else is decided, is `BUDGET_EXHAUSTED`.

        Raises:
            LedgerUnavailable: it must be tried again; what was decided stays.
        """
        waiting = list(dict.fromkeys(impressions))
        rounds_left = len(waiting) * _ROUNDS_MAX
        run = _Run(self._pack.double_fire_window_ms)
        while waiting := waiting or run.last():
            if not rounds_left:
                raise LedgerUnavailable("streams kept changing")
            rounds_left -= 1
            chunk, rest = waiting[:CHUNK_MAX], waiting[CHUNK_MAX:]
            pending, originals = await self._read(chunk, run.done)
            campaigns = {one.rendered.campaign for one in pending} - run.asked
            if campaigns and self._funds is not None:
                run.over |= await self._over(sorted(campaigns))
                run.asked |= campaigns
            waiting = await self._decide(pending, originals, run) + rest
            await self._rest()
        return run.done

    async def _read(
        self, chunk: Sequence[ImpressionId], done: Redecided
    ) -> tuple[list[_Pending], dict[ImpressionId, Impression]]:
        """Read what waits, and what it may be a double fire of."""
        streams = await self._store.read_streams(chunk, READ_MAX)
        pending: list[_Pending] = []
        for impression in chunk:
            try:
                found = self._pending(impression, streams.get(impression, ()))
            except (UnreadableCommit, ImpossibleTransition) as error:
                done.unreadable[impression] = str(error)
                continue
            if found is not None:
                pending.append(found)
        others = {other for one in pending for other in self._slots.originals_of(one.item)}
        found_others = await self._store.read_streams(sorted(others), READ_MAX) if others else {}
        states: dict[ImpressionId, Impression] = {}
        for stream, commits in found_others.items():
            assert not isinstance(stream, str)
            try:
                states[stream] = fold(events_of(commits))
            except (UnreadableCommit, ImpossibleTransition) as error:
                blocked = [one for one in pending if stream in self._slots.originals_of(one.item)]
                done.unreadable |= {one.impression: f"its original {stream}: {error}" for one in blocked}
        return [one for one in pending if one.impression not in done.unreadable], states

    def _pending(self, impression: ImpressionId, commits: Sequence[Commit]) -> _Pending | None:
        events = list(events_of(commits))
        state = fold(events)
        if not _waits(state):
            return None
        assert isinstance(state, Decided)
        rendered, scored = _basis(events)
        if Reason.DEGRADED not in scored.reasons:
            return None
        item = Ready(
            impression=impression,
            kind=Kind.RENDER,
            claim=rendered,
            reasons=screen(rendered, self._pack),
            slots=slots_of(state.cut.data_set, rendered.placement, rendered.creative, rendered.user or rendered.device),
            versions=replace(scored.versions, pack=self._pack.id),
            rung=scored.rung,
            data_set=state.cut.data_set,
            raw=b"",
        )
        return _Pending(impression, length_of(commits), state, rendered, scored, item)

    async def _decide(
        self,
        pending: Sequence[_Pending],
        originals: dict[ImpressionId, Impression],
        run: _Run,
    ) -> list[ImpressionId]:
        """Append the corrections of *pending*; return what must be looked at again."""
        conducts = self._activity.look([one.item for one in pending])
        again: list[ImpressionId] = []
        chosen: list[tuple[_Pending, Append, Standing]] = []
        shown = RecentSlots(0, self._pack.double_fire_window_ms)
        now = self._clock()
        for place, one in enumerate(pending):
            if shown.original_of(one.item) is not None:
                again.append(one.impression)  # whether it is a double fire shows when the other one stands
                continue
            judged = self._judge(one, conducts.get(place, PLAIN), originals, now)
            if not judged.reasons and run.waits(one):
                continue
            run.take_back(one)
            if not judged.reasons and run.is_over(one):
                judged = judged._replace(reasons=_OVER_BUDGET)
            command = _command(one, judged, now)
            events = None if command is None else _corrected(one.state, command)
            if not events or command is None:
                run.done.undecided += 1
                continue
            shown.remember(one.item)
            append = Append(
                stream=one.impression,
                expected=one.version,
                cause=command.correction,
                digest=DIGEST,
                events=events,
            )
            run.moves(one, events[-1].before, events[-1].after)
            chosen.append((one, append, events[-1].after))
        outcomes = await self._store.append([append for _, append, _ in chosen], now) if chosen else []
        counted: list[ImpressionRendered] = []
        for (one, _, after), outcome in zip(chosen, outcomes, strict=True):
            if isinstance(outcome, Conflict):
                run.moves(one, after, one.state.standing)
                again.append(one.impression)
                continue
            run.done.decided += 1
            counted.append(one.rendered)
            if in_gross(after):
                self._slots.remember(one.item)
        self._activity.count(counted)
        return again

    def _judge(self, one: _Pending, conduct: Conduct, originals: dict[ImpressionId, Impression], now: int) -> _Judged:
        standing = [other for other in self._slots.originals_of(one.item) if _is_original(originals.get(other))]
        seen = RecentSlots(_SLOTS_MAX, self._pack.double_fire_window_ms)
        for other in standing:
            for slot in one.item.slots:
                seen.recall(slot, (other.int, one.rendered.event_at))
        command = render_of(one.item, self._pack, seen, conduct, now=now)
        reasons = command.scored.reasons
        if self._funds is not None and one.item.data_set is DataSet.LIVE:
            reasons = self._funds.unleased(one.rendered, one.rendered.event_at, reasons, "").reasons
        return _Judged(reasons, command.duplicate_of, command.scored.versions)


def _command(one: _Pending, judged: _Judged, now: int) -> Reconcile | None:
    """Return the correction, None where the render stays uncertain for a reason that does not pass by itself."""
    reason = judged.reasons[0] if judged.reasons else None
    if reason is not None and CLASS_OF[reason] is ReasonClass.UNDECIDED:
        return None
    evidence = "decided again after an outage"
    if reason is Reason.DOUBLE_FIRE:
        evidence = f"{evidence}: double fire of {judged.original}"
    return Reconcile(
        correction=correction_of(one.rendered.cause),
        digest=DIGEST,
        kind=CorrectionKind.VERDICT,
        authority=Authority.REDECISION,
        asked=reason,
        evidence=evidence,
        observed_at=one.rendered.received_at,
        versions=judged.versions,
        decided_at=now,
    )


def _corrected(state: Decided, command: Reconcile) -> tuple[ImpressionReconciled, ...]:
    try:
        events = decide(state, command)
    except CommandRefused:
        return ()
    return tuple(event for event in events if isinstance(event, ImpressionReconciled))


def _waits(state: Impression) -> bool:
    if not isinstance(state, Decided) or not isinstance(state.standing, Uncertain) or state.standing.expired:
        return False
    return state.verdict_in_force is None and state.standing.reason in PASSING


def _is_original(state: Impression | None) -> bool:
    """Tell whether an impression is one that another can be a double fire of; what waits itself is not yet."""
    return isinstance(state, Decided) and in_gross(state.standing) and not _waits(state)


def _basis(events: Sequence[ImpressionEvent]) -> tuple[ImpressionRendered, ImpressionScored]:
    """Return the render that the impression stands by, and what was thought of it."""
    rendered: ImpressionRendered | None = None
    scored: ImpressionScored | None = None
    basis: tuple[ImpressionRendered, ImpressionScored] | None = None
    for event in events:
        match event:
            case ImpressionRendered():
                rendered, scored = event, None
            case ImpressionScored():
                scored = event
            case ImpressionDeduped() | ImpressionReconciled() if rendered is not None and scored is not None:
                basis, rendered, scored = (rendered, scored), None, None
            case _:
                pass
    assert basis is not None, "what is decided was decided by a render"
    return basis
