"""
The event store on EventStoreDB: one stream per impression, many appends over one call.

Every event's id begins with random bits of its append, so that the server, which compares ids and nothing else, takes
for done only what this very append did before its answer was lost. Whatever else stands in a stream is a conflict
there, and is read: by its cause and the cause's digest it is then known what it is (P2). A conflict that reading does
not confirm is asked about, until it is seen or the server admits that its index cannot tell (P3).
"""

from collections.abc import AsyncGenerator, Iterator, Sequence
from datetime import date

import msgspec

from domain.ids import day_of
from domain.vocabulary import DataSet
from ledger.eventstoredb_address import STREAMS, read_address
from ledger.eventstoredb_all import Everything, Mark
from ledger.eventstoredb_appends import Appender
from ledger.eventstoredb_client import (
    Answer,
    CallFailed,
    Denied,
    Failure,
    Gone,
    NotNow,
    WrongVersion,
)
from ledger.eventstoredb_client import Appended as Acknowledged
from ledger.eventstoredb_connection import Connection, each, within
from ledger.eventstoredb_job import Job
from ledger.eventstoredb_layout import Names
from ledger.eventstoredb_look import SEGMENTS_MAX, Looker, Places
from ledger.eventstoredb_register import Register
from ledger.store import (
    Append,
    Commit,
    LedgerError,
    LedgerUnavailable,
    NoPartition,
    Outcome,
    StreamId,
    check_appends,
    check_limit,
)

WINDOW = 256
"""Appends that wait for their answers at a time."""
_READS_AT_ONCE = 64
_DAY_MS = 86_400_000
_EPOCH = date(1970, 1, 1).toordinal()
_PROBE_S = 2.0
_ENDED_BY_AN_APPEND = {Failure.HANDLER, Failure.CUT}


