"""The gate follows its folder of lists: new ones come in between two questions, broken ones do not, age is seen."""

import asyncio
import os

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from structlog.testing import capture_logs

from domain.vocabulary import NetworkClass
from ml.lists import snapshots
from ml.lists.live import DAY_MS
from ml.lists.packaged import packaged, packaged_date_ms
from ml.lists.readers import ListsRefused
from service.lists_open import kept_lists, lists_state, named_sources, open_lists
from service.lists_watch import ListsWatch
from service.settings import Settings

pytestmark = pytest.mark.slow

WRITTEN_S = 1_795_000_000
NOW = WRITTEN_S * 1_000
HOME, OURS = "9.9.9.9", "9.9.9.0/24"


class Followed:
    """A folder of lists, a watch over it, and a clock that stands until it is set."""

    def __init__(self, tmp_path):
        self.folder = tmp_path / "lists-in"
        self.folder.mkdir()
        self.settings = Settings(data_dir=tmp_path / "data", lists_dir=str(self.folder))
        self.now, self._written = NOW, WRITTEN_S

    def start(self):
        self.lists = open_lists(self.settings)
        self.watch = ListsWatch(self.lists, self.settings, lambda: self.now)
        return self

    def write(self, content, name="hosting.txt"):
        """Write a list; each time is a second later than the one before."""
        self._written += 1
        (self.folder / name).write_text(content)
        os.utime(self.folder / name, (self._written, self._written))
        return self

    def look(self, times=1):
        with capture_logs() as logs:
            for _ in range(times):
                asyncio.run(self.watch.poll())
        return logs

    def metrics(self):
        registry = CollectorRegistry()
        registry.register(self.watch)
        lines = generate_latest(registry).decode().splitlines()
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}


@pytest.fixture
def followed(tmp_path):
    return Followed(tmp_path)


def test_a_new_list_decides_after_two_looks_that_found_the_same(followed):
    followed.start()
    before = followed.lists.version
    followed.look(times=2)
    followed.write(OURS)
    followed.look()
    assert followed.lists.network(HOME) is NetworkClass.EYEBALL
    [told] = followed.look()
    assert followed.lists.network(HOME) is NetworkClass.DATA_CENTRE
    assert (told["event"], told["before"], told["version"]) == ("lists changed", before, followed.lists.version)
    assert followed.look(times=3) == []


def test_a_list_that_is_still_being_written_is_left_alone(followed):
    followed.start().look(times=2)
    for _ in range(4):
        followed.write(OURS)
        assert followed.look() == []
    assert followed.lists.network(HOME) is NetworkClass.EYEBALL


def test_a_broken_list_is_refused_once_with_file_line_and_reason_and_the_old_ones_stay(followed):
    followed.write(OURS).start().look(times=2)
    followed.write(f"{OURS}\nbroken\n")
    [told] = followed.look(times=5)
    assert told["event"] == "lists refused"
    assert (told["file"], told["line"]) == (str(followed.folder / "hosting.txt"), 2)
    assert "'broken'" in told["reason"]
    assert told["in_force"] == followed.lists.version
    assert followed.lists.network(HOME) is NetworkClass.DATA_CENTRE
    assert followed.metrics()["impledger_lists_refused"] == 1


def test_a_mended_list_comes_in_and_the_refusal_is_over(followed):
    followed.write(OURS).start().look(times=2)
    followed.write("broken").look(times=2)
    followed.write(f"{OURS}\n9.9.10.0/24").look(times=2)
    assert followed.lists.network("9.9.10.1") is NetworkClass.DATA_CENTRE
    assert followed.metrics()["impledger_lists_refused"] == 0


def test_a_list_cut_short_does_not_take_the_place_of_the_whole_one(followed):
    whole = [f"9.9.{n * 2}.0/24" for n in range(40)]
    followed.write("\n".join(whole)).start().look(times=2)
    followed.write("\n".join(whole[:10]))
    [told] = followed.look(times=2)
    assert "under half of the 40 in force" in told["reason"]
    assert followed.lists.network("9.9.70.1") is NetworkClass.DATA_CENTRE


def test_a_folder_that_goes_away_and_comes_back_is_told_once_each_way(followed):
    followed.write(OURS).start().look(times=2)
    away = followed.folder.rename(followed.folder.with_name("away"))
    [told] = followed.look(times=3)
    assert "cannot be read" in told["reason"]
    away.rename(followed.folder)
    assert followed.look(times=3) == []
    assert followed.lists.network(HOME) is NetworkClass.DATA_CENTRE
    assert followed.metrics()["impledger_lists_refused"] == 0


