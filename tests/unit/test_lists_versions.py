"""Versions of the lists: what names them, what keeps them, what changes between them, and how old they are."""

import gzip
import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.vocabulary import AgentClass, NetworkClass
from ml.lists import snapshots
from ml.lists.compare import Change, changed_agents, changed_networks
from ml.lists.live import DAY_MS, LiveLists
from ml.lists.packaged import packaged, packaged_date_ms
from ml.lists.ranges import ranges_of
from ml.lists.readers import ListsRefused
from ml.lists.screen_lists import Lists
from ml.lists.sources import Part

pytestmark = pytest.mark.slow

NOW = 1_795_000_000_000
CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/147.0.0.0 Safari/537.36"
)


def changed(**changes):
    return msgspec.structs.replace(packaged(), **changes)


def live(sources=None, *, refreshed_ms=NOW, is_refreshed=True):
    return LiveLists(Lists(sources or packaged()), refreshed_ms=refreshed_ms, is_refreshed=is_refreshed)


def test_a_version_is_short_and_says_its_date():
    assert re.fullmatch(r"\d{4}-\d\d-\d\d-[0-9a-f]{12}", packaged().version)
    assert Lists(packaged()).version == live().version == packaged().version


@pytest.mark.parametrize(
    "change",
    [
        {"bots": (*packaged().bots, "x-bot")},
        {"libraries": packaged().libraries[1:]},
        {"suspects": tuple(reversed(packaged().suspects))},
        {"exclusions": ()},
        {"own": {**packaged().own, "bot": "x"}},
        {"relays": ranges_of(["1.2.3.4"])},
        {"clouds": packaged().hosting, "hosting": packaged().clouds},
        {"browsers": {**packaged().browsers, "chrome/147": 1}},
        {"sdks": {}},
    ],
    ids="-".join,
)
def test_every_change_of_content_is_another_version(change):
    assert changed(**change).version != packaged().version


def test_the_same_content_from_elsewhere_is_the_same_version_apart_from_its_date():
    parts = {name: Part(name="x", version="0", entries=1, origin="x", date="2030-01-01") for name in packaged().parts}
    assert changed(parts=parts).digest() == packaged().digest()
    assert changed(parts=parts).version.startswith("2030-01-01-")
    undated = {name: Part(name="x", version="0", entries=1, origin="x") for name in packaged().parts}
    assert changed(parts=undated).version.startswith("undated-")


def test_ranges_written_otherwise_are_the_same_version():
    halves = changed(relays=ranges_of(["1.2.2.0/24", "1.2.3.0/24"]))
    assert halves.version == changed(relays=ranges_of(["1.2.2.0/23", "1.2.3.9"])).version


def test_every_part_has_a_name_a_version_and_entries():
    for part in packaged().parts.values():
        assert part.name
        assert part.version
        assert part.entries > 0


def test_a_kept_version_says_the_same_again(tmp_path):
    sources = changed(bots=(*packaged().bots, "Kept\\/Bot"))
    version = snapshots.keep(tmp_path, sources, NOW)
    again = snapshots.load(tmp_path, version)
    assert again == sources
    assert Lists(again).agent("Mozilla/5.0 (X11; Linux) Kept/Bot") is AgentClass.DECLARED_BOT
    assert snapshots.last_in_force(tmp_path) == (sources, NOW)


