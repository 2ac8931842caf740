"""The features of a render: what is known of it, how good it is, and how it is logged."""

import numpy as np
import pytest
from builders import MINTED, SECOND, a_claim, a_render, a_token, cause
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from msgspec.structs import replace

from domain.vocabulary import AgentClass, Format, NetworkClass, OmidType
from ml.counters.counters import Counters
from ml.counters.observer import Observer
from ml.counters.tables import HOUR_MS, Capacities
from ml.features.logged import UnreadableVector, pack, unpack
from ml.features.matrix import AT_LEAST, COLD, FRESH, MISSING, STALE, STALE_AFTER_MS, TIMEOUT, Vectors, vectors
from ml.features.publishers import History, PublisherHistory
from ml.features.schema import PLACE, SCHEMA, SCHEMA_ID, Availability, Feature, Group, columns_of, schema_id

SMALL = Capacities(*[1_024] * 8)


def a_claimed(**changes):
    claim = a_claim(a_render(event_id=cause(), stack_depth=2), a_token())
    return replace(claim, **{"device": "d" * 24, "user": "a" * 24, "network": "e" * 24, **changes})


def counted(claims, since=MINTED - 25 * HOUR_MS):
    return Observer(Counters(SMALL, since)).look(claims).features


def of(found: Vectors, name, row=0):
    value = found.values[row, PLACE[name]]
    return (None if np.isnan(value) else float(value)), int(found.status[row, PLACE[name]])


def test_every_column_has_a_name_of_its_own():
    assert len(PLACE) == len(SCHEMA)
    assert [feature.name for feature in SCHEMA] == sorted(PLACE, key=PLACE.__getitem__)


def test_a_schema_in_other_words_is_the_same_and_with_another_feature_is_not():
    said = (
        *SCHEMA[:-1],
        Feature(**{f: getattr(SCHEMA[-1], f) for f in SCHEMA[-1].__struct_fields__} | {"missing": "-"}),
    )
    assert schema_id(said) == SCHEMA_ID
    assert schema_id(SCHEMA[:-1]) != SCHEMA_ID
    assert schema_id((*SCHEMA[1:], SCHEMA[0])) != SCHEMA_ID


def test_counters_are_near_and_history_arrives_by_itself():
    ways = {group: {SCHEMA[column].availability for column in columns_of(group)} for group in Group}
    assert ways[Group.COUNTERS] == ways[Group.SHARED] == {Availability.NEAR}
    assert ways[Group.ASYNC] == {Availability.ASYNC}
    assert ways[Group.GEOMETRY] == {Availability.SYNC}


def test_what_a_render_says_stands_in_its_columns():
    claim = a_claimed(
        format=Format.VIDEO,
        agent_class=AgentClass.NOT_A_BROWSER,
        network_class=NetworkClass.VPN,
        omid_type=OmidType.VIEWABLE,
        background=True,
        agent_age_days=40,
        sdk_age_days=-2,
        fingerprint_inconsistencies=3,
        area_px=75_000,
        visible_ratio=0.5,
        visible_ms=1_500,
        skew_ms=7,
        served_at=MINTED,
        event_at=MINTED + SECOND,
        received_at=MINTED + 3 * SECOND,
        client_at=MINTED + 900,
        sent_at=MINTED + 1_900,
        on_screen_at=MINTED + 950,
        missing=("user", "device"),
    )
    found = vectors([claim], counted([claim]))
    said = {
        "is_video": 1,
        "agent_class": 1,
        "network_class": 2,
        "omid_strength": 6,
        "background": 1,
        "agent_age_days": 40,
        "sdk_age_days": -2,
        "fingerprint_inconsistencies": 3,
        "prefetched": 0,
        "area_px": 75_000,
        "stack_depth": 2,
        "visible_ratio": 0.5,
        "visible_ms": 1_500,
        "visible_excess_ms": -1_500,
        "serve_to_render_ms": 1_000,
        "render_to_receipt_ms": 2_000,
        "upload_wait_ms": 1_000,
        "begin_wait_ms": 50,
        "skew_ms": 7,
        "absent_fields": 2,
        "person_10s": 1,
        "device_hour": 1,
        "network_devices_hour": 1,
    }
    assert {name: of(found, name) for name in said} == {name: (value, FRESH) for name, value in said.items()}


def test_what_is_not_said_is_nan_and_missing():
    claim = a_claimed(
        visible_ratio=None,
        visible_ms=None,
        omid_type=None,
        sent_at=None,
        agent_class=AgentClass.ABSENT,
        network_class=NetworkClass.ABSENT,
    )
    found = vectors([claim], counted([claim]))
    untold = ("visible_ratio", "visible_ms", "visible_excess_ms", "omid_strength", "upload_wait_ms")
    for name in (*untold, "agent_class", "network_class", "publisher_click_z"):
        assert of(found, name) == (None, MISSING)


