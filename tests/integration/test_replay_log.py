"""Replaying access logs through a whole gate in this process, over HTTP."""

import asyncio
import gzip
import socket
from contextlib import asynccontextmanager, suppress
from importlib.resources import files
from pathlib import Path

import pytest
from starlette.applications import Starlette

from commands.activity import NoActivity
from commands.batcher import Batcher
from commands.clocks import DeviceClocks
from commands.holding_memory import MemoryDayKeys, MemoryHolding
from commands.ingest import Ingest
from commands.intake import KEYS_WITHIN_S, Intake
from commands.keyring import Keyring
from commands.quarantine import Holding
from domain.pack import parse_pack
from domain.vocabulary import DataSet
from ledger.codec import decode
from ledger.memory import MemoryStore
from ml.traffic.access_log import LogUnreadable
from service.access import Access
from service.gate_http import GateApp
from service.gate_metrics import GateMetrics
from service.keyfiles import load_or_make_keys
from service.replay_log import BATCH, ReplaySettings, ReplayStopped, replay_log
from service.serving import server_for
from service.settings import Settings
from service.wiring import ScreenLists

SAMPLE = Path(__file__).parents[2] / ".." / "shared" / "data" / "access_combined.log"
NOW = 1_790_000_000_000
SAFARI = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148"
PACK = parse_pack((files("domain") / "packs" / "base-1.toml").read_text(), "base-1.toml")


def line(second=0, *, path="/images/a.png", status=200, agent=SAFARI, host="79.231.131.169", referrer="http://e.com/p"):
    return f'{host} - - [17/May/2015:10:05:{second:02} +0000] "GET {path} HTTP/1.1" {status} 9 "{referrer}" "{agent}"\n'


class Site:
    """A gate in memory on a free port."""

    def __init__(self, data_dir, day_keys=None):
        self.keys = load_or_make_keys(data_dir)
        self.store = MemoryStore()
        keyring = Keyring(day_keys or MemoryDayKeys(), self.keys.root)
        holding = Holding(MemoryHolding(self.store), keyring, ttl_ms=3_600_000, clock=lambda: NOW)
        lists = ScreenLists()
        common = {"store": self.store, "pack": PACK, "clock": lambda: NOW}
        known = {"keyring": keyring, "lists": lists, "clocks": DeviceClocks(9_999)}
        self._intake = Intake(region="eu", token_keys=self.keys.token_keys(), **known, **common)
        self._ingest = Ingest(
            activity=NoActivity(), funds=None, holding=holding, recent_max=9_999, name="eu-test", **common
        )

    @asynccontextmanager
    async def open(self):
        batcher = Batcher(self._ingest.decide_batch, batch_max=512, wait_max_s=9.0)
        app = GateApp(
            intake=self._intake,
            batcher=batcher,
            access=Access(self.keys.api),
            settings=Settings(),
            metrics=GateMetrics(PACK),
            inner=Starlette(),
        )
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            server = server_for(app, "127.0.0.1", 0)
            tasks = [asyncio.create_task(batcher.run()), asyncio.create_task(server.serve([listener]))]
            listener.listen()
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
            server.should_exit = True
            await tasks[1]
            tasks[0].cancel()
            with suppress(asyncio.CancelledError):
                await tasks[0]

    async def events(self):
        """All events; at most so many that none is cut off."""
        commits = await self.store.read_all(0, 2 * BATCH)
        assert len(commits) < 2 * BATCH
        return [event for commit in commits for event in decode(commit.data)]


def replay(tmp_path, *contents, progress=None, keep_events=True, **changes):
    """Replay each of *contents* in turn through one gate; return the reports and the gate."""

    async def main():
        site = Site(tmp_path)
        async with site.open() as url:
            settings = ReplaySettings(gate_url=url, keys=site.keys, region="eu", **changes)
            reports = []
            for number, content in enumerate(contents):
                path = content if isinstance(content, Path) else tmp_path / f"{number}.log"
                if not isinstance(content, Path):
                    path.write_bytes(content if isinstance(content, bytes) else content.encode())
                reports.append(await replay_log(path, settings, progress))
        return reports, await site.events() if keep_events else []

    return asyncio.run(main())


def test_every_line_is_an_impression_not_an_image_or_malformed(tmp_path):
    log = line(1) + line(2, path="/page.html") + "\n" + line(3, status=404) + "junk\n" + line(4, path="/b.gif?x=1")
    [report], _ = replay(tmp_path, log)
    assert (report.lines, report.blank) == (5, 1)
    assert (report.impressions, report.not_images, report.not_delivered, report.malformed) == (2, 2, 1, 1)
    assert report.adds_up
    assert report.verdicts == {"valid": 2}
    assert (report.first_at, report.last_at) == (1_431_857_101_000, 1_431_857_104_000)


def test_the_gate_decides_on_the_lines_own_words_at_the_lines_own_time(tmp_path):
    log = line(1, agent="Googlebot/2.1") + line(2, agent="-") + line(3, host="52.94.76.1") + line(4, agent="curl/8.0")
    [report], events = replay(tmp_path, log)
    assert report.reasons == {
        "AGENT_DECLARED_BOT": 1,
        "EVIDENCE_INCOMPLETE": 1,
        "NETWORK_DATA_CENTRE": 1,
        "AGENT_NOT_A_BROWSER": 1,
    }
    assert report.verdicts == {"dropped": 3, "uncertain": 1}
    cuts = [event.cut for event in events if hasattr(event, "cut")]
    assert [cut.event_at for cut in cuts] == [1_431_857_101_000 + 1_000 * n for n in range(4)]
    assert {cut.data_set for cut in cuts} == {DataSet.REPLAY}


