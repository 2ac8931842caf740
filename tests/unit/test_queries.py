"""Questions for reports: what can be asked, and what becomes SQL."""

import pytest
from builders import DAY, HOUR, MINTED
from msgspec.structs import replace
from starlette.datastructures import QueryParams

from domain.reasons import CLASS_OF
from domain.vocabulary import DataSet, Format
from projections.completeness import Completeness
from projections.completeness import check as check_completeness
from projections.errors import QueryRefused
from projections.metrics import DEFINITIONS, columns_of
from projections.queries import Pacing
from projections.reports import MINUTES_SPAN_MAX_MS, PACKS_MAX, ROWS_MAX, SPAN_MAX_MS, Report, check, sql_of
from projections.vocabulary import (
    BY_REASON,
    MONEY_METRICS,
    RATES,
    USUAL,
    VALUES,
    VIEW_METRICS,
    Dimension,
    Granularity,
    Metric,
)
from service.desk_parameters import output_of, pacing_of, report_of
from service.parameters import rfc3339
from service.problems import BadParameter

FULL_HOUR = MINTED - MINTED % HOUR


def a_report(**changes):
    return replace(Report(since=FULL_HOUR, until=FULL_HOUR + DAY), **changes)


def sql(**changes):
    return sql_of(check(a_report(**changes)), 3)


def test_whole_hours_as_known_now_come_from_the_hourly_sums():
    assert "FROM report_hour_3 " in sql().text
    assert "FROM report_hour_3 " in sql(granularity=Granularity.DAY, dimensions=tuple(Dimension)[:8]).text


@pytest.mark.parametrize(
    "changes",
    [{"position": 7}, {"granularity": Granularity.MINUTE}, {"since": FULL_HOUR + 1}, {"until": FULL_HOUR + HOUR + 1}],
)
def test_anything_finer_or_earlier_comes_from_the_facts(changes):
    assert "FROM facts_3 " in sql(**changes).text


def test_only_live_data_counts_unless_asked():
    assert sql().parameters["in_data_set"] == ["live"]
    assert "in_data_set" not in sql(dimensions=(Dimension.DATA_SET,)).parameters
    assert sql(filters={Dimension.DATA_SET: ("replay",)}).parameters["in_data_set"] == ["replay"]


def test_values_are_bound_and_never_part_of_the_statement():
    text = "x' OR 1=1 --"
    asked = sql(filters={Dimension.CAMPAIGN: (text,), Dimension.SDK: (text,)}, packs=("p",), metrics=(Metric.VIEWABLE,))
    assert text not in asked.text
    assert asked.parameters["in_campaign"] == asked.parameters["in_sdk"] == [text]
    assert asked.parameters["yes_0"] == " p+ "


def test_columns_are_named_in_the_order_of_the_answer():
    asked = sql(
        granularity=Granularity.HOUR,
        dimensions=(Dimension.SURFACE, Dimension.CAMPAIGN),
        metrics=(Metric.NET, Metric.VIEWABLE_RATE),
        packs=("mrc", "mrc_cross_media"),
    )
    names = ("time", "surface", "campaign", "format", "net", "viewable_rate.mrc", "viewable_rate.mrc_cross_media")
    assert asked.columns == names


@pytest.mark.parametrize(
    ("metrics", "dimension"),
    [
        *((metric, Dimension.FORMAT) for metric in VIEW_METRICS),
        *((money, Dimension.CURRENCY) for money in MONEY_METRICS),
    ],
)
def test_what_must_not_be_mixed_is_split_unless_one_value_is_asked_for(metrics, dimension):
    one, two = (("video",), ("video", "display")) if dimension is Dimension.FORMAT else (("EUR",), ("EUR", "USD"))
    asked = a_report(metrics=(Metric.GROSS, metrics), dimensions=(Dimension.CAMPAIGN,))
    assert check(asked).dimensions == (Dimension.CAMPAIGN, dimension)
    assert check(replace(asked, filters={dimension: two})).dimensions == (Dimension.CAMPAIGN, dimension)
    assert check(replace(asked, filters={dimension: one})).dimensions == (Dimension.CAMPAIGN,)
    assert check(replace(asked, dimensions=(dimension, Dimension.SDK))).dimensions == (dimension, Dimension.SDK)


def test_data_sets_that_are_both_asked_for_are_not_mixed():
    both = a_report(filters={Dimension.DATA_SET: ("live", "replay")})
    assert check(both).dimensions == (Dimension.DATA_SET,)
    assert check(replace(both, dimensions=(Dimension.DATA_SET, Dimension.SDK))).dimensions == ("data_set", "sdk")


