"""What agent, SDK and fingerprint say of a device: ages of versions, and what does not fit together."""

import asyncio
from datetime import UTC, date, datetime

import pytest
from gatekit import KitGate, Minter

from domain.events import ImpressionRendered
from domain.render import Fingerprint
from domain.screen import Traits
from ml.lists.devices import Devices, inconsistencies
from ml.lists.folder import read_folder
from ml.lists.packaged import packaged
from ml.lists.readers import RELEASES_MAX, ListsRefused, read_releases
from ml.lists.screen_lists import Lists
from ml.traffic.market import SDKS, WEB_SDK

WINDOWS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/147.0.0.0 Safari/537.36"
)
EDGE = f"{WINDOWS} Edg/147.0.0.0"
MAC = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.3 Safari/605.1"
)
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_3_2 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)"
FBIOS = f"{IPHONE} Mobile/15E148 [FBAN/FBIOS;FBAV/501.2.0.65.109;FBDV/iPhone14,7;FBSN/iOS;FBSV/18.3;FBOP/80]"
CRIOS = f"{IPHONE} CriOS/147.0.7000.1 Mobile/15E148 Safari/604.1"
ANDROID = (
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/147.0.0.0 Mobile Safari/537.36"
)
DAY = date(2026, 9, 21)
AT = int(datetime(2026, 9, 21, 12, tzinfo=UTC).timestamp() * 1_000)
CHROME_HINTS = {"hint_brands": '"Google Chrome";v="147", "Not.A/Brand";v="8", "Chromium";v="147"', "hint_mobile": False}
DESK = {"platform": "Win32", "hint_platform": "Windows", "touch_points": 0, "screen_width": 1920, "screen_height": 1080}
PHONE = {"platform": "Linux armv81", "touch_points": 5, "screen_width": 412, "screen_height": 915}
LISTS = Lists(packaged())


def age(agent, sdk=None):
    return LISTS.traits(agent, sdk, None, AT)


@pytest.mark.parametrize(
    ("agent", "released"),
    [
        (WINDOWS, date(2026, 4, 7)),
        (EDGE, date(2026, 4, 7)),
        (ANDROID, date(2026, 4, 7)),
        (CRIOS, date(2026, 4, 7)),
        (FIREFOX, date(2025, 6, 24)),
        (MAC, date(2025, 1, 27)),
        (FBIOS, date(2025, 1, 27)),
    ],
)
def test_the_age_of_a_browser_is_that_of_its_version(agent, released):
    assert age(agent).agent_age_days == (DAY - released).days


def test_a_minor_version_that_is_not_known_is_as_old_as_its_major_one():
    assert age(MAC.replace("18.3", "18.9")) == age(MAC.replace("18.3", "18"))


@pytest.mark.parametrize("agent", [None, "", "curl/8.5.0", WINDOWS.replace("147", "9999"), "Dalvik/2.1.0 (Linux; U)"])
def test_what_is_in_no_list_of_releases_has_no_age(agent):
    assert age(agent) == Traits()


def test_a_version_that_was_not_out_yet_is_younger_than_nothing():
    assert age(WINDOWS.replace("147", "157")).agent_age_days < 0


def test_an_sdk_is_as_old_as_its_version_also_where_no_agent_is_named():
    assert age(None, "fb-501.2") == Traits(sdk_age_days=19)
    assert age(WINDOWS, "fb-501.2").sdk_age_days == 19
    assert age(WINDOWS, "ios/12.3").sdk_age_days is None


def test_every_client_of_the_traffic_generator_has_a_day_of_release():
    names = {sdk.name for sdks in SDKS.values() for sdk in sdks} | {WEB_SDK.name}
    assert names == packaged().sdks.keys()


@pytest.mark.parametrize(
    ("agent", "said"),
    [
        (WINDOWS, DESK | CHROME_HINTS),
        (WINDOWS, {}),
        (ANDROID, PHONE | CHROME_HINTS | {"hint_platform": "Android", "hint_mobile": True}),
        (ANDROID, {"hint_brands": '"Microsoft Edge";v="147", "Chromium";v="147"', "hint_mobile": True}),
        (FBIOS, {"platform": "iPhone", "touch_points": 5, "screen_width": 390, "screen_height": 844}),
        (FIREFOX, {"platform": "Linux x86_64", "touch_points": 0}),
        (MAC, {"platform": "MacIntel", "hint_brands": "", "hint_mobile": False}),
        ("curl/8.5.0", {"platform": "Linux x86_64"}),
    ],
)
def test_a_device_that_is_what_it_says_is_consistent(agent, said):
    assert inconsistencies(agent, Fingerprint(**said)) == 0


