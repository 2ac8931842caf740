"""
CPU of the projection per commit, all threads of the process and later merges included, as JSON.

    .venv/bin/python benchmarks/projector.py [--block 5000] [--blocks 40] [--folder DIR]
"""

import argparse
import asyncio
import gc
import json
import random
import resource
import shutil
import struct
import tempfile
import time
from importlib.resources import files
from pathlib import Path
from uuid import UUID

from domain.decide import AdmitRender, decide
from domain.events import Cut, ImpressionRendered, ImpressionScored, Versions
from domain.ids import mint
from domain.impression import Unseen
from domain.pack import parse_pack
from domain.reasons import Reason
from domain.vocabulary import BillingEvent, CountingMethod, Evidence, Format, Surface
from ledger.codec import encode
from ledger.store import Commit
from projections.checkpoints import Range
from projections.engine import WRITING, Clients, Engine
from projections.native import Block
from projections.rows import rows
from projections.schema import columns, migrate
from projections.tables import Tables
from service.clock import now_ms

START = 1_790_000_000_000
PACK = parse_pack((files("domain") / "packs" / "base-1.toml").read_text(), "base-1")
SURFACES = [surface for surface in Surface if surface is not Surface.PIXEL]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--block", type=int, default=5_000)
    parser.add_argument("--blocks", type=int, default=40)
    parser.add_argument("--folder", type=Path, default=None)
    asked = parser.parse_args()
    gc.set_threshold(100_000, 20, 50)
    blocks = make_blocks(asked.block, asked.blocks)
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="projector-"))
    engine = Engine(f"chdb://{folder / 'clickhouse'}")
    try:
        print(
            json.dumps(
                {"block": asked.block, "blocks": asked.blocks, **python_side(blocks), **all_of_it(engine, blocks)}
            )
        )
    finally:
        engine.close()
        shutil.rmtree(folder)


def python_side(blocks: list[list[Commit]]) -> dict[str, float]:
    commits = blocks[0]
    return {
        "bytes_per_commit": round(sum(len(commit.data) for commit in commits) / len(commits)),
        "rows_us": per_commit(lambda: [fact for commit in commits for fact in rows(commit)], len(commits)),
    }


def all_of_it(engine: Engine, blocks: list[list[Commit]]) -> dict[str, float]:
    client = engine.connect(WRITING)
    migrate(client, 1)
    commits = blocks[0]
    writer = Block(columns(client, "facts_1"))
    facts = [fact for commit in commits for fact in rows(commit)]
    found = {"encode_us": per_commit(lambda: writer.encode(facts), len(commits))}
    clients = Clients(engine, WRITING, 1)
    tables = Tables(clients, now_ms)
    spans = []
    before, started = cpu_s(), time.monotonic()
    with asyncio.Runner() as runner:
        for block in blocks:
            begun = time.monotonic()
            runner.run(tables.write(1, Range(block[0].position - 1, block[-1].position), block, now_ms()))
            spans.append(time.monotonic() - begun)
    inserted, wall_s = cpu_s(), time.monotonic() - started
    while client.query("SELECT count() FROM system.merges").result_rows[0][0]:
        time.sleep(0.1)
    time.sleep(0.5)
    merged = cpu_s()
    total = sum(map(len, blocks))
    found |= {
        "insert_cpu_us": round((inserted - before) / total * 1e6, 2),
        "later_merges_cpu_us": round((merged - inserted) / total * 1e6, 2),
        "total_cpu_us": round((merged - before) / total * 1e6, 2),
        "commits_per_s": round(total / wall_s),
        "block_ms_p50": round(sorted(spans)[len(spans) // 2] * 1e3),
        "block_ms_max": round(max(spans) * 1e3),
        "bytes_on_disk_per_commit": round(
            client.query("SELECT sum(bytes_on_disk) FROM system.parts WHERE active").result_rows[0][0] / total
        ),
    }
    clients.close()
    client.close()
    return found


def per_commit(task, commits: int) -> float:
    """Least CPU in µs of five tries."""
    tries = []
    for _ in range(5):
        before = time.process_time()
        task()
        tries.append(time.process_time() - before)
    return round(min(tries) / commits * 1e6, 2)


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def make_blocks(size: int, number: int) -> list[list[Commit]]:
    """Ordinary commits: 300 campaigns, 1,500 creatives, 200 publishers, some invalid traffic, 30 features each."""
    chance = random.Random(1)
    commits = [a_commit(chance, position) for position in range(1, size * number + 1)]
    return [commits[start : start + size] for start in range(0, len(commits), size)]


def a_commit(chance: random.Random, position: int) -> Commit:
    at = START + position // 10 + chance.randrange(2_000)
    campaign = chance.randrange(300)
    creative = campaign * 5 + chance.randrange(5)
    common = {
        "creative": f"creative-{creative}",
        "campaign": f"campaign-{campaign}",
        "advertiser": f"advertiser-{campaign // 4}",
        "placement": f"placement-{chance.randrange(50)}",
        "publisher": f"publisher-{chance.randrange(200)}",
        "surface": chance.choice(SURFACES),
        "format": chance.choice(list(Format)),
        "region": "eu",
        "currency": "EUR",
        "billing_event": BillingEvent.IMPRESSION,
    }
    origin = {"cause": UUID(int=chance.getrandbits(128)), "digest": f"{chance.getrandbits(128):032x}"}
    rendered = ImpressionRendered(
        **origin,
        **common,
        ad=f"ad-{creative}",
        price_micros=chance.randrange(1_000, 9_000),
        viewability_pack="mrc",
        flight_start=START - 86_400_000,
        flight_end=START + 86_400_000,
        served_at=at - 500,
        received_at=at + 50,
        event_at=at,
        client_at=at,
        sent_at=at + 20,
        on_screen_at=at,
        area_px=75_000,
        visible_ratio=1.0 if chance.random() < 0.5 else None,
        visible_ms=chance.randrange(3_000),
        sdk=f"12.{chance.randrange(6)}",
        sdk_seq=position,
        session=f"{chance.getrandbits(64):016x}",
        user=f"{chance.getrandbits(128):032x}",
        device=f"{chance.getrandbits(128):032x}",
        network=f"{chance.getrandbits(128):032x}",
    )
    against = chance.choices([(), (Reason.AGENT_DECLARED_BOT,), (Reason.RISK_GREY,), (Reason.STACKED,)], [94, 3, 2, 1])
    scored = ImpressionScored(
        reasons=against[0],
        versions=Versions(pack="base-1", lists="2026-10-01", model="gb-20261001", calibration="iso-3", features="f-1"),
        risk=chance.random(),
        features=struct.pack("<30f", *(chance.random() for _ in range(30))),
        feature_status="f" * 30,
    )
    cut = Cut(
        **common,
        event_at=at,
        counting_method=CountingMethod.ON_SCREEN,
        evidence=Evidence.ON_SCREEN_AT,
        sdk=rendered.sdk,
        country=chance.choice(["DE", "ES", "FR", "IT", "NL"]),
    )
    events = decide(Unseen(), AdmitRender(rendered, scored, cut, PACK, at + 60))
    return Commit(
        position=position,
        stream=mint(at - 500, chance.randrange(4_096), chance.getrandbits(62)),
        version=0,
        count=len(events),
        cause=rendered.cause,
        digest=rendered.digest,
        recorded_at=at + 70,
        data=encode(events),
    )


if __name__ == "__main__":
    main()
