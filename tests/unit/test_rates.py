"""Rates and rhythm. The thresholds that the base pack has are proved by the vectors beside it."""

import msgspec
import pytest
from counterskit import RATE_RULES as RULES
from counterskit import RULES_OF_ONE_WORKER
from hypothesis import given
from hypothesis import strategies as st

from domain.rates import Activity, RateRules, is_abusive, signals
from domain.signals import Family

WRITTEN = msgspec.to_builtins(RULES)
OF_DEVICES = [
    ({"device_10s": 119}, False),
    ({"device_10s": 120}, False),
    ({"device_10s": 121}, True),
    ({"device_min": 479}, False),
    ({"device_min": 480}, False),
    ({"device_min": 481}, True),
    ({"device_hour": 7_199}, False),
    ({"device_hour": 7_200}, False),
    ({"device_hour": 7_201}, True),
]
OF_NETWORKS = [
    ({"network_hour": 7_199, "network_devices_hour": 4}, False),
    ({"network_hour": 7_200, "network_devices_hour": 4}, False),
    ({"network_hour": 7_201, "network_devices_hour": 4}, True),
    ({"network_hour": 1_000_000, "network_devices_hour": 3}, False),
    ({"network_hour": 1_000_000, "network_devices_hour": None}, False),
]


@pytest.mark.parametrize(("known", "abusive"), OF_DEVICES + OF_NETWORKS)
def test_keys_that_workers_share_are_judged_where_a_pack_has_rules_for_them(known, abusive):
    assert is_abusive(Activity(**known), RULES_OF_ONE_WORKER) is abusive
    assert not is_abusive(Activity(**known), RULES)


def test_a_signal_names_value_and_threshold():
    [signal] = signals(Activity(person_hour=1_500), RULES)
    assert (signal.family, signal.value, signal.threshold) == (Family.RATE, 1_500, RULES.unusual.per_hour)


counts = st.none() | st.integers(0, 10_000_000)


@given(network_hour=counts, devices=counts, device=st.tuples(counts, counts, counts))
def test_without_rules_for_shared_keys_only_the_person_decides(network_hour, devices, device):
    activity = Activity(
        person_hour=60,
        device_10s=device[0],
        device_min=device[1],
        device_hour=device[2],
        network_hour=network_hour,
        network_devices_hour=devices,
    )
    assert not is_abusive(activity, RULES)
    assert signals(activity, RULES) == ()


@given(network_hour=counts)
def test_the_rate_of_a_network_alone_is_never_abusive(network_hour):
    assert not is_abusive(Activity(network_hour=network_hour), RULES_OF_ONE_WORKER)


def test_what_is_unusual_cannot_be_over_what_is_abusive():
    wrong = {**WRITTEN, "unusual": {"per_10s": 61, "per_min": 1, "per_hour": 1}}
    with pytest.raises(msgspec.ValidationError, match=r"unusual\.per_10s is over abusive\.per_10s"):
        msgspec.convert(wrong, RateRules)


@pytest.mark.parametrize("key", ["even_gap_variation", "abusive", "unusual"])
def test_a_pack_without_a_threshold_is_refused(key):
    with pytest.raises(msgspec.ValidationError, match=key):
        msgspec.convert({name: value for name, value in WRITTEN.items() if name != key}, RateRules)


def test_an_unknown_threshold_is_refused():
    with pytest.raises(msgspec.ValidationError, match="per_network"):
        msgspec.convert({**WRITTEN, "per_network": 1}, RateRules)
