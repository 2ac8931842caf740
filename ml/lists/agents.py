"""
What the lists say of a user agent.

Declared bots and libraries are those of crawler-user-agents and crawlerdetect. Who is on neither list is a browser if
it names a platform as browsers do, is an app's own web view, or a phone's; everything else is no browser. Native
network stacks that name the device (Dalvik, CFNetwork) are apps on a phone in a person's hand and pass; bare libraries
do not.
"""

import re
from collections import OrderedDict
from importlib.metadata import version

import crawleruseragents
from crawlerdetect.providers.crawlers import data as crawlerdetect_patterns
from crawlerdetect.providers.exclusions import data as crawlerdetect_exclusions

from domain.vocabulary import AgentClass
from ml.lists.patterns import Patterns

AGENT_CHARS_MAX = 512
"""What is read of an agent; real ones end before, and longer ones must not cost more."""
CACHED_MAX = 32_768
_OWN_RULES = 1
"""Version of the rules in this file. A change of what they say is a new version."""

_LIBRARY_TAG = "http-library"
_ABSENT = frozenset({"", "-"})
_WRAPPING = " \t\"'"
"""Some apps send their agent in quotes."""
_EXCLUDED = re.compile("|".join(crawlerdetect_exclusions), re.IGNORECASE)
_SAYS_BOT = re.compile(r"bot|crawl|spider|slurp|feed|reader|rss|fetch|validat|monitor|https?://|@", re.IGNORECASE)
_NAMES_A_PLATFORM = re.compile(r"(?:Mozilla/\d|Opera[/ ]\d)[^(]*\((?!compatible;?\s*\))[^)]{2}")
_APP_OR_PHONE = re.compile(
    r"Dalvik/\d[^(]*\([^)]*Android"
    r"|\bCFNetwork/\d.*\bDarwin/\d"
    r"|^\[?FBAN/|\bFBAV/\d|^Instagram \d|^Barcelona \d"
    r"|^com\.(?:zhiliaoapp\.musically|ss\.android\.ugc)|^TikTok |^Snapchat/\d|^Twitter(?:Android|-iPhone|-iPad)?/\d"
    r"|Profile/MIDP|UP\.Browser/|SEMC-Browser/|WAP Browser|^Maui Browser|^BlackBerry\d|^Nokia\w"
    r"|^(?:Midori|UCWEB|Puffin|Vivaldi)/\d"
)


class AgentLists:
    """Classifies user agents; remembers the last `CACHED_MAX` distinct ones."""

    def __init__(self) -> None:
        libraries: list[str] = []
        bots: list[str] = []
        for entry in crawleruseragents.CRAWLER_USER_AGENTS_DATA:
            (libraries if entry["tags"] == [_LIBRARY_TAG] else bots).append(entry["pattern"])
        self._bots = Patterns(bots)
        self._libraries = Patterns(libraries)
        self._suspects = Patterns(crawlerdetect_patterns, ignore_case=True)
        self._known: OrderedDict[str, AgentClass] = OrderedDict()
        self.version = (
            f"crawler-user-agents {version('crawler-user-agents')} + crawlerdetect {version('crawlerdetect')}"
            f" + agents {_OWN_RULES}"
        )

    def classify(self, agent: str | None) -> AgentClass:
        if agent is None:
            return AgentClass.ABSENT
        known = self._known.get(agent)
        if known is None:
            known = self._judge(agent[:AGENT_CHARS_MAX].strip(_WRAPPING).encode("ascii", "replace").decode())
            if len(self._known) >= CACHED_MAX:
                self._known.popitem(last=False)
            self._known[agent] = known
        return known

    def _judge(self, agent: str) -> AgentClass:
        if agent in _ABSENT:
            return AgentClass.ABSENT
        if self._bots.found_in(agent):
            return AgentClass.DECLARED_BOT
        if self._libraries.found_in(agent):
            return AgentClass.NOT_A_BROWSER
        if self._suspects.found_in(_EXCLUDED.sub("", agent)):
            declares = agent.startswith("Mozilla/") or _SAYS_BOT.search(agent)
            return AgentClass.DECLARED_BOT if declares else AgentClass.NOT_A_BROWSER
        if _NAMES_A_PLATFORM.match(agent) or _APP_OR_PHONE.search(agent):
            return AgentClass.BROWSER
        return AgentClass.NOT_A_BROWSER
