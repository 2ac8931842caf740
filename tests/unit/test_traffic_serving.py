"""What delivery tells of its serves: every ad that it minted, once, whatever becomes of single requests."""

import asyncio
import time
from collections import Counter

import msgspec
import pytest
from trafficgate import HANG_UP, FakeGate, http

from domain.ids import minted_at
from domain.serves import ServesReport
from domain.token import TokenKey
from domain.vocabulary import Format, Surface
from ml.traffic.generator import Plan, Traffic
from ml.traffic.market import SDKS
from ml.traffic.serving import _TRIES_MAX, AGE_MAX_MS, COUNTS_MAX, REPORTS_MAX, AdServer, Serve, ServeLog
from ml.traffic.shot import Minter

pytestmark = pytest.mark.slow

START = 1_790_000_000_000
MINUTE = START - START % 60_000
KEY = TokenKey(b"s" * 32, b"p" * 32)


def a_serve(at=MINUTE, **changes):
    fields = {
        "at_ms": at,
        "campaign": "campaign-1",
        "surface": Surface.FEED,
        "format": Format.DISPLAY,
        "sdk": "fb-1",
        "currency": "EUR",
        "price_micros": 1_500,
    }
    return Serve(**{**fields, **changes})


def served(log, *serves, now=MINUTE + 90_000):
    for serve in serves:
        log(serve)
    return list(log.reports(now))


def sums(reports):
    total = Counter()
    for report in reports:
        for count in report["counts"]:
            total["served"] += count["served"]
            total["micros"] += count["micros"]
    return total


def test_ads_of_one_kind_and_minute_are_one_count():
    [report] = served(ServeLog("edge-1", "eu"), a_serve(), a_serve(MINUTE + 59_999, price_micros=500))
    assert (report["source"], report["region"], report["minute"], report["sequence"]) == ("edge-1", "eu", MINUTE, 0)
    assert [(count["served"], count["micros"]) for count in report["counts"]] == [(2, 2_000)]


def test_a_report_is_what_the_gate_can_read():
    reports = served(ServeLog("edge-1", "eu"), a_serve(), a_serve(surface=Surface.REELS, format=Format.VIDEO, sdk=""))
    assert msgspec.json.decode(msgspec.json.encode(reports), type=list[ServesReport])


def test_reports_of_a_minute_are_numbered_and_each_ad_is_in_one():
    log = ServeLog("edge-1", "eu")
    first = served(log, a_serve(MINUTE), a_serve(MINUTE + 5_000), now=MINUTE + 3_000)
    again = served(log, a_serve(MINUTE + 1_000), now=MINUTE + 90_000)
    assert [report["sequence"] for report in (*first, *again)] == [0, 1]
    assert [sums([report])["served"] for report in (*first, *again)] == [1, 2]
    assert served(log) == []
    assert log.served == 3


def test_an_ad_is_told_of_only_when_its_second_is_over():
    log = ServeLog("edge-1", "eu")
    assert served(log, a_serve(MINUTE), now=MINUTE + 999) == []
    assert len(served(log, now=MINUTE + 1_000)) == 1


def test_many_kinds_are_told_in_several_reports():
    serves = [a_serve(campaign=f"campaign-{n}") for n in range(COUNTS_MAX + 1)]
    reports = served(ServeLog("edge-1", "eu"), *serves)
    assert [len(report["counts"]) for report in reports] == [COUNTS_MAX, 1]
    assert [report["sequence"] for report in reports] == [0, 1]


def test_what_is_too_old_to_be_told_is_left_out():
    log = ServeLog("edge-1", "eu")
    assert served(log, a_serve(MINUTE), now=MINUTE + AGE_MAX_MS + 1_000) == []


def minted(seed=5, seconds=20):
    """A run of traffic: what delivery was asked for, and what clients sent."""
    serves = []
    minter = Minter("k1", KEY, b"h" * 32, "eu", served=serves.append)
    sendings = list(Traffic(Plan(seed=seed, rate=400, seconds=seconds), minter, lambda _: None).sendings(START))
    return serves, sendings


