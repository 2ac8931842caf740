"""What the lists say of real agents: recall on the sightings of bots, and false positives on real browsers."""

from random import Random

import crawleruseragents
import pytest
from crawlerdetect import CrawlerDetect
from crawlerdetect.providers.crawlers import data as crawlerdetect_patterns
from crawlerdetect.providers.exclusions import data as crawlerdetect_exclusions
from fake_useragent.utils import load
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.vocabulary import AgentClass
from ml.lists import agents
from ml.lists.agents import AGENT_CHARS_MAX, AgentLists
from ml.lists.patterns import Patterns
from ml.traffic.browsers import in_app, load_browsers

IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148"
CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/147.0.0.0 Safari/537.36"
)
SIGHTINGS = [agent for entry in crawleruseragents.CRAWLER_USER_AGENTS_DATA for agent in entry["instances"]]


@pytest.fixture(scope="module")
def lists():
    return AgentLists()


def test_every_bot_that_was_sighted_is_dropped(lists):
    missed = [agent for agent in SIGHTINGS if lists.classify(agent) is AgentClass.BROWSER]
    assert len(SIGHTINGS) > 2_000
    assert missed == []


def test_no_browser_of_fake_useragent_is_taken_for_anything_else(lists):
    browsers = {row["useragent"] for row in load()}
    wrong = [agent for agent in browsers if lists.classify(agent) is not AgentClass.BROWSER]
    assert len(browsers) > 800
    assert len(wrong) / len(browsers) <= 0.001, wrong


def test_no_measured_browser_is_taken_for_anything_else(lists):
    browsers, rng = load_browsers(), Random(5)
    drawn = {browsers.desktop(rng).agent for _ in range(3_000)} | {browsers.phone(rng).agent for _ in range(3_000)}
    wrong = [agent for agent in drawn if lists.classify(agent) is not AgentClass.BROWSER]
    assert len(drawn) > 300
    assert wrong == []


def test_the_web_views_of_our_own_apps_are_browsers(lists):
    browsers, rng = load_browsers(), Random(6)
    phones = [phone for phone in (browsers.phone(rng) for _ in range(500)) if phone.system != "desktop"]
    views = {in_app(phone, app, rng) for phone in phones for app in ("facebook", "instagram")}
    assert [agent for agent in views if lists.classify(agent) is not AgentClass.BROWSER] == []


@pytest.mark.parametrize(
    "agent",
    [
        f"{IPHONE} [FBAN/FBIOS;FBAV/501.2.0.65.109;FBDV/iPhone14,7;FBSN/iOS;FBSV/17.5;FBOP/80]",
        f"{IPHONE} Instagram 375.2.0.33.77 (iPhone14,7; iOS 17_5; en_US; en; scale=3.00; 1170x2532)",
        f"{IPHONE} musical_ly_30.1.0 JsSdk/2.0 NetType/WIFI ByteLocale/en BytedanceWebview/d8a21c6",
        f"{IPHONE} [Pinterest/iOS]",
        f"{IPHONE} [LinkedInApp]/9.29.8962",
        f"{IPHONE} Snapchat/12.90.0.46 (like Safari/8618.2.12.10.9, panda)",
        "Instagram 3.0.4 Android (8/2.2.1; 240dpi; 480x800; HTC/verizon_wwe; ADR6400L; mecha; mecha; en_US)",
        "Dalvik/2.1.0 (Linux; U; Android 13; SM-A536B Build/TP1A.220624.014)",
        "Mozilla/5.0 (Linux; Android 9; CUBOT X19 Build/PPR1) AppleWebKit/537.36 Chrome/80.0 Mobile Safari/537.36",
        "Opera/9.80 (J2ME/MIDP; Opera Mini/7.1.32052/34.1244; U; en) Presto/2.8.119 Version/11.10",
        "SAMSUNG-GT-E2232/1.0 Openwave/6.2.3 Profile/MIDP-2.0 Configuration/CLDC-1.1 UP.Browser/6.2.3.3.c.1.101 (GUI)",
        f'"{CHROME}"',
    ],
)
def test_apps_old_phones_and_quoted_agents_are_browsers(lists, agent):
    assert lists.classify(agent) is AgentClass.BROWSER


