"""
A ledger of generated traffic, to train on: renders decided by the gate's own code, and labels as the world gives them.

Nothing is written anywhere and no clock is asked, so the same order gives the same commits, byte for byte. Who decides
has no model: vectors are logged, and labels alone say what was what.
"""

from collections.abc import Iterator
from hashlib import blake2b
from heapq import heappop, heappush
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from domain.events import ImpressionLabelled
from domain.feedback import SOURCES, label_id
from domain.ids import ImpressionId
from domain.pack import Pack
from ledger.codec import encode
from ledger.store import Commit
from ml.traffic.feedback import Feedback, Labels
from ml.traffic.generator import Plan
from service.offline import Passed, World, run_offline, scored
from service.scoring import ModelHolder
from service.wiring import ScreenLists

START_MS = 1_790_000_000_000
SPAN_MIN_S = 6 * 3_600.0
RATE_MAX = 4.0
"""Traffic takes six hours at least, and no more events come a second: counters' windows are full, memory is not."""
WORLDS_MIN, WORLD_MIN, WORLD_MAX = 5, 2_000, 20_000
"""
A world has only some schemes of bots and some publishers that cheat: a model of one learns those by heart. With fewer
impressions than WORLD_MIN a world has too little of each.
"""
_EVENTS_PER_IMPRESSION = 1.6
_SEED_BYTES = 7


class Generated(Struct, frozen=True, kw_only=True):
    """So many *impressions*, drawn by *seed*, from *start_ms* (epoch ms) on, in worlds that come one after another."""

    impressions: int
    seed: int
    start_ms: int = START_MS

    @property
    def worlds(self) -> int:
        """Return how many worlds they come from, each with campaigns, publishers, people and bots of its own."""
        wanted = max(WORLDS_MIN, -(-self.impressions // WORLD_MAX))
        return min(wanted, max(self.impressions // WORLD_MIN, 1))

    def plan(self, world: int) -> Plan:
        """Return the traffic of *world*, which has its share of impressions in its first half, surely."""
        seed = seed_of("world", self.seed, world)
        dense = density(-(-self.impressions // self.worlds))
        return Plan(seed=seed, rate=dense.rate, seconds=2 * dense.span_s, brand=f"w{world}-")


def seed_of(purpose: str, seed: int, number: int) -> int:
    """Return the seed of the world *number* of those that *seed* draws for *purpose*: no other world has it."""
    return int.from_bytes(blake2b(f"{purpose} {seed} {number}".encode(), digest_size=_SEED_BYTES).digest())


class Density(NamedTuple):
    """Over how many seconds impressions come, and how many events each second has."""

    span_s: float
    rate: float


def density(impressions: int) -> Density:
    """Return how dense so many *impressions* of one world are."""
    span_s = max(SPAN_MIN_S, impressions * _EVENTS_PER_IMPRESSION / RATE_MAX)
    return Density(span_s, impressions * _EVENTS_PER_IMPRESSION / span_s)


def generate(order: Generated, pack: Pack) -> Iterator[Commit]:
    """
    Yield the commits of *order*, decided by *pack*: renders and views, and labels when they were received.

    Not inside a running event loop.
    """
    lists, activity = ScreenLists(), scored(pack, ModelHolder(), order.seed)
    due: list[tuple[int, int, Feedback]] = []
    position, seen, start_ms = 0, 0, order.start_ms
    for number in range(order.worlds):
        plan = order.plan(number)
        world = World(
            seed=plan.seed, start_ms=start_ms, seconds=plan.seconds, pack=pack, lists=lists, activity=activity
        )
        labels = Labels(plan.seed)
        for passed in run_offline(plan, world):
            for feedback in labels.of(passed.truths):
                heappush(due, (feedback.received_at, feedback.id.int, feedback))
            for commit in passed.commits:
                position += 1
                yield replace(commit, position=position)
                seen += isinstance(commit.stream, ImpressionId) and commit.version == 0
            start_ms = max(start_ms, _last_of(passed))
            for told in _received(due, start_ms):
                position += 1
                yield label_commit(told, position)
            if seen * order.worlds >= order.impressions * (number + 1):
                break
    while due:
        position += 1
        yield label_commit(heappop(due)[2], position)


def _last_of(passed: Passed) -> int:
    return max((commit.recorded_at for commit in passed.commits), default=0)


def _received(due: list[tuple[int, int, Feedback]], now: int) -> list[Feedback]:
    found = []
    while due and due[0][0] <= now:
        found.append(heappop(due)[2])
    return found


def label_commit(feedback: Feedback, position: int) -> Commit:
    """Return *feedback* as it stands in a ledger at *position*."""
    cause = label_id(feedback.id, feedback.impression_id)
    event = ImpressionLabelled(
        cause=cause,
        digest="",
        source=feedback.source,
        label=feedback.label,
        weight=SOURCES[feedback.source].weight,
        observed_at=feedback.observed_at,
        received_at=feedback.received_at,
    )
    return Commit(
        position=position,
        stream=feedback.impression_id,
        version=1,
        count=1,
        cause=cause,
        digest="",
        recorded_at=feedback.received_at,
        data=encode((event,)),
    )
