"""What is known later of persons and publishers: one contract on memory and PostgreSQL."""

import random

import pytest
from builders import DAY, HOUR
from lookkit import NOW, a_page, an_impression, ids
from storekit import ADAPTERS, runner

from domain.vocabulary import Label, Surface
from ledger.following import Followed
from ml.context.facts import Facts, PersonLabel, PersonRender
from ml.context.postgres import PostgresLater
from ml.context.store import NEXT_WITHIN_MS, RENDERS_KEPT_MS, Asked, Known, MemoryLater
from ml.datasets.history import HOUR_MS, HourTally, Tally


@pytest.fixture(params=ADAPTERS)
def run(request):
    return runner(request, MemoryLater, PostgresLater)


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
        assert await take(one, a_render(1), through=4)
        assert not await take(other, a_render(1), a_render(2), through=9)
        assert await other.followed() == Followed(4, NOW)
        assert await take(other, a_render(2), after=4, through=9)
        assert await one.known([asked(1)], NOW) == [Known(NOW - 1, 1)]

    run(test)


def test_the_next_render_is_the_next_in_the_ledger_of_the_same_person_as_known_by_then(run):
    async def test(one):
        hour = NOW + HOUR_MS
        await take(
            one,
            *(a_render(1), a_render(2, at=NOW + 5, event_at=NOW - 9), a_render(3, at=hour), a_render(4, at=hour + 1)),
            *(a_render(5, person=2, at=NOW + 1), a_render(6, person=-3, at=NOW), a_render(7, person=-3, at=NOW)),
        )
        wanted = [asked(1), asked(5, person=2, at=NOW + 1), asked(6, person=-3), asked(8, person=8)]
        assert await one.known(wanted, NOW + DAY) == [Known(NOW - 9, 2), Known(), Known(NOW - 1, 1), Known()]
        assert await one.known(wanted[:1], NOW + 5) == [Known(NOW - 9, 1)]
        assert await one.known(wanted[:1], NOW + 4) == [Known()]
        assert await one.known([], NOW) == []

    run(test)


def test_a_render_of_another_pseudonym_s_days_is_no_next_one(run):
    async def test(one):
        last = NOW + NEXT_WITHIN_MS
        await take(one, a_render(1), a_render(2, at=last), a_render(3, person=2), a_render(4, person=2, at=last + 1))
        known = await one.known([asked(1), asked(3, person=2)], NOW + 30 * DAY)
        assert [one.next_event_at for one in known] == [last - 1, None]

    run(test)


def test_labels_of_the_persons_other_impressions_are_added_up_as_they_had_arrived(run):
    async def test(one):
        labels = [a_trust(2), a_trust(2, trust=0.25), a_trust(1), a_trust(3, at=NOW + 9, label=Label.HUMAN)]
        await take(one, *labels, a_trust(4, person=2))
        assert await one.known([asked(1)], NOW) == [Known(others_invalid=0.75)]
        assert await one.known([asked(1)], NOW + 9) == [Known(others_invalid=0.75, others_human=0.5)]

    run(test)


def test_the_others_of_a_labelled_impression_are_the_latest_of_its_person(run):
    async def test(one):
        renders = [a_render(number, at=NOW + number) for number in range(1, 7)]
        await take(one, *renders, a_render(7, person=2), a_trust(3), a_trust(7, person=2))
        assert await one.others(ids(3, 7, 9), 3) == {an_impression(3): ids(6, 5, 4)}
        assert await one.others([], 3) == {}

    run(test)


def test_what_publishers_sent_is_added_up_by_the_hour(run):
    async def test(one):
        hour = NOW // HOUR_MS
        tally = HourTally(hour, "publisher-1", Surface.FEED, Tally(10, 1, 2, 3, 4))
        older, reels = tally._replace(hour=hour - 1), tally._replace(surface=Surface.REELS)
        await take(one, tally, older, through=5)
        await take(one, tally, reels, after=5)
        assert await one.tallies(hour) == [tally._replace(tally=Tally(20, 2, 4, 6, 8)), reels]
        assert len(await one.tallies(hour - 1)) == 3

    run(test)


def test_a_publisher_that_no_table_can_name_stops_nothing(run):
    async def test(one):
        known = HourTally(NOW // HOUR_MS, "publisher-1", Surface.FEED, Tally(10, 1, 2, 3, 4))
        assert await take(one, known, known._replace(publisher="publisher-1\0"))
        assert known in await one.tallies(known.hour)

    run(test)


def test_days_of_renders_are_forgotten_as_a_whole_and_others_one_by_one(run):
    async def test(one):
        hour = HourTally(NOW // HOUR_MS, "publisher-1", Surface.FEED, Tally())
        await take(one, a_render(1), a_render(2, at=NOW + DAY), a_trust(1), hour)
        assert await one.forget(NOW + DAY) == 0
        assert await one.forget(NOW + RENDERS_KEPT_MS + DAY) == 2
        assert await one.known([asked(1)], NOW + 2 * DAY) == [Known(NOW + DAY - 1)]
        assert await take(one, a_render(3, at=NOW + 1), after=100, through=101)

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
            for store in (one, model):
                assert await take(store, *facts, after=after, through=position)
            after = position
        wanted = [Asked(one.person, one.recorded_at, one.position, one.impression) for one in renders]
        for moment in (NOW + 3 * HOUR, at - 5, at + DAY):
            assert await one.known(wanted, moment) == await model.known(wanted, moment)
        labelled = sorted({label.impression for label in model.labels})
        assert await one.others(labelled, 5) == await model.others(labelled, 5)

    run(test)