def test_a_report_without_money_and_viewability_is_not_split():
    assert check(a_report()).dimensions == ()


def test_what_must_not_be_mixed_is_split_also_when_the_most_dimensions_are_named():
    most = (Dimension.CAMPAIGN, *(one for one in Dimension if one not in {"campaign", "format", "currency"}))[:8]
    asked = check(a_report(metrics=(Metric.VIEWABLE_RATE, Metric.BILLABLE_MICROS), dimensions=most))
    assert asked.dimensions == (*most, Dimension.FORMAT, Dimension.CURRENCY)


def test_every_metric_is_defined_and_has_columns():
    assert list(DEFINITIONS) == list(Metric)
    for metric in Metric:
        assert columns_of(metric, ("mrc",)), metric


@pytest.mark.parametrize(("metric", "cls"), BY_REASON.items())
def test_a_breakdown_by_reason_has_a_column_for_every_reason_of_its_class(metric, cls):
    names = [name for name, _ in columns_of(metric, ())]
    prefix = metric.value.removesuffix("_by_reason")
    assert names == [f"{prefix}.{reason.value}" for reason, its in CLASS_OF.items() if its is cls]


def test_definitions_are_short_enough_to_stand_in_a_header():
    assert all(text.isascii() and len(text) <= 80 for text in DEFINITIONS.values())
    assert all("/" in DEFINITIONS[rate] for rate in RATES)


def test_one_row_more_is_read_than_is_shown():
    assert sql(rows_max=5).text.endswith("LIMIT 6")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"until": FULL_HOUR}, "until"),
        ({"until": FULL_HOUR + SPAN_MAX_MS + 1}, "until"),
        ({"rows_max": 0}, "limit"),
        ({"rows_max": ROWS_MAX + 1}, "limit"),
        ({"metrics": ()}, "metrics"),
        ({"metrics": (Metric.NET, Metric.NET)}, "metrics"),
        ({"dimensions": (Dimension.SDK, Dimension.SDK)}, "dimensions"),
        ({"dimensions": tuple(Dimension)[:9]}, "dimensions"),
        ({"packs": ("m'rc",)}, "pack"),
        ({"packs": tuple(f"p{n}" for n in range(PACKS_MAX + 1))}, "pack"),
        ({"packs": ("mrc", "mrc")}, "pack"),
        ({"granularity": Granularity.MINUTE, "until": FULL_HOUR + MINUTES_SPAN_MAX_MS + 1}, "granularity"),
        ({"metrics": (Metric.REFUSED,), "dimensions": (Dimension.CAMPAIGN,)}, "metrics"),
        ({"metrics": (Metric.REFUSED,), "dimensions": (Dimension.DATA_SET,)}, "metrics"),
        ({"metrics": (Metric.REFUSED_BY_REASON,), "filters": {Dimension.CAMPAIGN: ("c",)}}, "metrics"),
        ({"metrics": (Metric.REFUSED, Metric.VIEWABLE)}, "metrics"),
        ({"metrics": (Metric.REFUSED, Metric.BILLABLE_MICROS)}, "metrics"),
        (
            {"metrics": (Metric.REFUSED, Metric.VIEWABLE_RATE), "filters": {Dimension.FORMAT: (Format.VIDEO,)}},
            "metrics",
        ),
        ({"filters": {Dimension.SURFACE: ("billboard",)}}, "surface"),
        ({"filters": {Dimension.CAMPAIGN: ()}}, "campaign"),
        ({"filters": {Dimension.CAMPAIGN: ("x" * 129,)}}, "campaign"),
        ({"filters": {Dimension.CAMPAIGN: ("x",) * 101}}, "campaign"),
    ],
)
def test_a_question_that_cannot_be_asked_names_its_field(changes, field):
    with pytest.raises(QueryRefused) as caught:
        check(a_report(**changes))
    assert caught.value.field == field


def test_refused_renders_alone_are_not_cut_by_data_set_for_they_are_in_none():
    both = {Dimension.DATA_SET: ("live", "replay")}
    assert check(a_report(metrics=(Metric.REFUSED,), filters=both)).dimensions == ()
    assert check(a_report(metrics=(Metric.GROSS,), filters=both)).dimensions == (Dimension.DATA_SET,)
    with pytest.raises(QueryRefused, match="not by data_set"):
        check(a_report(metrics=(Metric.GROSS, Metric.REFUSED), filters=both))


