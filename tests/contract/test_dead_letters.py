"""Messages that died, and impressions to be scored again: one contract each over memory and PostgreSQL."""

import asyncio
from contextlib import asynccontextmanager
from uuid import UUID

import pytest
from feedbackkit import NOW

from commands import dead_letters
from commands.dead_letters import ERROR_MAX, KEPT_MS, Letter, LetterState, MemoryLetters, name_of
from commands.dead_letters_postgres import PostgresLetters
from commands.messages import Message
from commands.reevaluations import KEPT_MS as REEVALUATIONS_KEPT_MS
from commands.reevaluations import MemoryReevaluations, Reevaluation
from commands.reevaluations_postgres import PostgresReevaluations
from domain.reevaluation import Why
from ledger.postgres_connection import PostgresConnection

DEAD, REPLAYING, REPLAYED = LetterState
ALL = tuple(LetterState)


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.slow)])
def run(request):
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else None

    @asynccontextmanager
    async def opened():
        if url is None:
            yield MemoryLetters(), MemoryReevaluations()
            return
        connection = PostgresConnection(url, deadline_s=5.0)
        try:
            yield PostgresLetters(connection), PostgresReevaluations(connection)
        finally:
            await connection.close()

    def runs(test):
        async def main():
            async with opened() as stores:
                await test(*stores)

        asyncio.run(main())

    return runs


def a_message(number=1):
    return Message("feedback", "apply_feedback", ([f"id {number}", "ü"], {"n": number}))


def names(letters):
    return [letter.message.args[1]["n"] for letter in letters]


def test_a_letter_is_the_message_and_what_it_died_of(run):
    async def test(letters, _):
        assert await letters.bury(a_message(), "Traceback\nValueError: torn", NOW)
        letter = await letters.find(name_of(a_message()))
        assert letter == Letter(
            name=name_of(a_message()),
            message=a_message(),
            error="Traceback\nValueError: torn",
            first_at=NOW,
            last_at=NOW,
        )
        assert await letters.find("0" * 32) is None

    run(test)


def test_the_same_message_is_one_letter_however_often_it_dies(run):
    async def test(letters, _):
        for at, error in ((NOW, "first"), (NOW + 5, "second")):
            await letters.bury(a_message(), error, at)
        letter = await letters.find(name_of(a_message()))
        assert (letter.times, letter.error, letter.first_at, letter.last_at) == (2, "second", NOW, NOW + 5)

    run(test)


def test_of_a_long_error_the_end_is_kept_and_what_a_database_cannot_hold_is_left_out(run):
    async def test(letters, _):
        await letters.bury(a_message(), "x" * ERROR_MAX + "the end", NOW)
        assert (await letters.find(name_of(a_message()))).error == "x" * (ERROR_MAX - 7) + "the end"
        await letters.bury(a_message(2), "torn\0", NOW)
        assert (await letters.find(name_of(a_message(2)))).error.startswith("torn")

    run(test)


def test_letters_are_listed_by_state_the_last_to_die_first_in_pages(run):
    async def test(letters, _):
        for number in range(1, 8):
            await letters.bury(a_message(number), "torn", NOW + number // 3)
        await letters.replay(name_of(a_message(4)))
        listed = names(await letters.letters(ALL, None, 10))
        assert sorted(listed) == list(range(1, 8))
        assert [number // 3 for number in listed] == [2, 2, 1, 1, 1, 0, 0]
        assert names(await letters.letters([REPLAYING], None, 10)) == [4]
        assert 4 not in names(await letters.letters([DEAD], None, 10))
        seen, after = [], None
        while page := await letters.letters(ALL, after, 2):
            seen += names(page)
            after = (page[-1].last_at, page[-1].name)
        assert seen == listed

    run(test)


def test_a_letter_is_replayed_when_it_was_sent_unless_it_has_died_meanwhile(run):
    async def test(letters, _):
        name = name_of(a_message())
        await letters.bury(a_message(), "torn", NOW)
        await letters.sent([name])
        assert (await letters.find(name)).state is DEAD
        assert (await letters.replay(name)).state is REPLAYING
        await letters.sent([name])
        assert (await letters.find(name)).state is REPLAYED
        await letters.replay(name)
        await letters.bury(a_message(), "torn again", NOW + 1)
        await letters.sent([name])
        await letters.sent([])
        assert (await letters.find(name)).state is DEAD
        assert await letters.replay("0" * 32) is None
        assert await letters.count() == {DEAD: 1, REPLAYING: 0, REPLAYED: 0}

    run(test)


def test_letters_are_forgotten_a_while_after_they_died_last(run):
    async def test(letters, _):
        await letters.bury(a_message(1), "torn", NOW)
        await letters.bury(a_message(2), "torn", NOW + 1)
        assert await letters.forget(NOW + KEPT_MS) == 1
        assert names(await letters.letters(ALL, None, 10)) == [2]

    run(test)


def test_beyond_a_limit_no_other_letter_is_kept_and_those_that_are_there_are_counted_on(monkeypatch):
    monkeypatch.setattr(dead_letters, "LETTERS_MAX", 2)

    async def main():
        letters = MemoryLetters()
        assert [await letters.bury(a_message(number), "torn", NOW) for number in (1, 2, 3, 1)] == [
            True,
            True,
            False,
            True,
        ]

    asyncio.run(main())


@pytest.mark.slow
def test_postgresql_keeps_to_the_limit_too(postgres_url):
    async def main():
        connection = PostgresConnection(postgres_url, deadline_s=5.0)
        letters = PostgresLetters(connection)
        await letters.bury(a_message(1), "torn", NOW)
        fill = """
            insert into dead_letters (name, queue, actor, args, error, first_at, last_at, state)
            select n::text, 'q', 'a', '[]', '', 0, 0, 'dead' from generate_series(2, %s) n returning name
        """
        await connection.fetch(fill, [dead_letters.LETTERS_MAX])
        assert not await letters.bury(a_message(2), "torn", NOW)
        assert await letters.bury(a_message(1), "torn", NOW)
        await connection.close()

    asyncio.run(main())


def test_an_impression_is_noted_once_for_a_reason_and_is_due_at_the_earliest_of_its_times(run):
    async def test(_, reevaluations):
        one, other = UUID(int=1), UUID(int=2)
        await reevaluations.note([one, other, one], Why.LABEL, NOW + 5, NOW)
        await reevaluations.note([one], Why.LABEL, NOW + 3, NOW + 1)
        await reevaluations.note([one], Why.LABEL, NOW + 9, NOW + 1)
        await reevaluations.note([], Why.LABEL, NOW, NOW)
        assert await reevaluations.due(NOW + 2, 10) == []
        due = [Reevaluation(one, Why.LABEL, NOW + 3), Reevaluation(other, Why.LABEL, NOW + 5)]
        assert await reevaluations.due(NOW + 5, 10) == due
        assert await reevaluations.due(NOW + 5, 1) == due[:1]
        assert await reevaluations.forget(NOW + REEVALUATIONS_KEPT_MS - 1) == 0
        assert await reevaluations.forget(NOW + REEVALUATIONS_KEPT_MS) == 2

    run(test)