def test_the_same_content_written_again_makes_the_lists_young(followed):
    followed.write(OURS).start().look(times=2)
    version = followed.lists.version
    followed.now = NOW + 8 * DAY_MS
    assert followed.lists.stale(followed.now)
    os.utime(followed.folder / "hosting.txt", (WRITTEN_S + 8 * 86_400, WRITTEN_S + 8 * 86_400))
    followed.look(times=2)
    assert not followed.lists.stale(followed.now)
    assert followed.lists.version == version


def test_stale_lists_are_told_once_a_day_and_shown(followed):
    followed.write(OURS).start()
    followed.now = NOW + 8 * DAY_MS
    told = [log for log in followed.look(times=4) if log["event"] == "lists are stale"]
    assert [log["age_days"] for log in told] == [8.0]
    followed.now += DAY_MS
    assert [log["age_days"] for log in followed.look(times=2)] == [9.0]
    assert followed.metrics()["impledger_lists_stale"] == 1


def test_age_and_version_of_the_lists_in_force_can_be_scraped(followed):
    followed.write(OURS).start()
    followed.now = (WRITTEN_S + 1) * 1_000 + DAY_MS
    scraped = followed.metrics()
    assert scraped["impledger_lists_age_days"] == 1
    assert scraped["impledger_lists_stale"] == 0
    assert scraped[f'impledger_lists_info{{version="{followed.lists.version}"}}'] == 1


def test_without_a_folder_the_packaged_lists_decide_and_nothing_is_looked_for(tmp_path):
    settings = Settings(data_dir=tmp_path)
    lists = open_lists(settings)
    asyncio.run(ListsWatch(lists, settings, lambda: NOW).poll())
    assert lists.version == packaged().version
    assert lists.refreshed_ms == packaged_date_ms()
    assert not lists.stale(NOW + 99 * DAY_MS)


def test_a_start_on_a_spoilt_folder_takes_the_last_good_version(followed):
    followed.write(OURS).start()
    good = followed.lists.version
    followed.write("spoilt")
    with capture_logs() as logs:
        followed.start()
    assert [(log["event"], log["line"]) for log in logs] == [("lists refused", 1)]
    assert followed.lists.version == good
    assert followed.lists.network(HOME) is NetworkClass.DATA_CENTRE
    assert followed.lists.refreshed_ms == (WRITTEN_S + 1) * 1_000


def test_a_first_start_on_a_spoilt_folder_takes_the_packaged_lists(followed):
    with capture_logs():
        followed.write("spoilt").start()
    assert followed.lists.version == packaged().version
    assert followed.lists.stale(packaged_date_ms() + 8 * DAY_MS)


def test_every_version_that_was_in_force_is_kept_by_name(followed):
    versions = [followed.start().lists.version]
    for more in ("9.9.9.0/24", "9.9.9.0/24\n9.9.10.0/24"):
        followed.write(more).look(times=2)
        versions.append(followed.lists.version)
    assert len(set(versions)) == 3
    for version in versions:
        assert named_sources(followed.settings, version).version == version
    assert snapshots.last_in_force(kept_lists(followed.settings))[0].version == versions[-1]


def test_a_version_that_cannot_be_kept_stops_nothing(followed):
    followed.settings.data_dir.mkdir()
    kept_lists(followed.settings).write_text("a file where the folder should be")
    with capture_logs() as logs:
        followed.write(OURS).start()
    assert [log["event"] for log in logs] == ["version of the lists not kept"]
    assert followed.lists.network(HOME) is NetworkClass.DATA_CENTRE


def test_lists_can_be_named(followed):
    followed.write(OURS)
    current = named_sources(followed.settings, "current")
    assert current.version == named_sources(followed.settings, str(followed.folder)).version != packaged().version
    assert named_sources(followed.settings, "packaged").version == packaged().version
    assert named_sources(Settings(), "current").version == packaged().version
    assert named_sources(followed.settings, packaged().version) == packaged()
    with pytest.raises(ListsRefused, match="is not kept"):
        named_sources(followed.settings, "2026-01-01-0123456789ab")


def test_the_doctor_hears_how_the_lists_are(followed):
    assert lists_state(Settings(), packaged_date_ms() + 3 * DAY_MS)[0]
    assert lists_state(followed.settings, NOW) == (False, f"{followed.folder} has no list; the packaged ones decide")
    followed.write(OURS)
    assert lists_state(followed.settings, NOW + DAY_MS)[1].endswith("refreshed 1.0 days ago")
    assert not lists_state(followed.settings, NOW + 9 * DAY_MS)[0]
    followed.write("broken")
    assert "hosting.txt:1: 'broken'" in lists_state(followed.settings, NOW)[1]
