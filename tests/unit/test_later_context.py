"""What a worker knows of persons and publishers is what a data set has of the same moment."""

import asyncio
import random

import numpy as np
import polars as pl
import pytest
from builders import HOUR, SECOND, a_view
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from lookkit import NOW, Kit, a_first, a_lesson, an_impression, append

from domain.vocabulary import Label, LabelSource
from ledger.codec import decode_impression
from ledger.following import Seen
from ledger.store import READ_MAX, read_everything
from ml.context.look import Surroundings, subject_of
from ml.context.store import RENDERS_KEPT_MS
from ml.datasets.build import build
from ml.datasets.history import PublisherLog, first_hour, history_of
from ml.datasets.later import later_columns
from ml.datasets.snapshot import Recipe
from ml.features.later import LATER_NAMES, columns, later_of

IMPRESSIONS = 40
SPAN = 4 * HOUR
PEOPLE = ("a" * 24, "b" * 24, "")
KINDS = (
    (LabelSource.THIRD_PARTY, Label.INVALID),
    (LabelSource.HUMAN_SIGNAL, Label.HUMAN),
    (LabelSource.SDK_BUG, Label.INSTRUMENTATION),
)
COMPARED = LATER_NAMES[:9]
"""Rates of publishers are computed anew every hour there, and when they are asked for here: a test of their own."""


def run(test):
    asyncio.run(test())


async def live(dice, kit, moments):
    """Append a history of a few people in order of time; at each of *moments* follow and note what is known."""
    todo = []
    for number in range(IMPRESSIONS):
        at = NOW + dice.randrange(SPAN)
        todo.append((at, 0, "render", number))
        todo += [(at + dice.randrange(SPAN), 1, "label", number) for _ in range(dice.choice([0, 0, 1, 2]))]
        todo += [(at + dice.randrange(HOUR), 1, "view", number) for _ in range(dice.choice([0, 0, 1]))]
    todo += [(moment, 2, "look", None) for moment in moments]
    known = {}
    for at, _, what, number in sorted(todo, key=lambda one: one[:2]):
        kit.now = at
        if what == "render":
            await kit.ledger.append([a_first(number, at, person=dice.choice(PEOPLE), begun=dice.random() < 0.8)], at)
        elif what == "label":
            await append(kit.ledger, number, a_lesson(*dice.choice(KINDS), at - dice.randrange(2_000)), at)
        elif what == "view":
            await append(kit.ledger, number, a_view(received_at=at, visible_ratio=0.7, visible_ms=1_200), at)
        else:
            await kit.follow(limit=dice.choice([1, 7, 1_000]))
            known[at] = await contexts(kit)
    return known


async def contexts(kit, of=IMPRESSIONS):
    """Return the columns of everything that is known now, by impression, *of* so many."""
    all_ids = [an_impression(number) for number in range(of)]
    commits = await kit.ledger.read_streams(all_ids, READ_MAX)
    streams = {one: [Seen(commit, decode_impression(commit.data)) for commit in commits[one]] for one in commits}
    known = await Surroundings(kit.later).of(streams, kit.now)
    assert not known.early
    found = {}
    for impression, stream in streams.items():
        subject, events = subject_of(stream), [event for seen in stream for event in seen.events]
        [decided_at] = [event.decided_at for event in stream[0].events if hasattr(event, "decided_at")]
        found[str(impression)] = columns([later_of(subject.rendered, decided_at, events, known.of[impression])])[0]
    return found


def of_data_set(snapshot, known_at):
    rows = snapshot.scan("rows").filter(pl.col("recorded_at") <= known_at).with_columns(known_at=known_at).collect()
    return {row[0]: np.array(row[1:]) for row in later_columns(snapshot, rows).iter_rows()}


@pytest.mark.parametrize("seed", range(6))
def test_what_is_known_of_an_impression_is_what_a_data_set_has_of_that_moment(seed, tmp_path):
    async def test():
        dice, kit = random.Random(seed), Kit()
        await kit.open()
        moments = sorted(NOW + dice.randrange(2 * SPAN) for _ in range(4))
        known = await live(dice, kit, moments)
        snapshot = await build(read_everything(kit.ledger), await kit.ledger.head(), Recipe(cutoff=kit.now), tmp_path)
        told = set()
        for moment in moments:
            expected = of_data_set(snapshot, moment)
            assert expected.keys() == known[moment].keys()
            for impression, row in expected.items():
                told |= {name for name, value in zip(COMPARED, row, strict=False) if value > 0}
                for at, name in enumerate(COMPARED):
                    assert known[moment][impression][at] == pytest.approx(row[at], abs=1e-9, nan_ok=True), name
        assert {"view_ms", "next_gap_ms", "next_hour", "others_invalid", "others_human"} <= told

    run(test)


