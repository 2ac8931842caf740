"""`impledger classify`: what the lists say of the agents and addresses in a file, and what a new list changes."""

from collections.abc import Callable, Iterator
from pathlib import Path

from msgspec import Struct

from ml.lists.compare import Change, changed_agents, changed_networks
from ml.lists.screen_lists import Lists
from ml.lists.sources import Part
from ml.traffic.access_log import Request, read_access_log
from service.lists_open import named_sources
from service.settings import Settings

LINE_CHARS_MAX = 65_536
"""Longer lines are read in pieces of this length, of which the first counts."""
DISTINCT_MAX = 5_000_000


class AgentLine(Struct, frozen=True, kw_only=True):
    """What is said of one agent: by which list, in which version; `matched` is the pattern or text that decided."""

    agent: str
    verdict: str
    list: str
    version: str
    matched: str
    lists: str


class NetworkLine(Struct, frozen=True, kw_only=True):
    """What is said of one address; `list` is empty for addresses of no list."""

    network: str
    verdict: str
    list: str
    version: str
    lists: str


class InForce(Struct, frozen=True, kw_only=True):
    """A version of the lists and its parts."""

    lists: str
    digest: str
    parts: dict[str, Part]


def agents(settings: Settings, file: Path, *, is_log: bool, name: str) -> Iterator[AgentLine]:
    """Yield what the lists called *name* say of each agent in *file*."""
    lists = lists_named(settings, name)
    for agent in _read(file, _agent_of, is_log=is_log):
        said, part = lists.explain_agent(agent)
        yield AgentLine(
            agent=agent,
            verdict=said.agent_class.value,
            list=part.name,
            version=part.version,
            matched=said.matched,
            lists=lists.version,
        )


def networks(settings: Settings, file: Path, *, is_log: bool, name: str) -> Iterator[NetworkLine]:
    """Yield what the lists called *name* say of each address in *file*."""
    lists = lists_named(settings, name)
    for address in _read(file, _host_of, is_log=is_log):
        said, part = lists.explain_network(address)
        yield NetworkLine(
            network=address,
            verdict=said.network_class.value,
            list=part.name if part else "",
            version=part.version if part else "",
            lists=lists.version,
        )


def changes(old: Lists, new: Lists, file: Path, *, of_networks: bool, is_log: bool) -> Iterator[Change]:
    """Yield what changes for the distinct agents (or addresses) of *file* when *new* takes the place of *old*."""
    texts = _distinct(_read(file, _host_of if of_networks else _agent_of, is_log=is_log))
    return (changed_networks if of_networks else changed_agents)(old, new, texts)


def lists_named(settings: Settings, name: str) -> Lists:
    """
    Return the lists called *name*, compiled.

    Raises:
        ListsRefused: there are none, or they cannot be used.
    """
    return Lists(named_sources(settings, name))


def in_force(settings: Settings, name: str) -> InForce:
    """Return version and parts of the lists called *name*: what a decision's version stands for."""
    sources = named_sources(settings, name)
    return InForce(lists=sources.version, digest=sources.digest(), parts=sources.parts)


def _read(file: Path, pick: Callable[[Request], str], *, is_log: bool) -> Iterator[str]:
    if is_log:
        return (pick(line) for line in read_access_log(file) if isinstance(line, Request))
    return _lines(file)


def _lines(file: Path) -> Iterator[str]:
    with file.open(encoding="utf-8", errors="replace", newline="\n") as opened:
        while line := opened.readline(LINE_CHARS_MAX):
            rest = line
            while not rest.endswith("\n") and (rest := opened.readline(LINE_CHARS_MAX)):
                pass
            yield line.rstrip("\r\n")


def _distinct(texts: Iterator[str]) -> Iterator[str]:
    seen: set[str] = set()
    for text in texts:
        if text not in seen:
            if len(seen) < DISTINCT_MAX:
                seen.add(text)
            yield text


def _agent_of(request: Request) -> str:
    return request.agent or ""


def _host_of(request: Request) -> str:
    return request.host
