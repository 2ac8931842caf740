"""The books of feedback are compared with what is kept and with the ledger; every loss shows."""

import asyncio
from uuid import UUID

import pytest
from feedbackkit import Kit, about_traffic, wire

from commands.feedback_books import lost_feedback
from commands.feedback_store import SETTLED_KEPT_MS, FeedbackBooks
from ledger.census import take_census


def run(test):
    async def main():
        kit = Kit()
        await kit.open(1, 2, 3)
        await kit.send(*(wire(number, number) for number in range(1, 6)), about_traffic(9))
        await kit.apply(1, 2, 3, 4)
        await test(kit)

    asyncio.run(main())


async def flaws(kit, more_labels=0):
    return await lost_feedback(kit.feedback, (await take_census(kit.ledger)).labels + more_labels)


def test_nothing_is_lost_where_all_is_applied_parked_waiting_or_held():
    async def test(kit):
        assert await flaws(kit) == []
        kit.now += SETTLED_KEPT_MS
        await kit.dispatcher.tidy()
        assert await flaws(kit) == []

    run(test)


@pytest.mark.parametrize(
    ("number", "says"), [(4, "feedback parked: 1"), (5, "feedback waiting: 1"), (9, "feedback held: 1")]
)
def test_what_is_gone_shows(number, says):
    async def test(kit):
        del kit.feedback.kept[UUID(int=number)]
        [told] = await flaws(kit)
        assert told.startswith(says)

    run(test)


def test_a_label_that_nobody_sent_and_one_that_is_missing_show():
    async def test(kit):
        for more, labels in ((3, 6), (-1, 2)):
            [told] = await flaws(kit, more)
            assert told.startswith(f"{labels} labels of feedback in the ledger, 3 applied, 2 under way")

    run(test)


def test_books_that_do_not_add_up_say_so():
    async def test(kit):
        kit.feedback._books["accepted"] += 1
        assert (await kit.feedback.books()).unaccounted == 1
        assert (await flaws(kit))[0].startswith("1 of 7 pieces of feedback are nowhere")

    run(test)


def test_what_moves_on_and_on_is_not_judged():
    async def test(kit):
        accepted = iter(range(100))

        async def books():
            return FeedbackBooks(accepted=next(accepted))

        kit.feedback.books = books
        assert await flaws(kit) == ["feedback moves on and on, and cannot be counted"]

    run(test)
