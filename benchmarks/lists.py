"""What the screen's lists cost per call, seen for the first time and again; prints JSON."""

import json
import time
from collections.abc import Callable

import crawleruseragents
from fake_useragent.utils import load

from domain.vocabulary import AgentClass
from ml.lists.agents import AGENT_CHARS_MAX, AgentLists
from ml.lists.networks import NetworkLists, cloud_cidrs

ROUNDS = 20


def main() -> None:
    agents, agents_build_ms = _timed(AgentLists)
    networks, networks_build_ms = _timed(NetworkLists)
    browsers = sorted({row["useragent"] for row in load()})
    bots = [text for entry in crawleruseragents.CRAWLER_USER_AGENTS_DATA for text in entry["instances"]]
    addresses = [cidr.split("/")[0] for cidr in cloud_cidrs()[::50]] + [
        f"87.128.{n % 250}.{n % 199}" for n in range(2_000)
    ]
    hostile = ["Mozilla/5.0 " + f"x{n} a(Z;" * (AGENT_CHARS_MAX // 8) for n in range(200)]
    figures = {
        "agents": {
            "version": agents.version,
            "build_ms": agents_build_ms,
            "bots_found": sum(agents.classify(text) is not AgentClass.BROWSER for text in bots) / len(bots),
            "browsers_taken_for_bots": sum(agents.classify(text) is not AgentClass.BROWSER for text in browsers)
            / len(browsers),
            "browser_uncached_ns": _per_call_ns(AgentLists().classify, browsers),
            "bot_uncached_ns": _per_call_ns(AgentLists().classify, bots),
            "hostile_uncached_ns": _per_call_ns(AgentLists().classify, [text[:AGENT_CHARS_MAX] for text in hostile]),
            "cached_ns": _per_call_ns(agents.classify, browsers, warm=True),
        },
        "networks": {
            "version": networks.version,
            "build_ms": networks_build_ms,
            "uncached_ns": _per_call_ns(NetworkLists().classify, addresses),
            "cached_ns": _per_call_ns(networks.classify, addresses, warm=True),
        },
    }
    print(json.dumps(figures, indent=2))


def _timed(make: Callable[[], object]) -> tuple:
    start = time.perf_counter()
    made = make()
    return made, round((time.perf_counter() - start) * 1e3, 1)


def _per_call_ns(call: Callable[[str], object], texts: list[str], *, warm: bool = False) -> int:
    if warm:
        for text in texts:
            call(text)
    rounds = ROUNDS if warm else 1
    start = time.perf_counter_ns()
    for _ in range(rounds):
        for text in texts:
            call(text)
    return (time.perf_counter_ns() - start) // (rounds * len(texts))


if __name__ == "__main__":
    main()
