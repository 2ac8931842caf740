"""Reports of what was served: recorded once each, whatever is repeated, reordered or lost on its way."""

import asyncio
from collections import Counter

import pytest
from builders import DAY, MINTED
from hypothesis import given as for_all
from hypothesis import strategies as st
from serveskit import MINUTE, Unreliable, a_count, a_report, recorded, reports, serves_over, told, wire

from commands.batcher import Overloaded
from commands.serves import CONFLICTS_MAX, ReportStatus, TooManyCounts
from domain.serves import (
    COUNTS_MAX,
    MINUTE_AGE_MAX_MS,
    MINUTE_AHEAD_MAX_MS,
    MINUTE_MS,
    SEQUENCE_MAX,
    ServedCount,
    ServeRefusal,
)
from domain.vocabulary import Format, Surface
from ledger.census import take_census
from ledger.memory import MemoryStore
from ledger.store import Conflict, LedgerUnavailable
from projections.rows import answers, rows


def run(test, **changes):
    async def main():
        store = MemoryStore()
        await test(store, serves_over(store, **changes))

    asyncio.run(main())


def sums(events):
    """What was served per kind, source and minute."""
    total = Counter()
    for event in events:
        for count in event.counts:
            kind = (event.source, event.minute, count.campaign, count.surface, count.format, count.sdk, count.currency)
            total[(*kind, "served")] += count.served
            total[(*kind, "micros")] += count.micros
    return total


def first_of_each(sent):
    """What the ledger must hold: of all that is told under one source, minute and number, what was told first."""
    first = {}
    for report in sent:
        first.setdefault((report["source"], report["minute"], report["sequence"]), report)
    return first


def expected_sums(sent):
    total = Counter()
    for (source, minute, _), report in first_of_each(sent).items():
        for count in report["counts"]:
            kind = (source, minute, count["campaign"], count["surface"], count["format"], count["sdk"])
            total[(*kind, count["currency"], "served")] += count["served"]
            total[(*kind, count["currency"], "micros")] += count["micros"]
    return total


def test_a_report_is_one_event_in_the_stream_of_its_source_and_minute():
    async def test(store, serves):
        [answer] = await told(serves, a_report())
        [event] = await recorded(store)
        assert (answer.status, answer.report_id, answer.reason) == (ReportStatus.RECORDED, event.cause, None)
        assert event.counts == (ServedCount("campaign-1", Surface.FEED, Format.DISPLAY, "fb-501.2", "EUR", 10, 20_000),)
        [commit] = await store.read_all(0, 10)
        assert commit.stream == f"serves-edge-1-{MINUTE // MINUTE_MS}"
        assert (commit.cause, commit.digest) == (event.cause, event.digest)

    run(test)


def test_the_same_report_again_gets_the_same_answer_and_writes_nothing():
    async def test(store, serves):
        first = await told(serves, a_report(a_count(), a_count(sdk="")))
        for again in (serves, serves_over(store)):
            assert await told(again, a_report(a_count(sdk=""), a_count(), minute="2026-09-21T14:13:00Z")) == first
        assert len(await recorded(store)) == 1

    run(test)


def test_what_is_of_one_kind_counts_as_one_and_is_the_same_report_in_any_order_and_split():
    async def test(store, serves):
        first = await told(
            serves, a_report(a_count(served=7, micros=9), a_count(campaign="b"), a_count(served=3, micros=1))
        )
        assert await told(serves, a_report(a_count(campaign="b"), a_count(micros=10))) == first
        [event] = await recorded(store)
        assert [(count.campaign, count.served, count.micros) for count in event.counts] == [
            ("b", 10, 20_000),
            ("campaign-1", 10, 10),
        ]

    run(test)