def test_the_same_image_again_is_another_ad_instance(tmp_path):
    [report], _ = replay(tmp_path, line(1) + line(1) + line(30))
    assert report.verdicts == {"valid": 3}


def test_a_second_replay_gives_the_same_totals_and_writes_nothing(tmp_path):
    log = "".join(line(n % 60, path=f"/images/{n}.png") for n in range(BATCH + 20)) + line(1, agent="Googlebot/2.1")
    [first, second, zipped], events = replay(tmp_path, log, log, gzip.compress(log.encode()))
    assert first.impressions == BATCH + 21
    assert (first.verdicts, first.reasons) == (second.verdicts, second.reasons)
    assert second.verdicts == zipped.verdicts
    assert len(events) == 3 * first.impressions


def test_of_a_log_that_has_grown_only_the_new_lines_count(tmp_path):
    log = "".join(line(n, path=f"/images/{n}.png") for n in range(9))
    [first, grown], events = replay(tmp_path, log, log + line(10) + line(11))
    assert (first.verdicts, grown.verdicts) == ({"valid": 9}, {"valid": 11})
    assert len(events) == 3 * 11


def test_progress_is_told_after_each_batch(tmp_path):
    told = []
    log = "".join(line(n % 60) for n in range(BATCH + 300))
    replay(tmp_path, log, progress=lambda report: told.append((report.lines, sum(report.statuses.values()))))
    assert told == [(BATCH, BATCH), (BATCH + 300, BATCH + 300)]


@pytest.mark.parametrize("content", ["", "\n\n", "no log at all\n"])
def test_a_log_without_images_sends_nothing(tmp_path, content):
    [report], events = replay(tmp_path, content)
    assert report.impressions == 0
    assert report.adds_up
    assert events == []


def test_hostile_lines_are_answered_like_any_other(tmp_path):
    long = "x" * 6_000
    log = line(1, path=f"/{long}.png", agent=long, referrer=f"http://e.com/{long}") + line(2, host="h" * 400)
    log += line(3, path="/\\x00\\xff.png", agent='a\\"b\\x00') + line(4, path="/ü.png")
    [report], _ = replay(tmp_path, log)
    assert report.impressions == 4
    assert report.statuses == {"decided": 4}


class LateKeys(MemoryDayKeys):
    """Makes the key of every day but the first later than a request waits for it."""

    async def load_or_keep(self, day, wrapped, destroy_at):
        if self._keys:
            await asyncio.sleep(2 * KEYS_WITHIN_S)
        return await super().load_or_keep(day, wrapped, destroy_at)


def test_what_the_gate_defers_is_sent_again(tmp_path):
    days = [line(), *(line().replace("17/May", f"{day}/May") for day in (18, 19)), line(second=1)]

    async def main():
        site = Site(tmp_path, LateKeys())
        path = tmp_path / "a.log"
        async with site.open() as url:
            settings = ReplaySettings(gate_url=url, keys=site.keys, region="eu")
            path.write_text(days[0])
            await replay_log(path, settings)
            path.write_text("".join(days))
            return await replay_log(path, settings)

    report = asyncio.run(main())
    assert report.statuses == {"decided": 4}
    assert report.adds_up


def test_a_gate_that_refuses_stops_the_replay_with_what_was_done(tmp_path):
    async def main():
        site = Site(tmp_path)
        other = load_or_make_keys(tmp_path / "other")
        path = tmp_path / "a.log"
        path.write_text(line())
        async with site.open() as url:
            await replay_log(path, ReplaySettings(gate_url=url, keys=other, region="eu"))

    with pytest.raises(ReplayStopped, match="HTTP 401") as stopped:
        asyncio.run(main())
    assert stopped.value.report.impressions == 1


def test_a_gate_that_is_not_there_stops_the_replay(tmp_path):
    path = tmp_path / "a.log"
    path.write_text(line())
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        settings = ReplaySettings(gate_url=url, keys=load_or_make_keys(tmp_path), region="eu", give_up_after_s=0.05)
        with pytest.raises(ReplayStopped, match="gave no answer"):
            asyncio.run(replay_log(path, settings))


def test_a_log_that_is_not_there_is_an_error_of_reading(tmp_path):
    settings = ReplaySettings(gate_url="http://127.0.0.1:1", keys=load_or_make_keys(tmp_path), region="eu")
    with pytest.raises(LogUnreadable):
        asyncio.run(replay_log(tmp_path / "no.log", settings))


@pytest.mark.skipif(not SAMPLE.exists(), reason="the shared sample is not beside this checkout")
def test_a_real_log_is_accounted_for_line_by_line_twice(tmp_path):
    [first, second], _ = replay(tmp_path, SAMPLE, SAMPLE, keep_events=False)
    assert (first.lines, first.impressions, first.not_images, first.malformed) == (10_000, 2_753, 7_246, 1)
    assert first.adds_up
    assert first.verdicts["valid"] > 2_500
    assert (first.verdicts, first.reasons) == (second.verdicts, second.reasons)
