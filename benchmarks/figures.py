"""
Brings `service/capacity.toml` to what benchmarks/results/ says, and the tables of docs/capacity.md to what follows.

    .venv/bin/python benchmarks/figures.py            # says what differs; exits 1 if anything does
    .venv/bin/python benchmarks/figures.py --write    # changes it; sentences with figures in them are yours to mend

A table of the page stands between `<!-- capacity: NAME -->` and `<!-- end -->`. The rows of `levers` name their
options, `--ledger` and `--set`, in the second column.
"""

import argparse
import json
import re
from pathlib import Path

from service.capacity import Ledger, one_machine, plan
from service.capacity_figures import Bound, Kind, inputs_of, parse_book, with_assignments
from service.capacity_screen import (
    bounds_table,
    figures_table,
    ledgers_table,
    markdown,
    number,
    one_machine_table,
    sensitivity_table,
)
from service.capacity_sensitivity import Measure, sensitivity
from service.cli_capacity import LEAST_FACTOR

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
FIGURES, PAGE = ROOT / "service" / "capacity.toml", ROOT / "docs" / "capacity.md"
CLOSE = 5e-4
"""A figure has four digits."""
BLOCK = re.compile(r"(<!-- capacity: ([\w -]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
_STEPS = {"+": float.__add__, "-": float.__sub__, "*": float.__mul__, "/": float.__truediv__}


def result(file, at):
    """Work out *at* from left to right; a leading name of a JSON file stands for *file*."""
    first, _, rest = at.partition(" ")
    if first.endswith(".json"):
        file, at = first, rest
    found, *steps = at.split()
    stored = json.loads((RESULTS / file).read_text())
    value = _term(stored, found)
    for sign, term in zip(steps[::2], steps[1::2], strict=True):
        value = _STEPS[sign](value, _term(stored, term))
    return value


def _term(stored, text):
    if re.fullmatch(r"[\d.]+", text):
        return float(text)
    for name in text.split("."):
        stored = stored[name]
    return float(stored)


def differences(book):
    """Yield key, name in the file, stored and measured value of every measured figure that is not what was measured."""
    for figure in book.values():
        if figure.kind is not Kind.MEASURED:
            continue
        for name, at in (("value", figure.at), ("low", figure.low_at), ("high", figure.high_at)):
            said = getattr(figure, name)
            if at and abs(said - (measured := result(figure.source, at))) > CLOSE * abs(measured):
                yield figure.key, name, said, measured


def mended_figures(text):
    for key, name, _, measured in differences(parse_book(text)):
        place = re.compile(rf"(\[{key}\]\n(?:[^\[\n].*\n)*?{name} = )\S+")
        text, changed = place.subn(rf"\g<1>{float(f'{measured:.4g}'):.10g}", text)
        if changed != 1:
            raise SystemExit(f"{key}.{name} was found {changed} times")
    return text


def mended_page(text, book):
    """Return *text* with every table of its as *book* has it."""
    return BLOCK.sub(lambda block: block[1] + table(block[2], block[3], book) + "\n" + block[4], text)


def table(name, before, book):
    expected = inputs_of(book)
    match name.split():
        case ["bounds", ledger]:
            return markdown(bounds_table({bound: plan(inputs_of(book, bound), Ledger(ledger)) for bound in Bound}))
        case ["ledgers"]:
            return markdown(ledgers_table({ledger: plan(expected, ledger) for ledger in Ledger}))
        case ["one-machine"]:
            return markdown(one_machine_table(one_machine(expected)))
        case ["sensitivity", ledger, measure]:
            effects = sensitivity(book, Ledger(ledger), Measure(measure))
            return markdown(sensitivity_table(effects, measure, LEAST_FACTOR))
        case ["figures"]:
            return markdown(figures_table(book))
        case ["levers"]:
            return levers(before, book)
    raise SystemExit(f"no table is called {name!r}")


def levers(before, book):
    head = ["what", "options", "cells", "because of", "cores", "hot disk, PB", "machines"]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in before.splitlines()[2:]]
    return markdown([head, *([*row[:2], *_lever(row[1], book)] for row in rows)])


def _lever(options, book):
    words = options.strip("`").split()
    pairs = list(zip(words[::2], words[1::2], strict=True)) if words[0].startswith("--") else []
    ledger = next((value for name, value in pairs if name == "--ledger"), "postgres")
    changed = with_assignments(book, [value for name, value in pairs if name == "--set"])
    found = plan(inputs_of(changed), Ledger(ledger))
    bound = max(found.bounds, key=lambda name: found.bounds[name])
    sizes = (found.all_cores, found.all_hot_pb, found.all_machines)
    return [number(found.cells), bound, *map(number, sizes)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true")
    writes = parser.parse_args().write
    text = FIGURES.read_text()
    for key, name, said, measured in differences(parse_book(text)):
        print(f"{key}.{name}: {said:g}, measured {measured:.4g}")
    mended = mended_figures(text)
    page = PAGE.read_text()
    new_page = mended_page(page, parse_book(mended))
    if new_page != page:
        print(f"{PAGE.name}: tables differ")
    if writes:
        FIGURES.write_text(mended)
        PAGE.write_text(new_page)
    elif mended != text or new_page != page:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
