"""The lists in force: one version that answers, until another takes its place between two questions."""

from domain.render import Fingerprint
from domain.screen import Traits
from domain.vocabulary import AgentClass, NetworkClass
from ml.lists.screen_lists import Lists

DAY_MS = 86_400_000
STALE_AFTER_DAYS = 7


class LiveLists:
    """
    Answers from the version in force; belongs to one thread, whose calls see a swap whole or not at all.

    `refreshed_ms` is when the lists in force were last known to be current, epoch ms: when the newest file of a folder
    was written, or the day of the packaged data. `is_refreshed` says that somebody means to keep them so.
    """

    def __init__(self, lists: Lists, *, refreshed_ms: int, is_refreshed: bool) -> None:
        self.is_refreshed = is_refreshed
        self.swap(lists, refreshed_ms)

    def swap(self, lists: Lists, refreshed_ms: int) -> None:
        """Let *lists* answer from now on."""
        self.refreshed_ms = refreshed_ms
        self.lists = lists
        self.version = lists.version
        self._known_agents, self._known_networks = lists.known_agents, lists.known_networks

    def agent(self, agent: str | None) -> AgentClass:
        known = self._known_agents.get(agent)
        return self.lists.agent(agent) if known is None else known

    def network(self, address: str | None) -> NetworkClass:
        known = self._known_networks.get(address)
        return self.lists.network(address) if known is None else known

    def traits(self, agent: str | None, sdk: str | None, fingerprint: Fingerprint | None, at: int) -> Traits:
        return self.lists.traits(agent, sdk, fingerprint, at)

    def age_days(self, now_ms: int) -> float:
        """Return how long ago the lists in force were known to be current."""
        return max(0.0, (now_ms - self.refreshed_ms) / DAY_MS)

    def stale(self, now_ms: int) -> bool:
        """Say whether lists that somebody keeps up to date are too old; packaged ones only show their age."""
        return self.is_refreshed and self.age_days(now_ms) > STALE_AFTER_DAYS
