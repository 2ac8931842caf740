"""
What every writer of `ledgers.py` shares, on the standard library alone: a peer's interpreter has nothing of ours.

A writer says `ready` when it is connected and warm, begins at the line `go`, says what it took as one line of JSON, and
stays connected until its input ends, so that the server's processes can be counted while they live.
"""

import gc
import json
import pickle
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

WARM = {512: 2, 1: 32}
"""Batches before the measured ones, by size."""


class Asked(NamedTuple):
    adapter: str
    address: str
    batch: int
    number: int
    writers: int
    commits: int
    work: Path


class Planned(NamedTuple):
    stream: int
    cause: int
    data: bytes
    events: tuple[bytes, ...]


def asked() -> Asked:
    adapter, address, *numbers, work = sys.argv[1:]
    return Asked(adapter, address, *map(int, numbers), work=Path(work))


def arguments(ask: Asked) -> list[str]:
    return [str(word) for word in ask]


def keys_needed(commits: int, batch: int, writers: int) -> int:
    return commits + writers * WARM[batch] * batch


def planned(ask: Asked) -> list[list[Planned]]:
    """Return this writer's share of the commits in batches, the first `WARM` of them to warm up."""
    work: dict[str, Any] = pickle.loads(ask.work.read_bytes())  # written by ledgers.py a moment ago
    bodies, keys = work["bodies"], work["keys"]
    mine = [
        Planned(*keys[n], *bodies[n % len(bodies)])
        for n in range(ask.number, keys_needed(ask.commits, ask.batch, ask.writers), ask.writers)
    ]
    return [mine[at : at + ask.batch] for at in range(0, len(mine), ask.batch)]


class Watch:
    """Times batches, from the line `go` on."""

    def __init__(self) -> None:
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 50, 100)  # the project's own; the same for everyone
        print("ready", flush=True)
        assert sys.stdin.readline() == "go\n"
        self._cpu, self._began = time.process_time(), time.monotonic()
        self._ends = [self._began]

    def lap(self) -> None:
        self._ends.append(time.monotonic())

    def tell(self) -> None:
        """Say what was measured, and wait until nobody needs the connection any more."""
        cpu = time.process_time() - self._cpu
        laps_ms = [(after - before) * 1e3 for before, after in zip(self._ends, self._ends[1:], strict=False)]
        print(json.dumps({"cpu_s": cpu, "began": self._began, "ended": self._ends[-1], "laps_ms": laps_ms}), flush=True)
        sys.stdin.read()
