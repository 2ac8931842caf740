"""
Traffic straight through the gate's own intake, screen and decision, in this process: no HTTP, no database, no clock.

All keys, ids and times follow from the seed and the traffic, so the same plan gives the same commits, byte for byte.
For training, evaluation, and whoever tunes itself against decisions.
"""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import timedelta
from hashlib import blake2b
from math import exp, log
from random import Random
from statistics import NormalDist
from types import TracebackType
from typing import NamedTuple, Self
from uuid import UUID

from msgspec import Struct

from commands.activity import Activity
from commands.clocks import DeviceClocks
from commands.holding_memory import MemoryDayKeys, MemoryHolding
from commands.ingest import Ingest
from commands.intake import Intake
from commands.items import Answer, Caller, Item, Status
from commands.keyring import DAY_MS, KEY_BYTES, Keyring
from commands.ladder import Ladder
from commands.quarantine import Holding
from commands.scoring import ScoringActivity
from domain.ids import day_of
from domain.pack import Pack
from domain.token import TokenKey
from domain.vocabulary import DataSet
from ledger.passing import PassingStore
from ledger.store import Commit
from ml.lists.live import LiveLists
from ml.traffic.events import Sending, Truth
from ml.traffic.generator import Plan, Traffic
from ml.traffic.shot import Minter
from service.activity import CountedActivity
from service.contest import Contest
from service.scoring import GateScoring, ModelHolder, Sample, read_by_models

BATCH_MAX = 256
BATCH_MS = 2_000
"""What is received within so much time is decided together, at the end of it; each has its own time of receipt."""
UNDER_WAY_MS = 2_000
"""How long an event is under way at most; most are for some 60 ms, as over mobile networks."""
STREAM_KEPT_MS = 2 * 3_600_000
"""More than anybody in the traffic waits before an ad is told about again."""
RECENT_MAX = 200_000
CHUNK = 4_096
"""Events of the traffic between two looks at what came of them."""
_UNPARK_EVERY_MS = 1_000
_UNPARK_MAX = 1_000
_DAYS_BACK, _DAYS_AHEAD = 12, 1
"""The oldest ads that the traffic tells about, and what is minted around the end."""
_QUARANTINED_MS = 3_600_000
_KEY_ID = "offline"
_UNDER_WAY = NormalDist(log(60.0), 0.9)
"""Of the logarithm of the milliseconds that an event is under way."""
_AD_SERVER = frozenset({"ingest", "decide"})
_UNPARKED = frozenset({"ingest", "replay"})


class World(Struct, frozen=True, kw_only=True):
    """
    What decides: the rule pack, the lists, the counters, on the rungs of *ladder*; in which region, under keys that
    follow from the seed.

    It can decide about what happens in *seconds* from *start_ms* (epoch ms) on.
    """

    seed: int
    start_ms: int
    seconds: float
    pack: Pack
    lists: LiveLists
    activity: Activity
    region: str = "eu"
    ladder: Ladder | None = None


def scored(pack: Pack, models: ModelHolder, seed: int) -> ScoringActivity:
    """
    Return the counters and the scoring of a gate with one worker that has all the time it needs.

    Counters begin with the traffic, and nothing was before it.
    """
    ladder = Ladder(lambda: 0.0)  # time stands still: nothing is ever slow
    counted = CountedActivity(pack.rates, 0, more=read_by_models(1))
    sample = Sample(_secret(seed, b"sample"))
    scoring = GateScoring(counted.take_features, models, sample, ladder, Contest("offline", {}, lambda: 0))
    return ScoringActivity(counted, scoring, ladder)


