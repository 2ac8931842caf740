"""Sliding-window counters: cost per render, memory per key, start; the seed as only argument; prints JSON."""

import json
import platform
import resource
import subprocess
import sys
import time
from uuid import UUID

import numba
import numpy as np
from msgspec.structs import replace

from domain.events import ImpressionRendered, ImpressionScored, Versions
from domain.vocabulary import BillingEvent, Format, Surface
from ledger.codec import decode_impression, encode
from ml.counters.counters import BATCH_MAX, Counters
from ml.counters.keys import Batch
from ml.counters.observer import Observer
from ml.counters.tables import Capacities, Tables, allocate, row_bytes

KNOWN = 1_000_000
NETWORKS, PLACEMENTS, CREATIVES, ADS = 200_000, 10_000, 3, 5_000
NOW = 1_790_000_000_000
ROOMY = Capacities(*[1_200_000] * 2, 300_000, 20_000, *[1_200_000] * 3, 300_000)
ROUNDS = 5


class Crowd:
    """Random renders of a million known people."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        sizes = (KNOWN, NETWORKS, KNOWN, PLACEMENTS, 1_000, ADS)
        self.keys = [self.rng.integers(0, 1 << 32, (size, 3), dtype=np.uint32) for size in sizes]
        self.now = NOW

    def batch(self, people) -> Batch:
        device, network, user, placement, creative, ad = self.keys
        n = len(people)
        self.now += max(1, n // 20)
        return Batch(
            np.full(n, self.now),
            device[people],
            network[people % NETWORKS],
            user[people],
            placement[self.rng.integers(0, PLACEMENTS, n)],
            creative[self.rng.integers(0, CREATIVES, n)],
            ad[self.rng.integers(0, ADS, n)],
        )


def main() -> None:
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    crowd, counters = Crowd(seed), Counters(ROOMY, 0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    people = crowd.rng.permutation(KNOWN)
    for at in range(0, KNOWN, 500):
        counters.commit(crowd.batch(people[at : at + 500]))
    figures = {
        "machine": {"processor": platform.machine(), "cores": 2, "python": platform.python_version()},
        "versions": {"numpy": np.__version__, "numba": numba.__version__},
        "seed": seed,
        "known_keys": KNOWN,
        "fill_s": round(time.perf_counter() - started, 2),
        "resident_mb_after_fill": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1_024,
        "bytes_per_row": {name: round(row_bytes(table)) for name, table in allocate(Capacities(), 0)._asdict().items()},
        "default_capacities_mb_at_most": round(
            sum(use.bytes_max for use in Counters(Capacities(), 0).use().values()) / 1e6
        ),
        "us_per_render": {n: _kernels(crowd, counters, n) for n in (1, 10, 100, 512)},
        "recall_us_per_commit": _recall(crowd),
        "us_per_render_with_claims_of_100": _observer(crowd, Tables._fields),
        "us_per_render_with_claims_of_100_people_only": _observer(crowd, ("people",)),
        "import_s": _import_s(),
    }
    print(json.dumps(figures, indent=2))


def _kernels(crowd, counters, n) -> dict:
    """Least of rounds: the machine is shared."""
    rounds = []
    for _ in range(ROUNDS):
        batches = [crowd.batch(crowd.rng.integers(0, KNOWN, n)) for _ in range(max(100, 10_000 // n))]
        look = commit = 0
        for batch in batches:
            started = time.perf_counter_ns()
            counters.look(batch)
            between = time.perf_counter_ns()
            counters.commit(batch)
            look, commit = look + between - started, commit + time.perf_counter_ns() - between
        rounds.append((look / len(batches) / n / 1e3, commit / len(batches) / n / 1e3))
    look, commit = min(rounds, key=sum)
    return {"look": round(look, 2), "commit": round(commit, 2)}


def _observer(crowd, kept) -> dict:
    """From claims to counts, keys collected; the second time round, when every key is known."""
    observer = Observer(Counters(Capacities(), 0, kept=kept))
    for again in range(2):
        claims = [_claim(number + again * 20_000, crowd) for number in range(20_000)]
        look = keep = 0
        for at in range(0, len(claims), 100):
            batch = claims[at : at + 100]
            started = time.perf_counter_ns()
            observer.look(batch)
            between = time.perf_counter_ns()
            observer.keep(batch)
            look, keep = look + between - started, keep + time.perf_counter_ns() - between
    return {"look": round(look / len(claims) / 1e3, 2), "keep": round(keep / len(claims) / 1e3, 2)}


def _recall(crowd) -> float:
    """From the bytes of commits in memory to counts; reading them from the store is not in it."""
    rows = [
        encode((_claim(number, crowd), ImpressionScored(versions=Versions(pack="base-1", lists="lists-1"))))
        for number in range(20_000)
    ]
    observer = Observer(Counters(Capacities(), 0))
    started = time.perf_counter()
    for at in range(0, len(rows), BATCH_MAX):
        events = [event for data in rows[at : at + BATCH_MAX] for event in decode_impression(data)]
        observer.keep([event for event in events if isinstance(event, ImpressionRendered)])
    return round((time.perf_counter() - started) / len(rows) * 1e6, 1)


def _claim(number, crowd) -> ImpressionRendered:
    who = int(crowd.rng.integers(0, 5_000))
    served = NOW + number
    return replace(
        _PLAIN,
        cause=UUID(int=number),
        ad=f"ad-{number % ADS}",
        creative=f"creative-{number % 900}",
        placement=f"placement-{who % 500}",
        served_at=served,
        received_at=served,
        event_at=served,
        user=f"{who:024x}",
        device=f"{who + 1:024x}",
        network=f"{who // 3 + 1:024x}",
    )


_PLAIN = ImpressionRendered(
    cause=UUID(int=0),
    digest="",
    ad="",
    creative="",
    campaign="campaign",
    advertiser="advertiser",
    placement="",
    publisher="publisher",
    surface=Surface.FEED,
    format=Format.DISPLAY,
    region="eu",
    currency="EUR",
    price_micros=1,
    billing_event=BillingEvent.IMPRESSION,
    viewability_pack="mrc",
    flight_start=0,
    flight_end=NOW * 2,
    served_at=NOW,
    received_at=NOW,
    event_at=NOW,
)


def _import_s() -> float:
    """With kernels that are compiled already; a fresh installation compiles them once."""
    code = "import time; s = time.perf_counter(); import ml.counters.counters; print(time.perf_counter() - s)"
    return round(min(float(subprocess.check_output([sys.executable, "-c", code])) for _ in range(3)), 2)


if __name__ == "__main__":
    main()
