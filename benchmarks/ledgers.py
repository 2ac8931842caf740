"""
The same appends on every adapter of the ledger and on two peers, in one run: appends per second, CPU of clients and
servers, time per batch. A table to the screen, JSON to `--out`.

A writer is a process with a connection of its own; every run has a fresh server, which nothing else uses. The peers are
pyeventsourcing's PostgreSQL recorder and UmaDB's server, which the wheel of `umadb` brings along. They are not
installed with the project: give them an environment of their own and say where its Python is.

    python -m venv PEERS && PEERS/bin/pip install 'eventsourcing[postgres]' 'psycopg[binary]' umadb
    .venv/bin/python benchmarks/ledgers.py --peers PEERS/bin/python [--seed 1] [--out FILE]
"""

import argparse
import json
import os
import pickle
import platform
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[1]
HERE = Path(__file__).parent
sys.path[:0] = [str(ROOT), str(HERE)]

import psutil  # noqa: E402
import psycopg  # noqa: E402
from ledgers_table import table  # noqa: E402
from ledgers_writer import Asked, arguments, keys_needed  # noqa: E402
from projector import a_commit  # noqa: E402

from domain.ids import mint  # noqa: E402
from ledger.codec import decode, split  # noqa: E402
from service.embedded_postgres import PostgresServer  # noqa: E402
from service.migrate import migrate_postgres  # noqa: E402

NOON = 1_790_000_000_000
BODIES, EVENTS, TRIES = 3_000, 3, 3
COMMITS = {512: 8_192, 1: 1_024}
WRITERS = (1, 4)
PEERS = ("pyeventsourcing", "pyeventsourcing_functions", "umadb", "umadb_each")
LEDGERS = ("memory", "postgres", "eventstoredb", *PEERS)
POSTGRES_SETTINGS = (
    "server_version",
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "shared_buffers",
    "max_wal_size",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--peers", type=Path, help="Python of an environment with eventsourcing[postgres] and umadb")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--tries", type=int, default=TRIES)
    asked = parser.parse_args()
    if asked.peers is None:
        print("Without --peers, pyeventsourcing and UmaDB are left out.", file=sys.stderr)
    dice = random.Random(asked.seed)
    runs: dict[tuple[str, int, int], list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder) / "work"
        bytes_per_commit = make_work(work, dice)
        disk_us = synced_us(Path(folder))
        for _ in range(asked.tries):  # in turn, so that a slow phase of the machine meets everyone
            for name, batch, writers in cases(asked.peers):
                print(name, batch, writers, file=sys.stderr)
                ask = Asked(name, "", batch, 0, writers, COMMITS[batch], work)
                runs.setdefault((name, batch, writers), []).append(run(ask, asked.peers))
    found = {
        "seed": asked.seed,
        "commits": {str(batch): commits for batch, commits in COMMITS.items()},
        "events_per_commit": EVENTS,
        "bytes_per_commit": bytes_per_commit,
        "tries": asked.tries,
        "machine": {
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "write_and_fdatasync_8k_us": disk_us,
        },
        "versions": versions(asked.peers),
        "postgres_settings": SETTINGS,
        "runs": [
            {"ledger": name, "batch": batch, "writers": writers, **middle(tries)}
            for (name, batch, writers), tries in runs.items()
        ],
    }
    if asked.out:
        asked.out.write_text(json.dumps(found, indent=2) + "\n")
    print(table(found))


def cases(peers: Path | None) -> Iterator[tuple[str, int, int]]:
    for name in LEDGERS:
        for batch in COMMITS:
            for writers in WRITERS:
                beside_the_point = (name == "memory" and writers > 1) or (name == "umadb_each" and batch == 1)
                never_ends = name == "pyeventsourcing" and batch > 1  # see benchmarks/README.md
                if not (beside_the_point or never_ends) and (peers or name not in PEERS):
                    yield name, batch, writers


def make_work(work: Path, dice: random.Random) -> int:
    """Write bodies of three events and keys for the largest run; return the mean size of a body."""
    made = (a_commit(dice, n).data for n in range(10 * BODIES))
    bodies = [data for data in made if len(decode(data)) == EVENTS][:BODIES]
    count = max(keys_needed(commits, batch, max(WRITERS)) for batch, commits in COMMITS.items())
    keys = [(mint(NOON, dice.randrange(4_096), dice.getrandbits(62)).int, dice.getrandbits(128)) for _ in range(count)]
    work.write_bytes(
        pickle.dumps({"bodies": [(data, tuple(map(bytes, split(data)[1]))) for data in bodies], "keys": keys})
    )
    return round(statistics.mean(map(len, bodies)))