def test_a_version_is_kept_once_and_the_last_in_force_is_the_last_kept(tmp_path):
    first = snapshots.keep(tmp_path, packaged(), NOW)
    written = (tmp_path / f"{first}.json.gz").stat().st_mtime_ns
    second = snapshots.keep(tmp_path, changed(exclusions=()), NOW + 1)
    assert snapshots.keep(tmp_path, packaged(), NOW + 2) == first != second
    assert (tmp_path / f"{first}.json.gz").stat().st_mtime_ns == written
    assert snapshots.last_in_force(tmp_path) == (packaged(), NOW + 2)
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("spoil", ["cut", "edited", "other rules", "gone", "no json"])
def test_a_kept_version_that_was_spoilt_is_refused(tmp_path, spoil):
    version = snapshots.keep(tmp_path, packaged(), NOW)
    path = tmp_path / f"{version}.json.gz"
    text = gzip.decompress(path.read_bytes())
    match spoil:
        case "cut":
            path.write_bytes(path.read_bytes()[:-9])
        case "edited":
            path.write_bytes(gzip.compress(text.replace(b"Googlebot", b"Googleboy")))
        case "other rules":
            path.write_bytes(gzip.compress(re.sub(rb'"logic":\d+', b'"logic":1', text)))
        case "gone":
            path.unlink()
        case "no json":
            path.write_bytes(gzip.compress(b"[1]"))
    with pytest.raises(ListsRefused):
        snapshots.load(tmp_path, version)
    assert snapshots.last_in_force(tmp_path) is None


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "2026-11-23", "packaged", "2026-11-23-0123456789ab/../x"])
def test_a_name_that_is_no_version_is_refused(tmp_path, name):
    with pytest.raises(ListsRefused, match="is not kept"):
        snapshots.load(tmp_path, name)


def test_a_swap_changes_every_answer_at_once_and_forgets_what_was_remembered():
    lists = live()
    assert lists.agent("Frobnicator/1") is AgentClass.NOT_A_BROWSER
    assert lists.network("9.9.9.9") is NetworkClass.EYEBALL
    before = lists.version
    lists.swap(Lists(changed(bots=(*packaged().bots, "Frobnicator"), hosting=ranges_of(["9.9.9.0/24"]))), NOW + 1)
    assert lists.agent("Frobnicator/1") is AgentClass.DECLARED_BOT
    assert lists.network("9.9.9.9") is NetworkClass.DATA_CENTRE
    assert lists.version != before
    assert lists.refreshed_ms == NOW + 1


@given(st.one_of(st.none(), st.text(max_size=600)), st.one_of(st.none(), st.text(max_size=60)))
def test_any_agent_and_address_get_the_same_answer_first_and_again(agent, address):
    first = (LIVE.agent(agent), LIVE.network(address))
    assert (LIVE.agent(agent), LIVE.network(address)) == first
    assert isinstance(first[0], AgentClass)
    assert isinstance(first[1], NetworkClass)


LIVE = live()


def test_lists_that_are_kept_up_to_date_are_stale_after_seven_days():
    lists = live()
    assert lists.age_days(NOW - DAY_MS) == 0
    assert lists.age_days(NOW + 7 * DAY_MS) == 7
    assert not lists.stale(NOW + 7 * DAY_MS)
    assert lists.stale(NOW + 7 * DAY_MS + 1)


def test_packaged_lists_show_their_age_and_are_never_stale():
    lists = live(refreshed_ms=packaged_date_ms(), is_refreshed=False)
    assert lists.age_days(packaged_date_ms() + 30 * DAY_MS) == 30
    assert not lists.stale(packaged_date_ms() + 30 * DAY_MS)


def test_what_a_new_version_changes_is_told_with_both_classes_and_lists():
    old = Lists(packaged())
    new = Lists(changed(bots=(*packaged().bots, "Safari\\/537"), relays=ranges_of(["52.94.76.0/24"])))
    assert list(changed_agents(old, new, [CHROME, "curl/8"])) == [
        Change(CHROME, AgentClass.BROWSER, AgentClass.DECLARED_BOT, "own", "crawler-user-agents")
    ]
    assert list(changed_networks(old, new, ["52.94.76.1", "52.94.77.1", "37.120.244.1", "104.28.0.1", "x"])) == [
        Change("52.94.76.1", NetworkClass.DATA_CENTRE, NetworkClass.RELAY, "clouds", "relays"),
        Change("104.28.0.1", NetworkClass.RELAY, NetworkClass.EYEBALL, "relays", ""),
    ]


def test_nothing_changes_between_a_version_and_itself():
    lists = Lists(packaged())
    assert list(changed_agents(lists, Lists(packaged()), [CHROME, "Googlebot/2.1", ""])) == []
