"""
`impledger bench lists`: whether the lists find bots and spare people, and what asking them costs.

The agents are those of `ml/lists/held_out`, each file of one source. Which of them were looked at while our own rules
were written, and which never were, is said with each; `ml/lists/SOURCES.md` says where they come from.
"""

import math
import tracemalloc
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from importlib.resources import files
from random import Random
from time import thread_time_ns
from typing import TypeVar

import crawleruseragents
from fake_useragent.utils import load
from msgspec import Struct

from domain.vocabulary import AgentClass
from ml.lists.agents import AGENT_CHARS_MAX
from ml.lists.live import LiveLists
from ml.lists.packaged import packaged, packaged_date_ms
from ml.lists.screen_lists import AGENTS_CACHED_MAX, NETWORKS_CACHED_MAX, Lists
from ml.lists.sources import Sources
from service.console import Grid
from service.stage import machine

_Made = TypeVar("_Made")
BOTS, BROWSERS = "bots", "browsers"
HELD_OUT, DEVELOPMENT, BUILT_FROM = "held out", "development", "built from"
_Z = 1.959964
"""Two-sided 95 %."""
_LOOK_UPS = 20_000
_ROUNDS = 30


class Source(Struct, frozen=True):
    """Agents of one source. `role` says whether they were ever looked at to make the lists better."""

    name: str
    kind: str
    role: str
    package: str


SOURCES = (
    Source("bots-random-user-agent", BOTS, HELD_OUT, "random-user-agent 1.0.1 (half of its bots' products)"),
    Source("bots-woothee", BOTS, HELD_OUT, "woothee 1.11.1 (crawler test sets)"),
    Source(
        "bots-random-useragent", BOTS, HELD_OUT, "random-useragent 0.5.0 (spiders, validators, downloaders, libraries)"
    ),
    Source("bots-ai-crawler-index", BOTS, HELD_OUT, "ai-crawler-index 1.3.0 (tokens of AI crawlers)"),
    Source("development-bots-random-user-agent", BOTS, DEVELOPMENT, "random-user-agent 1.0.1 (the other half)"),
    Source("browsers-visitors", BROWSERS, HELD_OUT, "user-agents 1.0.820, 1.0.1346, 1.1.579 (visitors of web sites)"),
    Source("in-app-facebook-random-user-agent", BROWSERS, HELD_OUT, "random-user-agent 1.0.1 (inside Facebook's apps)"),
    Source("in-app-other-random-user-agent", BROWSERS, HELD_OUT, "random-user-agent 1.0.1 (inside other apps)"),
    Source("browsers-common-random-user-agent", BROWSERS, HELD_OUT, "random-user-agent 1.0.1 (common web browsers)"),
    Source(
        "browsers-legacy-random-useragent", BROWSERS, DEVELOPMENT, "random-useragent 0.5.0 (browsers of 1994 to 2013)"
    ),
    Source("browsers-woothee", BROWSERS, DEVELOPMENT, "woothee 1.11.1 (desktops and Japanese phones)"),
    Source("development-browsers-visitors", BROWSERS, DEVELOPMENT, "user-agents 1.0.565, 1.0.1103, 1.1.143, 2.1.198"),
)


class Rate(Struct, frozen=True):
    """A share of *of* with its 95 % Wilson interval."""

    count: int
    of: int
    share: float
    low: float
    high: float


class Measured(Struct, frozen=True, kw_only=True):
    """`rate` is recall for bots (anything but a browser), false positives for browsers."""

    source: str
    kind: str
    role: str
    package: str
    rate: Rate


class Costs(Struct, frozen=True, kw_only=True):
    """CPU time of a call, in ns."""

    agent_cached_ns: int
    network_cached_ns: int
    browser_uncached_ns: int
    bot_uncached_ns: int
    hostile_uncached_ns: int
    ipv4_uncached_ns: int
    ipv6_uncached_ns: int


class Memory(Struct, frozen=True, kw_only=True):
    """What the compiled lists take, and both caches once they are full of the longest texts; in MiB."""

    compiled_mib: float
    caches_full_mib: float


class ListsBench(Struct, frozen=True, kw_only=True):
    version: str
    recall: Rate
    false_positives_visitors: Rate
    false_positives_in_facebook: Rate
    sources: list[Measured]
    costs: Costs
    intervals: int
    read_ms: float
    compile_ms: float
    memory: Memory
    seed: int
    machine: dict[str, object]

    def table(self) -> Grid:
        table = Grid("source", "role", "n", "what", "share", "95 %", box=None, title=self.version)
        for one in self.sources:
            rate, what = one.rate, "recall" if one.kind == BOTS else "taken for bots"
            interval = f"{rate.low:.4f} - {rate.high:.4f}"
            table.add_row(one.package, one.role, str(rate.of), what, f"{rate.share:.4f}", interval)
        return table