class EventStoreDbStore:
    """
    An `EventStore` on EventStoreDB 21.10 or later. Belongs to one event loop; connects when it is first asked.

    *url* is `esdb://user:password@host:port,.../namespace?tls=true&tlsCaFile=...`; without credentials and with
    `tls=false` for an insecure server; several hosts or `esdb+discover://` for a cluster.

    Raises:
        ValueError: the address cannot be read.
    """

    def __init__(self, url: str, *, deadline_s: float = 5.0, window: int = WINDOW) -> None:
        address = read_address(url)
        if address.layout != STREAMS:
            raise ValueError(f"the address says layout={address.layout}; that is opened by ledger/segments.py")
        self._deadline_s = deadline_s
        self._names = Names(address.namespace)
        self._connection = Connection(address)
        self._appender = Appender(self._connection, window, deadline_s)
        displaced = Register(self._connection, self._appender, self._names.displaced, "StreamDisplaced")
        self._looker = Looker(self._connection, self._names, displaced)
        self._prepared = Register(self._connection, self._appender, self._names.days, "DayPrepared")
        self._layout = Register(self._connection, self._appender, self._names.layout, "LayoutChosen")
        self._everything = Everything(self._connection, self._names, deadline_s)
        self._places = Places()
        self._days: set[int] = set()

    async def close(self) -> None:
        await self._appender.close()
        await self._connection.close()

    async def append(self, appends: Sequence[Append], recorded_at: int) -> list[Outcome]:
        if not appends:
            return []
        check_appends(appends)
        for append in appends:
            self._names.of(append.stream)
        jobs = [Job(append, recorded_at) for append in appends]

        async def do() -> None:
            await self._check_days(appends)
            await self._do(jobs)

        await within(self._deadline_s, do)
        return [job.result() for job in jobs]

    async def read_streams(self, streams: Sequence[StreamId], limit: int) -> dict[StreamId, list[Commit]]:
        check_limit(limit)
        wanted = list(dict.fromkeys(streams))
        if not wanted:
            return {}

        async def read() -> list[list[Commit]]:
            await self._looker.learn()
            return await each([self._looker.first(stream, limit, self._places) for stream in wanted], _READS_AT_ONCE)

        found = await within(self._deadline_s, read)
        return {stream: commits for stream, commits in zip(wanted, found, strict=True) if commits}

    async def read_all(self, after: int, limit: int) -> list[Commit]:
        check_limit(limit)
        return await within(self._deadline_s, lambda: self._everything.page(after, limit), patient=True)

    async def head(self) -> int:
        return await within(self._deadline_s, self._everything.head)

    async def before_last(self, commits: int) -> int:
        return await within(self._deadline_s, lambda: self._everything.before_last(commits), patient=True)

    async def read_named(self, prefix: str, after: int, limit: int) -> list[Commit]:
        """Return what `read_all` would of streams whose name begins with *prefix*; the server leaves out the others."""
        check_limit(limit)
        return await within(self._deadline_s, lambda: self._everything.page(after, limit, prefix), patient=True)

    def follow(self, after: int) -> AsyncGenerator[Commit | Mark, None]:
        """
        Yield the commits after position *after* and those to come, with a mark whenever nothing is left for now.

        It goes on by itself after failures, without a gap or a repetition.

        Raises:
            LedgerUnavailable: the store did not come back within the deadline; begin again after the last commit.
        """
        return self._everything.follow(after)

    async def prepare_days(self, first: date, last: date, data_set: DataSet) -> None:
        days = range(first.toordinal() - _EPOCH, last.toordinal() - _EPOCH + 1)
        if not self._days.issuperset(days):
            await within(self._deadline_s, lambda: self._prepare(days, data_set))

    async def _do(self, jobs: Sequence[Job]) -> None:
        """Do what is open of *jobs*; begun again after a failure, it goes on where it was."""
        while open_ := [job for job in jobs if job.outcome is None]:
            if doubtful := [job for job in open_ if job.doubt]:
                await self._settle(doubtful)
            else:
                await self._send(open_)

    async def _send(self, jobs: Sequence[Job]) -> None:
        """
        Send *jobs*; those that a call ended under go in smaller and smaller calls, until the one that is why is alone.

        Raises:
            CallFailed: some have no answer.
        """
        failure: CallFailed | None = None
        apart = [job for job in jobs if job.company is not None]
        if together := [job for job in jobs if job.company is None]:
            answers, ended = await self._appender.send([job.request(self._names) for job in together])
            failure = self._take(together, answers, ended)
        for group in _groups(apart):
            answers, ended = await self._appender.send_apart([job.request(self._names) for job in group])
            failure = self._take(group, answers, ended) or failure
        if failure is not None:
            raise failure

    def _take(
        self, jobs: Sequence[Job], answers: Sequence[Answer | None], ended: CallFailed | None
    ) -> CallFailed | None:
        """Take in what came of *jobs*; return why they must wait, None where they may go on in smaller company."""
        failure = ended
        if ended is not None and ended.failure in _ENDED_BY_AN_APPEND:
            lost = [job for job, answer in zip(jobs, answers, strict=True) if answer is None]
            failure = None if len(jobs) > 1 else ended
            for job in lost:
                job.doubt = job.refused = job.company == 1
                job.company = max(1, len(lost) // 2)
        for job, answer in zip(jobs, answers, strict=True):
            failure = self._note(job, answer) or failure
        return failure

    def _note(self, job: Job, answer: Answer | None) -> CallFailed | None:
        """Take in *answer*; return why it is none."""
        match answer:
            case Acknowledged():
                append = job.append
                self._places.advance(append.stream, append.cause, job.written(), expected=append.expected)
            case WrongVersion():
                job.doubt = job.refused = True
            case Gone():
                job.give_up()
            case Denied(why):
                raise LedgerUnavailable(f"EventStoreDB refused: {why}")
            case NotNow(why):
                if "eader" in why:
                    self._connection.leave()
                    self._appender.renew()
                return CallFailed(Failure.AWAY, why)
            case None:
                pass
        return None

    async def _settle(self, jobs: Sequence[Job]) -> None:
        """Read the streams of *jobs*, and decide by what stands there."""
        unknown = []
        for job in jobs:
            known = self._places.get(job.append.stream, job.append.cause)
            if known is None or job.refused or known[0].next != job.append.expected:
                unknown.append(job)
            else:
                job.place, job.doubt = known[0], False
        if unknown:
            await self._looker.learn()
            await each([self._settle_or_give_up(job) for job in unknown], _READS_AT_ONCE)

    async def _settle_or_give_up(self, job: Job) -> None:
        try:
            await self._settle_one(job)
        except CallFailed as error:
            if error.failure is not Failure.DELETED:
                raise
            job.give_up()

    async def _settle_one(self, job: Job) -> None:
        job.judge(await self._looker.look(job.append.stream, job.append.cause, self._places))
        if job.outcome is not None or not job.refused:
            job.doubt = False
            return
        # The server says that the stream stands otherwise, and it does not, as far as can be read.
        name = self._names.of(job.append.stream, job.place.segment)
        async with self._connection.use() as node:
            actual = await node.actual_revision(name, _PROBE_S)
        if actual is None:
            job.give_up()
        elif actual < -1:
            await self._displace(job)
        elif actual != job.place.revision:
            raise CallFailed(Failure.AWAY, "an append before this one cannot be read yet")
        else:
            job.doubt = job.refused = False

    async def _displace(self, job: Job) -> None:
        segment = job.place.segment + 1
        if segment > SEGMENTS_MAX:
            raise LedgerError(f"{job.append.stream} cannot be appended to under any name")
        await self._looker.displace(job.append.stream, segment)
        job.refused, job.company = False, None

    async def _check_days(self, appends: Sequence[Append]) -> None:
        days = {(stream.int >> 80) // _DAY_MS for append in appends if not isinstance(stream := append.stream, str)}
        if days <= self._days:
            return
        await self._learn_days()
        for missing in days - self._days:
            raise NoPartition(day_of(missing * _DAY_MS))

    async def _prepare(self, days: range, data_set: DataSet) -> None:
        await self._learn_days()
        if not self._days and await self._layout.news():
            raise LedgerError("the namespace holds a ledger in segments; its address says layout=segments")
        while missing := [day for day in days if day not in self._days]:
            values = [msgspec.json.encode({"day": day_of(day * _DAY_MS), "data_set": data_set}) for day in missing]
            added = await self._prepared.add(values)
            await self._learn_days()
            if not added and any(day not in self._days for day in missing):
                raise CallFailed(Failure.AWAY, "the register of days changed")

    async def _learn_days(self) -> None:
        for value in await self._prepared.news():
            day = date.fromisoformat(msgspec.json.decode(value)["day"])
            self._days.add(day.toordinal() - _EPOCH)


def _groups(jobs: Sequence[Job]) -> Iterator[Sequence[Job]]:
    """Yield *jobs* in groups as small as the first of each asks for."""
    while jobs:
        size = jobs[0].company
        yield jobs[:size]
        jobs = jobs[size:]
