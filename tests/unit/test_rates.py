"""Rates and rhythm, at each threshold; the vectors stand beside the packs."""

import msgspec
import pytest
from counterskit import RATE_RULES as RULES
from counterskit import RATE_VECTORS as VECTORS
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.rates import Activity, RateRules, is_abusive, signals
from domain.signals import Family

CELL_OF_MANY_WORKERS = msgspec.structs.replace(RULES, device=None, network=None)


@pytest.mark.parametrize("case", VECTORS["case"], ids=lambda case: case["says"])
def test_each_vector_is_judged_as_it_says(case):
    activity = msgspec.convert(case["activity"], Activity)
    assert is_abusive(activity, RULES) is case.get("abusive", False)
    assert [f"{signal.family} {signal.name}" for signal in signals(activity, RULES)] == case.get("signals", [])


def test_every_threshold_has_a_vector_below_at_and_above():
    tried = {name: {case["activity"].get(name) for case in VECTORS["case"]} for name in Activity.__struct_fields__}
    for limits, kind in ((RULES.abusive, "person"), (RULES.unusual, "person"), (RULES.device, "device")):
        for window in ("10s", "min", "hour"):
            limit = getattr(limits, f"per_{window}")
            assert {limit - 1, limit, limit + 1} <= tried[f"{kind}_{window}"]
    share = RULES.network.per_device_hour * RULES.network.devices_min
    assert {share - 1, share, share + 1} <= tried["network_hour"]
    assert {RULES.network.devices_min - 1, RULES.network.devices_min} <= tried["network_devices_hour"]
    assert RULES.even_gap_variation in tried["person_gap_variation"]


def test_a_signal_names_value_and_threshold():
    [signal] = signals(Activity(person_hour=1_500), RULES)
    assert (signal.family, signal.value, signal.threshold) == (Family.RATE, 1_500, RULES.unusual.per_hour)


counts = st.none() | st.integers(0, 10_000_000)


@given(network_hour=counts, devices=counts, device=st.tuples(counts, counts, counts))
@settings(deadline=None)
def test_without_rules_for_shared_keys_only_the_person_decides(network_hour, devices, device):
    activity = Activity(
        person_hour=60,
        device_10s=device[0],
        device_min=device[1],
        device_hour=device[2],
        network_hour=network_hour,
        network_devices_hour=devices,
    )
    assert not is_abusive(activity, CELL_OF_MANY_WORKERS)
    assert signals(activity, CELL_OF_MANY_WORKERS) == ()


@given(network_hour=counts)
@settings(deadline=None)
def test_the_rate_of_a_network_alone_is_never_abusive(network_hour):
    assert not is_abusive(Activity(network_hour=network_hour), RULES)


def test_what_is_unusual_cannot_be_over_what_is_abusive():
    wrong = {**VECTORS["rates"], "unusual": {"per_10s": 61, "per_min": 1, "per_hour": 1}}
    with pytest.raises(msgspec.ValidationError, match=r"unusual\.per_10s is over abusive\.per_10s"):
        msgspec.convert(wrong, RateRules)


@pytest.mark.parametrize("key", ["even_gap_variation", "abusive", "unusual"])
def test_a_pack_without_a_threshold_is_refused(key):
    with pytest.raises(msgspec.ValidationError, match=key):
        msgspec.convert({name: value for name, value in VECTORS["rates"].items() if name != key}, RateRules)


def test_an_unknown_threshold_is_refused():
    with pytest.raises(msgspec.ValidationError, match="per_network"):
        msgspec.convert({**VECTORS["rates"], "per_network": 1}, RateRules)