def test_a_number_that_says_otherwise_than_before_is_refused():
    async def test(store, serves):
        await told(serves, a_report())
        for again in (serves, serves_over(store)):
            [answer] = await told(again, a_report(a_count(served=11)))
            assert (answer.status, answer.reason) == (ReportStatus.REFUSED, ServeRefusal.SEQUENCE_REUSED)
        assert len(await recorded(store)) == 1

    run(test)


def test_reports_of_one_minute_in_one_request_are_taken_one_after_another():
    async def test(store, serves):
        answers_ = await told(serves, *(a_report(sequence=number) for number in (3, 1, 1, 0)))
        assert [answer.status for answer in answers_] == [ReportStatus.RECORDED] * 4
        assert [event.sequence for event in await recorded(store)] == [3, 1, 0]

    run(test)


def test_what_cannot_be_read_leaves_its_neighbours_alone():
    async def test(store, serves):
        answers_ = await told(
            serves, b"{", a_report(), b"[" * 100_000, b"\xff", a_report(sequence=1, minute=MINUTE + 1)
        )
        assert [answer.status.value for answer in answers_] == [
            "malformed",
            "recorded",
            "malformed",
            "malformed",
            "malformed",
        ]
        assert answers_[4].errors == ("invalid at $: Expected `minute` to be the begin of a minute",)
        assert len(await recorded(store)) == 1

    run(test)


@pytest.mark.parametrize(
    ("wrong", "path"),
    [
        (a_report(source="Edge 1"), "$.source"),
        (a_report(source=""), "$.source"),
        (a_report(source="edge-1\n"), "$.source"),
        (a_report(sequence=-1), "$.sequence"),
        (a_report(sequence=SEQUENCE_MAX + 1), "$.sequence"),
        (a_report(counts=[]), "$.counts"),
        (a_report(a_count(), counts=[a_count()] * (COUNTS_MAX + 1)), "$.counts"),
        (a_report(a_count(served=0)), "$.counts[0].served"),
        (a_report(a_count(served=1_000_000_001)), "$.counts[0].served"),
        (a_report(a_count(micros=-1)), "$.counts[0].micros"),
        (a_report(a_count(micros=10**15 + 1)), "$.counts[0].micros"),
        (a_report(a_count(currency="euro")), "$.counts[0].currency"),
        (a_report(a_count(currency="EUR\n")), "$.counts[0].currency"),
        (a_report(a_count(surface="billboard")), "$.counts[0].surface"),
        (a_report(a_count(campaign="")), "$.counts[0].campaign"),
        (a_report(a_count(sdk="x" * 129)), "$.counts[0].sdk"),
        (a_report(a_count(user="somebody")), "$.counts[0]"),
        (a_report(extra=1), "$"),
    ],
)
def test_every_field_has_its_limits(wrong, path):
    async def test(store, serves):
        [answer] = await told(serves, wrong)
        assert answer.status is ReportStatus.MALFORMED
        assert answer.errors[0].startswith(f"invalid at {path}: ")
        assert await store.head() == 0

    run(test)


@pytest.mark.parametrize(
    ("now", "refused"),
    [
        (MINUTE + MINUTE_AGE_MAX_MS, None),
        (MINUTE + MINUTE_AGE_MAX_MS + 1, ServeRefusal.MINUTE_TOO_OLD),
        (MINUTE - MINUTE_AHEAD_MAX_MS, None),
        (MINUTE - MINUTE_AHEAD_MAX_MS - 1, ServeRefusal.MINUTE_AHEAD),
    ],
)
def test_a_minute_may_be_so_old_and_so_far_ahead(now, refused):
    async def test(_, serves):
        [answer] = await told(serves, a_report())
        assert answer.reason is refused

    run(test, clock=lambda: now)


def test_a_report_that_was_taken_in_time_gets_the_same_answer_when_it_is_too_old():
    async def test(store, serves):
        first = await told(serves, a_report())
        later = serves_over(store, clock=lambda: MINTED + 8 * DAY)
        assert await told(later, a_report()) == first
        [answer] = await told(later, a_report(a_count(served=1)))
        assert answer.reason is ServeRefusal.SEQUENCE_REUSED
        [answer] = await told(later, a_report(sequence=1))
        assert answer.reason is ServeRefusal.MINUTE_TOO_OLD

    run(test)


