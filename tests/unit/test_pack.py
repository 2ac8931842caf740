import re

import pytest
from builders import PACK, PACK_TEXT
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from domain.pack import Pack, PackError, parse_pack
from domain.pack_check import contradictions
from domain.reasons import CLASS_OF, Reason, ReasonClass
from domain.vocabulary import CountingMethod, Evidence, Format, OmidType, Surface

FILE = "packs/other.toml"
NUMBERS = re.findall(r"^(\w+) = [\d_]+ ", PACK_TEXT.partition("[resolve")[0], re.MULTILINE)


def problems_of(text):
    with pytest.raises(PackError) as caught:
        parse_pack(text, FILE)
    return str(caught.value).splitlines()


def problem_of(text):
    [problem] = problems_of(text)
    return problem


def without(pattern, text=PACK_TEXT):
    text, n = re.subn(pattern, "", text, count=1, flags=re.MULTILINE)
    assert n == 1
    return text


def changed(*changes):
    text = PACK_TEXT
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    return text


def view_rule(name="other", **keys):
    lines = "\n".join(f"{key} = {value}" for key, value in {"ratio": 0.5, "visible_ms": 1, **keys}.items())
    return f'\n[[view_rule]]\nname = "{name}"\nformat = "display"\n{lines}\n'


def test_a_pack_is_named_by_name_and_version():
    assert PACK.id == "base-1"
    assert replace(PACK, name="festive", version=12).id == "festive-12"


@pytest.mark.parametrize("key", [*NUMBERS, "version", "name"])
def test_a_missing_value_is_named_with_its_file(key):
    assert problem_of(without(rf"^{key} = .*$")) == f"{FILE}: Object missing required field `{key}`"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("late_after_ms = 86_400_000", "late_after_ms = -1", "Expected `int` >= 0 - at `$.late_after_ms`"),
        ("late_after_ms = 86_400_000", 'late_after_ms = "1 d"', "Expected `int`, got `str` - at `$.late_after_ms`"),
        ("late_after_ms = 86_400_000", "late_after_ms = true", "Expected `int`, got `bool` - at `$.late_after_ms`"),
        ("late_after_ms = 86_400_000", "late_after_ms = 1.5", "Expected `int`, got `float` - at `$.late_after_ms`"),
        ("late_after_ms = 86_400_000", "late_after_ms = 9_007_199_254_740_993", "<= 9007199254740992"),
        ("late_after_ms = 86_400_000", "late_afterwards = 1", "`late_afterwards`"),
        ("RISK_GREY = 259_200_000", "RISK_GRAY = 1", "Invalid enum value 'RISK_GRAY' - at `key` in `$.resolve"),
        ('surface = "feed"', 'surface = "radio"', "Invalid enum value 'radio' - at `$.count_point[0].surface`"),
        ('required = ["agent"]', 'required = ["shoe"]', "'shoe' - at `$.count_point[0].required[0]`"),
        ('onePixel = "shown"', 'onePixel = "seen"', "Invalid enum value 'seen' - at `$.omid[...]`"),
        ("ratio = 0.5", "ratio = 1.5", "Expected `float` <= 1.0 - at `$.view_rule[0].ratio`"),
        ("ratio = 0.5", "ratio = nan", "Expected `float` > 0.0 - at `$.view_rule[0].ratio`"),
        ("ratio = 0.5", "ratio = 0", "Expected `float` > 0.0 - at `$.view_rule[0].ratio`"),
        ("video_longer_ratio = 16.0", "video_longer_ratio = nan", "`$.signals.video_longer_ratio`"),
        ("click_counts = true", "clicks_count = true", "unknown field `clicks_count` - at `$.view_rule[0]`"),
        ('name = "mrc"', 'name = "mrc+ "', "matching regex"),
        ('name = "base"', 'name = "base-1"', "matching regex"),
        ("version = 1", "version = 0", "Expected `int` >= 1 - at `$.version`"),
        ("version = 1", "version = 1\nid = 'x'", "unknown field `id`"),
    ],
)
def test_a_wrong_value_is_named_with_its_file_key_and_reason(old, new, says):
    problem = problem_of(changed((old, new)))
    assert problem.startswith(f"{FILE}: ")
    assert says in problem


