"""Cells: what a map costs the gate and the router per render, and what growing one to 200 cells comes to; JSON."""

import asyncio
import json
import platform
import sys
import time
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from gatekit import EVERYTHING, NOW, KitGate, Minter

from commands.homes import Homes
from commands.items import Caller
from domain.cells import Cell, CellMap, Epoch, grow
from domain.cells_file import cell_map_text, growth_text, parse_cell_map
from domain.ids import SHARDS, mint
from service.router import Reply, Router

RENDERS, ROUNDS, LOOKUPS = 500, 40, 200_000
CELLS = (2, 16, 50, 100, 200)


def main():
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    renders = _renders(seed)
    plain, mapped = _intake_us(renders)
    print(
        json.dumps(
            {
                "machine": {"processor": platform.processor(), "python": platform.python_version()},
                "seed": seed,
                "intake_us_per_render": {"without a map": plain, "with a map": mapped},
                "owns_ns": _owns_ns(seed),
                "router_us_per_render": _router_us(renders),
                "growth": _growth(),
            },
            indent=2,
        )
    )


def _cells():
    whole = Epoch("eu", 1, 0, ("eu-1",) * SHARDS)
    return CellMap({"eu-1": Cell("eu-1", "eu", "http://eu-1.example")}, {"eu": [whole]})


def _renders(seed):
    clients = Minter(seed)
    dice = clients.random
    tokens = [clients.token(impression=mint(NOW, dice.randrange(SHARDS), dice.getrandbits(62))) for _ in range(RENDERS)]
    return [msgspec.json.encode(clients.render(token)) for token in tokens]


def _intake_us(renders):
    """Parse, token, map, pseudonyms, screen: the best of interleaved rounds, CPU."""
    caller = Caller(EVERYTHING, "Mozilla/5.0", "::1")
    plain = KitGate().intake
    kinds = (plain, msgspec.structs.replace(plain, homes=Homes(_cells(), "eu-1")))

    async def rounds():
        best = [float("inf")] * len(kinds)
        for _ in range(ROUNDS):
            for at, intake in enumerate(kinds):
                began = time.process_time()
                await intake.prepare(renders, caller)
                best[at] = min(best[at], time.process_time() - began)
        return best

    return [round(seconds / RENDERS * 1e6, 2) for seconds in asyncio.run(rounds())]


def _owns_ns(seed):
    homes, token = Homes(_cells(), "eu-1"), Minter(seed).token()
    began = time.process_time()
    for _ in range(LOOKUPS):
        homes.owns(token)
    return round((time.process_time() - began) / LOOKUPS * 1e9)


def _router_us(renders):
    """Reading tokens, splitting over 16 cells, joining the answers; cells that answer at once."""
    cells = _grown(16)[0]
    answer = msgspec.json.encode({"status": "decided", "verdict": "valid"})

    class Instant:
        async def post(self, _, body, __):
            return Reply(200, b"\n".join([answer] * (body.count(b"\n") + 1)))

    async def rounds():
        router, best = Router(cells, Instant()), float("inf")
        for _ in range(ROUNDS):
            began = time.process_time()
            await router.send(renders)
            best = min(best, time.process_time() - began)
        return best

    return round(asyncio.run(rounds()) / RENDERS * 1e6, 2)


def _grown(number):
    cells, moved = _cells(), 0
    text = cell_map_text(cells)
    for count in range(2, number + 1):
        growth = grow(cells, Cell(f"eu-{count}", "eu", f"http://eu-{count}.example"), count * 1_000)
        cells = CellMap({**cells.cells, growth.cell.name: growth.cell}, {"eu": [*cells.epochs("eu"), growth.epoch]})
        text, moved = text + growth_text(growth), growth.moved
    return cells, text, moved


def _growth():
    rows = []
    for number in CELLS:
        cells, text, moved = _grown(number)
        began = time.process_time()
        parse_cell_map(text, "map.toml")
        sizes = cells.epochs("eu")[-1].sizes().values()
        rows.append(
            {
                "cells": number,
                "moved_by_the_last": moved,
                "shards_per_cell": [min(sizes), max(sizes)],
                "file_kb": round(len(text) / 1_000, 1),
                "read_ms": round((time.process_time() - began) * 1e3, 1),
            }
        )
    return rows


if __name__ == "__main__":
    main()
