"""What `impledger capacity` shows: rows of words, for a terminal or a page."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from service.capacity import Ledger, OneMachine, Plan
from service.capacity_figures import Book, Bound, Figure
from service.capacity_sensitivity import Effect

Table: TypeAlias = Sequence[Sequence[str]]
"""The first row is the head."""
_BOUNDS = ("desk", "lock", "leader", "disk", "streams")
_DIGITS = 3
_WHOLE_FROM = 100


def number(value: float) -> str:
    """Return *value* with three significant digits; more would say that somebody knows them."""
    rounded = float(f"{value:.{_DIGITS}g}")
    if rounded >= 1e9:
        for size, name in ((1e12, "T"), (1e9, "G")):
            if rounded >= size:
                return f"{rounded / size:g} {name}"
    return f"{rounded:,.0f}" if rounded >= _WHOLE_FROM else f"{rounded:g}"


def bounds_table(plans: Mapping[Bound, Plan]) -> Table:
    """Return what a load takes with every figure low, as expected, and high at once."""
    head = [f"on {plans[Bound.EXPECTED].ledger.value}", *(bound.value for bound in plans)]
    return [head, *_side_by_side(list(plans.values()))]


def ledgers_table(plans: Mapping[Ledger, Plan]) -> Table:
    """Return what a load takes as expected, by where the record stands."""
    rows = [row for row in _side_by_side(list(plans.values())) if len(set(row[1:])) > 1]
    return [["as expected", *(ledger.value for ledger in plans)], *rows]


def sensitivity_table(effects: Sequence[Effect], measure: str, least: float) -> Table:
    """Return the effects that are at least *least* times, the strongest first."""
    return [
        ["figure", "low", "high", f"{measure} at low", f"{measure} at high", "factor"],
        *(
            [
                f"`{effect.key}`",
                number(effect.low),
                number(effect.high),
                number(effect.at_low),
                number(effect.at_high),
                f"{effect.factor:.2f}",
            ]
            for effect in effects
            if effect.factor >= least
        ),
    ]


def figures_table(book: Book) -> Table:
    """Return every figure with its bounds and where it comes from."""
    return [["figure", "low", "expected", "high", "unit", "from", "what it is"], *map(_figure_row, book.values())]


def one_machine_table(found: OneMachine) -> Table:
    return [
        ["one machine", "on postgres"],
        ["CPU of a commit in all, us", number(found.us_per_commit)],
        ["commits/s that its cores carry", number(found.commits_per_s_by_cores)],
        ["commits/s that one ledger takes", number(found.commits_per_s_by_ledger)],
        ["days until its disk is full", number(found.disk_days)],
    ]


def explanation(figure: Figure) -> str:
    """Return where *figure* comes from, in a few lines."""
    lines = [f"{figure.key} = {_plain(figure.value)} {figure.unit}: {figure.says}"]
    if figure.lowest != figure.highest:
        lines.append(f"low {_plain(figure.lowest)}, high {_plain(figure.highest)}")
    stored = figure.at and f"benchmarks/results/{figure.source}: {figure.at}"
    said = ", ".join(part for part in (stored or figure.source, figure.date) if part)
    lines.append(f"{figure.kind}{': ' + said if said else ''}")
    for name, at in (("low", figure.low_at), ("high", figure.high_at)):
        if at:
            lines.append(f"{name} is measured, too: {at}")
    return "\n".join(lines)


def markdown(table: Table) -> str:
    """Return *table* as a page has it."""
    head, *rows = table
    lines = [_line(head), _line(["---"] * len(head)), *map(_line, rows)]
    return "\n".join(lines)


def _side_by_side(plans: Sequence[Plan]) -> list[list[str]]:
    columns = [dict(_lines(found)) for found in plans]
    rows = [[name, *(column[name] for column in columns)] for name in columns[0]]
    return [row for row in rows if any(row[1:])]


def _lines(found: Plan) -> Iterator[tuple[str, str]]:
    bound = max(found.bounds, key=lambda name: found.bounds[name])
    yield "commits/s to build for", number(found.peak_commits_per_s)
    yield "commits/s on average", number(found.mean_commits_per_s)
    yield "CPU of a gate per commit, us", number(found.gate_us)
    yield "cells", number(found.cells)
    yield "cells are as many because of", bound
    for name in _BOUNDS:
        yield f"cells if only for {name}", number(found.bounds[name]) if name in found.bounds else ""
    yield "commits/s of a cell at its peak", number(found.cell_commits_per_s)
    yield "streams of a cell", number(found.cell_streams)
    yield "fits in a cell map", "yes" if found.is_in_map else "no"
    yield "gate processes", number(found.gate_processes)
    yield "ledger nodes", number(found.ledger_nodes)
    yield "ClickHouse shards", number(found.clickhouse_shards)
    yield "ClickHouse nodes", number(found.clickhouse_nodes)
    yield "brokers", number(found.brokers)
    yield "worker processes", number(found.work_processes)
    yield from _parts("cores", found.cores)
    yield from _parts("memory, TB", found.memory_tb)
    yield from _parts("hot disk, PB", found.hot_pb)
    yield from _parts("cold disk, PB", found.cold_pb)
    yield "days kept", number(found.kept_days)
    yield from _parts("network, Gbit/s", found.network_gbit_per_s)
    yield from _parts("machines", found.machines)
    yield "renders a day that may fail", number(found.renders_may_fail_a_day)


def _parts(what: str, parts: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    for name, size in parts.items():
        yield f"{what}: {name}", number(size)
    yield f"{what}: in all", number(sum(parts.values()))


def _figure_row(figure: Figure) -> list[str]:
    values = [_plain(value) for value in (figure.lowest, figure.value, figure.highest)]
    return [f"`{figure.key}`", *values, figure.unit, figure.kind.value, figure.says]


def _plain(value: float) -> str:
    return f"{value:,.10g}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
