"""What is to be looked at again, what was found, what is known of persons: one contract on memory and PostgreSQL."""

import asyncio
import random

import pytest
from builders import DAY, HOUR
from lookkit import NOW, an_impression
from msgspec.structs import replace
from storekit import ADAPTERS, runner

from commands.finalising import MemoryRuns, a_run
from commands.finalising_postgres import PostgresRuns
from commands.reevaluated import KEPT_MS as FOUND_KEPT_MS
from commands.reevaluated import LISTED_MAX, MemoryReevaluated, Reevaluated, Wanted
from commands.reevaluated_postgres import PostgresReevaluated
from commands.reevaluations import KEPT_MS, Backlog, MemoryReevaluations, Noted, Postponed
from commands.reevaluations_postgres import PostgresReevaluations
from domain.reasons import Reason, Verdict
from domain.reevaluation import Look, Why
from domain.vocabulary import Label, Surface
from ledger.following import Followed, Page
from ml.context.facts import Facts, PersonLabel, PersonRender
from ml.context.postgres import PostgresLater
from ml.context.store import NEXT_WITHIN_MS, RENDERS_KEPT_MS, Asked, Known, MemoryLater
from ml.datasets.history import HOUR_MS, HourTally, Tally

AGAIN = NOW + 60_000


class Memory:
    def __init__(self):
        self.noted, self.found, self.later = MemoryReevaluations(), MemoryReevaluated(), MemoryLater()
        self.runs = MemoryRuns(self.noted)


class Postgres:
    def __init__(self, connection):
        self.noted, self.found = PostgresReevaluations(connection), PostgresReevaluated(connection)
        self.later, self.runs = PostgresLater(connection), PostgresRuns(connection)


@pytest.fixture(params=ADAPTERS)
def run(request):
    return runner(request, Memory, Postgres)


def ids(*numbers):
    return [an_impression(number) for number in numbers]


def a_page(after, through, at=NOW):
    return Page(after=after, through=through, at=at, seen=())


def noted(number, why=Why.LABEL, **changes):
    return Noted(**{"impression": an_impression(number), "why": why, "wanted_at": NOW, "notes": 1, **changes})


# What is to be looked at again


def test_what_is_due_is_claimed_once_and_is_due_again_until_it_is_done(run):
    async def test(one, other):
        await one.noted.note(ids(1, 2, 3), Why.LABEL, NOW, NOW)
        await one.noted.note(ids(4), Why.SAMPLE, NOW + 1, NOW)
        assert await one.noted.claim(NOW, AGAIN, 2) == ids(1, 2)
        assert await other.noted.claim(NOW, AGAIN, 9) == ids(3)
        assert await one.noted.claim(AGAIN - 1, AGAIN + 1, 9) == ids(4)
        assert await one.noted.claim(AGAIN, AGAIN + 1, 9) == ids(1, 2, 3)
        assert await one.noted.done([noted(2), noted(9)]) == 1
        assert await one.noted.claim(AGAIN + 1, AGAIN + 2, 9) == ids(1, 3, 4)

    run(test)


def test_an_impression_with_several_reasons_is_claimed_once(run):
    async def test(one):
        await one.noted.note(ids(1), Why.LABEL, NOW, NOW)
        await one.noted.note(ids(1), Why.UNCERTAIN, NOW - 5, NOW)
        assert await one.noted.claim(NOW, AGAIN, 9) == ids(1)
        rows = await one.noted.noted(ids(1, 2), NOW)
        assert sorted(rows, key=lambda row: row.why) == [noted(1), noted(1, Why.UNCERTAIN, wanted_at=NOW - 5)]

    run(test)


def test_what_is_not_due_yet_is_no_part_of_what_is_looked_at(run):
    async def test(one):
        await one.noted.note(ids(1), Why.UNCERTAIN, NOW, NOW)
        await one.noted.note(ids(1), Why.DEADLINE, NOW + DAY, NOW)
        assert [row.why for row in await one.noted.noted(ids(1), NOW)] == [Why.UNCERTAIN]
        assert await one.noted.noted([], NOW) == []

    run(test)


