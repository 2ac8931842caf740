"""
Which events of SDKs never arrive: gaps in the numbers that a session gives its events, found in bounded memory.

Numbers come out of order, hours late and again, and all of that is ordinary. So a number is only missing once a later
one has been here for a while (once to twice `idle_ms`), and what comes later still, within a day, is taken back. Only
the gate sees all numbers: views and repeats have them too, and leave none in the ledger.
"""

from collections import deque
from collections.abc import Callable, Iterable
from functools import lru_cache
from heapq import heappop, heappush
from itertools import count
from typing import NamedTuple, TypeAlias
from uuid import uuid4
from zlib import crc32

from msgspec import Struct

from commands.items import Item, Ready
from domain.sequences import OTHER_SDKS, STREAM_PREFIX, SequenceCount, SequencesCounted
from domain.vocabulary import Surface
from ledger.store import Append, Conflict, EventStore

MINUTE_MS = 60_000
HORIZON_MS = 86_400_000
"""What a device could not send, it sends within a day; sessions are forgotten after it."""
SESSIONS_MAX = 16_384
HOLES_MAX = 131_072
JUMP_MAX = 256
"""Numbers that are farther apart belong to two counts: the session began to count anew."""
RECENT = 8
"""So many of a session's last numbers keep the id of their event, to tell a retry from a number given twice."""
CELLS_MAX = 1_000
LEVELS = 24
"""Each level halves the sample of sessions."""
CALM_MS = 3_600_000
"""How long memory must have had room before the sample is doubled again."""
_ROOM = 4
_NEVER = 1 << 62
_ID_BITS = 32
_ID = (1 << _ID_BITS) - 1

_Cell: TypeAlias = tuple[Surface, str]


class Numbered(NamedTuple):
    """One event with its number. `session` is a pseudonym, `event_id` that of a UUID, `event_at` epoch ms."""

    session: str
    number: int
    surface: Surface
    sdk: str
    event_id: int
    event_at: int


class _Session(Struct, gc=False):
    """
    `settled` is the last number that was judged, `mark` the last one as of the last look, which is judged next.

    `holes` are the numbers between first and last that have not come, with the minute in which they were judged missing
    (0: not yet). `recent` has a number and its event's id by the number's last bits. It `waits` to be judged, and
    `leaves` once nothing was heard of it for long.
    """

    cell: _Cell
    first: int
    last: int
    settled: int
    mark: int
    recent: list[int]
    holes: dict[int, int] = {}
    touched_at: int = 0
    waits: bool = False
    leaves: bool = False


@lru_cache(CELLS_MAX)
def _cell(surface: Surface, sdk: str) -> _Cell:
    """Return one object for each cell, not one for each session."""
    return surface, sdk


def _begun(cell: _Cell, number: int) -> _Session:
    return _Session(cell=cell, first=number, last=number, settled=number - 1, mark=number - 1, recent=[0] * RECENT)


class _Sums:
    __slots__ = ("filled", "missing", "numbers", "repeats", "restarts")

    def __init__(self) -> None:
        self.numbers = self.missing = self.filled = self.repeats = self.restarts = 0


