"""Reports and pacing as tables in a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct
from rich.console import Group, RenderableType
from rich.styled import Styled

from projections.vocabulary import IDENTITY, REFUSED_METRICS, Metric
from service.console import Grid, shown

FULL = tuple(metric.value for metric in Metric if metric not in REFUSED_METRICS)
"""Every metric that can be cut by any dimension."""

_UPRIGHT_MAX = 12
"""Columns that stand beside each other on an ordinary screen; more of them stand below each other."""
_MICROS = 1_000_000
_NOTHING = "-"


class Identity(Struct, frozen=True):
    """gross = net + givt + sivt + undecided, summed over the rows shown."""

    gross: int
    net: int
    givt: int
    sivt: int
    undecided: int

    @property
    def holds(self) -> bool:
        return self.gross == self.net + self.givt + self.sivt + self.undecided

    def __str__(self) -> str:
        sign = "=" if self.holds else "is not"
        return (
            f"gross {self.gross:,} {sign} net {self.net:,} + givt {self.givt:,} + sivt {self.sivt:,} + "
            f"undecided {self.undecided:,}"
        )


def identity_of(answer: Mapping[str, Any]) -> Identity | None:
    """Return the identity over the rows of a report; None if it was not asked for all of its parts."""
    if not {metric.value for metric in IDENTITY} <= set(answer["columns"]):
        return None
    rows = answer["rows"]
    return Identity(*(sum(row[metric.value] for row in rows) for metric in IDENTITY))


def screen_of(answer: Mapping[str, Any]) -> RenderableType:
    """Return a report as a table, its identity, its rates' definitions, and how far it is known."""
    rows, columns = answer["rows"], answer["columns"]
    beside = len(columns) > _UPRIGHT_MAX and len(rows) <= _UPRIGHT_MAX
    table = _lying(columns, rows) if beside else _upright(columns, rows)
    lines = [*_identity_lines(answer), *_definition_lines(answer), _known_line(answer)]
    if answer["split_by"]:
        lines.insert(0, f"kept apart by {', '.join(answer['split_by'])}")
    if answer["truncated"]:
        lines.insert(0, f"cut after {len(rows):,} rows: there are more")
    return Group(table if rows else "nothing in this time", *lines)


def pacing_screen_of(answer: Mapping[str, Any]) -> RenderableType:
    """Return what a campaign spent, one column per currency, and how far it is known."""
    currencies = answer["currencies"]
    names = list(currencies[0]) if currencies else []
    table = _lying(names, currencies)
    title = f"{shown(answer['campaign'])}, {answer['since']} to {answer['until']}"
    return Group(title, table if currencies else "nothing in this time", _known_line(answer))


def _upright(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Grid:
    table = Grid()
    for name in columns:
        is_number = any(isinstance(row[name], int | float) for row in rows)
        table.add_column(_title(name), justify="right" if is_number else "left")
    for row in rows:
        table.add_row(*(_cell(name, row[name]) for name in columns))
    return table


def _lying(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Grid:
    """A line per column: for few rows of many values."""
    table = Grid(show_header=False)
    table.add_column()
    for _ in rows:
        table.add_column(justify="right")
    for name in columns:
        table.add_row(_title(name), *(_cell(name, row[name]) for row in rows))
    return table


def _identity_lines(answer: Mapping[str, Any]) -> list[RenderableType]:
    identity = identity_of(answer)
    if identity is None:
        return []
    of = " (of the rows shown; there are more)" if answer["truncated"] else ""
    return [f"{identity}{of}" if identity.holds else Styled(f"{identity}{of}", "red")]


def _definition_lines(answer: Mapping[str, Any]) -> list[str]:
    return [f"{name} = {says}" for name, says in answer["definitions"].items() if "/" in says]


def _known_line(answer: Mapping[str, Any]) -> str:
    known, lag_s = answer["known_through"], answer["lag_s"]
    lag = "" if lag_s is None else f", {lag_s:.1f} s ago"
    as_of = answer.get("as_of_position")
    then = "" if as_of is None else f"; as known at position {as_of}"
    return f"known through {known['time']}{lag} (position {known['position']}){then}"


def _title(name: str) -> str:
    return name.removesuffix("_micros")


def _cell(name: str, value: Any) -> str:
    if value is None:
        return _NOTHING
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.2%}"
    if isinstance(value, int):
        return _money(value) if name.endswith("_micros") else f"{value:,}"
    return str(value)


def _money(micros: int) -> str:
    """Micros as whole units with all six digits: nothing is rounded."""
    whole, rest = divmod(abs(micros), _MICROS)
    return f"{'-' if micros < 0 else ''}{whole:,}.{rest:06d}"