def test_what_was_noted_again_meanwhile_is_not_done_with_the_first(run):
    async def test(one, other):
        await one.noted.note(ids(1, 2), Why.LABEL, NOW, NOW)
        await one.noted.claim(NOW, AGAIN, 9)
        read = await one.noted.noted(ids(1, 2), NOW)
        await other.noted.note(ids(1), Why.LABEL, NOW + 3, NOW + 3)
        await one.noted.postpone([Postponed(row, AGAIN + 9) for row in read])
        assert await one.noted.claim(NOW + 3, AGAIN, 9) == ids(1)
        assert await one.noted.done(read) == 1
        assert [row.impression for row in await one.noted.noted(ids(1, 2), NOW)] == ids(1)

    run(test)


def test_what_failed_is_due_later_and_counts_its_failures_in_a_row(run):
    async def test(one):
        await one.noted.note(ids(1), Why.LABEL, NOW, NOW)
        for tries in (1, 2):
            await one.noted.postpone([Postponed(noted(1), AGAIN, "it is torn")])
            assert await one.noted.noted(ids(1), NOW) == [noted(1, tries=tries)]
        assert await one.noted.backlog(AGAIN) == [Backlog(why=Why.LABEL, due=1, failing=1, oldest_at=NOW)]
        await one.noted.postpone([Postponed(noted(1), AGAIN)])
        assert await one.noted.noted(ids(1), NOW) == [noted(1)]
        assert await one.noted.claim(AGAIN - 1, AGAIN, 9) == []

    run(test)


def test_the_backlog_is_what_was_due_first_however_often_it_was_put_off(run):
    async def test(one):
        await one.noted.note(ids(1, 2), Why.SHED, NOW, NOW)
        await one.noted.note(ids(3), Why.SAMPLE, NOW + 7, NOW)
        await one.noted.note(ids(4), Why.SAMPLE, NOW + DAY, NOW)
        await one.noted.claim(NOW + 7, NOW + HOUR, 9)
        assert await one.noted.backlog(NOW - 1) == []
        assert await one.noted.backlog(NOW + 7) == [
            Backlog(why=Why.SAMPLE, due=1, failing=0, oldest_at=NOW + 7),
            Backlog(why=Why.SHED, due=2, failing=0, oldest_at=NOW),
        ]
        assert [await one.noted.waiting(why) for why in (Why.SAMPLE, Why.FINALISE)] == [2, 0]

    run(test)


def test_what_a_page_gives_cause_for_is_noted_with_its_end_or_not_at_all(run):
    async def test(one, other):
        looks = [(an_impression(1), Look(Why.UNCERTAIN, NOW)), (an_impression(1), Look(Why.DEADLINE, NOW + HOUR))]
        assert await one.noted.followed() == Followed()
        assert await one.noted.choose(a_page(0, 7), looks, NOW)
        assert not await other.noted.choose(a_page(0, 9), [(an_impression(2), Look(Why.SHED, NOW))], NOW)
        assert await other.noted.followed() == Followed(7, NOW)
        assert await other.noted.choose(a_page(7, 7, NOW + 1), [], NOW)
        assert await one.noted.followed() == Followed(7, NOW + 1)
        assert await one.noted.choose(a_page(7, 8, NOW), [(an_impression(1), Look(Why.DEADLINE, NOW))], NOW)
        assert await one.noted.followed() == Followed(8, NOW + 1)
        assert await one.noted.claim(NOW, AGAIN, 9) == ids(1)
        assert len(await one.noted.noted(ids(1), NOW)) == 2

    run(test)


def test_of_several_that_take_the_same_page_at_once_one_does(run):
    async def test(one, other):
        pages = [one.noted.choose(a_page(0, 5), [(an_impression(n), Look(Why.SHED, NOW))], NOW) for n in range(3)]
        pages += [other.noted.choose(a_page(0, 6), [(an_impression(n), Look(Why.SHED, NOW))], NOW) for n in range(3, 6)]
        assert sorted(await asyncio.gather(*pages)) == [False] * 5 + [True]
        assert len(await one.noted.claim(NOW, AGAIN, 9)) == 1

    run(test)