def test_another_regions_report_is_refused():
    async def test(store, serves):
        [answer] = await told(serves, a_report(region="us"))
        assert answer.reason is ServeRefusal.REGION_MISDIRECTED
        assert await store.head() == 0

    run(test)


def test_a_request_with_too_many_counts_is_refused_as_a_whole():
    async def test(store, serves):
        with pytest.raises(TooManyCounts):
            await told(serves, a_report(), a_report(a_count(), a_count(campaign="b"), sequence=1))
        assert await store.head() == 0

    run(test, counts_max=2)


def test_requests_take_turns_and_only_so_many_wait():
    class Slow(MemoryStore):
        def __init__(self):
            super().__init__()
            self.go = asyncio.Event()

        async def append(self, appends, recorded_at):
            await self.go.wait()
            return await super().append(appends, recorded_at)

    async def main():
        store = Slow()
        serves = serves_over(store, waiting_max=2)
        tasks = [asyncio.create_task(told(serves, a_report(sequence=number))) for number in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await told(serves, a_report(sequence=2))
        store.go.set()
        await asyncio.gather(*tasks)
        await told(serves, a_report(sequence=2))
        assert len(await recorded(store)) == 3

    asyncio.run(main())


def test_a_minute_that_another_gate_writes_to_is_read_and_continued():
    async def test(store, serves):
        other = serves_over(store)
        for number in range(6):
            await told((serves, other)[number % 2], a_report(sequence=number))
        assert [event.sequence for event in await recorded(store)] == list(range(6))

    run(test)


def test_a_minute_that_never_stands_still_is_given_up():
    class Restless(MemoryStore):
        appends = 0

        async def append(self, appends, recorded_at):
            self.appends += 1
            return [Conflict(7) for _ in appends]

    async def main():
        store = Restless()
        with pytest.raises(LedgerUnavailable):
            await told(serves_over(store), a_report())
        assert store.appends == CONFLICTS_MAX + 1

    asyncio.run(main())


@for_all(sent=st.lists(reports, max_size=12), data=st.data())
def test_no_order_and_no_repetition_of_reports_counts_anything_twice_or_not_at_all(sent, data):
    async def main():
        store = MemoryStore()
        gates = [serves_over(store), serves_over(store)]
        again = data.draw(st.permutations(sent))
        told_first = {}
        for report in [*sent, *again]:
            [answer] = await told(gates[data.draw(st.integers(0, 1))], report)
            key = wire(report)
            assert told_first.setdefault(key, answer) == answer
        assert sums(await recorded(store)) == expected_sums(sent)

    asyncio.run(main())


@for_all(
    sent=st.lists(reports, min_size=1, max_size=8),
    faults=st.lists(st.sampled_from(["", "before", "after"]), max_size=12),
)
def test_reports_retried_through_lost_calls_and_lost_answers_count_once(sent, faults):
    async def main():
        store = MemoryStore()
        serves = serves_over(Unreliable(store, faults))
        for _ in range(len(faults) + 1):
            try:
                given = await told(serves, *sent)
            except LedgerUnavailable:
                continue
            break
        assert all(answer.status is not ReportStatus.MALFORMED for answer in given)
        assert sums(await recorded(store)) == expected_sums(sent)

    asyncio.run(main())


def test_reports_are_no_clients_events_and_no_impressions():
    async def test(store, serves):
        await told(serves, a_report())
        census = await take_census(store)
        [commit] = await store.read_all(0, 10)
        assert (census.commits, census.renders, census.views, census.refused) == (1, 0, 0, {})
        assert rows(commit) == answers(commit) == []

    run(test)
