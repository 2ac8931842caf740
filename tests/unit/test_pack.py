import re

import pytest
from builders import PACK, PACK_TEXT

from domain.pack import PackError, parse_pack
from domain.reasons import CLASS_OF, ReasonClass
from domain.vocabulary import CountingMethod, Evidence, Format, Surface


def problem_of(text):
    with pytest.raises(PackError) as caught:
        parse_pack(text, "packs/other.toml")
    return str(caught.value)


def without(pattern):
    text, n = re.subn(pattern, "", PACK_TEXT, count=1, flags=re.MULTILINE)
    assert n == 1
    return text


@pytest.mark.parametrize(
    "key",
    [
        "token_age_max_ms",
        "clock_ahead_max_ms",
        "late_after_ms",
        "clock_skew_max_ms",
        "area_invisible_max_px",
        "double_fire_window_ms",
        "view_money_max_ms",
    ],
)
def test_a_missing_threshold_is_named_with_its_file(key):
    problem = problem_of(without(rf"^{key} = .*$"))
    assert problem.startswith("packs/other.toml: ")
    assert f"missing required field `{key}`" in problem


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("late_after_ms = 86_400_000", "late_after_ms = -1", "Expected `int` >= 0 - at `$.late_after_ms`"),
        ("late_after_ms = 86_400_000", 'late_after_ms = "1 d"', "Expected `int`, got `str` - at `$.late_after_ms`"),
        ("late_after_ms = 86_400_000", "late_afterwards = 1", "`late_afterwards`"),
        ("RISK_GREY = 259_200_000", "RISK_GRAY = 1", "Invalid enum value 'RISK_GRAY' - at `key` in `$.resolve"),
        ('surface = "feed"', 'surface = "radio"', "Invalid enum value 'radio' - at `$.count_point[0].surface`"),
        ("ratio = 0.5", "ratio = 1.5", "Expected `float` <= 1.0 - at `$.view_rule[0].ratio`"),
        ("click_counts = true", "clicks_count = true", "unknown field `clicks_count` - at `$.view_rule[0]`"),
    ],
)
def test_a_wrong_value_is_named_with_its_file_key_and_reason(old, new, says):
    problem = problem_of(PACK_TEXT.replace(old, new, 1))
    assert problem.startswith("packs/other.toml: ")
    assert says in problem


def test_what_is_no_toml_is_named_with_its_file_and_line():
    assert re.match(r"packs/other.toml: not TOML: .*line 1", problem_of("name = \n"))


def test_a_surface_and_format_without_a_count_point_is_named():
    text = without(r'^\[\[count_point\]\]\nsurface = "reels"\nformat = "video"\n(?:\w.*\n)*')
    assert problem_of(text) == "packs/other.toml: count_point: none for surface 'reels' and format 'video'"


def test_a_count_point_that_stands_twice_is_refused():
    block = re.search(r"^\[\[count_point\]\]\n(?:\w.*\n)*", PACK_TEXT, re.MULTILINE)[0]
    problem = problem_of(f"{PACK_TEXT}\n{block}")
    assert problem == "packs/other.toml: count_point: feed display stands 2 times"


@pytest.mark.parametrize("reason", [reason for reason, cls in CLASS_OF.items() if cls is ReasonClass.UNDECIDED])
def test_an_undecided_reason_without_a_deadline_is_named(reason):
    problem = problem_of(without(rf"^{reason} = .*$"))
    assert problem == f"packs/other.toml: resolve_within_ms: no deadline for {reason}"


@pytest.mark.parametrize("surface", [Surface.FEED, Surface.INSTAGRAM, Surface.REELS])
@pytest.mark.parametrize("fmt", Format)
def test_first_party_surfaces_count_on_the_screen(surface, fmt):
    point = PACK.count_point_of(surface, fmt)
    assert (point.method, point.evidence) == (CountingMethod.ON_SCREEN, Evidence.ON_SCREEN_AT)


@pytest.mark.parametrize("fmt", Format)
def test_the_audience_network_counts_at_begin_to_render_by_omid(fmt):
    point = PACK.count_point_of(Surface.AUDIENCE_NETWORK, fmt)
    assert (point.method, point.evidence) == (CountingMethod.BEGIN_TO_RENDER, Evidence.OMID)