def test_what_nobody_looked_at_is_forgotten_in_the_end(run):
    async def test(one):
        await one.noted.note(ids(1), Why.LABEL, NOW, NOW)
        assert await one.noted.forget(NOW + KEPT_MS - 1) == 0
        assert await one.noted.forget(NOW + KEPT_MS) == 1

    run(test)


def test_any_history_of_notes_ends_as_in_memory(run):
    async def test(one):
        dice, model = random.Random(3), MemoryReevaluations()
        now = NOW
        for _ in range(80):
            now += dice.randrange(1_000)
            numbers = ids(*(dice.randrange(12) for _ in range(dice.randint(1, 4))))
            step = dice.choice(["note", "claim", "done", "postpone"])
            if step == "note":
                why, due_at = dice.choice(list(Why)), now + dice.randrange(-500, 2_000)
                for store in (one.noted, model):
                    await store.note(numbers, why, due_at, now)
            elif step == "claim":
                limit = dice.randint(1, 9)
                assert await one.noted.claim(now, now + 700, limit) == await model.claim(now, now + 700, limit)
            else:
                rows = await one.noted.noted(numbers, now)
                assert {(row.impression, row.why, row.wanted_at, row.tries) for row in rows} == {
                    (row.impression, row.why, row.wanted_at, row.tries) for row in await model.noted(numbers, now)
                }
                kept = await model.noted(numbers, now)
                if step == "done":
                    assert await one.noted.done(rows) == await model.done(kept) == len(rows)
                else:
                    error = dice.choice(["", "torn"])
                    await one.noted.postpone([Postponed(row, now + 900, error) for row in rows])
                    await model.postpone([Postponed(row, now + 900, error) for row in kept])
            assert await one.noted.backlog(now) == await model.backlog(now)

    run(test)


# What was found


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
        await one.found.put([a_row(), dropped])
        await one.found.put([])
        assert await one.found.find(an_impression(1)) == a_row()
        assert await one.found.find(an_impression(2)) == dropped
        assert await one.found.find(an_impression(3)) is None

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
            await one.found.put([a_row(number)])
            other = a_row(number, **{"why": Why.LABEL, "looked_at": NOW + 50, **changes})
            await one.found.put([other])
            assert await one.found.find(an_impression(number)) == (other if is_kept else a_row(number))
        assert len(await one.found.page(Wanted())) == 5

    run(test)


def test_rows_are_listed_the_last_first_by_reason_campaign_and_change_in_pages(run):
    async def test(one):
        stays = {"changes": False, "micros": 0, "to_verdict": Verdict.UNCERTAIN, "to_reason": Reason.RISK_GREY}
        rows = [a_row(number, why=Why.LABEL if number % 2 else Why.SHED) for number in range(1, 6)]
        rows += [a_row(6, campaign="campaign-2", **stays)]
        await one.found.put(rows)

        async def listed(**wanted):
            return [row.impression.int & 0xFFFF for row in await one.found.page(Wanted(**wanted))]

        assert await listed() == [6, 5, 4, 3, 2, 1]
        assert await listed(why=Why.LABEL) == [5, 3, 1]
        assert await listed(changes_only=True, since=NOW + 3) == [5, 4, 3]
        assert await listed(campaign="campaign-2") == [6]
        assert await listed(after=(NOW + 3, an_impression(3)), limit=1) == [2]

    run(test)


def test_rows_are_summed_up_by_where_they_come_from_and_go_to(run):
    async def test(one):
        await one.found.put([a_row(1), a_row(2), a_row(3, currency="USD"), a_row(4, allowed=False, micros=0)])
        groups = await one.found.groups(NOW)
        assert {(group.currency, group.allowed, group.impressions, group.micros) for group in groups} == {
            ("EUR", True, 2, 4_000),
            ("USD", True, 1, 2_000),
            ("EUR", False, 1, 0),
        }
        assert [group.impressions for group in await one.found.groups(NOW + 4)] == [1]

    run(test)


