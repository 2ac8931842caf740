"""kill -9 of a real process in the middle of writing its spool and of draining it: each event is in the ledger once."""

import asyncio
import os
import random
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from uuid import UUID

import pytest
from helpers_processes import ROOT

from domain.events import ImpressionReconciled, ImpressionRendered
from domain.impression import fold
from domain.standing import Valid
from ledger.census import take_census
from ledger.codec import decode_impression
from ledger.postgres import PostgresStore
from ledger.spool_owners import damaged, folders
from ledger.store import read_everything

pytestmark = pytest.mark.slow

WRITERS, DRAINS_KILLED = 3, 6
SCRIPT = Path(__file__).parents[1] / "spool_worker.py"


def worker(work, url, root, seed):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), work, url, str(root), str(seed)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )


def written_by(url, root, seed, dice):
    """Let a process answer for a moment, kill it, and return what it had answered: impression and event id."""
    process = worker("write", url, root, seed)
    answered = [process.stdout.readline() for _ in range(dice.randint(100, 900))]
    process.send_signal(signal.SIGKILL)
    answered += process.stdout.readlines()
    process.stdout.close()
    process.wait()
    return [tuple(map(UUID, line.split())) for line in answered if len(line) == len(answered[0])]


def test_processes_killed_while_writing_and_draining_lose_and_double_nothing(postgres_url, tmp_path):
    dice, root = random.Random(3), tmp_path / "spool"
    answered = [pair for seed in range(WRITERS) for pair in written_by(postgres_url, root, seed, dice)]
    assert len(answered) >= 100 * WRITERS

    for _ in range(DRAINS_KILLED):
        process = worker("drain", postgres_url, root, 0)
        assert process.stdout.readline() == "begun\n"
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=dice.uniform(0.0, 0.15))
        process.send_signal(signal.SIGKILL)
        process.stdout.close()
        process.wait()
    process = worker("drain", postgres_url, root, 0)
    assert process.communicate(timeout=120)[0] == "begun\ndrained\n"

    asyncio.run(check(postgres_url, answered))
    assert damaged(root) == []
    assert all(not list(folder.glob("*.segment")) for folder in folders(root))


async def check(url, answered):
    store = PostgresStore(url)
    await take_census(store)  # raises if a cause stands there twice
    streams = {}
    async for commit in read_everything(store):
        if not isinstance(commit.stream, str):
            streams.setdefault(commit.stream, []).extend(decode_impression(commit.data))
    await store.close()
    for impression, event_id in answered:
        events = streams[impression]
        assert [event.cause for event in events if isinstance(event, ImpressionRendered)] == [event_id]
    for events in streams.values():
        assert sum(isinstance(event, ImpressionReconciled) for event in events) == 1
        assert isinstance(fold(events).standing, Valid)