class OfflineGate:
    """
    A gate in memory that is told what time it is. To be used as a context; not inside a running event loop.

    Commits are to be taken out now and then: streams are let go after `STREAM_KEPT_MS`.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._now = world.start_ms
        self._unpark_at = world.start_ms
        self._loop = asyncio.Runner()
        self._rng = Random(world.seed)  # noqa: S311 (predictable on purpose)
        tokens = TokenKey(self._secret(b"signing"), self._secret(b"price"))
        self.minter = Minter(_KEY_ID, tokens, self._secret(b"shard"), world.region)
        self._store = store = PassingStore(STREAM_KEPT_MS)
        self._keyring = Keyring(MemoryDayKeys(), self._secret(b"root"))
        self._parked = MemoryHolding(store)
        self._holding = Holding(self._parked, self._keyring, _QUARANTINED_MS, self._clock)
        self._intake = Intake(
            pack=world.pack,
            region=world.region,
            token_keys={_KEY_ID: tokens},
            keyring=self._keyring,
            lists=world.lists,
            clocks=DeviceClocks(RECENT_MAX),
            store=store,
            clock=self._clock,
            devices=world.lists,
        )
        self._ingest = Ingest(
            store=store,
            pack=world.pack,
            holding=self._holding,
            activity=world.activity,
            funds=None,
            recent_max=RECENT_MAX,
            name=f"{world.region}-offline",
            clock=self._clock,
            ladder=world.ladder,
            new_id=self._new_id,
        )

    def __enter__(self) -> Self:
        self._loop.run(self._open())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._loop.close()

    def decide(self, sendings: Sequence[Sending]) -> list[Answer]:
        """Return one answer per sending, in order, as an ad server would get it; *sendings* are in order of time."""
        return self._loop.run(self._decide(sendings))

    def take(self) -> list[Commit]:
        """Return what was appended since the last call, in order of position."""
        return self._store.take()

    async def _open(self) -> None:
        world = self._world
        first, last = world.start_ms - _DAYS_BACK * DAY_MS, world.start_ms + int(world.seconds * 1e3)
        last += _DAYS_AHEAD * DAY_MS
        days = range(first // DAY_MS, last // DAY_MS + 1)
        await self._keyring.ensure(days, world.start_ms, self._secret(b"days"))
        await self._store.prepare_days(day_of(first), day_of(last) + timedelta(days=1), DataSet.LIVE)

    async def _decide(self, sendings: Sequence[Sending]) -> list[Answer]:
        answers: list[Answer] = []
        for batch in _batches(sendings):
            self._now = batch[-1].at_ms + UNDER_WAY_MS
            await self._upkeep()
            items: list[Item] = []
            for sending in batch:
                body = sending.event.body(sending.at_ms, sending.attempt)
                caller = Caller(_AD_SERVER, received_at=sending.at_ms + _under_way_ms(sending))
                items += await self._intake.prepare([body], caller)
            answers += await self._ingest.decide_batch(items)
        return answers

    async def _upkeep(self) -> None:
        """Do what a gate does every second: apply views whose render has come, write down floods."""
        if self._now < self._unpark_at:
            return
        self._unpark_at = self._now + _UNPARK_EVERY_MS
        await self._ingest.write_floods()
        if not self._parked.views:
            return
        settled = []
        for event_id, received_at, body in await self._holding.due_views(_UNPARK_MAX, self._now):
            items: list[Item] = await self._intake.prepare([body], Caller(_UNPARKED, received_at=received_at))
            [answer] = await self._ingest.decide_batch(items)
            if answer.status not in {Status.PARKED, Status.DEFERRED}:
                settled.append(event_id)
        await self._holding.unpark(settled)
        await self._parked.drop_expired(self._now, self._now - self._world.pack.token_age_max_ms)

    def _clock(self) -> int:
        return self._now

    def _new_id(self) -> UUID:
        return UUID(int=self._rng.getrandbits(128), version=4)

    def _secret(self, purpose: bytes) -> bytes:
        return _secret(self._world.seed, purpose)


class Passed(NamedTuple):
    """What came of some traffic: commits in order of position, and what is true of the events that were sent."""

    commits: list[Commit]
    truths: list[Truth]


def run_offline(plan: Plan, world: World) -> Iterator[Passed]:
    """
    Run *plan* through the gate of *world*, some thousand events at a time.

    The same plan and world give the same commits, byte for byte.
    """
    truths: list[Truth] = []
    with OfflineGate(world) as gate:
        sendings = Traffic(plan, gate.minter, truths.append).sendings(world.start_ms)
        for chunk in _chunks(sendings):
            gate.decide(chunk)
            yield Passed(gate.take(), truths[:])
            truths.clear()


def _secret(seed: int, purpose: bytes) -> bytes:
    return blake2b(seed.to_bytes(16, signed=True), digest_size=KEY_BYTES, person=purpose).digest()


def _chunks(sendings: Iterator[Sending]) -> Iterator[list[Sending]]:
    chunk: list[Sending] = []
    for sending in sendings:
        # no batch is cut in two
        if len(chunk) >= CHUNK and sending.at_ms // BATCH_MS != chunk[-1].at_ms // BATCH_MS:
            yield chunk
            chunk = []
        chunk.append(sending)
    if chunk:
        yield chunk


def _under_way_ms(sending: Sending) -> int:
    drawn = (sending.event.event_id.int & 0xFFFF) + 0.5
    return min(max(round(exp(_UNDER_WAY.inv_cdf(drawn / 0x10000))), 1), UNDER_WAY_MS)


def _batches(sendings: Sequence[Sending]) -> Iterator[Sequence[Sending]]:
    begins = 0
    for at in range(1, len(sendings)):
        window = sendings[at].at_ms // BATCH_MS != sendings[begins].at_ms // BATCH_MS
        if window or at - begins >= BATCH_MAX:
            yield sendings[begins:at]
            begins = at
    if sendings:
        yield sendings[begins:]