def test_what_was_found_is_forgotten_in_the_end(run):
    async def test(one):
        await one.found.put([a_row(1), a_row(2)])
        assert await one.found.forget(NOW + FOUND_KEPT_MS) == 0
        assert await one.found.forget(NOW + FOUND_KEPT_MS + 1) == 1
        assert await one.found.find(an_impression(2)) == a_row(2)

    run(test)


def test_a_list_without_end_is_refused():
    for limit in (0, LISTED_MAX + 1):
        with pytest.raises(ValueError, match="is not in 1 to 1000"):
            Wanted(limit=limit)


# A period


def test_a_run_notes_and_moves_at_once_and_only_from_where_it_is(run):
    async def test(one, other):
        draft = a_run(NOW, NOW + DAY, "", position=9, expected=3, now=NOW)
        begun = await one.runs.begin(draft)
        assert begun == draft == await other.runs.find(draft.name)
        assert await other.runs.begin(replace(draft, expected=5)) == draft
        on = replace(draft, noted=2, next_after=an_impression(2))
        assert await one.runs.step(draft, on, ids(1, 2), NOW)
        assert not await other.runs.step(draft, replace(draft, noted=9), ids(7), NOW)
        ended = replace(on, noted=3, next_at=on.until, next_until=on.until, next_after=None, finished_at=NOW + 5)
        assert await other.runs.step(on, ended, ids(3), NOW)
        assert await one.runs.find(draft.name) == ended
        assert await one.noted.waiting(Why.FINALISE) == 3
        assert await one.runs.find("another") is None

    run(test)


def test_a_finished_run_begins_anew_only_when_it_is_asked_to(run):
    async def test(one):
        draft = a_run(NOW, NOW + DAY, "campaign-1", position=9, expected=0, now=NOW)
        ended = replace(draft, finished_at=NOW)
        await one.runs.begin(draft)
        assert await one.runs.begin(replace(draft, position=11), again=True) == draft
        await one.runs.step(draft, ended, [], NOW)
        assert await one.runs.begin(draft) == ended
        assert await one.runs.begin(replace(draft, position=12), again=True) == replace(draft, position=12)

    run(test)


# Persons and publishers


def a_render(number, person=1, at=NOW, position=None, event_at=None):
    event_at = at - 1 if event_at is None else event_at
    return PersonRender(person, at, number if position is None else position, event_at, an_impression(number))


def asked(number, person=1, at=NOW):
    return Asked(person, at, number, an_impression(number))


def a_trust(number, person=1, at=NOW, label=Label.INVALID, trust=0.5):
    return PersonLabel(person, at, an_impression(number), label, trust)


async def take(store, *facts, after=0, through=100):
    renders = [one for one in facts if isinstance(one, PersonRender)]
    labels = [one for one in facts if isinstance(one, PersonLabel)]
    hours = [one for one in facts if isinstance(one, HourTally)]
    return await store.take(a_page(after, through), Facts(renders=renders, labels=labels, hours=hours))


def test_a_page_is_taken_once_and_from_where_it_begins(run):
    async def test(one, other):
        assert await take(one.later, a_render(1), through=4)
        assert not await take(other.later, a_render(1), a_render(2), through=9)
        assert await other.later.followed() == Followed(4, NOW)
        assert await take(other.later, a_render(2), after=4, through=9)
        assert await one.later.known([asked(1)], NOW) == [Known(NOW - 1, 1)]

    run(test)


def test_the_next_render_is_the_next_in_the_ledger_of_the_same_person_as_known_by_then(run):
    async def test(one):
        hour = NOW + HOUR_MS
        await take(
            one.later,
            *(a_render(1), a_render(2, at=NOW + 5, event_at=NOW - 9), a_render(3, at=hour), a_render(4, at=hour + 1)),
            *(a_render(5, person=2, at=NOW + 1), a_render(6, person=-3, at=NOW), a_render(7, person=-3, at=NOW)),
        )
        wanted = [asked(1), asked(5, person=2, at=NOW + 1), asked(6, person=-3), asked(8, person=8)]
        assert await one.later.known(wanted, NOW + DAY) == [Known(NOW - 9, 2), Known(), Known(NOW - 1, 1), Known()]
        assert await one.later.known(wanted[:1], NOW + 5) == [Known(NOW - 9, 1)]
        assert await one.later.known(wanted[:1], NOW + 4) == [Known()]
        assert await one.later.known([], NOW) == []

    run(test)


