"""Gaps in the numbers of sessions: what was lost is found, and what is late or comes again is not taken for it."""

import asyncio
import random
from collections import Counter

import msgspec
import pytest
from gatekit import KitGate, Minter
from hypothesis import example
from hypothesis import given as for_all
from hypothesis import strategies as st
from serveskit import Unreliable

from commands.items import Caller
from commands.sequences import (
    CALM_MS,
    CELLS_MAX,
    HORIZON_MS,
    JUMP_MAX,
    MINUTE_MS,
    RECENT,
    Numbered,
    SequenceCounter,
    SequenceTracker,
)
from domain.sequences import OTHER_SDKS, SequencesCounted
from domain.vocabulary import Surface
from ledger.codec import decode
from ledger.memory import MemoryStore
from ledger.store import LedgerUnavailable, read_everything

IDLE = 1_800_000
START = 1_790_000_000_000 - 1_790_000_000_000 % MINUTE_MS


def a_tracker(**changes):
    return SequenceTracker(**{"started_at": START, "idle_ms": IDLE, **changes})


def an_event(number, session="s1", *, sdk="fb-1", surface=Surface.FEED, id_=None, at=START):
    return Numbered(session, number, surface, sdk, hash((session, number)) if id_ is None else id_, at)


def judged(tracker, now, since=START):
    """The sums over all cells when the tracker has looked, as it does all the time, until *now*."""
    for at in range(since, now + 1, IDLE // 4):
        tracker.judge(at)
    sums = Counter()
    for count in tracker.take():
        sums.update(
            {
                "numbers": count.numbers,
                "missing": count.missing,
                "filled": count.filled,
                "repeats": count.repeats,
                "restarts": count.restarts,
            }
        )
    return +sums


def after(*numbers, wait=2 * IDLE):
    tracker = a_tracker()
    tracker.note([an_event(number) for number in numbers], START)
    return judged(tracker, START + wait)


def test_a_number_is_missing_once_a_later_one_has_been_here_for_a_while():
    assert after(1, 2, 4, 5) == {"numbers": 5, "missing": 1}
    assert after(1, 2, 4, 5, wait=IDLE) == {"numbers": 1}
    assert after(1, 2, 4, 5, wait=IDLE - 1) == {}


def test_what_would_come_after_the_last_number_is_not_known_to_be_missing():
    assert after(1, 2, 3) == {"numbers": 3}
    assert after(7) == {"numbers": 1}


def test_numbers_of_a_long_session_are_judged_while_it_goes_on():
    tracker = a_tracker()
    for minute in range(120):
        tracker.judge(START + minute * MINUTE_MS)
        if minute % 10:
            tracker.note([an_event(minute)], START + minute * MINUTE_MS)
    sums = judged(tracker, START, START)
    assert (sums["numbers"], sums["missing"]) == (59, 5)


def test_a_number_that_comes_later_is_taken_back_in_the_minute_in_which_it_was_missed():
    tracker = a_tracker()
    tracker.note([an_event(1), an_event(3)], START)
    tracker.judge(START + IDLE)
    tracker.judge(START + 2 * IDLE)
    _, missed = tracker.take()
    tracker.note([an_event(2)], START + 5 * IDLE)
    [filled] = tracker.take()
    assert (missed.at, missed.numbers, missed.missing, missed.filled) == (START + 2 * IDLE, 2, 1, 0)
    assert (filled.at, filled.numbers, filled.missing, filled.filled) == (START + 2 * IDLE, 0, -1, 1)


def test_a_number_that_comes_before_it_is_judged_was_never_missing():
    tracker = a_tracker()
    tracker.note([an_event(1), an_event(3)], START)
    tracker.note([an_event(2)], START + IDLE - 1)
    assert judged(tracker, START + 4 * IDLE) == {"numbers": 3}


def test_the_same_event_again_is_no_repeat_and_another_under_its_number_is():
    tracker = a_tracker()
    tracker.note([an_event(1, id_=5), an_event(2, id_=6), an_event(1, id_=5), an_event(2, id_=7)], START)
    assert judged(tracker, START + 2 * IDLE) == {"numbers": 2, "repeats": 1}


def test_an_old_number_that_comes_again_is_taken_for_a_retry():
    tracker = a_tracker()
    tracker.note([an_event(number) for number in range(1, RECENT + 2)], START)
    tracker.note([an_event(1, id_=99)], START)
    assert judged(tracker, START + 2 * IDLE) == {"numbers": RECENT + 1}


@pytest.mark.parametrize("other", [5 + JUMP_MAX + 1, 5 - JUMP_MAX - 1])
def test_a_session_whose_numbers_jump_far_begins_to_count_anew(other):
    tracker = a_tracker()
    tracker.note([an_event(5)], START)
    tracker.note([an_event(other), an_event(other + 1)], START)
    assert judged(tracker, START + 2 * IDLE) == {"numbers": 2, "restarts": 1}


def test_a_session_is_forgotten_a_day_after_its_last_event():
    tracker = a_tracker()
    tracker.note([an_event(1), an_event(3)], START)
    tracker.judge(START + IDLE)
    tracker.judge(START + HORIZON_MS - 1)
    assert len(tracker) == 1
    tracker.judge(START + HORIZON_MS)
    assert len(tracker) == 0


@pytest.mark.parametrize("late", [3, 2], ids=["a retry", "a number that was missing"])
def test_what_comes_late_and_is_not_judged_puts_off_that_a_session_is_forgotten_and_no_more(late):
    tracker = a_tracker()
    tracker.note([an_event(1), an_event(3)], START)
    tracker.judge(START + IDLE)
    tracker.judge(START + 2 * IDLE)
    tracker.note([an_event(late)], START + HORIZON_MS // 2)
    tracker.judge(START + HORIZON_MS)
    assert len(tracker) == 1
    tracker.judge(START + HORIZON_MS // 2 + HORIZON_MS)
    assert (len(tracker), tracker._to_forget) == (0, [])


def test_a_session_of_many_bursts_is_queued_to_be_forgotten_once():
    tracker = a_tracker()
    for burst in range(50):
        tracker.note([an_event(burst + 1)], START + burst * 4 * IDLE)
        tracker.judge(START + burst * 4 * IDLE + IDLE)
        tracker.judge(START + burst * 4 * IDLE + 2 * IDLE)
    assert len(tracker._to_forget) == 1


def test_a_session_that_goes_on_is_kept():
    tracker = a_tracker()
    tracker.note([an_event(1)], START)
    tracker.judge(START + IDLE)
    tracker.note([an_event(2)], START + HORIZON_MS // 2)
    tracker.judge(START + HORIZON_MS)
    tracker.judge(START + HORIZON_MS + IDLE)
    assert len(tracker) == 1
    tracker.judge(START + HORIZON_MS // 2 + HORIZON_MS)
    assert len(tracker) == 0


def test_what_happened_before_the_tracker_began_is_left_out():
    tracker = a_tracker()
    tracker.note([an_event(3, at=START - 1), an_event(9, at=START), an_event(5, at=START - 1)], START)
    assert judged(tracker, START + IDLE) == {"numbers": 1}


def test_each_version_on_each_surface_is_counted_by_itself():
    tracker = a_tracker()
    tracker.note([an_event(number, "a", sdk="fb-1") for number in (1, 2, 3)], START)
    tracker.note([an_event(number, "b", sdk="fb-2", surface=Surface.REELS) for number in (1, 4)], START)
    tracker.judge(START + IDLE)
    tracker.take()
    tracker.judge(START + 2 * IDLE)
    assert [(count.surface, count.sdk, count.numbers, count.missing) for count in tracker.take()] == [
        (Surface.FEED, "fb-1", 2, 0),
        (Surface.REELS, "fb-2", 3, 2),
    ]


def test_versions_beyond_the_limit_are_counted_together():
    tracker = a_tracker()
    tracker.note([an_event(1, f"s{n}", sdk=f"sdk-{n}") for n in range(CELLS_MAX + 5)], START)
    tracker.judge(START + IDLE)
    counts = tracker.take()
    assert len(counts) == CELLS_MAX + 1
    assert [count.numbers for count in counts if count.sdk == OTHER_SDKS] == [5]


@for_all(
    seed=st.integers(0, 1 << 30),
    lost_share=st.sampled_from([0.0, 0.1, 0.5]),
    delay_ms=st.sampled_from([0, 1_000, IDLE // 2]),
)
def test_what_is_found_is_what_was_lost_in_any_order_of_arrival(seed, lost_share, delay_ms):
    chance = random.Random(seed)
    arrivals, expected = [], Counter()
    for session in range(6):
        length = chance.randrange(1, 40)
        kept = [number for number in range(1, length + 1) if chance.random() >= lost_share]
        if kept:
            expected["numbers"] += kept[-1] - kept[0] + 1
            expected["missing"] += kept[-1] - kept[0] + 1 - len(kept)
        arrivals += [(START + number * 1_000 + chance.randint(0, delay_ms), session, number) for number in kept]
    tracker = a_tracker()
    for now, session, number in sorted(arrivals):
        tracker.note([an_event(number, f"s{session}")], now)
        tracker.judge(now)
    assert judged(tracker, START + 5 * IDLE) == +expected


@example(seed=1862, began=24, offline=True)
@for_all(seed=st.integers(0, 1 << 30), began=st.integers(0, 40), offline=st.booleans())
def test_nothing_is_missed_where_nothing_was_lost_whenever_the_tracker_began(seed, began, offline):
    """Sessions that began before it, that were let go meanwhile, or that send hours later, leave no false gap."""
    chance = random.Random(seed)
    tracker = a_tracker(started_at=START + began * 1_000, sessions_max=6)
    arrivals = []
    for session in range(20):
        begin = chance.randrange(20)
        for number in range(1, chance.randrange(2, 30)):
            at = START + (begin + number) * 1_000
            late = 6 * IDLE if offline and chance.random() < 0.3 else 0
            arrivals.append((at + late + chance.randrange(3_000), session, number, at))
    for now, session, number, at in sorted(arrivals):
        if now >= START + began * 1_000:
            tracker.note([an_event(number, f"s{session}", at=at)], now)
            tracker.judge(now)
    sums = judged(tracker, START + 9 * IDLE)
    assert sums["missing"] == 0


def test_only_so_many_sessions_are_followed_and_those_are_whole():
    tracker = a_tracker(sessions_max=100)
    for number in (1, 2, 4):
        tracker.note([an_event(number, f"s{n}") for n in range(1_000)], START)
    assert len(tracker) <= 100
    assert tracker.level >= 3
    sums = judged(tracker, START + 2 * IDLE)
    assert 30 <= len(tracker) <= 100
    assert (sums["numbers"], sums["missing"]) == (4 * len(tracker), len(tracker))


def test_only_so_many_missing_numbers_are_kept():
    tracker = a_tracker(holes_max=1_000)
    for number in (1, 101):
        tracker.note([an_event(number, f"s{n}") for n in range(64)], START)
    assert len(tracker) <= 10
    assert judged(tracker, START + 2 * IDLE)["missing"] == 99 * len(tracker)


def test_the_sample_grows_again_when_there_was_room_for_a_while():
    tracker = a_tracker(sessions_max=100)
    tracker.note([an_event(1, f"s{n}") for n in range(1_000)], START)
    level, now = tracker.level, START
    while tracker.level:
        now += HORIZON_MS
        tracker.judge(now)
    assert level >= 3
    assert now - START >= level * CALM_MS
    tracker.take()
    tracker.note([an_event(number, f"t{n}", at=now) for n in range(64) for number in (1, 2)], now)
    assert judged(tracker, now + 2 * IDLE, now) == {"numbers": 128}


def test_sessions_are_sampled_by_their_names_alone():
    tracker = a_tracker(sessions_max=50)
    for number in (1, 3):
        tracker.note([an_event(number, f"s{n}", sdk=f"sdk-{n % 2}") for n in range(4_000)], START)
    tracker.judge(START + IDLE)
    tracker.take()
    tracker.judge(START + 2 * IDLE)
    assert {count.missing / count.numbers for count in tracker.take()} == {1 / 2}


def a_counter(store, now):
    tracker = a_tracker()
    return SequenceCounter(tracker, store, "eu-1", lambda: now[0])


async def written(store):
    events = [event async for commit in read_everything(store) for event in decode(commit.data)]
    assert all(isinstance(event, SequencesCounted) for event in events)
    return [count for event in events for count in event.counts]


@pytest.mark.parametrize("fault", ["before", "after"])
def test_what_was_found_is_written_once_whatever_becomes_of_the_first_call(fault):
    async def main():
        store, now = MemoryStore(), [START]
        counter = a_counter(Unreliable(store, [fault]), now)
        counter.tracker.note([an_event(1), an_event(3)], START)
        counter.tracker.judge(START + IDLE)
        now[0] += 2 * IDLE
        with pytest.raises(LedgerUnavailable):
            await counter.flush()
        counter.tracker.note([an_event(2)], now[0])
        await counter.flush()
        counts = await written(store)
        assert [(count.numbers, count.missing, count.filled) for count in counts] == [
            (1, 0, 0),
            (2, 1, 0),
            (0, -1, 1),
        ]
        assert len(await store.read_all(0, 10)) == 2

    asyncio.run(main())


def test_nothing_is_written_where_nothing_was_found():
    async def main():
        store = MemoryStore()
        counter = a_counter(store, [START])
        await counter.flush()
        assert await store.head() == 0

    asyncio.run(main())


def test_renders_and_views_of_the_gate_are_followed_by_session_and_number():
    async def main():
        gate, clients = KitGate(), Minter()
        now = [gate.now]
        counter = SequenceCounter(
            SequenceTracker(started_at=gate.now - 10_000, idle_ms=IDLE), gate.store, "eu-1", lambda: now[0]
        )
        token = clients.token()
        sent = [
            clients.render(token, session="s", sdk_seq=1),
            clients.view(token, session="s", sdk_seq=2),
            clients.render(session="s", sdk_seq=4),
            clients.render(session="s"),
            clients.render(sdk_seq=5),
            {"broken": True},
        ]
        counter.note(await prepared(gate, sent))
        for _ in range(2):
            now[0] += IDLE
            await counter.flush()
        counts = await written(gate.store)
        assert {(count.surface, count.sdk) for count in counts} == {(Surface.FEED, "ios/12.1")}
        assert [(count.numbers, count.missing) for count in counts] == [(1, 0), (3, 1)]

    async def prepared(gate, events):
        raws = [msgspec.json.encode(event) for event in events]
        return await gate.intake.prepare(raws, Caller(frozenset({"ingest"})))

    asyncio.run(main())
