"""What the lists say of real agents: recall on the sightings of bots, and false positives on real browsers."""

import re
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
from ml.lists import screen_lists
from ml.lists.agents import AGENT_CHARS_MAX
from ml.lists.folder import PEOPLE, ROBOTS
from ml.lists.packaged import packaged
from ml.lists.patterns import Patterns
from ml.lists.screen_lists import Lists
from ml.traffic.browsers import in_app, load_browsers

IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148"
CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/147.0.0.0 Safari/537.36"
)
WEB_VIEW = (
    "Mozilla/5.0 (Linux; Android 14; Pixel 8 Build/UP1A; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 "
    "Chrome/147.0 Mobile Safari/537.36"
)
SIGHTINGS = [agent for entry in crawleruseragents.CRAWLER_USER_AGENTS_DATA for agent in entry["instances"]]


@pytest.fixture(scope="module")
def lists():
    return Lists(packaged())


def test_every_bot_that_was_sighted_is_dropped(lists):
    missed = [agent for agent in SIGHTINGS if lists.agent(agent) is AgentClass.BROWSER]
    assert len(SIGHTINGS) > 2_000
    assert missed == []


def test_no_browser_of_fake_useragent_is_taken_for_anything_else(lists):
    browsers = {row["useragent"] for row in load()}
    wrong = [agent for agent in browsers if lists.agent(agent) is not AgentClass.BROWSER]
    assert len(browsers) > 800
    assert len(wrong) / len(browsers) <= 0.001, wrong


def test_no_measured_browser_is_taken_for_anything_else(lists):
    browsers, rng = load_browsers(), Random(5)
    drawn = {browsers.desktop(rng).agent for _ in range(3_000)} | {browsers.phone(rng).agent for _ in range(3_000)}
    wrong = [agent for agent in drawn if lists.agent(agent) is not AgentClass.BROWSER]
    assert len(drawn) > 300
    assert wrong == []


def test_the_web_views_of_our_own_apps_are_browsers(lists):
    browsers, rng = load_browsers(), Random(6)
    phones = [phone for phone in (browsers.phone(rng) for _ in range(500)) if phone.system != "desktop"]
    views = {in_app(phone, app, rng) for phone in phones for app in ("facebook", "instagram")}
    assert [agent for agent in views if lists.agent(agent) is not AgentClass.BROWSER] == []


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
    assert lists.agent(agent) is AgentClass.BROWSER


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
    assert lists.agent(agent) is AgentClass.NOT_A_BROWSER


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
    assert lists.agent(agent) is AgentClass.DECLARED_BOT


@pytest.mark.parametrize("agent", [None, "", "-", "  ", '""'])
def test_an_agent_that_says_nothing_is_absent(lists, agent):
    assert lists.agent(agent) is AgentClass.ABSENT


def test_only_the_beginning_of_a_long_agent_is_read(lists):
    assert lists.agent(CHROME.ljust(AGENT_CHARS_MAX) + "Googlebot/2.1") is AgentClass.BROWSER


def test_no_agent_makes_the_lists_fail(lists):
    for agent in ("\x00\xff", "Mozilla/5.0 (\ud83d\ude00", "(" * 600, "İ" * 300, "Mozilla/5.0 (K; Ünïcode)"):
        assert lists.agent(agent) in AgentClass


def test_the_memory_of_agents_is_bounded_and_forgets_the_oldest(monkeypatch):
    monkeypatch.setattr(screen_lists, "AGENTS_CACHED_MAX", 3)
    lists = Lists(packaged())
    for number in range(10):
        lists.agent(f"curl/{number}")
    assert list(lists.known_agents) == ["curl/7", "curl/8", "curl/9"]


def test_a_long_agent_is_remembered_by_what_is_read_of_it_and_an_odd_one_not_at_all():
    lists = Lists(packaged())
    assert lists.agent("curl/8 " + "x" * 100_000) is AgentClass.NOT_A_BROWSER
    assert lists.agent("Mozilla/5.0 (K; \u4f60\u597d)") is AgentClass.BROWSER
    assert [len(known) for known in lists.known_agents if known] == [AGENT_CHARS_MAX]


def test_what_is_remembered_is_what_would_be_said_again(lists):
    for agent in SIGHTINGS[::40]:
        assert lists.agent(agent) is lists.agent(agent) is lists.explain_agent(agent)[0].agent_class


@pytest.mark.parametrize("agent", PEOPLE)
def test_the_browsers_and_in_app_agents_of_our_surfaces_are_browsers(lists, agent):
    assert lists.agent(agent) is AgentClass.BROWSER


@pytest.mark.parametrize("agent", ROBOTS)
def test_the_robots_that_every_version_has_to_know_are_known(lists, agent):
    assert lists.agent(agent) is not AgentClass.BROWSER