def test_what_is_no_toml_is_named_with_its_file_and_line():
    assert re.match(r"packs/other.toml: not TOML: .*line 1", problem_of("name = \n"))
    assert re.search(r"not TOML: .*line 7", problem_of(changed(("version = 1", "version = 1\nversion = 2"))))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            "late_after_ms = 86_400_000",
            "late_after_ms = 604_800_000",
            "late_after_ms: 604800000 must be less than token_age_max_ms (604800000): what is late would always be",
        ),
        (
            "view_money_max_ms = 86_400_000",
            "view_money_max_ms = 604_800_001",
            "view_money_max_ms: 604800001 may be at most token_age_max_ms (604800000): later views are expired",
        ),
        (
            "late_after_ms = 86_400_000",
            "late_after_ms = 86_400_001",
            "lateness: no class ends at late_after_ms (86400001), so one would be LATE in part",
        ),
        (
            "within_ms = 604_800_000",
            "within_ms = 604_800_001",
            "lateness: the last class must end at token_age_max_ms (604800000)",
        ),
        (
            "within_ms = 600_000",
            "within_ms = 86_400_000",
            "lateness: delayed: within_ms must be more than that of prompt (86400000)",
        ),
        ('name = "prompt"', 'name = "late"', "lateness: late stands 2 times"),
        ('name = "prompt"', 'name = "expired"', "lateness: expired: the name of what is later than all classes"),
        ("[resolve_within_ms]", "[resolve_within_ms]\nSTACKED = 1", "resolve_within_ms: STACKED is decided at once"),
        ('signal = "stacked"', 'signal = "video_longer"', "accusation: video_longer stands 2 times"),
        ('reason = "STACKED"', 'reason = "LATE"', "accusation: stacked: LATE is no reason of class sivt"),
        ('loaded = "not_begun"\n', "", "omid: says nothing of loaded"),
        (
            'absent = "EVIDENCE_INCOMPLETE"',
            'absent = "LATE"',
            "count_point: feed display: absent must be one of OMID_UNPROVEN, EVIDENCE_INCOMPLETE",
        ),
        (
            'absent = "EVIDENCE_INCOMPLETE"',
            'absent = "OMID_UNPROVEN"',
            "count_point: feed display: absent: OMID_UNPROVEN, but the evidence is on_screen_at",
        ),
        (
            'evidence = "on_screen_at"',
            'evidence = "omid"',
            "count_point: feed display: evidence: omid does not prove on_screen",
        ),
        (
            'evidence = "omid"',
            'evidence = "request"',
            "count_point: audience_network display: evidence: request does not prove begin_to_render",
        ),
        ('required = ["agent"]', 'required = ["sdk", "sdk"]', "count_point: feed display: required: a field stands"),
        (
            "area_min_px = 242_500",
            "area_min_px = 200_000",
            "view_rule: mrc display: areas from 200000 px on stand in two rules",
        ),
        (
            "area_min_px = 242_500",
            "area_min_px = 300_000",
            "view_rule: mrc display: no rule for areas from 242500 to below 300000 px",
        ),
        ("area_min_px = 242_500\n", "", "view_rule: mrc display: areas from 0 px on stand in two rules"),
        ("duration_share = 0.5", "", "view_rule: groupm video: neither visible_ms nor duration_share says for how"),
    ],
)
def test_a_contradiction_is_named_with_its_file_key_and_reason(old, new, says):
    assert any(problem.startswith(f"{FILE}: {says}") for problem in problems_of(changed((old, new))))


def test_all_contradictions_are_told_at_once():
    both = changed(('signal = "stacked"', 'signal = "video_longer"'), ('loaded = "not_begun"\n', ""))
    assert len(problems_of(both)) == 2


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        (view_rule(area_min_px=5), "view_rule: other display: no rule for areas from 0 to below 5 px"),
        (view_rule(area_below_px=5), "view_rule: other display: no rule for areas from 5 px on"),
        (view_rule() + view_rule(), "view_rule: other display: areas from 0 px on stand in two rules"),
        (view_rule(duration_share=0.5), "view_rule: other display: duration_share: only a video has a duration"),
        ("".join(view_rule(f"pack_{n}") for n in range(5)), "view_rule: more than 8 names"),
    ],
)
def test_view_rules_of_a_name_and_format_cover_every_area_once(rules, says):
    assert problem_of(PACK_TEXT + rules) == f"{FILE}: {says}"