def test_a_render_of_another_pseudonym_s_days_is_no_next_one(run):
    async def test(one):
        last = NOW + NEXT_WITHIN_MS
        await take(
            one.later, a_render(1), a_render(2, at=last), a_render(3, person=2), a_render(4, person=2, at=last + 1)
        )
        known = await one.later.known([asked(1), asked(3, person=2)], NOW + 30 * DAY)
        assert [one.next_event_at for one in known] == [last - 1, None]

    run(test)


def test_labels_of_the_persons_other_impressions_are_added_up_as_they_had_arrived(run):
    async def test(one):
        labels = [a_trust(2), a_trust(2, trust=0.25), a_trust(1), a_trust(3, at=NOW + 9, label=Label.HUMAN)]
        await take(one.later, *labels, a_trust(4, person=2))
        assert await one.later.known([asked(1)], NOW) == [Known(others_invalid=0.75)]
        assert await one.later.known([asked(1)], NOW + 9) == [Known(others_invalid=0.75, others_human=0.5)]

    run(test)


def test_the_others_of_a_labelled_impression_are_the_latest_of_its_person(run):
    async def test(one):
        renders = [a_render(number, at=NOW + number) for number in range(1, 7)]
        await take(one.later, *renders, a_render(7, person=2), a_trust(3), a_trust(7, person=2))
        assert await one.later.others(ids(3, 7, 9), 3) == {an_impression(3): ids(6, 5, 4)}
        assert await one.later.others([], 3) == {}

    run(test)


def test_what_publishers_sent_is_added_up_by_the_hour(run):
    async def test(one):
        hour = NOW // HOUR_MS
        tally = HourTally(hour, "publisher-1", Surface.FEED, Tally(10, 1, 2, 3, 4))
        older, reels = tally._replace(hour=hour - 1), tally._replace(surface=Surface.REELS)
        await take(one.later, tally, older, through=5)
        await take(one.later, tally, reels, after=5)
        assert await one.later.tallies(hour) == [tally._replace(tally=Tally(20, 2, 4, 6, 8)), reels]
        assert len(await one.later.tallies(hour - 1)) == 3

    run(test)


def test_days_of_renders_are_forgotten_as_a_whole_and_others_one_by_one(run):
    async def test(one):
        hour = HourTally(NOW // HOUR_MS, "publisher-1", Surface.FEED, Tally())
        await take(one.later, a_render(1), a_render(2, at=NOW + DAY), a_trust(1), hour)
        assert await one.later.forget(NOW + DAY) == 0
        assert await one.later.forget(NOW + RENDERS_KEPT_MS + DAY) == 2
        assert await one.later.known([asked(1)], NOW + 2 * DAY) == [Known(NOW + DAY - 1)]
        assert await take(one.later, a_render(3, at=NOW + 1), after=100, through=101)

    run(test)


def test_any_history_of_persons_is_known_as_in_memory(run):
    async def test(one):
        dice, model = random.Random(5), MemoryLater()
        at, after = NOW, 0
        renders = []
        for position in range(1, 121):
            at += dice.randrange(HOUR // 4)
            fact = a_render(position, dice.randint(-2, 2), at, event_at=at - dice.randrange(5_000))
            facts = [fact]
            renders.append(fact)
            if dice.random() < 0.4:
                labelled = dice.choice(renders)
                facts.append(a_trust(labelled.position, labelled.person, at, dice.choice([Label.INVALID, Label.HUMAN])))
            for store in (one.later, model):
                assert await take(store, *facts, after=after, through=position)
            after = position
        wanted = [Asked(one.person, one.recorded_at, one.position, one.impression) for one in renders]
        for moment in (NOW + 3 * HOUR, at - 5, at + DAY):
            assert await one.later.known(wanted, moment) == await model.known(wanted, moment)
        labelled = sorted({label.impression for label in model.labels})
        assert await one.later.others(labelled, 5) == await model.others(labelled, 5)

    run(test)
