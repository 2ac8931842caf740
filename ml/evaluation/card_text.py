"""Figures as text: numbers with their intervals, and tables in Markdown."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ml.evaluation.bootstrap import Estimate
from ml.evaluation.tables import Row

NOTHING = "-"
_MICROS = 1e6


class Column(NamedTuple):
    """A figure by its name, what it is called, and how it is written: a number, `%`, or money."""

    figure: str
    title: str
    unit: str = ""


def shown(one: Estimate | None, unit: str = "") -> str:
    """Return *one* as text, with its interval where there is one."""
    if one is None or one.value is None:
        return NOTHING
    scale, digits, ending = {"": (1.0, 3, ""), "%": (100.0, 2, " %"), "money": (1 / _MICROS, 3, "")}[unit]
    text = f"{one.value * scale:.{digits}f}{ending}"
    if one.low is None or one.high is None:
        return text
    return f"{text} ({one.low * scale:.{digits}f} to {one.high * scale:.{digits}f})"


def cells(row: Row | None, columns: Sequence[Column]) -> list[str]:
    """Return *row*'s figures under *columns*."""
    return [NOTHING if row is None else shown(row.figures.get(column.figure), column.unit) for column in columns]


def grid(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown, numbers to the right."""
    lines = [f"| {' | '.join(head)} |", f"| --- |{' ---: |' * (len(head) - 1)}"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines)


def titles(columns: Sequence[Column]) -> list[str]:
    return [column.title for column in columns]
