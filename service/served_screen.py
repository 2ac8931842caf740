"""Completeness as a table in a terminal."""

from collections.abc import Mapping
from typing import Any

from service.console import Grid

_RATES = ("loss_rate", "loss_low", "loss_high")


def completeness_table(answer: Mapping[str, Any]) -> Grid:
    """Return completeness as a table, rates in per cent."""
    known, rows = answer["known_through"], answer["rows"]
    more = ", and there are more" if answer["truncated"] else ""
    found = f"{len(rows)} rows{more}" if rows else "nothing in this time"
    table = Grid(title=f"{found}; known through {known['time']} (position {known['position']})")
    for name in answer["columns"]:
        is_number = bool(rows) and isinstance(rows[0][name], int | float)
        table.add_column(name, justify="right" if is_number else "left")
    for row in rows:
        table.add_row(*(_told(name, value) for name, value in row.items()))
    missing = answer["reports_missing"]
    said = f"{answer['reports']:,} reports of {answer['sources']:,} sources"
    table.caption = f"{said}; {missing:,} reports are missing, so served is too low" if missing else said
    return table


def _percent(share: Any) -> str:
    return "" if share is None else f"{share:.2%}"


def _told(name: str, value: object) -> str:
    if name in _RATES:
        return _percent(value)
    return f"{value:,}" if isinstance(value, int) else str(value)