def run(ask: Asked, peers: Path | None) -> dict[str, float]:
    with serving(ask.adapter, peers) as (address, pids), ExitStack() as stack:
        ask = ask._replace(address=address)
        interpreter, script = (
            (peers, "ledgers_peers.py") if ask.adapter in PEERS else (sys.executable, "ledgers_ours.py")
        )
        command = [str(interpreter), str(HERE / script)]
        writers = []
        for number in range(ask.writers):  # the first makes what the others find
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            one = subprocess.Popen([*command, *arguments(ask._replace(number=number))], cwd=ROOT, **pipes)
            writers.append(stack.enter_context(one))
            assert one.stdout.readline() == "ready\n"
        before = cpu_s(pids())
        for one in writers:
            one.stdin.write("go\n")
            one.stdin.flush()
        told = [json.loads(one.stdout.readline()) for one in writers]
        server_s = cpu_s(pids()) - before
        for one in writers:
            one.stdin.close()
            assert one.wait() == 0
    laps = [lap for one in told for lap in one["laps_ms"]]
    assert len(laps) == ask.commits // ask.batch
    cuts = statistics.quantiles(laps, n=100, method="inclusive")
    return {
        "per_s": ask.commits / (max(one["ended"] for one in told) - min(one["began"] for one in told)),
        "client_cpu_us": sum(one["cpu_s"] for one in told) / ask.commits * 1e6,
        "server_cpu_us": server_s / ask.commits * 1e6,
        "batch_ms_p50": cuts[49],
        "batch_ms_p99": cuts[98],
    }


def middle(tries: list[dict[str, float]]) -> dict[str, object]:
    """The median of each figure by itself, and every try's speed, so that the spread is seen."""
    medians = {name: float(f"{statistics.median(one[name] for one in tries):.4g}") for name in tries[0]}
    return {**medians, "per_s_of_each": [round(one["per_s"]) for one in tries]}


def cpu_s(pids: set[int]) -> float:
    """CPU of the processes and of those of their children that ended."""
    return sum(sum(psutil.Process(pid).cpu_times()[:4]) for pid in pids)


@contextmanager
def serving(name: str, peers: Path | None) -> Iterator[tuple[str, Callable[[], set[int]]]]:
    """Run what *name* needs on the other side; yield its address and what finds its processes."""
    match name:
        case "memory":
            yield "", set
        case "eventstoredb":
            command = [sys.executable, "-m", "tests.esdb_double", "--port", "0"]
            with process(command) as double:
                yield double.stdout.readline().split()[3].rstrip(","), lambda: {double.pid}
        case "postgres" | "pyeventsourcing" | "pyeventsourcing_functions":
            with tempfile.TemporaryDirectory() as folder:
                server = PostgresServer(Path(folder))
                server.start()
                try:
                    if name == "postgres":
                        migrate_postgres(server.url)
                    remember_settings(server.url)
                    yield server.url, server.parts
                finally:
                    server.stop()
        case "umadb" | "umadb_each":
            with tempfile.TemporaryDirectory() as folder:
                port = free_port()
                where = ["--listen", f"127.0.0.1:{port}", "--db-path", f"{folder}/umadb"]
                with process([str(peers.parent / "umadb"), *where]) as server:
                    assert any(f"listening on 127.0.0.1:{port}" in line for line in server.stdout)
                    yield f"http://127.0.0.1:{port}", lambda: {server.pid}


@contextmanager
def process(command: list[str]) -> Iterator[subprocess.Popen]:
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as started:
        try:
            yield started
        finally:
            started.terminate()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


SETTINGS: dict[str, str] = {}


def remember_settings(url: str) -> None:
    """Every PostgreSQL of a run must have the same."""
    with psycopg.connect(url) as connection:
        found = {name: connection.execute(f"show {name}").fetchone()[0] for name in POSTGRES_SETTINGS}
    assert found == (SETTINGS or found)
    SETTINGS.update(found)


def synced_us(folder: Path) -> int:
    """Median time to write 8 kB and have it on disk: what any durable append costs at least."""
    took = []
    with (folder / "synced").open("wb", buffering=0) as file:
        for _ in range(200):
            began = time.perf_counter()
            file.write(bytes(8_192))
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - began)
    return round(statistics.median(took) * 1e6)


def versions(peers: Path | None) -> dict[str, str]:
    found = {name: version(name) for name in ("psycopg", "esdbclient", "grpcio", "uvloop")}
    if peers is not None:
        ask = "import importlib.metadata as m; print(*map(m.version, ('eventsourcing', 'umadb', 'psycopg')))"
        said = subprocess.run([str(peers), "-c", ask], capture_output=True, text=True, check=True).stdout.split()
        found |= dict(zip(("eventsourcing", "umadb", "psycopg of the peers"), said, strict=True))
    return found


if __name__ == "__main__":
    main()
