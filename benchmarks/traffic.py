"""
What making an event costs, token and truth included, and what it costs through a gate in memory; prints JSON.

CPU time; the machine should be quiet.
"""

import json
import time

from domain.token import TokenKey
from ml.traffic.generator import Plan, Traffic
from ml.traffic.shot import Minter
from service.offline import World, run_offline, scored
from service.scoring import ModelHolder
from service.wiring import ScreenLists, load_pack

START = 1_790_000_000_000
WARM_UP, MEASURED = 20_000, 60_000


OFFLINE = Plan(seed=1, rate=15, seconds=2_000)


def offline() -> dict[str, float]:
    pack = load_pack("base-1")
    world = World(
        seed=1,
        start_ms=START,
        seconds=OFFLINE.seconds,
        pack=pack,
        lists=ScreenLists(),
        activity=scored(pack, ModelHolder(), 1),
    )
    began = time.process_time()
    events, impressions = 0, set()
    for passed in run_offline(OFFLINE, world):
        events += len(passed.truths)
        impressions.update(commit.stream for commit in passed.commits)
    spent_s = time.process_time() - began
    return {
        "offline_event_us": round(spent_s / events * 1e6, 1),
        "offline_200_000_impressions_s": round(spent_s / len(impressions) * 200_000, 1),
    }


def main() -> None:
    minter = Minter("k1", TokenKey(b"s" * 32, b"p" * 32), b"h" * 32, "eu")
    began = time.perf_counter()
    traffic = Traffic(Plan(seed=1, rate=2_000, seconds=3_600), minter, lambda _: None)
    build_s = time.perf_counter() - began
    sendings = traffic.sendings(START)
    size = sum(len(next(sendings).event.body(START, 0)) for _ in range(WARM_UP)) / WARM_UP
    began = time.process_time()
    for _ in range(MEASURED):
        next(sendings).event.body(START, 0)
    spent_s = time.process_time() - began
    print(
        json.dumps(
            {
                "build_s": round(build_s, 2),
                "event_us": round(spent_s / MEASURED * 1e6, 1),
                "event_bytes": round(size),
                **offline(),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