def test_delivery_knows_of_every_ad_that_clients_report_and_of_some_that_they_do_not():
    serves, sendings = minted()
    at = Counter(serve.at_ms for serve in serves)
    heard = {sending.event.impression_id for sending in sendings}
    assert 0.9 < len(heard) / len(serves) < 0.99
    known = sum(minted_at(impression) in at for impression in heard)
    assert known / len(heard) > 0.995  # another region's ads are its own delivery's


def test_one_version_loses_more_than_the_others():
    serves, sendings = minted(seconds=120)
    told = Counter(serve.sdk for serve in serves)
    heard = Counter()
    seen = set()
    for sending in sendings:
        if sending.event.impression_id not in seen:
            seen.add(sending.event.impression_id)
            heard[msgspec.json.decode(sending.event.body(0, 0)).get("sdk")] += 1
    faulty = {sdk.name for sdks in SDKS.values() for sdk in sdks if sdk.loses}
    usual = 1 - sum(heard[sdk] for sdk in told) / sum(told.values())
    lost = {sdk: 1 - heard[sdk] / told[sdk] for sdk in told if told[sdk] > 300}
    assert len(faulty) == 1
    assert {sdk for sdk, share in lost.items() if share > 2 * usual} == faulty


def answering(renders, _):
    return http(msgspec.json.encode([{"status": "recorded"} for _ in renders]))


def reported(gate, log):
    async def main():
        async with gate.open() as url:
            stop = asyncio.Event()
            stop.set()
            return await AdServer(url, "key", log, retry_s=0.001).run(stop)

    return asyncio.run(main())


def a_log(ads=1, minutes=1):
    log = ServeLog("edge-1", "eu")
    now = int(time.time() * 1e3)
    for number in range(ads):
        log(a_serve(now - 1_000 - number % minutes * 60_000))
    return log


def test_what_is_left_at_the_end_is_told():
    gate = FakeGate(answering)
    tally = reported(gate, a_log(7))
    assert (tally.served, tally.recorded, tally.refused, tally.lost) == (7, tally.reports, 0, 0)
    [(_, headers)] = gate.seen
    assert (headers["request"], headers["authorization"]) == ("POST /v1/serves HTTP/1.1", "Bearer key")


def test_many_reports_go_in_several_requests():
    gate = FakeGate(answering)
    assert reported(gate, a_log(REPORTS_MAX + 5, REPORTS_MAX + 5)).recorded == REPORTS_MAX + 5
    assert [len(reports) for reports, _ in gate.seen] == [REPORTS_MAX, 5]


@pytest.mark.parametrize("failure", [HANG_UP, http(b"{}", 503)])
def test_the_very_same_reports_are_sent_until_they_are_answered(failure):
    def script(reports, headers):
        return failure if len(gate.seen) <= 3 else answering(reports, headers)

    gate = FakeGate(script)
    tally = reported(gate, a_log(3))
    assert (tally.recorded, tally.lost) == (tally.reports, 0)
    assert len(gate.seen) == 4
    assert all(reports == gate.seen[0][0] for reports, _ in gate.seen)


def test_reports_that_are_never_answered_are_told_as_lost():
    gate = FakeGate(lambda *_: http(b"{}", 503))
    tally = reported(gate, a_log())
    assert (tally.lost, tally.recorded, len(gate.seen)) == (tally.reports, 0, _TRIES_MAX)


def test_refused_reports_are_counted():
    gate = FakeGate(lambda *_: http(b"{}", 400))
    assert reported(gate, a_log()).refused == 1
    gate = FakeGate(lambda reports, _: http(msgspec.json.encode([{"status": "refused"} for _ in reports])))
    assert reported(gate, a_log()).refused == 1
