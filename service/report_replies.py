"""A report's answer as JSON and as comma-separated values; both tell the same."""

import csv
import io
from typing import Any

import msgspec

from projections.queries import Fresh, ReportAnswer
from service.parameters import rfc3339
from service.problems import Reply

RATE_DIGITS = 6
"""Of rates in comma-separated values; in JSON nothing is rounded."""

_ENCODER = msgspec.json.Encoder()
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def fresh_of(answer: Fresh) -> dict[str, Any]:
    """Return how fresh *answer* is, as every answer of the desk says it."""
    known = answer.known_through
    return {
        "known_through": {"position": known.position, "time": rfc3339(known.time) if known.time else None},
        "lag_s": answer.lag_s,
    }


def json_of(answer: ReportAnswer) -> Reply:
    body = {
        **fresh_of(answer),
        "as_of_position": answer.position,
        "generation": answer.generation,
        "definitions": answer.definitions,
        "packs": answer.packs,
        "split_by": answer.split_by,
        "columns": answer.columns,
        "rows": [dict(zip(answer.columns, row, strict=True)) for row in _timed(answer)],
        "truncated": answer.truncated,
    }
    return Reply(200, _ENCODER.encode(body), "application/json")


def csv_of(answer: ReportAnswer) -> Reply:
    """Return the rows as comma-separated values; what JSON says beside them stands in headers."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(answer.columns)
    writer.writerows([_cell(value) for value in row] for row in _timed(answer))
    known = fresh_of(answer)["known_through"]
    headers = (
        ("x-known-through-position", str(known["position"])),
        ("x-known-through-time", known["time"] or ""),
        ("x-lag-seconds", "" if answer.lag_s is None else str(answer.lag_s)),
        ("x-as-of-position", "" if answer.position is None else str(answer.position)),
        ("x-generation", str(answer.generation)),
        ("x-definitions", "; ".join(f"{metric.value} = {says}" for metric, says in answer.definitions.items())),
        ("x-split-by", ",".join(answer.split_by)),
        ("x-truncated", str(answer.truncated).lower()),
        ("content-disposition", 'attachment; filename="report.csv"'),
    )
    return Reply(200, text.getvalue().encode(), "text/csv; charset=utf-8", headers)


def _timed(answer: ReportAnswer) -> list[tuple[Any, ...]]:
    if answer.columns[:1] != ("time",):
        return answer.rows
    return [(rfc3339(row[0]), *row[1:]) for row in answer.rows]


def _cell(value: Any) -> Any:
    """Texts come from clients; none may become a formula in the spreadsheet that opens the file."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.{RATE_DIGITS}f}"
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA_STARTS) else value