@pytest.mark.parametrize(
    ("asked", "days"),
    [
        (lambda: check(a_report(until=FULL_HOUR + SPAN_MAX_MS + 1)), "400 days"),
        (lambda: check(a_report(granularity=Granularity.MINUTE, until=FULL_HOUR + SPAN_MAX_MS)), "31 days"),
        (lambda: check_completeness(Completeness(since=0, until=SPAN_MAX_MS + 1)), "400 days"),
    ],
)
def test_how_long_a_time_may_be_is_told_in_days(asked, days):
    with pytest.raises(QueryRefused, match=f"at most {days}"):
        asked()


@pytest.mark.parametrize("dimension", VALUES)
def test_every_closed_list_can_be_filtered_by_all_of_its_values(dimension):
    assert check(a_report(filters={dimension: tuple(VALUES[dimension])}))


@pytest.mark.parametrize("text", ["2026-09-21T14:13:20Z", "2026-09-21T16:13:20 02:00", str(MINTED)])
def test_times_are_milliseconds_or_rfc_3339(text):
    report, _ = report_of(QueryParams({"until": text}), MINTED + DAY)
    assert report.until == MINTED
    assert rfc3339(MINTED) == "2026-09-21T14:13:20.000Z"
    assert rfc3339(1 << 53) == "9999-12-31T23:59:59.999Z"
    assert rfc3339(-(1 << 53)) == "0001-01-01T00:00:00.000Z"


@pytest.mark.parametrize(
    "parameters",
    [
        {"nonsense": "1"},
        {"until": "yesterday"},
        {"until": "2026-09-21T14:13:20"},
        {"until": "9" * 25},
        {"until": "-1"},
        {"limit": "many"},
        {"limit": "\N{FULLWIDTH DIGIT ONE}"},
        {"granularity": "week"},
        {"dimensions": "campaign,planet"},
        {"metrics": "profit"},
        {"as_of": "1", "as_of_position": "1"},
        {"as_of_position": "-1"},
    ],
)
def test_a_parameter_that_cannot_be_used_is_refused(parameters):
    with pytest.raises(BadParameter):
        report_of(QueryParams(parameters), MINTED)


def test_lists_are_apart_by_commas_or_repeated():
    asked = QueryParams(
        [("dimensions", "campaign,surface"), ("dimensions", "sdk"), ("campaign", "a"), ("campaign", "b")]
    )
    report, as_of = report_of(asked, MINTED)
    assert report.dimensions == (Dimension.CAMPAIGN, Dimension.SURFACE, Dimension.SDK)
    assert report.filters == {Dimension.CAMPAIGN: ("a", "b")}
    assert as_of is None


@pytest.mark.parametrize(
    ("query", "accept", "output"),
    [
        ("", "*/*", "json"),
        ("format=csv", "*/*", "csv"),
        ("format=json", "text/csv", "json"),
        ("", "text/csv", "csv"),
        ("format=video", "", "json"),
    ],
)
def test_the_answer_is_json_or_comma_separated(query, accept, output):
    assert output_of(QueryParams(query), accept) == output


def test_formats_of_the_answer_and_of_the_ad_do_not_meet():
    report, _ = report_of(QueryParams("format=csv&format=video"), MINTED)
    assert report.filters == {Dimension.FORMAT: ("video",)}
    assert report_of(QueryParams("format=csv"), MINTED)[0].filters == {}
    with pytest.raises(QueryRefused, match="format: must be one of display, video, json, csv"):
        report_of(QueryParams("format=xml"), MINTED)


def test_by_default_a_report_is_of_the_day_up_to_this_hour():
    report, _ = report_of(QueryParams(""), MINTED)
    assert (report.since, report.until) == (FULL_HOUR + HOUR - DAY, FULL_HOUR + HOUR)


def test_unless_asked_a_report_tells_what_is_gross_and_what_stands_beside_it():
    report, _ = report_of(QueryParams(""), MINTED)
    assert report.metrics == USUAL
    assert {Metric.NET, Metric.DUPLICATES, Metric.NOT_COUNTED, Metric.DECISION_RATE} < set(USUAL)
    assert report.packs == ()
    assert report_of(QueryParams("pack=a,b&pack=c"), MINTED)[0].packs == ("a", "b", "c")


def test_an_explicit_zero_is_not_taken_for_nothing():
    report, _ = report_of(QueryParams("since=0&until=3600000"), MINTED)
    assert (report.since, report.until) == (0, HOUR)
    assert report_of(QueryParams("until=0"), MINTED)[0].until == 0
    assert pacing_of("c", QueryParams("minutes=0"), MINTED).minutes == 0


def test_pacing_is_of_the_last_thirty_days_by_default():
    pacing = pacing_of("campaign-1", QueryParams(""), MINTED)
    assert pacing.until - pacing.since == 30 * DAY
    assert pacing == Pacing(campaign="campaign-1", since=pacing.since, until=pacing.until, data_set=DataSet.LIVE)
