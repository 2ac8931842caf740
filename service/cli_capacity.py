"""`impledger capacity`: what the planned load takes in cores, memory, disk, network, clusters and cells."""

from typing import Annotated

import msgspec
import typer

from service.capacity import Ledger, one_machine, plan
from service.capacity_figures import Book, Bound, CapacityError, inputs_of, load_book, with_assignments
from service.capacity_screen import (
    Table,
    bounds_table,
    explanation,
    figures_table,
    ledgers_table,
    markdown,
    one_machine_table,
    sensitivity_table,
)
from service.capacity_sensitivity import Measure, sensitivity
from service.cli_shared import AsJson, print_json
from service.console import PROSE_WIDTH, Grid, err, out

LEAST_FACTOR = 1.05
"""Figures that move the result by less are left out of the table of `--sensitivity`, and counted."""


def capacity(
    ledger: Annotated[Ledger, typer.Option(help="Where the record stands.")] = Ledger.POSTGRES,
    assignments: Annotated[
        list[str], typer.Option("--set", metavar="KEY=VALUE", help="Reckon with another figure; may be repeated.")
    ] = [],  # noqa: B006
    sensitive: Annotated[
        bool, typer.Option("--sensitivity", help="Which figure moves the result by how much.")
    ] = False,
    by: Annotated[Measure, typer.Option(help="With --sensitivity: the result to look at.")] = Measure.MACHINES,
    explain: Annotated[
        list[str], typer.Option(metavar="KEY", help="Say where a figure comes from; may be repeated.")
    ] = [],  # noqa: B006
    figures: Annotated[bool, typer.Option("--figures", help="List every figure and where it comes from.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print tables as docs/capacity.md has them.")] = False,
    as_json: AsJson = False,
) -> None:
    """Reckon from the planned load and measured unit costs to machines; every assumption has a name and bounds."""
    try:
        book = with_assignments(load_book(), assignments)
        _answer(
            book,
            ledger,
            by if sensitive else None,
            explain,
            figures=figures,
            as_json=as_json,
            as_markdown=as_markdown,
        )
    except CapacityError as error:
        err.print(str(error))
        err.print("`impledger capacity --figures` lists every figure, its unit and its bounds.")
        raise typer.Exit(1) from error


def _answer(
    book: Book,
    ledger: Ledger,
    by: Measure | None,
    explain: list[str],
    *,
    figures: bool,
    as_json: bool,
    as_markdown: bool,
) -> None:
    asked = [book[key] for key in _known(book, explain)]
    if asked:
        _print({figure.key: figure for figure in asked}, "\n\n".join(map(explanation, asked)), as_json=as_json)
    elif figures:
        _print(book, [figures_table(book)], as_json=as_json, as_markdown=as_markdown)
    elif by:
        effects = sensitivity(book, ledger, by)
        facts = [{**msgspec.to_builtins(effect), "factor": effect.factor} for effect in effects]
        table = sensitivity_table(effects, by.value, LEAST_FACTOR)
        _print({"sensitivity": facts}, [table], as_json=as_json, as_markdown=as_markdown)
        if not as_json and not as_markdown:
            out.print(f"{len(effects) - len(table) + 1} more figures move it by less than {LEAST_FACTOR:g} times.")
    else:
        _plans(book, ledger, as_json=as_json, as_markdown=as_markdown)


def _plans(book: Book, ledger: Ledger, *, as_json: bool, as_markdown: bool) -> None:
    expected = inputs_of(book)
    plans = {kind: {bound: plan(inputs_of(book, bound), kind) for bound in Bound} for kind in Ledger}
    alone = one_machine(expected)
    tables = [
        bounds_table(plans[ledger]),
        ledgers_table({kind: found[Bound.EXPECTED] for kind, found in plans.items()}),
        one_machine_table(alone),
    ]
    facts = {
        "figures": {key: figure.value for key, figure in book.items()},
        "set": [key for key, figure in book.items() if figure.kind == "set"],
        "plans": plans,
        "one_machine": alone,
    }
    _print(facts, tables, as_json=as_json, as_markdown=as_markdown)


def _known(book: Book, keys: list[str]) -> list[str]:
    for key in keys:
        if key not in book:
            raise CapacityError(f"no figure is called {key!r}")
    return keys


def _print(facts: object, shown: str | list[Table], *, as_json: bool, as_markdown: bool = False) -> None:
    if as_json:
        print_json(facts)
    elif isinstance(shown, str):
        out.print(shown)
    elif as_markdown:
        print("\n\n".join(map(markdown, shown)))
    else:
        for table in shown:
            out.print(_grid(table))


def _grid(table: Table) -> Grid:
    head, *rows = table
    grid = Grid(show_edge=False, pad_edge=False)
    for at, name in enumerate(head):
        is_text = at == 0 or name in {"unit", "from", "what it is"}
        prose = PROSE_WIDTH if name == "what it is" else None
        grid.add_column(name, justify="left" if is_text else "right", max_width=prose)
    for row in rows:
        grid.add_row(*(cell.strip("`") for cell in row))
    return grid
