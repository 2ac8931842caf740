"""Completeness and monitors as tables in a terminal."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

_RATES = ("loss_rate", "loss_low", "loss_high")


def completeness_table(answer: Mapping[str, Any]) -> Table:
    """Return completeness as a table, rates in per cent."""
    known, rows = answer["known_through"], answer["rows"]
    found = f"{len(rows)} rows" if rows else "nothing in this time"
    table = Table(title=f"{found}; known through {known['time']} (position {known['position']})")
    for name in answer["columns"]:
        is_number = bool(rows) and isinstance(rows[0][name], int | float)
        table.add_column(name, justify="right" if is_number else "left")
    for row in rows:
        table.add_row(*(_told(name, value) for name, value in row.items()))
    missing = answer["reports_missing"]
    said = f"{answer['reports']:,} reports of {answer['sources']:,} sources"
    table.caption = f"{said}; {missing:,} reports are missing, so served is too low" if missing else said
    return table


def monitors_table(answer: Mapping[str, Any]) -> Table:
    """Return what the monitors tested as a table, alarms first."""
    standing = {(alarm["check"], alarm["surface"], alarm["sdk"]): alarm["since"] for alarm in answer["alarms"]}
    alarms = f"{len(standing)} alarm{'s' if len(standing) > 1 else ''}" if standing else "no alarm"
    table = Table(title=f"{alarms}; last look {answer['looked_at'] or 'not yet'}")
    for name in ("check", "surface", "sdk"):
        table.add_column(name)
    for name in ("hits", "of", "share", "elsewhere", "q value"):
        table.add_column(name, justify="right")
    table.add_column("alarm since")
    for finding in sorted(answer["findings"], key=lambda one: (_cell(one) not in standing, one["q_value"] or 0)):
        since = standing.get(_cell(finding), "")
        if finding["p_value"] is None:
            table.add_row(
                *_cell(finding), f"{finding['hits']:,}", f"{finding['trials']:,}", "", "", "", finding["untested"]
            )
            continue
        table.add_row(
            *_cell(finding),
            f"{finding['hits']:,}",
            f"{finding['trials']:,}",
            _percent(finding["share"]),
            _percent(finding["rest_share"]),
            f"{finding['q_value']:.2g}",
            since,
            style="red" if since else "",
        )
    return table


def _cell(finding: Mapping[str, Any]) -> tuple[str, str, str]:
    return finding["check"], finding["surface"], finding["sdk"]


def _percent(share: Any) -> str:
    return "" if share is None else f"{share:.2%}"


def _told(name: str, value: object) -> str:
    if name in _RATES:
        return _percent(value)
    return f"{value:,}" if isinstance(value, int) else str(value)