@pytest.mark.parametrize(
    ("agent", "said"),
    [
        (WINDOWS, {"platform": "Linux x86_64"}),
        (IPHONE, {"platform": "MacIntel"}),
        (WINDOWS, {"hint_platform": "Linux"}),
        (WINDOWS, CHROME_HINTS | {"hint_mobile": True}),
        (WINDOWS.replace("147", "146"), CHROME_HINTS),
        (EDGE, CHROME_HINTS),
        (WINDOWS, {"hint_brands": '"Chromium";v="147", "HeadlessChrome";v="147"'}),
        (FIREFOX, CHROME_HINTS),
        (CRIOS, CHROME_HINTS | {"hint_mobile": True}),
        (ANDROID, {"touch_points": 0}),
        (ANDROID, {"screen_width": 1920, "screen_height": 1080}),
        (WINDOWS, {"screen_width": 360, "screen_height": 599}),
    ],
)
def test_each_thing_that_does_not_fit_counts_once(agent, said):
    assert inconsistencies(agent, Fingerprint(**said)) == 1


def test_what_does_not_fit_adds_up():
    rented = {**DESK, **CHROME_HINTS, "platform": "Linux x86_64", "hint_platform": "Linux"}
    assert inconsistencies(EDGE.replace("147", "131"), Fingerprint(**rented)) == 4


def test_of_a_long_agent_only_its_beginning_is_read():
    padded = "x" * 512 + WINDOWS
    assert Devices({"chrome/147": 1}, {}).traits(padded, None, Fingerprint(platform="Linux"), AT) == Traits(
        fingerprint_inconsistencies=0
    )


def sent(devices, **changes):
    """Return what a gate keeps of one render."""

    async def send():
        gate, minter = KitGate(), Minter()
        gate.devices = devices
        gate.restart()
        gate.now = AT
        minter.now = AT
        token = minter.token()
        await gate.open(DAY, DAY)
        await gate.send(minter.render(token, agent=WINDOWS, sdk="fb-501.2", **changes))
        return next(event for event in await gate.events(token.impression) if isinstance(event, ImpressionRendered))

    return asyncio.run(send())


def test_a_render_keeps_what_follows_from_its_device_and_forgets_what_it_said():
    rendered = sent(LISTS, fingerprint={"platform": "MacIntel", "hint_platform": "Linux"})
    assert (rendered.agent_age_days, rendered.sdk_age_days, rendered.fingerprint_inconsistencies) == (167, 19, 2)
    assert "MacIntel" not in str(rendered)


def test_without_a_fingerprint_or_lists_of_releases_nothing_is_known():
    assert (sent(LISTS)).fingerprint_inconsistencies is None
    rendered = sent(None, fingerprint={"platform": "MacIntel"})
    assert (rendered.agent_age_days, rendered.sdk_age_days, rendered.fingerprint_inconsistencies) == (None, None, None)


def test_a_folder_may_name_the_releases_of_other_clients(tmp_path):
    (tmp_path / "sdks.txt").write_text("# version: ours-3\nios/12.3 2026-09-01\n")
    found = read_folder(tmp_path, packaged()).sources
    assert Lists(found).traits(None, "ios/12.3", None, AT) == Traits(sdk_age_days=20)
    assert Lists(found).traits(None, "fb-501.2", None, AT) == Traits()
    assert found.parts["sdks"].label == "sdks ours-3"
    assert found.version != packaged().version


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"chrome/147\n", "sdks.txt:1: 'chrome/147' is no version and day of its release"),
        (b"chrome/147 2026-13-01\n", "is no version and day of its release"),
        (b"a 2026-01-01\na 2026-01-02\n", "sdks.txt:2: 'a' stands here a second time"),
        (b"# nothing\n", f"has 0 releases, not 1 to {RELEASES_MAX}"),
    ],
)
def test_a_line_that_is_no_release_is_refused_with_its_number(content, reason):
    with pytest.raises(ListsRefused, match=reason):
        read_releases("sdks", content, file="sdks.txt")
