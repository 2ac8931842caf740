"""
A writer of a ledger in segments in a process of its own, for tests that kill it: appends batches whose causes follow
from a seed, and prints the number of each batch before it is sent and once it was answered.
"""

import asyncio
import random
import sys
from uuid import UUID

from esdbkit import NOON, an_append

from domain.ids import mint
from ledger.segments import open_segments

BATCH = 20


def batches(seed):
    dice = random.Random(seed)
    while True:
        yield [
            an_append(mint(NOON, 7, dice.getrandbits(62)), cause=UUID(int=dice.getrandbits(128))) for _ in range(BATCH)
        ]


def say(line):
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def main(url, database_url, seed):
    store = open_segments(url, database_url)
    for number, batch in enumerate(batches(seed)):
        say(f"sent {number:06}")
        await store.append(batch, NOON)
        say(f"done {number:06}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
