import pytest
from builders import PACK, PACK_TEXT, unhurried
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from domain.pack import Measures, judge_view, merge_views, parse_pack
from domain.standing import Viewability
from domain.vocabulary import Format

NOT, SEEN = Viewability.NOT_VIEWABLE, Viewability.VIEWABLE
IN_FEED = parse_pack(
    PACK_TEXT
    + """
[[view_rule]]
name = "in_feed"
format = "video"
ratio = 1.0
visible_ms = 1_000
duration_share = 0.5
""",
    "in-feed.toml",
)

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


def video(pack=PACK, **seen):
    return judge_view(Measures(format=Format.VIDEO, **{"area_px": 75_000, **seen}), pack)


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
    assert display(visible_ratio=ratio, visible_ms=visible_ms) == {"mrc": says}


@pytest.mark.parametrize(
    ("area_px", "ratio", "says"),
    [(242_499, 0.3, NOT), (242_500, 0.3, SEEN), (242_500, 0.299, NOT), (242_499, 0.5, SEEN), (None, 0.3, NOT)],
)
def test_large_display_needs_30_percent(area_px, ratio, says):
    assert display(area_px=area_px, visible_ratio=ratio, visible_ms=1_000) == {"mrc": says}


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
    assert video(visible_ratio=ratio, visible_ms=visible_ms) == {"mrc": mrc, "mrc_cross_media": cross_media}


def test_the_pixel_test_comes_before_the_time_test():
    assert display(visible_ratio=0.4) == {"mrc": NOT}
    assert display(visible_ratio=0.5) == {}
    assert video(visible_ratio=0.6) == {"mrc_cross_media": NOT}


def test_a_time_without_pixels_says_nothing():
    assert display(visible_ms=10_000) == {}
    assert video(visible_ms=10_000) == {}


def test_a_click_makes_display_viewable_of_any_size_and_however_little_was_seen():
    assert display(clicked=True) == {"mrc": SEEN}
    assert display(clicked=True, area_px=300_000, visible_ratio=0.0, visible_ms=0) == {"mrc": SEEN}


def test_a_click_does_not_make_video_viewable():
    assert video(clicked=True) == {}
    assert video(clicked=True, visible_ratio=0.1, visible_ms=5_000) == {"mrc": NOT, "mrc_cross_media": NOT}


@pytest.mark.parametrize(
    ("duration_ms", "visible_ms", "says"),
    [(10_000, 5_000, SEEN), (10_000, 4_999, NOT), (1_000, 1_000, SEEN), (1_000, 999, NOT)],
)
def test_a_pack_may_ask_for_a_share_of_the_duration(duration_ms, visible_ms, says):
    said = video(IN_FEED, visible_ratio=1.0, visible_ms=visible_ms, duration_ms=duration_ms)
    assert said["in_feed"] is says


def test_a_pack_that_asks_for_a_share_says_nothing_without_the_duration():
    assert "in_feed" not in video(IN_FEED, visible_ratio=1.0, visible_ms=60_000)


@unhurried
@given(seen=measures)
def test_every_area_is_judged_by_at_most_one_rule_of_a_pack(seen):
    covering = [
        rule.name
        for rule in PACK.view_rule
        if rule.format is seen.format
        and (seen.area_px or 0) >= rule.area_min_px
        and (rule.area_below_px is None or (seen.area_px or 0) < rule.area_below_px)
    ]
    assert len(covering) == len(set(covering))


@unhurried
@given(seen=measures, ratios=st.tuples(ratios, ratios), times_ms=st.tuples(times_ms, times_ms))
def test_seeing_more_for_longer_never_makes_it_less_viewable(seen, ratios, times_ms):
    less, more = (
        judge_view(replace(seen, visible_ratio=ratio, visible_ms=visible_ms), PACK)
        for ratio, visible_ms in zip(sorted(ratios), sorted(times_ms), strict=True)
    )
    assert all(more[name] is SEEN for name, view in less.items() if view is SEEN)


@unhurried
@given(known=viewabilities, said=viewabilities)
def test_viewability_moves_on_and_never_back(known, said):
    moved = merge_views(known, said)
    assert moved.keys() == known.keys() | said.keys()
    for name, view in moved.items():
        expected = SEEN if SEEN in (known.get(name), said.get(name)) else NOT
        assert view is expected


@unhurried
@given(known=viewabilities, said=viewabilities)
def test_what_was_said_before_moves_nothing(known, said):
    moved = merge_views(known, said)
    assert merge_views(moved, said) is moved


@unhurried
@given(one=viewabilities, other=viewabilities)
def test_views_move_viewability_alike_in_any_order(one, other):
    assert merge_views(one, other) == merge_views(other, one)
