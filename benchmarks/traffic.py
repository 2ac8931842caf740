"""What making an event costs, token and truth included, on a quiet and otherwise idle machine; prints JSON."""

import json
import time

from domain.token import TokenKey
from ml.traffic.generator import Plan, Traffic
from ml.traffic.shot import Minter

START = 1_790_000_000_000
WARM_UP, MEASURED = 20_000, 60_000


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
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
