"""
Reports of what was served: read, recognised, and durable before they are answered.

A minute's stream is not read in the ordinary case: memory knows it, or it is taken to be new. The ledger has the final
word: where it stands otherwise, it refuses the append, the stream is read, and the report is looked at again.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import cast
from uuid import UUID

import msgspec
from msgspec import Raw, Struct

from commands.batcher import Overloaded
from commands.faults import told
from domain.serves import (
    MINUTE_AGE_MAX_MS,
    AdsServed,
    ReportedMinute,
    ReportRefused,
    ServeRefusal,
    ServesReport,
    fold_reports,
    id_of,
    record,
    stream_of,
)
from ledger.codec import decode
from ledger.store import (
    READ_MAX,
    AlreadyAppended,
    Append,
    Appended,
    Commit,
    EventStore,
    LedgerUnavailable,
    Outcome,
)

CONFLICTS_MAX = 8
"""A minute that other gates keep writing to is looked at again this often; then the caller is told to retry."""
MINUTES_KNOWN_MAX = 4_096
WAITING_MAX = 16

_REPORT = msgspec.json.Decoder(ServesReport)


class TooManyCounts(Exception):
    """The reports of one request have more counts than go in one; nothing of it was taken."""


class ReportStatus(StrEnum):
    RECORDED = "recorded"
    """It is in the ledger, from now or from before."""
    REFUSED = "refused"
    MALFORMED = "malformed"
    """It cannot be read. Nothing is kept of it: whoever sent it knows what it served."""


class ReportAnswer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the caller is told about one report; without an id it cannot be read."""

    report_id: UUID | None = None
    status: ReportStatus
    reason: ServeRefusal | None = None
    errors: tuple[str, ...] = ()


class _Open(Struct):
    """A report on its way: where its answer goes, and how often the ledger stood otherwise."""

    at: int
    report: ServesReport
    conflicts: int = 0


class Serves:
    """
    Records reports for the cell of *region*. `clock` gives epoch ms. Belongs to one event loop; requests take turns.

    At most *counts_max* counts go in one request, because an append holds up the decisions behind it.
    """

    def __init__(
        self,
        *,
        store: EventStore,
        region: str,
        clock: Callable[[], int],
        counts_max: int,
        waiting_max: int = WAITING_MAX,
    ) -> None:
        self._store = store
        self._region = region
        self._clock = clock
        self._counts_max = counts_max
        self._waiting_max = waiting_max
        self._minutes: OrderedDict[str, ReportedMinute] = OrderedDict()
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def record(self, raws: Sequence[bytes | Raw]) -> list[ReportAnswer]:
        """
        Record the reports in *raws* and return one answer each, in order; whatever is answered as recorded is durable.

        Raises:
            LedgerUnavailable: nothing may be answered; the same reports may be sent again.
            Overloaded: too many requests wait; nothing was taken.
            TooManyCounts: nothing was taken.
        """
        answers: dict[int, ReportAnswer] = {}
        waiting: dict[str, list[_Open]] = {}
        counts = 0
        for at, raw in enumerate(raws):
            report = _read(raw)
            if isinstance(report, ReportAnswer):
                answers[at] = report
                continue
            counts += len(report.counts)
            waiting.setdefault(stream_of(report), []).append(_Open(at, report))
        if counts > self._counts_max:
            raise TooManyCounts
        if self._waiting >= self._waiting_max:
            raise Overloaded
        self._waiting += 1
        try:
            async with self._turn:
                while waiting:
                    await self._round(waiting, answers)
        finally:
            self._waiting -= 1
        return [answers[at] for at in range(len(raws))]

    async def _round(self, waiting: dict[str, list[_Open]], answers: dict[int, ReportAnswer]) -> None:
        """Take the first report of each minute: one append carries one cause."""
        now = self._clock()
        first = {stream: opens[0] for stream, opens in waiting.items()}
        await self._read([stream for stream, open_ in first.items() if self._must_read(stream, open_, now)])
        appends: list[Append] = []
        for stream, open_ in first.items():
            state = self._minutes.get(stream, ReportedMinute())
            try:
                event = record(state, open_.report, self._region, now)
            except ReportRefused as refused:
                _answer(open_, answers, ReportStatus.REFUSED, refused.refusal)
                continue
            if event is None:
                _answer(open_, answers, ReportStatus.RECORDED)
                continue
            appends.append(_append(stream, state.version, event))
        outcomes = await self._store.append(appends, now) if appends else []
        for append, outcome in zip(appends, outcomes, strict=True):
            self._absorb(first[str(append.stream)], append, outcome, answers)
        for stream, open_ in first.items():
            if open_.at in answers:
                waiting[stream].pop(0)
                if not waiting[stream]:
                    del waiting[stream]

    def _must_read(self, stream: str, open_: _Open, now: int) -> bool:
        """A minute that is too old to be told of may have been told of in time."""
        known = stream in self._minutes
        return not known and (open_.conflicts > 0 or now - cast("int", open_.report.minute) > MINUTE_AGE_MAX_MS)

    async def _read(self, streams: Sequence[str]) -> None:
        if not streams:
            return
        found = await self._store.read_streams(streams, READ_MAX)
        for stream in streams:
            self._remember(stream, fold_reports(_events(found.get(stream, []))))

    def _absorb(self, open_: _Open, append: Append, outcome: Outcome, answers: dict[int, ReportAnswer]) -> None:
        stream = str(append.stream)
        if isinstance(outcome, Appended):
            state = self._minutes.get(stream, ReportedMinute())
            self._remember(stream, fold_reports(cast("tuple[AdsServed, ...]", append.events), state))
            _answer(open_, answers, ReportStatus.RECORDED)
            return
        self._minutes.pop(stream, None)
        if isinstance(outcome, AlreadyAppended):
            _answer(open_, answers, ReportStatus.RECORDED)
            return
        open_.conflicts += 1
        if open_.conflicts > CONFLICTS_MAX:
            raise LedgerUnavailable("the minute's stream kept changing")

    def _remember(self, stream: str, state: ReportedMinute) -> None:
        self._minutes[stream] = state
        self._minutes.move_to_end(stream)
        if len(self._minutes) > MINUTES_KNOWN_MAX:
            self._minutes.popitem(last=False)


def _read(raw: bytes | Raw) -> ServesReport | ReportAnswer:
    try:
        return _REPORT.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return ReportAnswer(status=ReportStatus.MALFORMED, errors=(told(error),))


def _answer(
    open_: _Open, answers: dict[int, ReportAnswer], status: ReportStatus, reason: ServeRefusal | None = None
) -> None:
    answers[open_.at] = ReportAnswer(report_id=id_of(open_.report), status=status, reason=reason)


def _append(stream: str, version: int, event: AdsServed) -> Append:
    return Append(stream=stream, expected=version, cause=event.cause, digest=event.digest, events=(event,))


def _events(commits: Sequence[Commit]) -> list[AdsServed]:
    events = [event for commit in commits for event in decode(commit.data)]
    assert all(isinstance(event, AdsServed) for event in events), "a minute's stream has reports only"
    return cast("list[AdsServed]", events)
