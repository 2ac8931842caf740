"""The counters as the gate sees them: claims in, activities out; and after a restart."""

import asyncio
from functools import partial

import pytest
from builders import IMPRESSION, MINTED, SECOND, a_render, a_token, admit, cause
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from domain.decide import decide
from domain.ids import day_of, mint
from domain.impression import Unseen
from domain.rates import is_abusive
from ledger.memory import MemoryStore
from ledger.store import Append
from ml.counters.counters import Counters
from ml.counters.features import FEATURES, PLACE, Column
from ml.counters.observer import NO_OTHER_DAY, Observer, OtherDay
from ml.counters.replay import CLOCKS_APART_MAX_MS, find_tail, replay
from ml.counters.tables import HOUR_MS, MINUTE_MS, Capacities
from test_rates import RULES

SMALL = Capacities(*[1_024] * 8)
DAY_BEFORE = MINTED - 24 * HOUR_MS


def pseudonym(kind: int, number: int) -> str:
    return f"{kind:012x}{number:012x}" if number else ""


def a_claim(at=MINTED, *, device=1, user=1, network=1, cause_number=None, **more):
    claim = admit(a_render(event_id=cause(cause_number)), a_token()).rendered
    keys = {"device": pseudonym(1, device), "user": pseudonym(2, user), "network": pseudonym(3, network)}
    return replace(claim, event_at=at, received_at=at, **keys, **more)


def an_observer(since=DAY_BEFORE) -> Observer:
    return Observer(Counters(SMALL, since))


def test_the_render_itself_and_those_before_it_in_the_batch_are_counted():
    looked = an_observer().look([a_claim(MINTED), a_claim(MINTED + 1), a_claim(MINTED + 2, user=2)])
    assert [one.person_10s for one in looked.activities] == [1, 2, 1]
    assert [one.device_10s for one in looked.activities] == [1, 2, 3]


def test_a_retry_in_the_same_batch_sees_what_the_first_saw_and_moves_nothing():
    first, retry, next_one = a_claim(cause_number=1), a_claim(cause_number=1), a_claim(cause_number=2)
    looked = an_observer().look([first, retry, next_one])
    assert [one.person_min for one in looked.activities] == [1, 1, 2]


def test_only_what_is_kept_counts_for_the_next_batch():
    observer = an_observer()
    claims = [a_claim() for _ in range(3)]
    observer.look(claims)
    observer.look(claims)
    observer.keep(claims[:2])
    [activity] = observer.look([a_claim()]).activities
    assert activity.person_hour == 3


def test_a_user_of_two_devices_is_one_person_and_a_device_without_user_another():
    looked = an_observer().look([a_claim(device=1), a_claim(device=2), a_claim(device=2, user=0)])
    assert [one.person_min for one in looked.activities] == [1, 2, 1]
    assert [one.device_min for one in looked.activities] == [1, 1, 2]


def test_whoever_names_nothing_has_no_activity():
    [activity] = an_observer().look([a_claim(device=0, user=0, network=0)]).activities
    assert (activity.person_hour, activity.device_hour, activity.network_hour) == (None, None, None)


def test_an_office_of_300_people_behind_one_address_is_not_abusive():
    observer = an_observer()
    for minute in range(60):
        claims = [a_claim(MINTED + minute * MINUTE_MS + who, device=who, user=who) for who in range(1, 301)]
        looked = observer.look(claims)
        assert not any(is_abusive(activity, RULES) for activity in looked.activities)
        observer.keep(claims)
    assert looked.activities[-1].network_hour == 300 * 60


def test_people_without_device_or_user_behind_a_carrier_s_nat_are_not_abusive():
    observer = an_observer()
    for second in range(120):
        claims = [a_claim(MINTED + second * SECOND, device=1 if n == 0 else 0, user=0) for n in range(200)]
        looked = observer.look(claims)
        assert not any(is_abusive(activity, RULES) for activity in looked.activities)
        observer.keep(claims)


def test_one_device_that_renders_four_hundred_ads_in_a_minute_is_abusive():
    observer = an_observer()
    claims = [a_claim(MINTED + n * 150, user=0) for n in range(400)]
    abusive = [is_abusive(activity, RULES) for activity in observer.look(claims).activities]
    assert abusive[-1] and not abusive[0]


def test_an_upload_after_an_hour_offline_is_no_burst():
    claims = [a_claim(MINTED + n * MINUTE_MS, received_at=MINTED + HOUR_MS) for n in range(60)]
    claims = [replace(claim, received_at=MINTED + HOUR_MS) for claim in claims]
    assert max(one.person_min for one in an_observer().look(claims).activities) == 1


def test_the_other_day_s_pseudonyms_are_added():
    observer = an_observer()
    observer.keep([a_claim(MINTED + n, device=7, user=8, network=9) for n in range(5)])
    other = OtherDay(device=pseudonym(1, 7), user=pseudonym(2, 8), network=pseudonym(3, 9))
    looked = observer.look([a_claim(MINTED + 10), a_claim(MINTED + 11)], [other, NO_OTHER_DAY])
    assert [one.person_10s for one in looked.activities] == [6, 2]
    assert [one.device_hour for one in looked.activities] == [6, 2]
    users = looked.features.column(Column.DEVICE_USERS_HOUR).tolist()
    assert users == [1, 1], "the same user under two keys"


def test_what_is_recorded_has_a_value_and_a_letter_for_each_feature():
    [(values, letters)] = an_observer().look([a_claim(user=0)]).recorded()
    assert len(values) == len(letters) == len(FEATURES)
    assert (values[PLACE[Column.USER_MIN]], letters[PLACE[Column.USER_MIN]]) == (None, "-")
    assert (values[PLACE[Column.DEVICE_MIN]], letters[PLACE[Column.DEVICE_MIN]]) == (1.0, "f")


def test_windows_that_begin_before_the_watch_are_cold():
    [(_, letters)] = an_observer(since=MINTED - 5 * MINUTE_MS).look([a_claim()]).recorded()
    assert (letters[PLACE[Column.DEVICE_MIN]], letters[PLACE[Column.DEVICE_HOUR]]) == ("f", "c")


async def filled(batches) -> MemoryStore:
    """A ledger with a commit for each render of *batches*, each batch recorded at its last render's time."""
    store = MemoryStore()
    day = day_of(MINTED)
    await store.prepare_days(day, day, admit(a_render(), a_token()).cut.data_set if False else _live())
    number = 0
    for claims in batches:
        appends = []
        for claim in claims:
            number += 1
            command = admit(a_render(event_id=claim.cause), a_token())
            events = decide(Unseen(), replace(command, rendered=claim) if False else command._replace(rendered=claim))
            appends.append(
                Append(
                    stream=mint(MINTED, 1, number), expected=0, cause=claim.cause, digest=claim.digest, events=events
                )
            )
        await store.append(appends, max(claim.received_at for claim in claims))
    return store
