"""The counters as the gate sees them: claims in, activities out; and after a restart."""

from builders import MINTED, SECOND, a_render, a_token, cause
from builders import a_claim as a_built_claim
from counterskit import RATE_RULES
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from domain.rates import NetworkShare, RateLimits, RateRules, is_abusive, signals
from ml.counters.counters import Counters
from ml.counters.features import FEATURES, PLACE, Column
from ml.counters.observer import NO_OTHER_DAY, Observer, OtherDay
from ml.counters.tables import HOUR_MS, MINUTE_MS, Capacities

SMALL = Capacities(*[1_024] * 8)
LOW = RateRules(
    abusive=RateLimits(per_10s=9, per_min=20, per_hour=40),
    unusual=RateLimits(per_10s=5, per_min=12, per_hour=25),
    even_gap_variation=0.5,
    device=RateLimits(per_10s=12, per_min=24, per_hour=48),
    network=NetworkShare(per_device_hour=10, devices_min=2),
)
LOW_FOR_PEOPLE = replace(LOW, device=None, network=None)
DAY_BEFORE = MINTED - 24 * HOUR_MS


def pseudonym(kind: int, number: int) -> str:
    return f"{kind:012x}{number:012x}" if number else ""


def a_claim(at=MINTED, *, device=1, user=1, network=1, cause_number=None, **more):
    claim = a_built_claim(a_render(event_id=cause(cause_number)), a_token())
    keys = {"device": pseudonym(1, device), "user": pseudonym(2, user), "network": pseudonym(3, network)}
    return replace(claim, **{"event_at": at, "received_at": at, **keys, **more})


def an_observer(since=DAY_BEFORE) -> Observer:
    return Observer(Counters(SMALL, since))


def of(looked, name) -> list:
    return [getattr(looked.activity(place), name) for place in range(len(looked.claims))]


def abusive(looked) -> list[bool]:
    return [is_abusive(looked.activity(place), RATE_RULES) for place in range(len(looked.claims))]


def test_the_render_itself_and_those_before_it_in_the_batch_are_counted():
    looked = an_observer().look([a_claim(MINTED), a_claim(MINTED + 1), a_claim(MINTED + 2, user=2)])
    assert of(looked, "person_10s") == [1, 2, 1]
    assert of(looked, "device_10s") == [1, 2, 3]


def test_a_retry_in_the_same_batch_sees_what_the_first_saw_and_moves_nothing():
    first, retry, next_one = a_claim(cause_number=1), a_claim(cause_number=1), a_claim(cause_number=2)
    looked = an_observer().look([first, retry, next_one])
    assert of(looked, "person_min") == [1, 1, 2]


def test_only_what_is_kept_counts_for_the_next_batch():
    observer = an_observer()
    claims = [a_claim() for _ in range(3)]
    observer.look(claims)
    observer.look(claims)
    observer.keep(claims[:2])
    assert observer.look([a_claim()]).activity(0).person_hour == 3


def test_a_user_of_two_devices_is_one_person_and_a_device_without_user_another():
    looked = an_observer().look([a_claim(device=1), a_claim(device=2), a_claim(device=2, user=0)])
    assert of(looked, "person_min") == [1, 2, 1]
    assert of(looked, "device_min") == [1, 1, 2]


def test_whoever_names_nothing_has_no_activity():
    activity = an_observer().look([a_claim(device=0, user=0, network=0)]).activity(0)
    assert (activity.person_hour, activity.device_hour, activity.network_hour) == (None, None, None)


def test_an_office_of_300_people_behind_one_address_is_not_abusive():
    observer = an_observer()
    for minute in range(60):
        claims = [a_claim(MINTED + minute * MINUTE_MS + who, device=who, user=who) for who in range(1, 301)]
        looked = observer.look(claims)
        assert not any(abusive(looked))
        observer.keep(claims)
    assert looked.activity(-1).network_hour == 300 * 60


def test_people_without_device_or_user_behind_a_carrier_s_nat_are_not_abusive():
    observer = an_observer()
    for second in range(120):
        claims = [a_claim(MINTED + second * SECOND, device=1 if n == 0 else 0, user=0) for n in range(200)]
        looked = observer.look(claims)
        assert not any(abusive(looked))
        observer.keep(claims)


def test_one_device_that_renders_four_hundred_ads_in_a_minute_is_abusive():
    observer = an_observer()
    claims = [a_claim(MINTED + n * 150, user=0) for n in range(400)]
    found = abusive(observer.look(claims))
    assert found[-1]
    assert not found[0]


def test_an_upload_after_an_hour_offline_is_no_burst():
    claims = [a_claim(MINTED + n * MINUTE_MS, received_at=MINTED + HOUR_MS) for n in range(60)]
    assert max(of(an_observer().look(claims), "person_min")) == 1


def test_the_other_day_s_pseudonyms_are_added():
    observer = an_observer()
    observer.keep([a_claim(MINTED + n, device=7, user=8, network=9) for n in range(5)])
    other = OtherDay(device=pseudonym(1, 7), user=pseudonym(2, 8), network=pseudonym(3, 9))
    looked = observer.look([a_claim(MINTED + 10), a_claim(MINTED + 11)], [other, NO_OTHER_DAY])
    assert of(looked, "person_10s") == [6, 2]
    assert of(looked, "device_hour") == [6, 2]
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


def test_what_was_fetched_ahead_and_not_begun_is_nobodys_activity():
    observer = an_observer()
    ahead = [a_claim(prefetched=True, begun=False) for _ in range(80)]
    looked = observer.look([*ahead, a_claim()])
    assert (looked.activity(0).person_10s, looked.activity(80).person_10s) == (None, 1)
    observer.keep(ahead)
    assert observer.look([a_claim()]).activity(0).network_hour == 1


@given(
    rates=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 400)), min_size=1, max_size=200),
    rules=st.sampled_from([LOW, LOW_FOR_PEOPLE]),
)
@settings(max_examples=60)
def test_whoever_is_not_outstanding_has_nothing_against_them(rates, rules):
    at = MINTED
    claims = []
    for who, network, gap in rates:
        at += gap
        claims.append(a_claim(at, device=who, user=who if who < 3 else 0, network=network))
    looked = an_observer().look(claims)
    outstanding = looked.outstanding(rules)
    for place in set(range(len(claims))) - set(outstanding):
        activity = looked.activity(place)
        assert not is_abusive(activity, rules)
        assert not signals(activity, rules)


def test_a_machine_that_renders_every_second_has_an_even_rhythm():
    looked = an_observer().look([a_claim(MINTED + n * SECOND) for n in range(17)])
    assert [signal.name for signal in signals(looked.activity(16), RATE_RULES)] == ["person_gap_variation"]
    assert signals(looked.activity(15), RATE_RULES) == (), "16 gaps are not known yet"
