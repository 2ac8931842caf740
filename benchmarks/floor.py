"""
What a decision takes of libraries, kernels and servers alone, without any Python of ours between them, as JSON.

    .venv/bin/python benchmarks/floor.py > benchmarks/results/floor.json

CPU in µs a decision: each part with its input made before, in batches of 100, the median of rounds. Left out are HTTP,
drivers, the collector, waiting for memory beside other processes, and everything that is only Python. So nothing of
this design takes less; what it takes more is Python, and what is left out.
"""

import asyncio
import hmac
import itertools
import json
import statistics
import time
from binascii import a2b_base64
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import blake2b, sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
from counters import KNOWN as PEOPLE
from counters import Crowd
from projector import START, cpu_s, make_blocks
from segments import postgres_cpu_s
from sklearn.ensemble import HistGradientBoostingClassifier

from commands.keyring import PERSON_KINDS
from domain.ids import day_of
from domain.render import Render
from domain.token import Token, TokenInvalid, TokenKey, check_token
from domain.vocabulary import DataSet
from ledger import plain
from ledger.codec import decode_impression, encode
from ledger.compact import Compact
from ledger.postgres import PostgresStore
from ledger.store import Append, Commit
from ml.counters.counters import Counters
from ml.counters.keys import Batch
from ml.counters.tables import Capacities
from ml.features.schema import SCHEMA
from ml.models import kernel
from ml.models.export import of_sklearn
from ml.traffic.generator import Plan, Traffic
from ml.traffic.shot import Minter
from ml.training.trees import TreeRules
from projections import rows as facts
from projections.engine import WRITING, Engine
from projections.native import Block
from projections.schema import columns, migrate
from service.embedded_postgres import PostgresServer
from service.logs import set_up_logs
from service.migrate import migrate_postgres
from service.serving import calm_collector
from service.stage import machine

BATCH, BATCHES, ROUNDS = 100, 200, 9
PAGE, READERS = 5_000, 2
RULES = TreeRules()
SEED = 1
Work = Callable[[Any], object]


def main() -> None:
    set_up_logs("bench", "auto", quiet=True)
    calm_collector()
    blocks = make_blocks(BATCH, BATCHES)
    commits = [commit for block in blocks for commit in block]
    parts = {**asking(), **deciding(), **writing(commits), **servers(blocks), **reading(commits)}
    print(
        json.dumps(
            {
                "us_per_decision": {name: round(us, 2) for name, us in parts.items()},
                "in_all": round(sum(parts.values()), 1),
                "batch": BATCH,
                "seed": SEED,
                "machine": machine(),
            },
            indent=2,
        )
    )


def asking() -> dict[str, float]:
    """From the bytes of a request to names: JSON, the token's signature and payload, five keyed hashes."""
    key_of, keyed = b"s" * 32, [blake2b(key=b"k" * 32, digest_size=12, person=kind) for kind in PERSON_KINDS]
    keys = {"k1": TokenKey(key_of, b"p" * 32)}
    minter = Minter("k1", keys["k1"], b"h" * 32, "eu")
    traffic = Traffic(Plan(seed=SEED, rate=100, seconds=60), minter, lambda _: None)
    sent = itertools.islice(traffic.sendings(START), BATCH * 10)
    decode, bodies, renders = msgspec.json.Decoder(Render).decode, [], []
    for one in sent:
        body = one.event.body(one.at_ms, one.attempt)
        with suppress(msgspec.DecodeError, UnicodeDecodeError, TokenInvalid):
            render = decode(body)
            check_token(render.token, keys)
            renders.append(render)
            bodies.append(body)
    signed = [one.token.rpartition(".")[0].encode() for one in renders]
    payloads = [one.split(b".")[2].translate(bytes.maketrans(b"-_", b"+/")) + b"==" for one in signed]
    inner, outer, unpack = sha256(key_of), sha256(key_of), msgspec.json.Decoder(Token).decode

    def token(at: int) -> None:
        one, two = inner.copy(), outer.copy()
        one.update(signed[at])
        two.update(one.digest())
        hmac.compare_digest(two.hexdigest(), "0" * 64)
        unpack(a2b_base64(payloads[at]))

    def names(at: int) -> None:
        for kind in (*keyed, keyed[0]):
            hashed = kind.copy()
            hashed.update(signed[at])
            hashed.hexdigest()

    places = range(len(renders))
    return {
        "gate: request's JSON": us(decode, bodies),
        "gate: token": us(token, places),
        "gate: keyed hashes": us(names, places),
    }


