"""
What the lists say of a user agent.

Declared bots and libraries are those of crawler-user-agents and crawlerdetect, and whoever gives a page about itself.
Who is on no list is a browser if it names a platform as browsers do, is an app's own web view, or a phone's; everything
else is no browser. Native network stacks that name the device (Dalvik, CFNetwork) are apps on a phone in a person's
hand and pass; bare libraries do not.
"""

import re
from typing import NamedTuple

from domain.vocabulary import AgentClass
from ml.lists.patterns import Patterns
from ml.lists.sources import Sources

AGENT_CHARS_MAX = 512
"""What is read of an agent; real ones end before, and longer ones must not cost more."""

BOTS, SUSPECTS, OWN = "crawler-user-agents", "crawlerdetect", "own"
"""Names of the lists that speak of agents."""
_NAMED = (AgentClass.DECLARED_BOT, AgentClass.NOT_A_BROWSER)
_ABSENT = frozenset({"", "-"})
_WRAPPING = " \t\"'"
"""Some apps send their agent in quotes."""


class AgentSaid(NamedTuple):
    """What is said of an agent, by which list, because of what in it."""

    agent_class: AgentClass
    list: str
    matched: str


class AgentLists:
    """Classifies user agents; compiled once, remembers nothing."""

    def __init__(self, sources: Sources) -> None:
        own = sources.own
        self._named = Patterns([sources.bots, sources.libraries])
        self._suspects = Patterns([sources.suspects], ignore_case=True)
        self._excluded = re.compile("|".join(sources.exclusions) or r"(?!)", re.IGNORECASE)
        self._not_chosen = re.compile(f"{own['in_app']}|{own['brand']}")
        self._says_bot = re.compile(own["bot"], re.IGNORECASE)
        self._bot_word = re.compile(own["bot_word"], re.IGNORECASE)
        self._engineless = re.compile(own["engineless"], re.IGNORECASE)
        self._platform = re.compile(own["platform"], re.IGNORECASE)
        self._app_or_phone = re.compile(f"{own['app']}|{own['phone']}", re.IGNORECASE)

    def say(self, agent: str) -> AgentSaid:
        """Return what the lists say of *agent*, of which `AGENT_CHARS_MAX` characters are read."""
        text = agent[:AGENT_CHARS_MAX].strip(_WRAPPING).encode("ascii", "replace").decode()
        if text in _ABSENT:
            return AgentSaid(AgentClass.ABSENT, OWN, "")
        return self._listed(self._not_chosen.sub(" ", text)) or self._unlisted(text)

    def _listed(self, text: str) -> AgentSaid | None:
        if found := self._named.find(text):
            return AgentSaid(_NAMED[found.group], BOTS, found.branch)
        if found := self._suspects.find(self._excluded.sub("", text)):
            declares = text.startswith("Mozilla/") or self._bot_word.search(text)
            return AgentSaid(AgentClass.DECLARED_BOT if declares else AgentClass.NOT_A_BROWSER, SUSPECTS, found.branch)
        if said := self._says_bot.search(text):
            return AgentSaid(AgentClass.DECLARED_BOT, OWN, said[0])
        return None

    def _unlisted(self, text: str) -> AgentSaid:
        if not self._engineless.search(text):
            named = self._platform.search(text) or self._app_or_phone.search(text)
            if named:
                return AgentSaid(AgentClass.BROWSER, OWN, named[0])
        return AgentSaid(AgentClass.NOT_A_BROWSER, OWN, "")
