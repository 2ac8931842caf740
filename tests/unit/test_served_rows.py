"""What was rendered of what was served, out of impressions' facts; and rows of reports."""

import asyncio
from collections import Counter

from builders import MINTED, PRICE, SECOND, a_correction, a_render, admit, admit_omid, an_omid_render
from deskkit import commits_of
from histories import populations
from hypothesis import given
from serveskit import MINUTE, a_count, a_report, serves_over, told

from domain.ids import minted_at
from domain.reasons import Reason
from domain.vocabulary import OmidType
from ledger.codec import decode
from ledger.memory import MemoryStore
from projections.fold_serves import HOUR_MS, ServedTotals, add_counts, add_renders
from projections.rows import rows
from projections.served import ReportRow, ServedRow, served_rows


def empty():
    return ServedTotals(served={}, reports=Counter(), sequences=Counter())


def as_the_view_sums(facts):
    """What the materialized view of the facts makes of them."""
    sums = {}
    for fact in facts:
        if fact.kind == "deduped":
            at = minted_at(fact.impression_id)
            total = sums.setdefault((fact.data_set, fact.campaign, at - at % HOUR_MS), Counter())
            begun = fact.sign if fact.reason_class != "not_counted" else 0
            total["heard"] += fact.sign
            total["rendered"] += begun
            total["rendered_micros"] += begun * fact.price_micros
            total["double_fires"] += fact.sign if fact.reason == "DOUBLE_FIRE" else 0
            total["duplicate_renders"] += fact.duplicate_renders
    return {key: +total for key, total in sums.items()}


def of_the_ledger(commits):
    totals = empty()
    for stream in {commit.stream for commit in commits}:
        add_renders(totals, stream, [e for c in commits if c.stream == stream for e in decode(c.data)])
    return {key: +total for key, total in totals.served.items()}


def rendered(*commands):
    commits = commits_of(list(commands))
    [total] = as_the_view_sums([fact for commit in commits for fact in rows(commit)]).values()
    assert of_the_ledger(commits) == {next(iter(of_the_ledger(commits))): total}
    return total


def test_a_render_leaves_what_is_in_flight_with_its_price():
    assert rendered(admit()) == {"heard": 1, "rendered": 1, "rendered_micros": PRICE}


def test_what_does_not_count_leaves_it_just_the_same():
    for reason in (Reason.RATE_ABUSIVE, Reason.STACKED, Reason.RISK_GREY, Reason.OUTSIDE_FLIGHT):
        assert rendered(admit(also=(reason,))) == {"heard": 1, "rendered": 1, "rendered_micros": PRICE}


def test_what_is_loaded_and_not_begun_is_heard_of_and_stays_in_flight():
    assert rendered(admit_omid(OmidType.LOADED)) == {"heard": 1}


def test_it_leaves_when_it_begins():
    begun = admit_omid(OmidType.BEGIN_TO_RENDER, received_at=MINTED + 2 * SECOND)
    assert rendered(admit_omid(OmidType.LOADED), begun) == {"heard": 1, "rendered": 1, "rendered_micros": PRICE}


def test_no_correction_brings_it_back():
    total = rendered(admit(), a_correction(Reason.PREFETCHED))
    assert total == {"heard": 1, "rendered": 1, "rendered_micros": PRICE}


def test_repeats_and_double_fires_are_counted():
    assert rendered(admit(), admit(), admit())["duplicate_renders"] == 2
    assert rendered(admit(also=(Reason.DOUBLE_FIRE,)))["double_fires"] == 1


@given(population=populations)
def test_the_facts_give_what_the_streams_say(population):
    commits = commits_of(*population)
    facts = [fact for commit in reversed(commits) for fact in rows(commit)]
    assert as_the_view_sums(facts) == of_the_ledger(commits)


def test_a_report_is_a_row_per_kind_and_one_of_its_own():
    async def main():
        store = MemoryStore()
        await told(serves_over(store), a_report(a_count(), a_count(campaign="b", served=1, micros=2), sequence=4))
        return await store.read_all(0, 10)

    found = served_rows(asyncio.run(main()))
    second = MINUTE // 1_000
    assert found.served == [
        ServedRow(second, "live", "b", "EUR", "feed", "display", "fb-501.2", 1, 2),
        ServedRow(second, "live", "campaign-1", "EUR", "feed", "display", "fb-501.2", 10, 20_000),
    ]
    assert found.reports == [ReportRow(1, MINTED, second, "edge-1", 4, 2, 11, 20_002)]
    assert found.total == 3


def test_other_commits_add_nothing():
    commits = commits_of([admit(render=a_render())], [admit(render=an_omid_render())])
    assert served_rows(commits).total == 0


@given(population=populations)
def test_an_impressions_stream_is_no_report(population):
    totals = empty()
    for commit in commits_of(*population):
        add_counts(totals, commit)
    assert totals == empty()