@pytest.mark.parametrize(
    "agent",
    [
        "curl/8.5.0",
        "python-requests/2.31.0",
        "okhttp/4.9.3",
        "Go-http-client/1.1",
        "Wget/1.21.4",
        "Java/17.0.2",
        "PostmanRuntime/7.36.0",
        "portscout/0.8.1",
        "Mozilla/5.0",
        "Mozilla/4.0 (compatible;)",
        "&as_qdr=all",
    ],
)
def test_libraries_tools_and_agents_that_name_no_platform_are_no_browsers(lists, agent):
    assert lists.classify(agent) is AgentClass.NOT_A_BROWSER


@pytest.mark.parametrize(
    "agent",
    [
        "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
        CHROME.replace("Chrome/", "HeadlessChrome/"),
        "Mozilla/5.0 (compatible; BeetleBot; )",
        "UniversalFeedParser/4.2-pre-314-svn +http://feedparser.org/",
    ],
)
def test_who_says_to_be_a_bot_is_one(lists, agent):
    assert lists.classify(agent) is AgentClass.DECLARED_BOT


@pytest.mark.parametrize("agent", [None, "", "-", "  ", '""'])
def test_an_agent_that_says_nothing_is_absent(lists, agent):
    assert lists.classify(agent) is AgentClass.ABSENT


def test_only_the_beginning_of_a_long_agent_is_read(lists):
    assert lists.classify(CHROME.ljust(AGENT_CHARS_MAX) + "Googlebot/2.1") is AgentClass.BROWSER


def test_no_agent_makes_the_lists_fail(lists):
    for agent in ("\x00\xff", "Mozilla/5.0 (\ud83d\ude00", "(" * 600, "İ" * 300, "Mozilla/5.0 (K; Ünïcode)"):
        assert lists.classify(agent) in AgentClass


def test_the_memory_of_agents_is_bounded(monkeypatch):
    monkeypatch.setattr(agents, "CACHED_MAX", 3)
    lists = AgentLists()
    for number in range(10):
        lists.classify(f"curl/{number}")
    assert list(lists._known) == ["curl/7", "curl/8", "curl/9"]


def test_the_version_names_both_packages_and_our_own_rules(lists):
    assert lists.version.startswith("crawler-user-agents 1.")
    assert " + crawlerdetect 0." in lists.version
    assert lists.version.endswith(" + agents 1")


PUBLISHED = CrawlerDetect()
OURS = Patterns(crawlerdetect_patterns, ignore_case=True)
EXCLUDED = agents._EXCLUDED
NAMED = Patterns(entry["pattern"] for entry in crawleruseragents.CRAWLER_USER_AGENTS_DATA)


def _agree(agent):
    agent = agent.strip()
    assert OURS.found_in(EXCLUDED.sub("", agent)) is PUBLISHED.is_crawler(agent), agent
    assert NAMED.found_in(agent) is crawleruseragents.is_crawler(agent), agent


def test_the_compiled_patterns_say_what_the_packages_say_of_bots_and_browsers():
    assert crawlerdetect_exclusions
    for agent in (*SIGHTINGS, *{row["useragent"] for row in load()}):
        _agree(agent.encode("ascii", "replace").decode())


_words = st.sampled_from(
    [word for agent in SIGHTINGS[::7] for word in agent.split() if word.isascii()] + ["bot", "^", "("]
)
_ascii = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12)


@given(st.lists(_words | _ascii, max_size=8).map(" ".join))
@settings(max_examples=400, deadline=None)
def test_the_compiled_patterns_say_what_the_packages_say_of_any_mixture_of_words(agent):
    _agree(agent)
