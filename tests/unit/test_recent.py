"""What a gate remembers between batches."""

import gc
from types import SimpleNamespace
from uuid import UUID

from gatekit import NOW

from commands.items import slots_of
from commands.recent import PER_SLOT_MAX, FirstAnswer, RecentAnswers, RecentSlots
from commands.sequences import SequenceTracker
from domain.reasons import Verdict
from domain.vocabulary import DataSet, Surface

WINDOW_MS = 2_000
SLOT, BY_DEVICE = slots_of(DataSet.LIVE, "placement", "creative", "person", "device")


def an_item(number, at, slots=(SLOT,)):
    return SimpleNamespace(impression=UUID(int=number), claim=SimpleNamespace(event_at=at), slots=slots)


def test_a_slot_remembers_its_last_impressions_each_with_its_time():
    slots = RecentSlots(100, WINDOW_MS)
    for number in range(1, PER_SLOT_MAX + 3):
        slots.recall(SLOT, (number, NOW + number * 10_000))
    for number in range(1, PER_SLOT_MAX + 3):
        found = slots.original_of(an_item(999, NOW + number * 10_000 + WINDOW_MS))
        assert found == (None if number < 3 else UUID(int=number))
        assert slots.original_of(an_item(999, NOW + number * 10_000 + WINDOW_MS + 1)) is None


def test_all_that_may_be_fired_again_are_named_but_the_impression_itself():
    slots = RecentSlots(100, WINDOW_MS)
    for slot, number in ((SLOT, 3), (SLOT, 1), (BY_DEVICE, 1), (BY_DEVICE, 2)):
        slots.recall(slot, (number, NOW + number))
    item = an_item(2, NOW, (SLOT, BY_DEVICE))
    assert slots.originals_of(item) == [UUID(int=1), UUID(int=3)]


def test_what_is_shown_in_one_batch_is_found_in_it_and_after_it():
    slots = RecentSlots(100, WINDOW_MS)
    slots.begin_batch()
    first, again = an_item(1, NOW), an_item(2, NOW + 1)
    assert slots.original_of(first) is None
    slots.remember(first)
    assert slots.original_of(again) == UUID(int=1)
    slots.begin_batch()
    assert slots.original_of(again) == UUID(int=1)


def test_the_collector_has_nothing_to_walk_over_in_first_answers_and_sessions():
    answers, answer = RecentAnswers(10), FirstAnswer(7, "digest", Verdict.VALID, None)
    answers.remember(UUID(int=1), answer)
    tracker = SequenceTracker(started_at=0, idle_ms=1_000)
    tracker.note([("a", 1, Surface.FEED, "ios/1", 5, NOW), ("b", 1, Surface.FEED, "ios/1", 6, NOW)], NOW)
    sessions = [one for one in gc.get_objects() if type(one).__name__ == "_Session"]
    assert len(tracker) == 2
    assert sessions == []
    assert not gc.is_tracked(answer)
    assert answers.get(UUID(int=1)) is answer