@pytest.mark.parametrize(
    "agent",
    [
        f"{IPHONE} Safari/604.1 [FBAN/FBIOS;FBAV/501.2.0;FBDV/iPhone14,7] (compatible; Googlebot/2.1)",
        "facebookexternalhit/1.1 [FBAN/FBIOS;FBAV/501.2.0]",
        "meta-externalagent/1.1 (+https://developers.facebook.com/docs/sharing/webmasters/crawler)",
        "facebookcatalog/1.0",
        f"{WEB_VIEW} Chrome/147.0 Mobile Safari/537.36 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    ],
)
def test_a_robot_that_dresses_as_one_of_our_apps_or_is_our_own_is_a_robot(lists, agent):
    assert lists.agent(agent) is AgentClass.DECLARED_BOT


@pytest.mark.parametrize(
    "agent",
    [
        "Dalvik/2.1.0 (Linux; U; Android 12; SM-A217F) [FBAN/AudienceNetworkForAndroid;FBAB/com.robot.spider;FBAV/15.2",
        "[FBAN/AudienceNetworkForAndroid;FBSN/Android]",
        f"{IPHONE} [FBAN/AudienceNetworkForiOS;FBDV/x86_64;FBSN/iOS;FBAB/com.crawler.monitor;FBAV/1.0;FBBV/1]",
        f"{WEB_VIEW.replace('Pixel 8', 'CUBOT X50')} [FBAN/EMA;FBLC/pt_BR;FBAV/440.0.0.11.110;FBDV/CUBOT X50;]",
        f"{WEB_VIEW.replace('Pixel 8', 'FOSSiBOT F101')} Barcelona 448.0.0.54 Android (34/14; 320dpi; FOSSiBOT)",
        "Barcelona 289.0.0.77.109 Android (24/7.0; 640dpi; 1440x2560; samsung; SM-G930F; herolte; en_US; 489705618)",
        "mozilla/5.0 (iphone; cpu iphone os 12_1 like mac os x) applewebkit/605.1.15 mobile/16b92 instagram 66.0.0.14",
    ],
)
def test_what_an_app_says_of_itself_and_its_phone_makes_nobody_a_robot(lists, agent):
    assert lists.agent(agent) is AgentClass.BROWSER


def test_every_verdict_names_the_list_and_its_version(lists):
    googlebot, whose = lists.explain_agent("Googlebot/2.1")
    assert (googlebot.list, googlebot.matched, whose.name) == ("crawler-user-agents", "Googlebot\\/", whose.name)
    assert whose.version.startswith("1.")
    assert lists.explain_agent("LDNReader/2.0.1 (Android)")[1].name == "crawlerdetect"
    assert lists.explain_agent(CHROME)[1].name == "own"


PUBLISHED = CrawlerDetect()
OURS = Patterns([crawlerdetect_patterns], ignore_case=True)
EXCLUDED = re.compile("|".join(crawlerdetect_exclusions), re.IGNORECASE)
NAMED = Patterns([[entry["pattern"] for entry in crawleruseragents.CRAWLER_USER_AGENTS_DATA]])


def _agree(agent):
    agent = agent.strip()
    assert bool(OURS.find(EXCLUDED.sub("", agent))) is PUBLISHED.is_crawler(agent), agent
    assert bool(NAMED.find(agent)) is crawleruseragents.is_crawler(agent), agent


def test_the_compiled_patterns_say_what_the_packages_say_of_bots_and_browsers():
    assert crawlerdetect_exclusions
    for agent in (*SIGHTINGS, *{row["useragent"] for row in load()}):
        _agree(agent.encode("ascii", "replace").decode())


_words = st.sampled_from(
    [word for agent in SIGHTINGS[::7] for word in agent.split() if word.isascii()] + ["bot", "^", "("]
)
_ascii = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12)


@given(st.lists(_words | _ascii, max_size=8).map(" ".join))
@settings(max_examples=400)
def test_the_compiled_patterns_say_what_the_packages_say_of_any_mixture_of_words(agent):
    _agree(agent)


def test_the_first_group_that_has_a_pattern_in_the_text_is_told_wherever_it_stands():
    patterns = Patterns([["late[nN]ame", "(^| )alone"], ["early", "x?yz|^start"]])
    assert patterns.find("early LateName lateName") == (0, "late[nN]ame")
    assert patterns.find("early notalone") == (1, "early")
    assert patterns.find("early alone")[0] == 0
    assert patterns.find("aloneness yz")[0] == 0
    assert patterns.find("yz") == (1, "yz")
    assert patterns.find("no start") is None


@pytest.mark.parametrize(
    "expression", ["[wW]get", "[Ww][Gg]et", "(^| )PTST\\/", "[ab]cde", "[wW]?get", "[wW]*get", "[wx]get"]
)
@pytest.mark.parametrize("text", ["a wget", "Wget", "PTST/1", "xPTST/1 ", "get", "xget", "bcde", "WGET", "wGet"])
def test_a_pattern_is_found_wherever_python_finds_it(expression, text):
    assert bool(Patterns([[expression]]).find(text)) is bool(re.search(expression, text))
