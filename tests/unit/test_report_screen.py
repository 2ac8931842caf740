"""Reports in a terminal, and as comma-separated values."""

import csv
import io

import msgspec
import pytest
from screenkit import printed

from projections.metrics import DEFINITIONS
from projections.queries import KnownThrough, ReportAnswer
from projections.vocabulary import Dimension, Metric
from service.report_replies import csv_of, json_of
from service.report_screen import FULL, identity_of, pacing_screen_of, screen_of

PARTS = ("gross", "net", "givt", "sivt", "undecided")


def an_answer(columns=PARTS, rows=((10, 6, 2, 1, 1),), **changes):
    fields = {
        "known_through": KnownThrough(7, 1_790_000_000_000),
        "lag_s": 0.5,
        "generation": 3,
        "columns": columns,
        "rows": [tuple(row) for row in rows],
        "truncated": False,
        "definitions": {},
    }
    return ReportAnswer(**{**fields, **changes})


def told(answer):
    return msgspec.json.decode(json_of(answer).body)


def test_the_identity_stands_below_the_table():
    text = printed(screen_of(told(an_answer(rows=[(1_234, 1_000, 200, 30, 4), (1, 0, 1, 0, 0)]))))
    assert "gross 1,235 = net 1,000 + givt 201 + sivt 30 + undecided 4" in text
    assert "known through 2026-09-21T14:13:20.000Z, 0.5 s ago (position 7)" in text


def test_an_identity_that_does_not_hold_is_told_and_known():
    answer = told(an_answer(rows=[(10, 6, 2, 1, 2)]))
    assert identity_of(answer).holds is False
    assert "gross 10 is not net 6 + givt 2 + sivt 1 + undecided 2" in printed(screen_of(answer))


def test_without_all_of_its_parts_there_is_no_identity():
    assert identity_of(told(an_answer(("gross", "net"), [(1, 1)]))) is None


def test_a_sum_over_a_part_of_the_rows_says_so():
    assert "of the rows shown; there are more" in printed(screen_of(told(an_answer(truncated=True))))


def test_a_table_that_is_cut_says_so():
    cut = an_answer(("campaign",), [("a",), ("b",)], truncated=True)
    assert "cut after 2 rows: there are more" in printed(screen_of(told(cut)))
    assert "there are more" not in printed(screen_of(told(an_answer())))


def test_rates_are_percent_with_their_definition_and_nothing_is_a_dash():
    answer = an_answer(
        ("format", "viewable_rate.mrc", "decision_rate"),
        [("display", 0.5, None), ("video", None, 2 / 3)],
        definitions={metric: DEFINITIONS[metric] for metric in (Metric.VIEWABLE_RATE, Metric.DECISION_RATE)},
        split_by=(Dimension.FORMAT,),
    )
    text = printed(screen_of(told(answer)))
    assert "50.00%" in text
    assert "66.67%" in text
    assert text.count(" - ") >= 2
    assert "viewable_rate = viewable / measured" in text
    assert "kept apart by format" in text


def test_money_is_shown_to_the_last_micro():
    text = printed(
        screen_of(told(an_answer(("currency", "billable_micros"), [("EUR", 1_234_567_890_123), ("USD", -1)])))
    )
    assert "1,234,567.890123" in text
    assert "-0.000001" in text


def test_many_columns_of_few_rows_stand_below_each_other():
    text = printed(screen_of(told(an_answer(FULL, [range(len(FULL))]))))
    assert all(any(name.removesuffix("_micros") in line for line in text.splitlines()) for name in FULL)


def test_a_report_of_nothing_says_so():
    assert "nothing in this time" in printed(screen_of(told(an_answer((), []))))


def test_pacing_is_a_column_per_currency_with_whatever_the_desk_tells():
    answer = {
        "known_through": {"position": 7, "time": None},
        "lag_s": None,
        "campaign": "c",
        "since": "2026-09-21T00:00:00.000Z",
        "until": "2026-09-22T00:00:00.000Z",
        "currencies": [{"currency": "EUR", "gross": 12_000, "spent_micros": 2_500_000, "anything_new": 1}],
        "minutes": [],
    }
    text = printed(pacing_screen_of(answer))
    assert "2.500000" in text
    assert "12,000" in text
    assert "anything_new" in text
    assert "nothing in this time" in printed(pacing_screen_of({**answer, "currencies": []}))


def test_rates_are_whole_in_json_and_have_six_digits_in_comma_separated_values():
    answer = an_answer(("decision_rate", "invalid_rate"), [(2 / 3, None)])
    assert told(answer)["rows"] == [{"decision_rate": 2 / 3, "invalid_rate": None}]
    assert list(csv.reader(io.StringIO(csv_of(answer).body.decode()))) == [
        ["decision_rate", "invalid_rate"],
        ["0.666667", ""],
    ]


def test_json_and_comma_separated_values_tell_the_same_columns_and_origin():
    answer = an_answer(
        (*PARTS, "givt.RATE_ABUSIVE"),
        [(10, 6, 2, 1, 1, 2)],
        position=5,
        definitions={Metric.DECISION_RATE: DEFINITIONS[Metric.DECISION_RATE]},
    )
    headers = dict(csv_of(answer).headers)
    [row] = csv.DictReader(io.StringIO(csv_of(answer).body.decode()))
    assert [{name: int(value) for name, value in row.items()}] == told(answer)["rows"]
    assert (headers["x-generation"], headers["x-as-of-position"], headers["x-known-through-position"]) == (
        "3",
        "5",
        "7",
    )
    assert headers["x-definitions"] == "decision_rate = (gross - undecided) / gross"
    assert (told(answer)["generation"], told(answer)["as_of_position"]) == (3, 5)


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\tx"])
def test_no_text_becomes_a_formula_in_a_spreadsheet(text):
    body = csv_of(an_answer(("campaign",), [(text,)])).body.decode()
    assert list(csv.reader(io.StringIO(body)))[1] == [f"'{text}"]


def test_no_text_of_a_client_is_taken_for_markup():
    assert "[/nothing]" in printed(screen_of(told(an_answer(("campaign",), [("[/nothing]",)]))))