def test_a_publisher_that_has_been_silent_for_a_day_is_unknown_in_a_data_set_as_it_is_to_a_worker(tmp_path):
    """`loud` sends all it has in the first minute, `steady` three renders an hour from then on."""
    loud = [("loud", NOW + number * SECOND) for number in range(60)]
    steady = [("steady", NOW + (1 + number // 3) * HOUR) for number in range(26 * 3)]
    sent = [*loud, *steady]

    async def test():
        kit, known = Kit(), {}
        await kit.open()
        for number, (publisher, at) in enumerate(sent):
            kit.now = at
            await kit.ledger.append([a_first(number, at, person=f"{number:024x}", publisher=publisher)], at)
            if number in (len(loud), len(sent) - 1):
                await kit.follow()
                known[at] = await contexts(kit, of=len(sent))
        snapshot = await build(read_everything(kit.ledger), await kit.ledger.head(), Recipe(cutoff=kit.now), tmp_path)
        rates = LATER_NAMES.index("later_duplicate_rate")
        ids = [str(an_impression(number)) for number in (0, len(loud))]
        for (at, seen), expected in zip(known.items(), ([0.0, np.nan], [np.nan, 0.0]), strict=True):
            of_worker, of_set = ([found[one][rates:] for one in ids] for found in (seen, of_data_set(snapshot, at)))
            assert np.array_equal(of_worker, of_set, equal_nan=True)
            assert [row[0] for row in of_set] == pytest.approx(expected, nan_ok=True)

    run(test)


def test_what_is_known_does_not_depend_on_the_pages_in_which_it_was_taken_in():
    async def history_in(limit):
        dice, kit = random.Random(7), Kit()
        await kit.open()
        await live(dice, kit, [])
        await kit.follow(limit)
        return await contexts(kit), kit.noted.rows

    async def test():
        once, noted = await history_in(1_000)
        for limit in (1, 3, 50):
            again, also_noted = await history_in(limit)
            assert again.keys() == once.keys()
            assert all(np.array_equal(again[one], once[one], equal_nan=True) for one in once)
            assert also_noted.keys() == noted.keys()

    run(test)


@settings(max_examples=25)
@for_all(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3), st.booleans()), max_size=60))
def test_publishers_are_known_as_a_log_has_them_that_counted_all_at_once(renders):
    log, parts = PublisherLog(), [PublisherLog() for _ in range(3)]
    for number, (hours, publisher, clicked) in enumerate(sorted(renders)):
        at = NOW + hours * HOUR
        events = a_first(number, at, publisher=f"publisher-{publisher}").events
        events = [
            type(event)(**{**_fields(event), "clicked": clicked}) if hasattr(event, "clicked") else event
            for event in events
        ]
        for one in (log, parts[number % 3]):
            one.count(events * 20, at)
    now = NOW + 31 * HOUR
    recent = [tally for tally in log.tallies() if tally.hour >= first_hour(now)]
    in_parts = [tally for part in parts for tally in part.tallies() if tally.hour >= first_hour(now)]
    once, added = history_of(recent, now), history_of(in_parts, now)
    assert once.publishers.keys() == added.publishers.keys()
    for publisher, said in once.publishers.items():
        assert added.publishers[publisher] == pytest.approx(said, nan_ok=True)


def _fields(event):
    return {name: getattr(event, name) for name in event.__struct_fields__}


def test_of_what_is_older_than_renders_are_kept_the_next_is_unknown_and_not_none():
    async def test():
        kit = Kit()
        await kit.open(a_first(0), a_first(1))
        kit.now = NOW + RENDERS_KEPT_MS - 1
        await kit.follow()
        before = await contexts(kit)
        kit.now += 1
        await kit.follow()
        after = await contexts(kit)
        at = COMPARED.index("next_hour")
        assert sorted(row[at] for row in before.values()) == [0, 1]
        assert all(np.isnan(row[at]) for row in after.values())

    run(test)


def test_what_is_old_is_forgotten_and_what_is_asked_for_stays():
    async def test():
        kit = Kit()
        await kit.open(a_first(0), a_first(1))
        await append(kit.ledger, 0, a_lesson())
        await kit.follow()
        assert await kit.later.forget(NOW + SECOND) == 0
        assert await kit.later.forget(NOW + RENDERS_KEPT_MS + 24 * HOUR) == 3
        assert (len(kit.later.renders), len(kit.later.labels)) == (0, 1)

    run(test)
