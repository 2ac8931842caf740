"""I1 from what clients were told: everything answered is kept, and what was replayed has moved, not doubled."""

import pytest
from bookskit import a_tally

from commands.quarantine import Held
from commands.shelter_store import Counts
from commands.spool_census import Spooled
from domain.render import Kind
from ledger.census import Census
from service.books import unkept


def a_census(renders=0, views=0):
    return Census(renders=renders, views=views, unmoved=0, repeats=0, refused={})


RENDER, VIEW = Kind.RENDER, Kind.VIEW


@pytest.mark.parametrize(
    ("rows", "census", "spooled", "adds_up"),
    [
        ([(RENDER, "decided", 5)], a_census(3), Spooled(renders=2), True),
        ([(RENDER, "decided", 5)], a_census(3), Spooled(renders=1), False),
        ([(RENDER, "decided", 5)], a_census(3), Spooled(renders=3), False),
        ([(VIEW, "parked", 2)], a_census(), Spooled(views=2), True),
        ([(VIEW, "parked", 2)], a_census(), Spooled(views=1), False),
        ([(RENDER, "quarantined", 2)], a_census(), Spooled(bodies=2), True),
        ([(RENDER, "quarantined", 2)], a_census(), Spooled(bodies=1), False),
        ([(RENDER, "refused", 2)], a_census(), Spooled(refused=2), True),
        ([(RENDER, "refused", 2)], a_census(), Spooled(refused=1), False),
    ],
)
def test_what_waits_in_a_spool_is_kept_there_and_counted_once(rows, census, spooled, adds_up):
    problems = unkept(a_tally(*rows), census, Held(), spooled)
    assert (problems == []) is adds_up, problems


def test_an_event_that_turns_out_to_reuse_an_id_is_in_quarantine():
    assert unkept(a_tally((RENDER, "decided", 5)), a_census(4), Held(reused=1)) == []
    assert unkept(a_tally((RENDER, "decided", 5)), a_census(4), Held()) != []


@pytest.mark.parametrize(("ledgered", "adds_up"), [(5, True), (6, True), (7, False)])
def test_what_was_deferred_may_have_come_again_or_not(ledgered, adds_up):
    rows = a_tally((RENDER, "decided", 5), (RENDER, "deferred", 1))
    assert (unkept(rows, a_census(ledgered), Held()) == []) is adds_up


@pytest.mark.parametrize(
    ("rows", "census", "held", "adds_up"),
    [
        ([(RENDER, "decided", 5), (RENDER, "quarantined", 2)], a_census(5), Held(waiting=2), True),
        ([(RENDER, "decided", 5), (RENDER, "quarantined", 2)], a_census(5), Held(waiting=1), False),
        ([(RENDER, "decided", 5), (RENDER, "quarantined", 2)], a_census(5), Held(waiting=1, reused=1), False),
        ([(RENDER, "decided", 5), (RENDER, "quarantined", 2)], a_census(6), Held(waiting=1, moved=1), True),
        ([(RENDER, "decided", 5), (RENDER, "quarantined", 2)], a_census(7), Held(waiting=1, moved=1), False),
        ([(RENDER, "decided", 5), (RENDER, "quarantined", 2)], a_census(6), Held(waiting=2), False),
        ([(RENDER, "decided", 5), (RENDER, "quarantined", 2)], a_census(4), Held(waiting=2), False),
        ([(VIEW, "quarantined", 2)], a_census(views=1), Held(waiting=1, moved=1), True),
        ([(VIEW, "quarantined", 2)], a_census(views=2), Held(waiting=1, moved=1), False),
        ([(VIEW, "quarantined", 2)], a_census(), Held(expired=2), True),
    ],
)
def test_what_is_answered_is_kept_in_one_place(rows, census, held, adds_up):
    problems = unkept(a_tally(*rows), census, held)
    assert (problems == []) is adds_up, problems


@pytest.mark.parametrize(
    ("rows", "census", "sheltered", "adds_up"),
    [
        ([(RENDER, "decided", 5)], a_census(3), Counts(waiting=2), True),
        ([(RENDER, "decided", 5)], a_census(3), Counts(waiting=1, expired=1), True),
        ([(RENDER, "decided", 5)], a_census(3), Counts(moved=2), True),
        ([(RENDER, "decided", 5)], a_census(3), Counts(moved=1), False),
        ([(RENDER, "decided", 5)], a_census(3), Counts(arrived=2), False),
        ([(RENDER, "decided", 3), (VIEW, "decided", 2)], a_census(3), Counts(moved=2), True),
        ([(RENDER, "decided", 3), (VIEW, "decided", 2)], a_census(3), Counts(moved=1), False),
        ([(RENDER, "decided", 5)], a_census(7), Counts(arrived=2), True),
        ([(RENDER, "decided", 5)], a_census(8), Counts(arrived=2), False),
        ([(VIEW, "recorded", 5)], a_census(views=7), Counts(arrived=2), True),
        ([(VIEW, "recorded", 5)], a_census(views=8), Counts(arrived=2), False),
    ],
)
def test_what_is_sheltered_is_in_the_shelters_books_and_at_home_it_has_arrived(rows, census, sheltered, adds_up):
    problems = unkept(a_tally(*rows), census, Held(), sheltered=sheltered)
    assert (problems == []) is adds_up, problems
