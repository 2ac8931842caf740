"""Cells in memory behind one client, each a whole gate of its own, and a wire whose faults a test chooses."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import date
from hashlib import sha256

import httpx
from gatekit import EVERYTHING, NOW, PACK, KitGate
from msgspec.structs import replace
from starlette.applications import Starlette

from commands.batcher import Batcher
from commands.homes import Homes
from domain.cells import Cell, CellMap, Epoch, grow
from domain.cells_file import cell_map_text
from domain.ids import SHARDS, mint
from service.access import Access
from service.cell_watch import CellMapWatch
from service.gate_http import GateApp
from service.gate_metrics import GateMetrics
from service.router import NoReply, Reply
from service.router_wires import HttpxWire
from service.settings import Settings

BEARER = "server"
API = {sha256(BEARER.encode()).hexdigest(): sorted(EVERYTHING)}
SINCE = NOW - 86_400_000


def address(name):
    return f"http://{name}.example"


def one_cell(region="eu", name="eu-1"):
    cell = Cell(name, region, address(name))
    return CellMap({name: cell}, {region: [Epoch(region, 1, SINCE, (name,) * SHARDS)]})


def grown(cells, name, since=None):
    """*cells* after growing by a cell of the first region."""
    region = cells.regions[0]
    newest = cells.epochs(region)[-1]
    growth = grow(cells, Cell(name, region, address(name)), newest.since + 1_000 if since is None else since)
    epochs = {known: list(cells.epochs(known)) for known in cells.regions}
    epochs[region].append(growth.epoch)
    return CellMap({**cells.cells, name: growth.cell}, epochs)


def cells_of(number):
    """A map that grew from one cell to *number*."""
    cells = one_cell()
    for count in range(2, number + 1):
        cells = grown(cells, f"eu-{count}")
    return cells


def minted(clients, cells, shard, epoch=None, **changes):
    """A token of *shard*, minted under the newest epoch of *cells* unless another is named."""
    newest = len(cells.epochs("eu"))
    impression = mint(NOW - 5_000, shard, clients.random.getrandbits(62))
    return clients.token(impression=impression, epoch=epoch or newest, **changes)


class CellGate(KitGate):
    """A gate that owns its share of a map."""

    def __init__(self, cells, name, **kept):
        self.homes = Homes(cells, name)
        super().__init__(**kept)

    def restart(self, recent_max=10_000, name="eu-kit"):
        super().restart(recent_max, name)
        self.intake = replace(self.intake, homes=self.homes)
        self.quarantine = replace(self.quarantine, intake=self.intake)


@asynccontextmanager
async def served(gate, cells, tmp_path=None):
    """*gate* as an ASGI application; its map is handed out by a watch on a file in *tmp_path*."""
    access, routes = Access(API), []
    await gate.open(date(2026, 9, 20), date(2026, 9, 22))
    if tmp_path is not None:
        name = gate.homes.cell.name
        path = tmp_path / f"{name}.toml"
        path.write_text(cell_map_text(cells))
        watch = CellMapWatch(Settings(cell=name, cell_map=str(path), data_dir=tmp_path / name))
        gate.watch, gate.map_path = watch, path
        watch.homes = gate.homes
        routes = watch.routes(access)
    batcher = Batcher(gate.ingest.decide_batch, batch_max=8, wait_max_s=5.0)
    running = asyncio.create_task(batcher.run())
    yield GateApp(
        intake=gate.intake,
        batcher=batcher,
        access=access,
        settings=Settings(),
        metrics=GateMetrics(PACK),
        inner=Starlette(routes=routes),
    )
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


@asynccontextmanager
async def cluster(cells, tmp_path=None, only=None, known_to=None):
    """
    Gates by name, each of *cells* (or *only* these), and a client that reaches each at its address.

    *known_to* maps a name to the older or newer map that this gate goes by.
    """
    async with AsyncExitStack() as stack:
        gates, mounts = {}, {}
        for name in only or cells.cells:
            own = (known_to or {}).get(name, cells)
            gates[name] = CellGate(own, name)
            app = await stack.enter_async_context(served(gates[name], own, tmp_path))
            mounts[address(name)] = httpx.ASGITransport(app)
        http = httpx.AsyncClient(mounts=mounts, transport=httpx.MockTransport(_nobody))
        yield gates, await stack.enter_async_context(http)


def _nobody(request):
    raise httpx.ConnectError("nobody listens there", request=request)


class FaultyWire:
    """
    The wire to in-process gates, with faults that a test puts into `faults[address]`, one per exchange.

    A fault is a status, `"lost"` (nothing is sent), or `"answer lost"` (the cell has taken it). `posts` counts
    exchanges by address, `pauses` what was waited.
    """

    def __init__(self, http):
        self._inner = HttpxWire(http, lambda _: BEARER)
        self.faults = {}
        self.posts = Counter()
        self.maps = Counter()
        self.pauses = []

    async def post(self, address, body, timeout_s):
        self.posts[address] += 1
        waiting = self.faults.get(address)
        fault = waiting.pop(0) if waiting else None
        if fault == "lost":
            raise NoReply("lost on the way")
        if isinstance(fault, int):
            return Reply(fault, b'{"title": "as the test says"}', 0.25)
        reply = await self._inner.post(address, body, timeout_s)
        if fault == "answer lost":
            raise NoReply("the answer was lost")
        return reply

    async def cell_map(self, address, timeout_s):
        self.maps[address] += 1
        return await self._inner.cell_map(address, timeout_s)

    async def pause(self, seconds):
        self.pauses.append(seconds)
        await asyncio.sleep(0)
