"""
A client that sends renders to the cells that own them: for ad servers, edges, and our own commands.

One `send` is one batch from many people. It is split by the cell map, each part goes to its cell, and the answers come
back in the order of the batch. A part that fails takes no other with it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from random import Random
from typing import Protocol, TypeAlias

import msgspec
from msgspec import Struct

from commands.items import Answer, Elsewhere
from domain.cells import Cell, CellMap, CellMapError, UnknownRoute
from domain.cells_file import parse_cell_map
from domain.ids import shard
from domain.reasons import Reason
from domain.token import Token, TokenInvalid, read_token
from ml.traffic.delivery import Patience

BATCH_MAX = 10_000
PART_RENDERS_MAX = 500
PART_BYTES_MAX = 1 << 20
_OK, _MISDIRECTED, _UNREADABLE = 200, 421, 422
_TRY_AGAIN = frozenset({429, 500, 502, 503, 504})


class NoReply(ConnectionError):
    """No whole answer came in time; the renders may or may not have been taken. Sending them again is safe."""


class Reply(Struct, frozen=True):
    """`retry_after_s` is what the cell asks for, 0 if nothing."""

    status: int
    body: bytes
    retry_after_s: float = 0.0


class Wire(Protocol):
    """How cells are reached. Both raise `NoReply`; *timeout_s* is for the whole exchange."""

    async def post(self, address: str, body: bytes, timeout_s: float) -> Reply:
        """Post *body*, JSON lines, to `/v1/impressions` at *address*."""

    async def cell_map(self, address: str, timeout_s: float) -> str:
        """Return the text of the cell map that the cell at *address* goes by."""


class Failed(Struct, frozen=True, kw_only=True):
    """A render that no cell has answered; sending it again is safe. `status` 0: no answer came at all."""

    cell: str
    status: int
    why: str

    @property
    def may_pass(self) -> bool:
        """Whether sending the same again may end otherwise."""
        return self.status == 0 or self.status in _TRY_AGAIN


Outcome: TypeAlias = Answer | Failed


class Limits(Struct, frozen=True, kw_only=True):
    """Of one `send`, over all tries and cells: *deadline_s*. Of one exchange with a cell: *try_s*."""

    deadline_s: float = 10.0
    try_s: float = 5.0
    tries_max: int = 4
    cells_at_once: int = 16
    patience: Patience = Patience()


class _TokenOnly(Struct):
    token: str


class _Problem(Struct):
    title: str = ""
    detail: str = ""
    outcomes: list[Elsewhere] = []


class _Part(Struct, frozen=True):
    """Renders of one batch, by their places in it, that go in one request."""

    cell: Cell
    places: Sequence[int]


_TOKEN = msgspec.json.Decoder(_TokenOnly)
_ANSWERS = msgspec.json.Decoder(Elsewhere)
_PROBLEM = msgspec.json.Decoder(_Problem)


class Router:
    """Routes by *cells*, and by a newer map once a cell shows that there is one. Belongs to one event loop."""

    def __init__(
        self,
        cells: CellMap,
        wire: Wire,
        *,
        limits: Limits | None = None,
        seed: int = 0,
        pause: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self.cells = cells
        self._wire = wire
        self._limits = limits or Limits()
        self._rng = Random(seed)  # noqa: S311 (spreads retries, no secret)
        self._pause = pause
        self._refreshing = asyncio.Lock()
        self._clock = asyncio.get_running_loop().time

    async def send(self, renders: Sequence[bytes]) -> list[Outcome]:
        """
        Return one outcome per render (a JSON document each), in order, within the deadline.

        What a cell says is another's is sent once more, if one of these cells has a newer map and it names another.

        Raises:
            ValueError: there are more than `BATCH_MAX`.
        """
        if len(renders) > BATCH_MAX:
            raise ValueError(f"{len(renders)} renders; at most {BATCH_MAX} go in one batch")
        batch = _Batch(renders, self._clock() + self._limits.deadline_s)
        first = self.cells
        await self._deliver(batch, first, range(len(renders)))
        if moved := batch.misdirected():
            for asked in {batch.asked[at].name: batch.asked[at] for at in moved}.values():
                await self._refresh(first, asked, batch.give_up_at)
            followed = [at for at in moved if self.home_of(renders[at]).name != batch.asked[at].name]
            await self._deliver(batch, self.cells, followed)
        return batch.all_outcomes()

    def home_of(self, render: bytes) -> Cell:
        """
        Return the cell to send *render* to.

        That of an epoch that the map does not know yet goes where the newest one leads, what cannot be read to the
        first cell of the map: always the same, so that it is kept there once.
        """
        return _home_of(self.cells, render)

    async def _deliver(self, batch: "_Batch", cells: CellMap, places: Sequence[int]) -> None:
        by_cell: dict[str, list[int]] = {}
        for at in places:
            if not batch.renders[at].strip():
                batch.outcomes[at] = Failed(cell="", status=_UNREADABLE, why="it is empty")
                continue
            cell = _home_of(cells, batch.renders[at])
            batch.asked[at] = cell
            by_cell.setdefault(cell.name, []).append(at)
        room = asyncio.Semaphore(self._limits.cells_at_once)

        async def to_cell(cell: Cell, mine: Sequence[int]) -> None:
            async with room:
                await self._to_cell(batch, cell, mine)

        async with asyncio.TaskGroup() as under_way:
            for name, mine in by_cell.items():
                under_way.create_task(to_cell(cells.cells[name], mine))

    async def _to_cell(self, batch: "_Batch", cell: Cell, places: Sequence[int]) -> None:
        """Send the parts of one cell one after the other, so that its renders keep their order."""
        failed: Failed | None = None
        for part in _parts(cell, places, batch.renders):
            found = failed or await self._part(batch, part)
            if isinstance(found, Failed):
                failed = found
                found = [failed] * len(part.places)
            for at, outcome in zip(part.places, found, strict=True):
                batch.outcomes[at] = outcome

    async def _part(self, batch: "_Batch", part: _Part) -> Sequence[Outcome] | Failed:
        body = b"\n".join(batch.renders[at].replace(b"\n", b" ") for at in part.places)
        tries = 0
        while True:
            left_s = batch.give_up_at - self._clock()
            if left_s <= 0:
                return Failed(cell=part.cell.name, status=0, why="the deadline passed")
            reply, why = None, ""
            try:
                reply = await self._wire.post(part.cell.address, body, min(left_s, self._limits.try_s))
            except NoReply as error:
                why = str(error)
            if reply is not None and reply.status not in _TRY_AGAIN:
                return _read(reply, part)
            tries += 1
            asked_s = 0.0 if reply is None else reply.retry_after_s
            wait_s = self._limits.patience.wait_s(tries - 1, asked_s, self._rng)
            if tries >= self._limits.tries_max or self._clock() + wait_s >= batch.give_up_at:
                status = 0 if reply is None else reply.status
                return Failed(cell=part.cell.name, status=status, why=why or _title(reply))
            await self._pause(wait_s)

    async def _refresh(self, before: CellMap, asked: Cell, give_up_at: float) -> None:
        """Take the map that the cell *asked* goes by, if it is newer than ours and says all that ours does."""
        async with self._refreshing:
            if self.cells is not before:
                return
            try:
                timeout_s = min(give_up_at - self._clock(), self._limits.try_s)
                text = await self._wire.cell_map(asked.address, timeout_s)
                newer = await asyncio.to_thread(parse_cell_map, text, asked.address)
            except (NoReply, CellMapError):
                return
            if self.cells.flaws_after(newer) and not newer.flaws_after(self.cells):
                self.cells = newer


class _Batch:
    """What is known of the renders of one `send`, by place: which cell was asked last, and what came of it."""

    def __init__(self, renders: Sequence[bytes], give_up_at: float) -> None:
        self.renders = renders
        self.give_up_at = give_up_at
        self.asked: dict[int, Cell] = {}
        self.outcomes: dict[int, Outcome] = {}

    def misdirected(self) -> list[int]:
        return [
            at
            for at, outcome in self.outcomes.items()
            if isinstance(outcome, Answer) and outcome.reason is Reason.REGION_MISDIRECTED
        ]

    def all_outcomes(self) -> list[Outcome]:
        return [self.outcomes[at] for at in range(len(self.renders))]


def _home_of(cells: CellMap, render: bytes) -> Cell:
    try:
        token = read_token(_TOKEN.decode(render).token)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TokenInvalid):
        return next(iter(cells.cells.values()))
    return _owner(cells, token)


def _owner(cells: CellMap, token: Token) -> Cell:
    try:
        return cells.cell_of(token.region, token.epoch, shard(token.impression))
    except UnknownRoute:
        known = cells.epochs(token.region)
    if not known:
        return next(iter(cells.cells.values()))
    return cells.cells[known[-1].owners[shard(token.impression)]]


def _parts(cell: Cell, places: Sequence[int], renders: Sequence[bytes]) -> Iterator[_Part]:
    """Cut *places* so that no request is too large; a render that is too large by itself goes alone."""
    part: list[int] = []
    size = 0
    for at in places:
        if part and (len(part) == PART_RENDERS_MAX or size + len(renders[at]) > PART_BYTES_MAX):
            yield _Part(cell, part)
            part, size = [], 0
        part.append(at)
        size += len(renders[at]) + 1
    if part:
        yield _Part(cell, part)


def _read(reply: Reply, part: _Part) -> Sequence[Outcome] | Failed:
    """Return what *reply* says of each render, or why nothing can be said."""
    answers: Sequence[Elsewhere] = ()
    try:
        if reply.status == _OK:
            answers = _ANSWERS.decode_lines(reply.body)
        elif reply.status == _MISDIRECTED:
            answers = _PROBLEM.decode(reply.body).outcomes
        else:
            return Failed(cell=part.cell.name, status=reply.status, why=_title(reply))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Failed(cell=part.cell.name, status=reply.status, why="the answer cannot be read")
    if len(answers) != len(part.places):
        return Failed(cell=part.cell.name, status=reply.status, why="the answer is not about these renders")
    return answers


def _title(reply: Reply | None) -> str:
    """Return the words of a problem document, as far as there is one."""
    try:
        problem = _Problem() if reply is None else _PROBLEM.decode(reply.body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    return f"{problem.title}: {problem.detail}" if problem.detail else problem.title
