"""
Commits compressed one by one with the dictionary that PostgreSQL's rows are written with: bytes and CPU, as JSON.

    .venv/bin/python benchmarks/compact.py [--ledger URL] > benchmarks/results/compact.json
    .venv/bin/python benchmarks/compact.py --train NUMBER

Commits are of generated worlds, as a gate with a model writes them, of another seed than the dictionary is trained on;
with `--ledger` also those of a ledger of your own. `--train` makes the dictionary NUMBER, but never one that there is:
rows are written with it.
"""

import argparse
import asyncio
import json
import random
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import zstandard
from msgspec.structs import replace

from domain.events import ImpressionScored
from ledger.codec import decode_impression, encode
from ledger.compact import DICTIONARY, LEVEL, Compact
from ledger.postgres import PostgresStore
from ledger.store import read_everything
from ml.models.masks import MASK_NAMES
from service.generated import Generated, generate
from service.settings import Settings
from service.stage import machine
from service.wiring import load_pack

FOLDER = Path(__file__).parents[1] / "ledger" / "dictionaries"
TRAIN_SEED, TEST_SEED = 101, 202
IMPRESSIONS = 20_000
DICTIONARY_BYTES = 4_096
LEVELS = (-5, 1, 3, 9)
ROUNDS = 9


@dataclass(frozen=True)
class Sample:
    """Commits that decide a render, and all others."""

    decisions: list[bytes]
    others: list[bytes]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", type=int)
    parser.add_argument("--ledger", default="")
    asked = parser.parse_args()
    if asked.train is not None:
        train(asked.train)
        return
    samples = {"generated": generated(TEST_SEED)}
    if asked.ledger:
        samples["ledger"] = asyncio.run(stored(asked.ledger))
    found = {
        name: {"all": measure([*one.decisions, *one.others]), "decisions": measure(one.decisions)}
        for name, one in samples.items()
    }
    decisions = samples["generated"].decisions
    levels = {str(level): measure(decisions, at_level(level)) for level in LEVELS}
    print(
        json.dumps(
            {
                "dictionary": DICTIONARY,
                "level": LEVEL,
                "seed": TEST_SEED,
                **found,
                "decisions_by_level": levels,
                "machine": machine(),
            },
            indent=2,
        )
    )


def train(number: int) -> None:
    path = FOLDER / f"{number}.zdict"
    if path.exists():
        raise SystemExit(f"{path} is there: rows may be written with it")
    sample = generated(TRAIN_SEED)
    commits = [*sample.decisions, *sample.others]
    path.write_bytes(zstandard.train_dictionary(DICTIONARY_BYTES, commits, dict_id=number).as_bytes())


def generated(seed: int) -> Sample:
    """What a gate with a model would write: generated decisions have none, so its words are put in."""
    dice = random.Random(seed)
    model = f"s2-{dice.getrandbits(64):016x}"
    decisions, others = [], []
    for commit in generate(Generated(impressions=IMPRESSIONS, seed=seed), load_pack(Settings().rule_pack)):
        if isinstance(commit.stream, str):
            others.append(commit.data)
            continue
        events = [scored_by(model, event, dice) for event in decode_impression(commit.data)]
        (decisions if len(events) > 1 else others).append(encode(events))
    return Sample(decisions, others)


def scored_by(model, event, dice):
    if not isinstance(event, ImpressionScored):
        return event
    versions = replace(event.versions, model=model, calibration=dice.choice(MASK_NAMES[:4]))
    risk = dice.betavariate(0.5, 8)
    return replace(event, versions=versions, risk=risk, band="clear" if risk < 0.3 else "risky")


async def stored(url):
    store, decisions, others = PostgresStore(url), [], []
    async for commit in read_everything(store):
        is_decision = not isinstance(commit.stream, str) and commit.count > 1
        (decisions if is_decision else others).append(commit.data)
    await store.close()
    return Sample(decisions, others)


def at_level(level):
    dictionary = zstandard.ZstdCompressionDict((FOLDER / f"{DICTIONARY}.zdict").read_bytes())
    return zstandard.ZstdCompressor(level=level, dict_data=dictionary).compress


def measure(commits, shrink=None):
    """Return bytes per commit and the median CPU of shrinking and expanding one, in µs."""
    compact = Compact()
    shrink = shrink or compact.shrink
    shrunk = [shrink(data) for data in commits]
    assert [compact.expand(data) for data in shrunk] == commits
    before, after = (sum(map(len, some)) / len(commits) for some in (commits, shrunk))
    return {
        "commits": len(commits),
        "bytes": round(before, 1),
        "stored_bytes": round(after, 1),
        "ratio": round(after / before, 4),
        "shrink_us": cpu_us(shrink, commits),
        "expand_us": cpu_us(compact.expand, shrunk),
    }


def cpu_us(work, some):
    tries = []
    for _ in range(ROUNDS):
        before = time.process_time()
        for one in some:
            work(one)
        tries.append((time.process_time() - before) / len(some) * 1e6)
    return round(statistics.median(tries), 2)


if __name__ == "__main__":
    main()