class SequenceTracker:
    """
    Follows sessions; times are epoch ms. Beyond *sessions_max*, or *holes_max* numbers that have not come, every second
    session is let go, by its name, so that those that stay are still whole: rates are those of a fair sample.
    """

    def __init__(
        self, *, started_at: int, idle_ms: int, sessions_max: int = SESSIONS_MAX, holes_max: int = HOLES_MAX
    ) -> None:
        self._idle_ms = idle_ms
        self._sessions_max = sessions_max
        self._holes_max = holes_max
        self._sessions: dict[str, _Session] = {}
        self._holes = 0
        self._to_judge: deque[tuple[int, str, _Session]] = deque()
        self._to_forget: list[tuple[int, int, str, _Session]] = []
        self._entries = count()
        self._sums: dict[tuple[int, Surface, str], _Sums] = {}
        self._level = 0
        self._calm_since = started_at
        # Sessions by how many zeros their name's hash ends in: since when each event of them was seen.
        self._since = [started_at] * (LEVELS + 1)
        self._all_since = started_at
        self._mask = 0

    def __len__(self) -> int:
        return len(self._sessions)

    @property
    def level(self) -> int:
        """The share of sessions that is followed is 1 / 2^level."""
        return self._level

    def note(self, events: Iterable[tuple[str, int, Surface, str, int, int]], now: int) -> None:
        """Take in *events*, which are `Numbered`, received *now*."""
        sessions, mask, all_since = self._sessions, self._mask, self._all_since
        for name, number, surface, sdk, event_id, event_at in events:
            if mask and crc32(name.encode()) & mask:
                continue
            # What happened before all of a session was seen would look like a gap with what happened after.
            if event_at < all_since and event_at < self._since[_zeros(name)]:
                continue
            session = sessions.get(name)
            if session is None:
                session = sessions[name] = _begun(_cell(surface, sdk), number)
            elif number == session.last + 1:
                session.last = number
            else:
                self._place(session, number, event_id & _ID, now)
            session.recent[number % RECENT] = number << _ID_BITS | event_id & _ID
            session.touched_at = now
            if not session.waits and session.mark < session.last:
                self._look_again(name, session, now)
        if len(sessions) > self._sessions_max or self._holes > self._holes_max:
            self._halve(now)

    def judge(self, now: int) -> None:
        """Count the numbers that have had their time, and forget sessions that are over."""
        while self._to_judge and self._to_judge[0][0] <= now:
            _, name, session = self._to_judge.popleft()
            if self._sessions.get(name) is session:
                self._judge(session, now)
                session.waits = False
                if session.mark < session.last:
                    self._look_again(name, session, now)
                elif not session.leaves:
                    self._forget_later(name, session)
        while self._to_forget and self._to_forget[0][0] <= now:
            _, _, name, session = heappop(self._to_forget)
            if self._sessions.get(name) is not session:
                continue
            if session.touched_at + HORIZON_MS <= now:
                self._drop(name)
            else:  # a retry, or a number that came late, moves a session that nothing is to be judged of
                self._forget_later(name, session)
        self._double(now)

    def _forget_later(self, name: str, session: _Session) -> None:
        session.leaves = True
        heappush(self._to_forget, (session.touched_at + HORIZON_MS, next(self._entries), name, session))

    def take(self) -> tuple[SequenceCount, ...]:
        """Return what was found since the last call."""
        found = tuple(
            [
                SequenceCount(*key, sums.numbers, sums.missing, sums.filled, sums.repeats, sums.restarts)
                for key, sums in sorted(self._sums.items())
            ]
        )
        self._sums = {}
        return found

    def _place(self, session: _Session, number: int, id_: int, now: int) -> None:
        """Put a number in its place that is not simply the next."""
        holes = session.holes
        if number > session.last:
            if number - session.last > JUMP_MAX:
                self._restart(session, number, now)
                return
            for hole in range(session.last + 1, number):
                holes[hole] = 0
            self._holes += number - session.last - 1
            session.last = number
        elif number in holes:
            self._fill(session, number)
        elif number < session.first:
            self._begin_earlier(session, number, now)
        else:
            known = session.recent[number % RECENT]
            if known >> _ID_BITS == number and known & _ID != id_:
                self._of(session, now - now % MINUTE_MS).repeats += 1

    def _fill(self, session: _Session, number: int) -> None:
        judged_at = session.holes.pop(number)
        self._holes -= 1
        if judged_at:
            sums = self._of(session, judged_at)
            sums.missing -= 1
            sums.filled += 1

    def _begin_earlier(self, session: _Session, number: int, now: int) -> None:
        """The first events overtook each other. After the first look it is too late to know what else was before."""
        if session.first - number > JUMP_MAX:
            self._restart(session, number, now)
            return
        if session.settled >= session.first:
            return
        for hole in range(number + 1, session.first):
            session.holes[hole] = 0
        self._holes += session.first - number - 1
        session.first = number
        session.settled = number - 1

    def _restart(self, session: _Session, number: int, now: int) -> None:
        """The session counts anew from *number* on; of what it counted before, only what is judged already counts."""
        self._of(session, now - now % MINUTE_MS).restarts += 1
        self._holes -= len(session.holes)
        session.first = session.last = number
        session.settled = session.mark = number - 1
        session.holes = {}
        session.recent = [0] * RECENT

    def _look_again(self, name: str, session: _Session, now: int) -> None:
        session.mark = session.last
        session.waits = True
        self._to_judge.append((now + self._idle_ms, name, session))

    def _judge(self, session: _Session, now: int) -> None:
        """Everything up to the mark has had its time."""
        if session.mark <= session.settled:
            return
        minute = now - now % MINUTE_MS
        sums = self._of(session, minute)
        sums.numbers += session.mark - session.settled
        for hole, judged_at in session.holes.items():
            if not judged_at and hole <= session.mark:
                session.holes[hole] = minute
                sums.missing += 1
        session.settled = session.mark

    def _of(self, session: _Session, minute: int) -> _Sums:
        key = (minute, *session.cell)
        sums = self._sums.get(key)
        if sums is None:
            if len(self._sums) >= CELLS_MAX:
                key = (minute, session.cell[0], OTHER_SDKS)
            sums = self._sums.setdefault(key, _Sums())
        return sums

    def _halve(self, now: int) -> None:
        while (len(self._sessions) > self._sessions_max or self._holes > self._holes_max) and self._level < LEVELS:
            gone = [name for name in self._sessions if _zeros(name) == self._level]
            for name in gone:
                self._take_back(self._sessions[name])
                self._drop(name)
            self._since[self._level] = _NEVER
            self._set_level(self._level + 1)
        self._calm_since = now

    def _take_back(self, session: _Session) -> None:
        """What was missed of a session that is let go may yet come, unseen: nobody knows of these numbers."""
        for judged_at in session.holes.values():
            if judged_at:
                sums = self._of(session, judged_at)
                sums.missing -= 1
                sums.numbers -= 1

    def _double(self, now: int) -> None:
        """Sessions that begin from now on are followed again, where there was room for them for a while."""
        if len(self._sessions) * _ROOM > self._sessions_max or self._holes * _ROOM > self._holes_max:
            self._calm_since = now
        elif self._level and now - self._calm_since >= CALM_MS:
            self._since[self._level - 1] = now
            self._set_level(self._level - 1)
            self._calm_since = now

    def _set_level(self, level: int) -> None:
        self._level = level
        self._mask = (1 << level) - 1
        self._all_since = max(self._since[level:])

    def _drop(self, name: str) -> None:
        self._holes -= len(self._sessions.pop(name).holes)