def bench_lists(*, seed: int) -> ListsBench:
    """Measure the packaged lists."""
    read_ms, sources = _timed_ms(packaged.__wrapped__)
    compile_ms, lists = _timed_ms(lambda: Lists(sources))
    measured = [_measure(lists, source, _read(source.name)) for source in SOURCES]
    measured += [_measure(lists, source, agents) for source, agents in _built_from()]
    rates = {one.source: one.rate for one in measured}
    bots = [one.rate for one in measured if (one.kind, one.role) == (BOTS, HELD_OUT)]
    return ListsBench(
        version=lists.version,
        recall=wilson(sum(rate.count for rate in bots), sum(rate.of for rate in bots)),
        false_positives_visitors=rates["browsers-visitors"],
        false_positives_in_facebook=rates["in-app-facebook-random-user-agent"],
        sources=measured,
        costs=_costs(sources, seed),
        intervals=lists.intervals,
        read_ms=read_ms,
        compile_ms=compile_ms,
        memory=_memory(sources),
        seed=seed,
        machine=machine(),
    )


def wilson(count: int, of: int) -> Rate:
    """Return the share of *count* in *of* with its Wilson score interval, at 95 %."""
    if of == 0:
        return Rate(count, of, 0.0, 0.0, 1.0)
    share, z2 = count / of, _Z * _Z
    middle = (share + z2 / (2 * of)) / (1 + z2 / of)
    reach = _Z / (1 + z2 / of) * math.sqrt(share * (1 - share) / of + z2 / (4 * of * of))
    return Rate(count, of, round(share, 6), round(max(0.0, middle - reach), 6), round(min(1.0, middle + reach), 6))


def _measure(lists: Lists, source: Source, agents: Sequence[str]) -> Measured:
    taken = sum(lists.agent(agent) is not AgentClass.BROWSER for agent in agents)
    rate = wilson(taken, len(agents))
    return Measured(source=source.name, kind=source.kind, role=source.role, package=source.package, rate=rate)


def _read(name: str) -> list[str]:
    return (files("ml.lists") / "held_out" / f"{name}.txt").read_text("utf-8").splitlines()


def _built_from() -> Iterable[tuple[Source, list[str]]]:
    """Yield the sources that the lists, or their tests, were made of: they prove that the matching works, no more."""
    package = f"crawler-user-agents {version('crawler-user-agents')} (its own sightings)"
    sightings = {text for entry in crawleruseragents.CRAWLER_USER_AGENTS_DATA for text in entry["instances"]}
    yield Source("crawler-user-agents", BOTS, BUILT_FROM, package), sorted(sightings)
    package = f"fake-useragent {version('fake-useragent')}"
    yield Source("fake-useragent", BROWSERS, DEVELOPMENT, package), sorted({row["useragent"] for row in load()})


def _costs(sources: Sources, seed: int) -> Costs:
    dice = Random(seed)  # noqa: S311 (seeded on purpose)
    live = LiveLists(Lists(sources), refreshed_ms=packaged_date_ms(), is_refreshed=False)
    browsers, bots = _read("browsers-visitors"), _read("development-bots-random-user-agent")
    hostile = [("Mozilla/5.0 " + f"x{n} a(Z;" * AGENT_CHARS_MAX)[:AGENT_CHARS_MAX] for n in range(300)]
    ipv4 = [".".join(str(dice.randrange(1, 224)) for _ in range(4)) for _ in range(_LOOK_UPS)]
    ipv6 = [f"2{dice.randrange(0xFFF):03x}:{dice.randrange(0xFFFF):x}::{n:x}" for n in range(_LOOK_UPS)]
    return Costs(
        agent_cached_ns=_again_ns(live.agent, browsers[:2_000]),
        network_cached_ns=_again_ns(live.network, ipv4[:2_000]),
        browser_uncached_ns=_once_ns(Lists(sources).agent, browsers),
        bot_uncached_ns=_once_ns(Lists(sources).agent, bots),
        hostile_uncached_ns=_once_ns(Lists(sources).agent, hostile),
        ipv4_uncached_ns=_once_ns(Lists(sources).network, ipv4),
        ipv6_uncached_ns=_once_ns(Lists(sources).network, ipv6),
    )


def _memory(sources: Sources) -> Memory:
    tracemalloc.start()
    lists = Lists(sources)
    compiled = tracemalloc.get_traced_memory()[0]
    for n in range(AGENTS_CACHED_MAX):
        lists.known_agents[f"{n:08d}".ljust(AGENT_CHARS_MAX, "x")] = AgentClass.BROWSER
    for n in range(NETWORKS_CACHED_MAX):
        lists.network(f"2001:67c:{n >> 8:x}:{n & 255:x}:ffff:ffff:ffff:ffff")
    full = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return Memory(compiled_mib=_mib(compiled), caches_full_mib=_mib(full - compiled))


def _mib(size: int) -> float:
    return round(size / 2**20, 1)


def _timed_ms(make: Callable[[], _Made]) -> tuple[float, _Made]:
    began = thread_time_ns()
    made = make()
    return round((thread_time_ns() - began) / 1e6, 1), made


def _once_ns(call: Callable[[str], object], texts: Sequence[str]) -> int:
    began = thread_time_ns()
    for text in texts:
        call(text)
    return (thread_time_ns() - began) // len(texts)


def _again_ns(call: Callable[[str], object], texts: Sequence[str]) -> int:
    """The time of a call whose answer is remembered."""
    for text in texts:
        call(text)
    return _once_ns(call, [*texts] * _ROUNDS)
