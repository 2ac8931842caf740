"""One version of the lists, compiled: what the screen asks of every render."""

from collections import OrderedDict
from typing import TypeVar

from domain.render import Fingerprint
from domain.screen import Traits
from domain.vocabulary import AgentClass, NetworkClass
from ml.lists.agents import AGENT_CHARS_MAX, BOTS, AgentLists, AgentSaid
from ml.lists.devices import Devices
from ml.lists.networks import NetworkLists, NetworkSaid
from ml.lists.ranges import TEXT_CHARS_MAX
from ml.lists.sources import Part, Sources

AGENTS_CACHED_MAX = 32_768
NETWORKS_CACHED_MAX = 65_536
_Class = TypeVar("_Class")
_PART_OF = {BOTS: "bots", "crawlerdetect": "suspects"}


class Lists:
    """
    Answers for one version of the lists; remembers the last distinct agents and addresses, first in, first out.

    `known_agents` and `known_networks` hold answers that are exact for their very text and nothing else.
    """

    def __init__(self, sources: Sources) -> None:
        self.sources = sources
        self.version = sources.version
        self._agents = AgentLists(sources)
        self._networks = NetworkLists(sources)
        self._devices = Devices(sources.browsers, sources.sdks)
        self.known_agents: OrderedDict[str | None, AgentClass] = OrderedDict({None: AgentClass.ABSENT})
        self.known_networks: OrderedDict[str | None, NetworkClass] = OrderedDict({None: NetworkClass.ABSENT})

    @property
    def intervals(self) -> int:
        """How many intervals the address space is cut into."""
        return self._networks.intervals

    def agent(self, agent: str | None) -> AgentClass:
        """Return the class of *agent*. What is not printed ASCII is read, but not remembered: it takes more room."""
        known = self.known_agents.get(agent)
        if known is not None or agent is None:
            return known or AgentClass.ABSENT
        if len(agent) > AGENT_CHARS_MAX:
            return self.agent(agent[:AGENT_CHARS_MAX])
        said = self._agents.say(agent).agent_class
        if agent.isascii():
            _remember(self.known_agents, agent, said, AGENTS_CACHED_MAX)
        return said

    def network(self, address: str | None) -> NetworkClass:
        """Return the class of *address*; what is no address, or no public one, is absent."""
        known = self.known_networks.get(address)
        if known is not None or address is None:
            return known or NetworkClass.ABSENT
        said = self._networks.say(address).network_class
        if len(address) <= TEXT_CHARS_MAX and address.isascii():
            _remember(self.known_networks, address, said, NETWORKS_CACHED_MAX)
        return said

    def traits(self, agent: str | None, sdk: str | None, fingerprint: Fingerprint | None, at: int) -> Traits:
        """Return what is known of a device at *at* (epoch ms)."""
        return self._devices.traits(agent, sdk, fingerprint, at)

    def explain_agent(self, agent: str) -> tuple[AgentSaid, Part]:
        """Return what is said of *agent*, and the list that says it."""
        said = self._agents.say(agent)
        return said, self.sources.parts[_PART_OF.get(said.list, said.list)]

    def explain_network(self, address: str) -> tuple[NetworkSaid, Part | None]:
        """Return what is said of *address*, and the list that says it; None if it is on no list."""
        said = self._networks.say(address)
        return said, self.sources.parts[said.list] if said.list else None


def _remember(known: OrderedDict[str | None, _Class], text: str, said: _Class, most: int) -> None:
    if len(known) >= most:
        known.popitem(last=False)
    known[text] = said