class SequenceCounter:
    """
    Writes what the tracker found into this process's stream, each count once.

    An append that was not answered is sent again as it was before anything new is.
    """

    def __init__(self, tracker: SequenceTracker, store: EventStore, name: str, clock: Callable[[], int]) -> None:
        self.tracker = tracker
        self._store = store
        self._stream = f"{STREAM_PREFIX}{name}"
        self._version = 0
        self._clock = clock
        self._unanswered: SequencesCounted | None = None

    def note(self, items: Iterable[Item]) -> None:
        """Take in *items* of one request, as they came."""
        self.tracker.note(_numbered(items), self._clock())

    async def flush(self) -> None:
        """
        Write down what was found.

        Raises:
            LedgerUnavailable: it is kept for the next call.
        """
        now = self._clock()
        self.tracker.judge(now)
        if self._unanswered is not None:
            await self._append(self._unanswered, now)
        counts = self.tracker.take()
        if counts:
            await self._append(SequencesCounted(cause=uuid4(), digest="", counted_at=now, counts=counts), now)

    async def _append(self, event: SequencesCounted, now: int) -> None:
        self._unanswered = event
        append = Append(
            stream=self._stream, expected=self._version, cause=event.cause, digest=event.digest, events=(event,)
        )
        [outcome] = await self._store.append([append], now)
        assert not isinstance(outcome, Conflict), "nobody else writes to a stream that has this process's name"
        self._version += 1
        self._unanswered = None


def _numbered(items: Iterable[Item]) -> list[tuple[str, int, Surface, str, int, int]]:
    """Return the `Numbered` of all events that have a session and a number. Plain tuples, because they are many."""
    found = []
    for item in items:
        if type(item) is Ready:
            claim = item.claim
            if claim.sdk_seq is not None and claim.session:
                found.append((claim.session, claim.sdk_seq, claim.surface, claim.sdk, claim.cause.int, claim.event_at))
    return found


def _zeros(name: str) -> int:
    """How many zeros the name's hash ends in, at most LEVELS; a share of 1 / 2^n has n or more."""
    bits = crc32(name.encode())
    return min((bits & -bits).bit_length() - 1, LEVELS) if bits else LEVELS