def test_an_empty_range_of_areas_is_refused():
    empty = view_rule(area_below_px=7) + view_rule(area_min_px=7, area_below_px=7) + view_rule(area_min_px=7)
    says = "view_rule: other display: area_below_px: 7 must be more than area_min_px (7)"
    assert problem_of(PACK_TEXT + empty) == f"{FILE}: {says}"


def test_a_format_without_a_view_rule_is_named():
    text = re.sub(r'^\[\[view_rule\]\]\nname = "\w+"\nformat = "video"\n(?:\w.*\n)*', "", PACK_TEXT, flags=re.MULTILINE)
    assert problem_of(text) == f"{FILE}: view_rule: none for format 'video'"


def test_a_surface_and_format_without_a_count_point_is_named():
    text = without(r'^\[\[count_point\]\]\nsurface = "reels"\nformat = "video"\n(?:\w.*\n)*')
    assert problem_of(text) == f"{FILE}: count_point: none for surface 'reels' and format 'video'"


def test_a_count_point_that_stands_twice_is_refused():
    block = re.search(r"^\[\[count_point\]\]\n(?:\w.*\n)*", PACK_TEXT, re.MULTILINE)[0]
    assert problem_of(f"{PACK_TEXT}\n{block}") == f"{FILE}: count_point: feed display stands 2 times"


@pytest.mark.parametrize("reason", [reason for reason, cls in CLASS_OF.items() if cls is ReasonClass.UNDECIDED])
def test_an_undecided_reason_without_a_deadline_is_named(reason):
    problem = problem_of(without(rf"^{reason} = .*$"))
    assert problem == f"{FILE}: resolve_within_ms: no deadline for {reason}"


def test_a_pack_without_a_contradiction_has_none():
    assert list(contradictions(PACK)) == []


@pytest.mark.parametrize("surface", [Surface.FEED, Surface.INSTAGRAM, Surface.REELS])
@pytest.mark.parametrize("fmt", Format)
def test_first_party_surfaces_count_on_the_screen(surface, fmt):
    point = PACK.count_point_of(surface, fmt)
    assert (point.method, point.evidence) == (CountingMethod.ON_SCREEN, Evidence.ON_SCREEN_AT)


@pytest.mark.parametrize("fmt", Format)
def test_the_audience_network_counts_at_begin_to_render_by_omid(fmt):
    point = PACK.count_point_of(Surface.AUDIENCE_NETWORK, fmt)
    assert (point.method, point.evidence) == (CountingMethod.BEGIN_TO_RENDER, Evidence.OMID)


def test_every_type_of_omid_has_its_meaning_in_the_pack():
    assert PACK.omid.keys() == set(OmidType)


def test_a_signal_accuses_of_its_reason_and_another_of_none():
    assert PACK.accuses["stacked"] is Reason.STACKED
    assert PACK.accuses["visible_longer"] is PACK.accuses["video_longer"] is Reason.VIEW_FALSIFIED
    assert "asn_rare" not in PACK.accuses


@given(ages=st.tuples(*[st.integers(-(1 << 47), 1 << 47)] * 2))
def test_what_is_later_is_in_no_earlier_class(ages):
    order = [*(late.name for late in PACK.lateness), "expired"]
    sooner, later = (order.index(PACK.lateness_of(age_ms)) for age_ms in sorted(ages))
    assert sooner <= later


@given(age_ms=st.integers(0, 604_800_000))
def test_a_class_is_late_as_a_whole_or_not_at_all(age_ms):
    assert (PACK.lateness_of(age_ms) == "late") == (age_ms > PACK.late_after_ms)


def test_what_is_looked_up_belongs_to_a_pack_and_not_to_its_predecessor():
    assert PACK.rules_by_format
    fewer = replace(PACK, view_rule=PACK.view_rule[:1])
    assert isinstance(fewer, Pack)
    assert fewer.rules_by_format == {Format.DISPLAY: PACK.view_rule[:1], Format.VIDEO: ()}
    assert fewer != PACK
