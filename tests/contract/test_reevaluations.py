"""What is to be looked at again, and periods as a whole: one contract on memory and PostgreSQL."""

import asyncio
import random

import pytest
from builders import DAY, HOUR
from lookkit import NOW, a_page, an_impression, ids
from msgspec.structs import replace
from storekit import ADAPTERS, runner

from commands.finalising import MemoryRuns, a_run
from commands.finalising_postgres import PostgresRuns
from commands.reevaluations import COUNTED_MAX, KEPT_MS, Backlog, MemoryReevaluations, Noted, Postponed
from commands.reevaluations_postgres import PostgresReevaluations
from domain.reevaluation import Look, Why
from ledger.following import Followed

AGAIN = NOW + 60_000


class Memory:
    def __init__(self):
        self.noted = MemoryReevaluations()
        self.runs = MemoryRuns(self.noted)


class Postgres:
    def __init__(self, connection):
        self.noted, self.runs = PostgresReevaluations(connection), PostgresRuns(connection)


@pytest.fixture(params=ADAPTERS)
def run(request):
    return runner(request, Memory, Postgres)


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


def test_a_reason_with_very_much_due_hides_no_other(run):
    async def test(one):
        await one.noted.note(ids(*range(1, COUNTED_MAX + 2)), Why.FINALISE, NOW - DAY, NOW)
        await one.noted.note(ids(1, 2), Why.LABEL, NOW, NOW)
        assert await one.noted.backlog(NOW) == [
            Backlog(why=Why.FINALISE, due=COUNTED_MAX, failing=0, oldest_at=NOW - DAY),
            Backlog(why=Why.LABEL, due=2, failing=0, oldest_at=NOW),
        ]

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
