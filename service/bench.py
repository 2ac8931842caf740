"""
`impledger bench`: what a scored, durable decision costs with everything running on this machine.

Two runs on one start: at saturation (four connections, the next batch as soon as the last is answered), then at half of
that rate, sent by the clock whatever the answers take. A starter model is in force. CPU time is of each process with
its children, until the desk has shown everything and the scheduler has looked at everything.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from time import perf_counter

from msgspec import Struct

from commands.reevaluations_postgres import PostgresReevaluations
from ledger.postgres_connection import PostgresConnection
from ml.traffic.http1 import Connections, NoAnswer, Origin
from service.keyfiles import Keys, load_or_make_keys
from service.load import bodies
from service.reader import Desk
from service.settings import Settings
from service.stage import cpu_seconds, machine, on_free_ports, stage, start_model, watch_over
from service.supervisor import Supervisor
from service.wiring import database_url, open_store

CONNECTIONS = 4
_OPEN_CONNECTIONS = 32
_ANSWER_MAX_S = 10.0
_RETRY_S = 0.01
_DEADLINE_S = 5.0
_POLL_S = 0.1
_OK = 200


class Run(Struct, frozen=True, kw_only=True):
    """One run: latencies are of requests, in ms; `cpu_us_per_decision` by process."""

    decisions: int
    decisions_per_s: float
    cpu_us_per_decision: dict[str, float]
    cpu_us_in_all: float
    p50_ms: float
    p99_ms: float
    refused_as_busy: int
    caught_up_s: float


class Bench(Struct, frozen=True, kw_only=True):
    decisions_per_s: float
    cpu_us_per_decision: dict[str, float]
    cpu_us_in_all: float
    p50_ms: float
    p99_ms: float
    batch: int
    seed: int
    is_scored: bool
    """Whether a model was in force."""
    half_of_saturation: Run
    saturation: Run
    machine: dict[str, object]


def bench(settings: Settings, *, decisions: int, batch: int, seed: int, tell: Callable[[str], None]) -> Bench:
    """
    Start everything on a folder of its own, measure, stop; *tell* hears what is done at the moment.

    Raises:
        LauncherError: it cannot be started; the text says why and what to do.
    """
    with stage(on_free_ports(replace(settings, cell="", cell_map="")), keep=False) as (staged, supervisor):
        keys = load_or_make_keys(staged.data_dir)
        dice = random.Random(seed)  # noqa: S311 (seeded on purpose)

        def load(renders: int) -> list[bytes]:
            return list(bodies(dice, keys, staged.region, renders=renders, batch=batch))

        async def measure() -> tuple[bool, Run, Run]:
            watch = asyncio.create_task(watch_over(supervisor))
            is_scored = await start_model(staged, tell)
            tell(f"sending {decisions} decisions at saturation, then {decisions // 2} at half of it")
            driver = _Driver(staged, keys, supervisor, batch)
            await driver.saturate(load(decisions // 10))
            full = await driver.saturate(load(decisions))
            half = await driver.paced(load(decisions // 2), full.decisions_per_s / 2)
            watch.cancel()
            return is_scored, full, half

        is_scored, full, half = asyncio.run(measure())
    return Bench(
        decisions_per_s=full.decisions_per_s,
        cpu_us_per_decision=full.cpu_us_per_decision,
        cpu_us_in_all=full.cpu_us_in_all,
        p50_ms=full.p50_ms,
        p99_ms=full.p99_ms,
        batch=batch,
        seed=seed,
        is_scored=is_scored,
        half_of_saturation=half,
        saturation=full,
        machine=machine(),
    )


class _Driver:
    """Sends bodies and reads the clocks of all processes before and after."""

    def __init__(self, settings: Settings, keys: Keys, supervisor: Supervisor, batch: int) -> None:
        self._settings = settings
        self._keys = keys
        self._supervisor = supervisor
        self._batch = batch
        self._origin = Origin(settings.host, settings.gate_port)
        self._headers = {"content-type": "application/json", "authorization": f"Bearer {keys.operator}"}

    async def saturate(self, load: list[bytes]) -> Run:
        waiting = iter(load)

        async def sender(connections: Connections, took: list[float]) -> int:
            return sum([await self._post(connections, body, took) for body in waiting])

        return await self._run(load, lambda c, took: asyncio.gather(*(sender(c, took) for _ in range(CONNECTIONS))))

    async def paced(self, load: list[bytes], per_s: float) -> Run:
        async def send(connections: Connections, took: list[float]) -> list[int]:
            began, sent = perf_counter(), []
            for at, body in enumerate(load):
                await asyncio.sleep(max(0.0, began + at * self._batch / per_s - perf_counter()))
                sent.append(asyncio.create_task(self._post(connections, body, took)))
            return await asyncio.gather(*sent)

        return await self._run(load, send)

    async def _run(self, load: Sequence[bytes], send) -> Run:  # type: ignore[no-untyped-def]  # noqa: ANN001
        took: list[float] = []
        before, began = cpu_seconds(self._supervisor), perf_counter()
        async with Connections(self._origin, size=_OPEN_CONNECTIONS, timeout_s=_ANSWER_MAX_S) as connections:
            busy = sum(await send(connections, took))
        seconds = perf_counter() - began
        await self._caught_up()
        caught_up_s = perf_counter() - began - seconds
        after, decisions = cpu_seconds(self._supervisor), len(load) * self._batch
        costs = {name: round((after[name] - before[name]) / decisions * 1e6, 2) for name in after}
        took.sort()
        return Run(
            decisions=decisions,
            decisions_per_s=round(decisions / seconds, 1),
            cpu_us_per_decision=costs,
            cpu_us_in_all=round(sum(costs.values()), 2),
            p50_ms=round(took[len(took) // 2] * 1_000, 2),
            p99_ms=round(took[int(len(took) * 0.99)] * 1_000, 2),
            refused_as_busy=busy,
            caught_up_s=round(caught_up_s, 2),
        )

    async def _caught_up(self) -> None:
        store, connection = open_store(self._settings), PostgresConnection(database_url(self._settings), _DEADLINE_S)
        async with Desk(self._settings) as desk:
            known = await desk.caught_up(store)
        followed = PostgresReevaluations(connection).followed
        while (await followed()).position < known.position:  # noqa: ASYNC110 (the scheduler tells nobody)
            await asyncio.sleep(_POLL_S)
        await connection.close()
        await store.close()

    async def _post(self, connections: Connections, body: bytes, took: list[float]) -> int:
        """Send *body* until it is answered; return how often the gate was too busy for it."""
        busy, began = 0, perf_counter()
        while True:
            try:
                response = await connections.post("/v1/impressions", self._headers, body)
            except NoAnswer:
                response = None
            if response is not None and response.status == _OK:
                took.append(perf_counter() - began)
                return busy
            busy += 1
            await asyncio.sleep(_RETRY_S)
