"""What changes when one version of the lists takes the place of another: ground for deciding open days again."""

from collections.abc import Iterable, Iterator

from msgspec import Struct

from domain.vocabulary import AgentClass, NetworkClass
from ml.lists.screen_lists import Lists


class Change(Struct, frozen=True):
    """One agent or address of which two versions say another class; the lists are those that say it, "" where none."""

    text: str
    before: AgentClass | NetworkClass
    after: AgentClass | NetworkClass
    before_list: str
    after_list: str


def changed_agents(old: Lists, new: Lists, agents: Iterable[str]) -> Iterator[Change]:
    """Yield a change for each of *agents* that is of another class under *new* than under *old*."""
    for agent in agents:
        before, _ = old.explain_agent(agent)
        after, _ = new.explain_agent(agent)
        if before.agent_class is not after.agent_class:
            yield Change(agent, before.agent_class, after.agent_class, before.list, after.list)


def changed_networks(old: Lists, new: Lists, addresses: Iterable[str]) -> Iterator[Change]:
    """Yield a change for each of *addresses* that is of another class under *new* than under *old*."""
    for address in addresses:
        before, _ = old.explain_network(address)
        after, _ = new.explain_network(address)
        if before.network_class is not after.network_class:
            yield Change(address, before.network_class, after.network_class, before.list, after.list)