def test_whoever_names_nobody_has_no_counts():
    claim = a_claimed(user="", device="")
    found = vectors([claim], counted([claim]))
    assert of(found, "person_hour") == of(found, "device_min") == (None, MISSING)
    assert of(found, "network_hour") == (1, FRESH)


def test_counts_that_may_be_too_low_are_none():
    claim = a_claimed()
    found = vectors([claim], counted([claim], since=claim.event_at - 20 * 60_000))
    assert of(found, "person_min") == (1, FRESH)
    assert of(found, "person_hour") == (None, COLD)


def test_a_bound_that_was_reached_keeps_its_count():
    many = [a_claimed(device="d" * 24, user=f"{n:024x}") for n in range(1, 20)]
    value, status = of(vectors(many, counted(many)), "device_users_hour", 18)
    assert status == AT_LEAST
    assert value == Capacities().users_per_device


def test_counters_that_do_not_answer_have_timed_out():
    found = vectors([a_claimed()], None)
    for column in (*columns_of(Group.COUNTERS), *columns_of(Group.SHARED)):
        assert found.status[0, column] == TIMEOUT
        assert np.isnan(found.values[0, column])


def test_groups_that_are_masked_are_as_if_nobody_knew():
    claims = [a_claimed()]
    found = vectors(claims, counted(claims), masked=[Group.SHARED, Group.TIME])
    for group in Group:
        for column in columns_of(group):
            if group in {Group.SHARED, Group.TIME}:
                assert (np.isnan(found.values[0, column]), found.status[0, column]) == (True, MISSING)
    assert of(found, "person_hour") == (1, FRESH)


def test_history_is_of_the_publisher_and_ages():
    known = History(MINTED, {"publisher-1": PublisherHistory(0.25, 0.5, -1.5)})
    young = a_claimed(publisher="publisher-1", received_at=MINTED + STALE_AFTER_MS)
    old = a_claimed(publisher="publisher-1", received_at=MINTED + STALE_AFTER_MS + 1)
    found = vectors([young, old, a_claimed(publisher="unheard of")], None, known)
    assert of(found, "publisher_duplicate_rate", 0) == (0.25, FRESH)
    assert of(found, "publisher_click_z", 1) == (-1.5, STALE)
    assert of(found, "publisher_invisible_share", 2) == (None, MISSING)


def test_no_renders_have_no_vectors():
    assert vectors([], counted([])).values.shape == (0, len(SCHEMA))


def test_values_are_those_that_a_float32_holds():
    found = vectors([a_claimed(visible_ratio=0.1)], None)
    assert of(found, "visible_ratio")[0] == float(np.float32(0.1)) != 0.1


known = st.tuples(
    st.floats(width=32, allow_nan=False) | st.sampled_from([np.inf, -np.inf, -0.0]),
    st.sampled_from([FRESH, STALE, AT_LEAST]),
)
unknown = st.tuples(st.just(np.nan), st.sampled_from([COLD, MISSING, TIMEOUT]))
rows = st.lists(known | unknown, min_size=len(SCHEMA), max_size=len(SCHEMA))


@for_all(given=st.lists(rows, max_size=4))
@settings(max_examples=40)
def test_what_is_logged_is_read_again_bit_for_bit(given):
    cells = np.array(given).reshape(len(given), len(SCHEMA), 2)
    values, status = np.ascontiguousarray(cells[:, :, 0]), cells[:, :, 1].astype(np.uint8)
    again = unpack(pack(Vectors(values, status)))
    assert again.values.tobytes() == values.tobytes()
    assert (again.status == status).all()


def test_a_vector_has_a_value_exactly_where_its_status_says_so():
    claims = [a_claimed(), a_claimed(user="", device="", visible_ratio=None), a_claimed(network="")]
    for counts in (counted(claims), None, counted(claims, since=MINTED)):
        found = vectors(claims, counts)
        assert (np.isnan(found.values) == np.isin(found.status, (COLD, MISSING, TIMEOUT))).all()
        assert unpack(pack(found)).values.tobytes() == found.values.tobytes()


@pytest.mark.parametrize(
    ("values", "letters"),
    [
        (b"", "f" * len(SCHEMA)),
        (b"\0" * 4 * len(SCHEMA), "f"),
        (b"\0" * 4 * len(SCHEMA), "x" * len(SCHEMA)),
        (b"\0" * 4 * len(SCHEMA), "é" * len(SCHEMA)),
        (b"\0" * 4 * len(SCHEMA), "f-" + "f" * (len(SCHEMA) - 2)),
        (b"\0" * 4, "-" * len(SCHEMA)),
    ],
)
def test_what_is_no_vector_is_refused(values, letters):
    with pytest.raises(UnreadableVector):
        unpack([(values, letters)])
