"""
A ledger of generated traffic, to train on: renders decided by the gate's own code, and labels as the world gives them.

Nothing is written anywhere and no clock is asked, so the same order gives the same commits, byte for byte. Who decides
has no model: vectors are logged, and labels alone say what was what.
"""

from collections.abc import Iterator
from heapq import heappop, heappush

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
_EVENTS_PER_IMPRESSION = 1.6


class Generated(Struct, frozen=True, kw_only=True):
    """So many *impressions*, drawn by *seed*."""

    impressions: int
    seed: int

    @property
    def span_s(self) -> float:
        """Return over how many seconds they come."""
        return max(SPAN_MIN_S, self.impressions * _EVENTS_PER_IMPRESSION / RATE_MAX)

    @property
    def plan(self) -> Plan:
        """Return the traffic that has them in its first half, surely."""
        rate = self.impressions * _EVENTS_PER_IMPRESSION / self.span_s
        return Plan(seed=self.seed, rate=rate, seconds=2 * self.span_s)


def generate(order: Generated, pack: Pack) -> Iterator[Commit]:
    """
    Yield the commits of *order*, decided by *pack*: renders and views, and labels when they were received.

    Not inside a running event loop.
    """
    plan, labels = order.plan, Labels(order.seed)
    due: list[tuple[int, int, Feedback]] = []
    position, seen = 0, 0
    for passed in run_offline(plan, _world(plan, pack)):
        for feedback in labels.of(passed.truths):
            heappush(due, (feedback.received_at, feedback.id.int, feedback))
        for commit in passed.commits:
            position += 1
            yield replace(commit, position=position)
            seen += isinstance(commit.stream, ImpressionId) and commit.version == 0
        for told in _received(due, _last_of(passed)):
            position += 1
            yield label_commit(told, position)
        if seen >= order.impressions:
            break
    while due:
        position += 1
        yield label_commit(heappop(due)[2], position)


def _world(plan: Plan, pack: Pack) -> World:
    return World(
        seed=plan.seed,
        start_ms=START_MS,
        seconds=plan.seconds,
        pack=pack,
        lists=ScreenLists(),
        activity=scored(pack, ModelHolder(), plan.seed),
    )


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
