import pytest
from builders import PACK
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from domain.pack import Measures, judge_view, merge_views
from domain.standing import Viewability
from domain.vocabulary import Format

NOT, SEEN = Viewability.NOT_VIEWABLE, Viewability.VIEWABLE
viewabilities = st.dictionaries(st.sampled_from(["mrc", "mrc_cross_media", "other"]), st.sampled_from(Viewability))
ratios, times_ms = st.floats(0, 1), st.integers(0, 10_000)
measures = st.builds(
    Measures,
    format=st.sampled_from(Format),
    area_px=st.none() | st.integers(0, 1_000_000),
    visible_ratio=st.none() | ratios,
    visible_ms=st.none() | times_ms,
    duration_ms=st.none() | st.integers(0, 60_000),
    clicked=st.booleans(),
)


def display(**seen):
    return judge_view(Measures(format=Format.DISPLAY, **{"area_px": 75_000, **seen}), PACK)


def video(**seen):
    return judge_view(Measures(format=Format.VIDEO, **{"area_px": 75_000, **seen}), PACK)


@pytest.mark.parametrize(
    ("ratio", "visible_ms", "says"),
    [
        (0.5, 1_000, SEEN),
        (1.0, 86_400_000, SEEN),
        (0.5, 999, NOT),
        (0.499, 1_000, NOT),
        (0.0, 0, NOT),
    ],
)
def test_display_is_viewable_with_half_its_pixels_for_one_second(ratio, visible_ms, says):
    assert display(visible_ratio=ratio, visible_ms=visible_ms)["mrc"] is says


@pytest.mark.parametrize(
    ("area_px", "ratio", "says"),
    [(242_499, 0.3, NOT), (242_500, 0.3, SEEN), (242_500, 0.299, NOT), (242_499, 0.5, SEEN), (None, 0.3, NOT)],
)
def test_large_display_needs_30_percent(area_px, ratio, says):
    assert display(area_px=area_px, visible_ratio=ratio, visible_ms=1_000)["mrc"] is says


def test_what_counts_only_by_the_rule_for_large_display_is_told_apart():
    said = display(area_px=242_500, visible_ratio=0.4, visible_ms=1_000)
    assert (said["mrc"], said["mrc_half"]) == (SEEN, NOT)


@given(seen=measures)
def test_below_large_display_the_disclosed_difference_is_nothing(seen):
    said = judge_view(replace(seen, format=Format.DISPLAY, area_px=min(seen.area_px or 0, 242_499)), PACK)
    assert said.get("mrc") is said.get("mrc_half")


@given(seen=measures)
def test_what_is_viewable_to_half_is_viewable_to_mrc(seen):
    said = judge_view(seen, PACK)
    assert said.get("mrc_half") is not SEEN or said["mrc"] is SEEN


@pytest.mark.parametrize(
    ("ratio", "visible_ms", "says"), [(1.0, 1_000, SEEN), (1.0, 999, NOT), (0.999, 1_000, NOT), (0.999, None, NOT)]
)
def test_groupm_wants_all_of_display_for_one_second(ratio, visible_ms, says):
    assert display(visible_ratio=ratio, visible_ms=visible_ms)["groupm"] is says


@pytest.mark.parametrize(
    ("ratio", "visible_ms", "mrc", "cross_media"),
    [
        (0.5, 2_000, SEEN, NOT),
        (1.0, 2_000, SEEN, SEEN),
        (1.0, 1_999, NOT, NOT),
        (0.499, 2_000, NOT, NOT),
        (0.999, 2_000, SEEN, NOT),
    ],
)
def test_video_is_viewable_after_two_seconds_with_half_or_under_cross_media_all_its_pixels(
    ratio, visible_ms, mrc, cross_media
):
    said = video(visible_ratio=ratio, visible_ms=visible_ms)
    assert (said["mrc"], said["mrc_cross_media"]) == (mrc, cross_media)


@pytest.mark.parametrize(
    ("duration_ms", "visible_ms", "says"),
    [(10_000, 5_000, SEEN), (10_000, 4_999, NOT), (1_001, 501, SEEN), (1_001, 500, NOT), (60_000, 20_000, NOT)],
)
def test_groupm_wants_all_of_an_in_feed_video_for_half_its_duration(duration_ms, visible_ms, says):
    said = video(visible_ratio=1.0, visible_ms=visible_ms, duration_ms=duration_ms)
    assert said["groupm"] is says


@pytest.mark.parametrize("duration_ms", [None, 0])
def test_half_of_no_duration_is_not_known(duration_ms):
    assert "groupm" not in video(visible_ratio=1.0, visible_ms=60_000, duration_ms=duration_ms)


def test_the_pixel_test_comes_before_the_time_test():
    assert display(visible_ratio=0.4) == {"mrc": NOT, "mrc_half": NOT, "groupm": NOT}
    assert display(visible_ratio=0.5) == {"groupm": NOT}
    assert display(visible_ratio=1.0) == {}
    assert video(visible_ratio=0.6) == {"mrc_cross_media": NOT, "groupm": NOT}


def test_a_time_without_pixels_says_nothing():
    assert display(visible_ms=10_000) == {}
    assert video(visible_ms=10_000) == {}


def test_a_click_makes_display_viewable_of_any_size_and_however_little_was_seen():
    assert display(clicked=True) == {"mrc": SEEN, "mrc_half": SEEN}
    unseen = {"visible_ratio": 0.0, "visible_ms": 0}
    assert display(clicked=True, area_px=300_000, **unseen) == {"mrc": SEEN, "mrc_half": SEEN, "groupm": NOT}


def test_a_click_does_not_make_video_viewable():
    assert video(clicked=True) == {}
    said = video(clicked=True, visible_ratio=0.1, visible_ms=5_000)
    assert said == {"mrc": NOT, "mrc_cross_media": NOT, "groupm": NOT}


@given(seen=measures)
def test_every_area_is_judged_by_exactly_one_rule_of_a_viewability_pack(seen):
    area_px = seen.area_px or 0
    covering = [
        rule.name
        for rule in PACK.view_rule
        if rule.format is seen.format
        and area_px >= rule.area_min_px
        and (rule.area_below_px is None or area_px < rule.area_below_px)
    ]
    assert sorted(covering) == sorted({rule.name for rule in PACK.view_rule if rule.format is seen.format})


@given(seen=measures, ratios=st.tuples(ratios, ratios), times_ms=st.tuples(times_ms, times_ms))
def test_seeing_more_for_longer_never_makes_it_less_viewable(seen, ratios, times_ms):
    less, more = (
        judge_view(replace(seen, visible_ratio=ratio, visible_ms=visible_ms), PACK)
        for ratio, visible_ms in zip(sorted(ratios), sorted(times_ms), strict=True)
    )
    assert all(more[name] is SEEN for name, view in less.items() if view is SEEN)


@given(known=viewabilities, said=viewabilities)
def test_viewability_moves_on_and_never_back(known, said):
    moved = merge_views(known, said)
    assert moved.keys() == known.keys() | said.keys()
    for name, view in moved.items():
        expected = SEEN if SEEN in (known.get(name), said.get(name)) else NOT
        assert view is expected


@given(known=viewabilities, said=viewabilities)
def test_what_was_said_before_moves_nothing(known, said):
    moved = merge_views(known, said)
    assert merge_views(moved, said) is moved


@given(one=viewabilities, other=viewabilities)
def test_views_move_viewability_alike_in_any_order(one, other):
    assert merge_views(one, other) == merge_views(other, one)
