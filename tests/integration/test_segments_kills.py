"""kill -9 of real writers of a ledger in segments, anywhere: what was answered is there, and all of it once."""

import asyncio
import os
import random
import signal
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest
from esdbkit import NOON, everything
from helpers_processes import ROOT
from segments_worker import BATCH, batches
from segmentskit import Breaking, stores_on

from ledger.store import AlreadyAppended, Appended

pytestmark = pytest.mark.slow

WRITERS = 6
SCRIPT = Path(__file__).parents[1] / "segments_worker.py"


def killed(urls, seed, dice):
    """Let a process write for a moment, kill it, and return how many batches it had sent and how many were answered."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), *urls, str(seed)], env=environment, stdout=subprocess.PIPE, text=True
    )
    said = [process.stdout.readline() for _ in range(dice.randint(20, 120))]
    process.send_signal(signal.SIGKILL)
    said += process.stdout.readlines()
    process.stdout.close()
    process.wait()
    whole = [line for line in said if len(line) == len(said[0])]
    return sum(line.startswith("sent") for line in whole), sum(line.startswith("done") for line in whole)


def test_writers_killed_anywhere_lose_nothing_that_was_answered_and_their_retries_double_nothing(segments_urls):
    async def main():
        dice = random.Random(5)
        async with stores_on(segments_urls, Breaking()) as [store]:
            for seed in range(WRITERS):
                sent, answered = killed(segments_urls, seed, dice)
                before = await everything(store, page=1_000)
                of_writer = list(islice(batches(seed), sent))
                causes = {commit.cause for commit in before}
                assert all(append.cause in causes for batch in of_writer[:answered] for append in batch)
                for number, batch in enumerate(of_writer):
                    outcomes = set(map(type, await store.append(batch, NOON)))
                    assert outcomes == {AlreadyAppended} or (number >= answered and outcomes == {Appended})
                commits = await everything(store, page=1_000)
                assert commits[: len(before)] == before
                assert len({commit.cause for commit in commits}) == len(commits)
                assert len([commit for commit in commits if commit not in before]) in {0, BATCH}

    asyncio.run(main())
