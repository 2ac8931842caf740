"""The shelter: what it costs a gate per render while closed, while open, and at home; rates over PostgreSQL; JSON."""

import asyncio
import json
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from gatekit import EVERYTHING, NOW
from shelterkit import FINGERPRINTS, Pair, trust

from commands.items import Caller
from commands.shelter_arrivals import Envelope
from commands.shelter_forward import Forwarder
from commands.shelter_postgres import PostgresShelter
from commands.shelter_store import Room
from ledger.postgres_connection import PostgresConnection
from service.embedded_postgres import PostgresServer
from service.migrate import migrate_postgres
from service.stage import machine

RENDERS, ROUNDS = 500, 20
STORED, BATCH, SINGLES_AT_ONCE = 20_000, 500, 64
CALLER = Caller(EVERYTHING, "Mozilla/5.0", "::1")


def main():
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    figures = {
        "machine": machine(),
        "seed": seed,
        "cpu_us_per_render": asyncio.run(_cpu(seed)),
    }
    with tempfile.TemporaryDirectory() as folder:
        server = PostgresServer(Path(folder))
        server.start()
        migrate_postgres(server.url)
        figures["postgres"] = asyncio.run(_stored(seed, server.url))
        server.stop()
    print(json.dumps(figures, indent=2))


async def _cpu(seed):
    """Without any store's work: what a gate's own core does, the best of the rounds."""
    found = {}
    for name, whom in (("not checkable", None), ("checkable", trust("eu-1", "us-1", tokens=FINGERPRINTS))):
        pair = Pair(seed, **({"whom": whom} if whom else {}))
        await pair.open()
        await pair.away.ordered()
        raws = _renders(pair)
        found[f"take, batches of {RENDERS}, {name}"] = await _best_us(
            lambda p=pair, r=raws: p.away.shelter.take(r, CALLER)
        )
        found[f"take, one by one, {name}"] = await _best_us(lambda p=pair, r=raws: _singles(p, r))
        await pair.away.book.revoke(next(iter(pair.away.book.orders())).order.order_id, NOW)
        found["pass by, no order in force"] = await _best_us(lambda p=pair, r=raws: p.away.shelter.take(r, CALLER))
    pair = Pair(seed)
    await pair.open()
    await pair.away.ordered()
    ours = [msgspec.json.encode(pair.clients.render(pair.clients.token(region="us"))) for _ in range(RENDERS)]
    found["pass by, an order in force"] = await _best_us(lambda: pair.away.shelter.take(ours, CALLER))
    await pair.away.shelter.take(_renders(pair), CALLER)
    page = await pair.away.shelter_store.due("eu-1", NOW, RENDERS, 1 << 30)
    envelopes = [_envelope(one) for one in page]
    found["open at home"] = await _best_us(lambda: _items(pair, envelopes))
    return found


async def _singles(pair, raws):
    for raw in raws:
        await pair.away.shelter.take([raw], CALLER)


async def _items(pair, envelopes):
    for envelope in envelopes:
        await pair.home.arrivals._item(envelope)  # noqa: SLF001 (the part that is not the gate's usual work)


async def _best_us(work):
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        await work()
        best = min(best, time.process_time() - began)
    return round(best / RENDERS * 1e6, 2)


async def _stored(seed, url):
    """Rates over PostgreSQL, and how long the statements of every 2 s take with much waiting."""
    connections = [PostgresConnection(url, 30.0) for _ in range(2)]
    pair = Pair(seed, shelter_store=PostgresShelter(connections[0]), room=Room(10_000_000, 1 << 40))
    for gate in pair.gates.values():
        await gate.open(date(2026, 9, 20), date(2026, 9, 22))
    await pair.away.ordered()
    batches = [_renders(pair) for _ in range(STORED // BATCH)]
    began = time.perf_counter()
    for raws in batches:
        await pair.away.shelter.take(raws, CALLER)
    in_batches = STORED / (time.perf_counter() - began)
    singles = _renders(pair) * 4
    began = time.perf_counter()
    for at in range(0, len(singles), SINGLES_AT_ONCE):
        await asyncio.gather(*(pair.away.shelter.take([raw], CALLER) for raw in singles[at : at + SINGLES_AT_ONCE]))
    one_by_one = len(singles) / (time.perf_counter() - began)
    store = PostgresShelter(connections[1])
    figures = {
        "kept_per_s_in_batches": round(in_batches),
        f"kept_per_s_one_by_one_{SINGLES_AT_ONCE}_at_once": round(one_by_one),
        "waiting": (await store.count(NOW)).waiting,
        "bytes_per_event": round((await store.count(NOW)).bytes_waiting / (await store.count(NOW)).waiting),
        "homes_ms": await _ms(store.homes),
        "count_ms": await _ms(lambda: store.count(NOW)),
    }
    began = time.perf_counter()
    done = await Forwarder(store, pair.wires, lambda: NOW).run()
    figures["forwarded_per_s_to_a_home_in_memory"] = round(done.settled / (time.perf_counter() - began))
    for connection in connections:
        await connection.close()
    return figures


async def _ms(work):
    began = time.perf_counter()
    await work()
    return round((time.perf_counter() - began) * 1e3, 2)


def _renders(pair):
    return [msgspec.json.encode(pair.clients.render()) for _ in range(RENDERS)]


def _envelope(one):
    return Envelope(impression_id=one.impression, event_id=one.event_id, received_at=one.received_at, sealed=one.sealed)


if __name__ == "__main__":
    main()
