"""What was found by looking again: one contract on memory and PostgreSQL."""

import pytest
from builders import HOUR
from lookkit import NOW, an_impression
from storekit import ADAPTERS, runner

from commands.reevaluated import KEPT_MS as FOUND_KEPT_MS
from commands.reevaluated import LISTED_MAX, MemoryReevaluated, Reevaluated, Wanted
from commands.reevaluated_postgres import PostgresReevaluated
from domain.reasons import Reason, Verdict
from domain.reevaluation import Why


@pytest.fixture(params=ADAPTERS)
def run(request):
    return runner(request, MemoryReevaluated, PostgresReevaluated)


def a_row(number=1, **changes):
    fields = {
        "impression": an_impression(number),
        "version": 3,
        "known_at": NOW,
        "looked_at": NOW + number,
        "why": Why.UNCERTAIN,
        "model": "s3-0123456789abcdef",
        "risk": 0.25,
        "from_verdict": Verdict.UNCERTAIN,
        "from_reason": Reason.RISK_GREY,
        "to_verdict": Verdict.VALID,
        "to_reason": None,
        "changes": True,
        "allowed": True,
        "micros": 2_000,
        "currency": "EUR",
        "campaign": "campaign-1",
        "event_at": NOW - HOUR,
    }
    return Reevaluated(**{**fields, **changes})


def test_what_was_found_is_found_as_it_was_put(run):
    async def test(one):
        dropped = a_row(
            2, to_verdict=Verdict.DROPPED, to_reason=Reason.RISK_HIGH, pair=("label", "s3"), masked_risk=0.9
        )
        await one.put([a_row(), dropped])
        await one.put([])
        assert await one.find(an_impression(1)) == a_row()
        assert await one.find(an_impression(2)) == dropped
        assert await one.find(an_impression(3)) is None

    run(test)


def test_one_row_stays_per_impression_that_of_who_knew_most(run):
    async def test(one):
        for number, (changes, is_kept) in enumerate(
            [
                ({"version": 4, "known_at": NOW - 1}, True),
                ({"version": 3, "known_at": NOW + 1}, True),
                ({"version": 3, "known_at": NOW, "risk": 0.9}, False),
                ({"version": 3, "known_at": NOW - 1}, False),
                ({"version": 2, "known_at": NOW + 9}, False),
            ]
        ):
            await one.put([a_row(number)])
            other = a_row(number, **{"why": Why.LABEL, "looked_at": NOW + 50, **changes})
            await one.put([other])
            assert await one.find(an_impression(number)) == (other if is_kept else a_row(number))
        assert len(await one.page(Wanted())) == 5

    run(test)


def test_rows_are_listed_the_last_first_by_reason_campaign_and_change_in_pages(run):
    async def test(one):
        stays = {"changes": False, "micros": 0, "to_verdict": Verdict.UNCERTAIN, "to_reason": Reason.RISK_GREY}
        rows = [a_row(number, why=Why.LABEL if number % 2 else Why.SHED) for number in range(1, 6)]
        rows += [a_row(6, campaign="campaign-2", **stays)]
        await one.put(rows)

        async def listed(**wanted):
            return [row.impression.int & 0xFFFF for row in await one.page(Wanted(**wanted))]

        assert await listed() == [6, 5, 4, 3, 2, 1]
        assert await listed(why=Why.LABEL) == [5, 3, 1]
        assert await listed(changes_only=True, since=NOW + 3) == [5, 4, 3]
        assert await listed(campaign="campaign-2") == [6]
        assert await listed(after=(NOW + 3, an_impression(3)), limit=1) == [2]

    run(test)


def test_rows_are_summed_up_by_where_they_come_from_and_go_to(run):
    async def test(one):
        await one.put([a_row(1), a_row(2), a_row(3, currency="USD"), a_row(4, allowed=False, micros=0)])
        groups = await one.groups(NOW)
        assert {(group.currency, group.allowed, group.impressions, group.micros) for group in groups} == {
            ("EUR", True, 2, 4_000),
            ("USD", True, 1, 2_000),
            ("EUR", False, 1, 0),
        }
        assert [group.impressions for group in await one.groups(NOW + 4)] == [1]

    run(test)


def test_what_was_found_is_forgotten_in_the_end(run):
    async def test(one):
        await one.put([a_row(1), a_row(2)])
        assert await one.forget(NOW + FOUND_KEPT_MS) == 0
        assert await one.forget(NOW + FOUND_KEPT_MS + 1) == 1
        assert await one.find(an_impression(2)) == a_row(2)

    run(test)


def test_a_list_without_end_is_refused():
    for limit in (0, LISTED_MAX + 1):
        with pytest.raises(ValueError, match="is not in 1 to 1000"):
            Wanted(limit=limit)