def deciding() -> dict[str, float]:
    """Counters and model over whole batches; rules and lists are Python."""
    dice = np.random.default_rng(SEED)
    x = dice.random((2_000, len(SCHEMA)))
    given = {"max_iter": RULES.trees, "max_depth": RULES.depth_max, "max_leaf_nodes": RULES.leaves_max}
    model = HistGradientBoostingClassifier(random_state=SEED, early_stopping=False, **given)
    forest = kernel.forest(of_sklearn(model.fit(x, x[:, 0] + dice.random(len(x)) > 1)))
    crowd = Crowd(SEED)
    crowds = [crowd.batch(dice.integers(0, PEOPLE, BATCH)) for _ in range(BATCHES)]
    counters = Counters(Capacities(), 0)

    def count(batch: Batch) -> None:
        counters.look(batch)
        counters.commit(batch)

    return {
        "gate: counters": us(count, crowds, BATCH),
        "gate: model": us(lambda rows: kernel.margins(forest, rows), np.split(x, len(x) // BATCH), BATCH),
    }


def writing(commits: Sequence[Commit]) -> dict[str, float]:
    """From events to the bytes that lie in PostgreSQL."""
    return {
        "gate: events' JSON": us(encode, [decode_impression(one.data) for one in commits]),
        "gate: compression": us(Compact().shrink, [one.data for one in commits]),
    }


def reading(commits: Sequence[Commit]) -> dict[str, float]:
    """What desk and scheduler each do to what PostgreSQL has sent them."""
    compact, data = Compact(), [one.data for one in commits]
    shrunk = [compact.shrink(one) for one in data]
    expand = us(compact.expand, shrunk)
    return {
        "desk: expansion": expand,
        "desk: JSON": us(facts._decode, data),  # noqa: SLF001
        "scheduler: expansion": expand,
        "scheduler: JSON": us(plain._decode, data),  # noqa: SLF001
    }


def servers(blocks: Sequence[Sequence[Commit]]) -> dict[str, float]:
    """PostgreSQL's processes, for an append and two readers; ClickHouse, for rows that are a block already."""
    with TemporaryDirectory() as folder:
        server = PostgresServer(Path(folder) / "postgres")
        server.start()
        try:
            migrate_postgres(server.url)
            found = asyncio.run(_postgres(server.url, blocks))
        finally:
            server.stop()
        return {**found, "desk: ClickHouse": _clickhouse(Path(folder) / "clickhouse", blocks)}


async def _postgres(url: str, blocks: Sequence[Sequence[Commit]]) -> dict[str, float]:
    store, number = PostgresStore(url), sum(map(len, blocks))
    day = day_of(START)
    await store.prepare_days(day, day_of(START + 86_400_000), DataSet.LIVE)
    began = postgres_cpu_s()
    for block in blocks:
        await store.append([_append(one) for one in block], START)
    appended = postgres_cpu_s()
    for _ in range(READERS):
        await read_whole(store)
    read = postgres_cpu_s()
    await store.close()
    return {
        "PostgreSQL: append": (appended - began) / number * 1e6,
        "PostgreSQL: two readers": (read - appended) / number * 1e6,
    }


async def read_whole(store: PostgresStore) -> None:
    after = 0
    while page := await store.read_all(after, PAGE):
        after = page[-1].position


def _clickhouse(folder: Path, blocks: Sequence[Sequence[Commit]]) -> float:
    """All threads of it, later merges included."""
    engine = Engine(f"chdb://{folder}")
    client = engine.connect(WRITING)
    migrate(client, 1)
    writer = Block(columns(client, "facts_1"))
    pages = [
        [one for block in blocks[at : at + PAGE // BATCH] for one in block]
        for at in range(0, len(blocks), PAGE // BATCH)
    ]
    ready = [writer.encode([fact for commit in page for fact in facts.rows(commit)]) for page in pages]
    began = cpu_s()
    for block in ready:
        client.raw_insert("facts_1", writer.names, block, fmt="Native")
    while client.query("SELECT count() FROM system.merges").result_rows[0][0]:
        time.sleep(0.1)
    used = cpu_s() - began
    client.close()
    engine.close()
    return used / sum(map(len, blocks)) * 1e6


def us(work: Work, some: Sequence[Any], per: int = 1) -> float:
    """CPU in µs that *work* takes for one of *some*, of *per* decisions each."""
    tries = []
    for _ in range(ROUNDS):
        began = time.process_time()
        for one in some:
            work(one)
        tries.append((time.process_time() - began) / len(some) / per * 1e6)
    return statistics.median(tries)


def _append(commit: Commit) -> Append:
    events = decode_impression(commit.data)
    return Append(
        stream=commit.stream, expected=0, cause=commit.cause, digest=commit.digest, events=events, data=commit.data
    )


if __name__ == "__main__":
    main()
