"""Asks the running desk over HTTP, for the command line."""

from collections.abc import Mapping, Sequence
from typing import Any

import httpx
from rich.table import Table

from service.keyfiles import load_or_make_keys
from service.processes import LauncherError
from service.settings import Settings

_ANSWER_MAX_S = 30.0
_ERROR = 400


class AskedInVain(LauncherError):
    """The desk does not run, or does not answer the question."""


def ask(settings: Settings, path: str, parameters: Mapping[str, str | Sequence[str]]) -> Any:
    """
    Return the desk's answer to *path*; empty parameters are left out, lists are joined by commas.

    Raises:
        AskedInVain: with the desk's own words, or what to start.
    """
    keys = load_or_make_keys(settings.data_dir)
    asked = {name: value if isinstance(value, str) else ",".join(value) for name, value in parameters.items() if value}
    url = f"http://{settings.host}:{settings.desk_port}{path}"
    try:
        response = httpx.get(
            url, params=asked, headers={"authorization": f"Bearer {keys.operator}"}, timeout=_ANSWER_MAX_S
        )
        answer = response.json()
    except (httpx.HTTPError, ValueError) as error:
        raise AskedInVain(f"the desk does not answer at {url}: {error}. `impledger up` starts it.") from error
    if response.status_code >= _ERROR:
        raise AskedInVain(f"{answer.get('title')}: {answer.get('detail', '')}")
    return answer


def table_of(answer: Mapping[str, Any]) -> Table:
    """Return the rows of a report as a table."""
    known = answer["known_through"]
    rows = answer["rows"]
    found = f"{len(rows)} rows" if rows else "nothing in this time"
    table = Table(title=f"{found}; known through {known['time']} (position {known['position']})")
    for name in rows[0] if rows else []:
        table.add_column(name, justify="right" if isinstance(rows[0][name], int | float) else "left")
    for row in rows:
        table.add_row(*(f"{value:,}" if isinstance(value, int) else str(value) for value in row.values()))
    return table


def completeness_table(answer: Mapping[str, Any]) -> Table:
    """Return completeness as a table, rates in per cent."""
    rates = ("loss_rate", "loss_low", "loss_high")
    rows = [
        {name: _percent(value) if name in rates else value for name, value in row.items()} for row in answer["rows"]
    ]
    table = table_of({**answer, "rows": rows})
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


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.2%}"
