"""Commands about the lists: `impledger classify ...`."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from service.cli_shared import print_json, read_settings
from service.console import Grid, err, out, shown

app = typer.Typer(help="What the lists say of user agents and network addresses.", no_args_is_help=True)

File = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="One a line; with --log, an access log.")]
IsLog = Annotated[bool, typer.Option("--log", help="FILE is a combined access log, plain or .gz.")]
Named = Annotated[str, typer.Option("--lists", help="`current`, `packaged`, a folder, or a version kept here.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object a line and nothing else.")]


@app.command()
def agents(file: File, is_log: IsLog = False, name: Named = "current", as_json: AsJson = False) -> None:
    """Say of each user agent in FILE what it is, and which list in which version says so."""
    from service.classify import agents as classify  # noqa: PLC0415 (each command loads what it needs)

    lines = classify(read_settings(), file, is_log=is_log, name=name)
    _show(((line, line.verdict, line.list, line.agent) for line in lines), as_json)


@app.command()
def networks(file: File, is_log: IsLog = False, name: Named = "current", as_json: AsJson = False) -> None:
    """Say of each network address in FILE what it is, and which list in which version says so."""
    from service.classify import networks as classify  # noqa: PLC0415

    lines = classify(read_settings(), file, is_log=is_log, name=name)
    _show(((line, line.verdict, line.list, line.network) for line in lines), as_json)


@app.command()
def diff(
    old: Annotated[str, typer.Argument(help="`current`, `packaged`, a folder, or a version kept here.")],
    new: Annotated[str, typer.Argument(help="As OLD.")],
    file: File,
    of_networks: Annotated[bool, typer.Option("--networks", help="FILE has addresses, not agents.")] = False,
    is_log: IsLog = False,
    as_json: AsJson = False,
) -> None:
    """Say which distinct agents (or addresses) in FILE are something else under lists NEW than under lists OLD."""
    from service.classify import changes, lists_named  # noqa: PLC0415

    before, after = (lists_named(read_settings(), name) for name in (old, new))
    found = changes(before, after, file, of_networks=of_networks, is_log=is_log)
    _show(
        ((one, f"{one.before} -> {one.after}", one.after_list or "-", one.text) for one in found),
        as_json,
        "no differences",
    )


@app.command(name="lists")
def lists_(name: Named = "current", as_json: AsJson = False) -> None:
    """Say what a version of the lists consists of, and how old each part is."""
    from service.classify import in_force  # noqa: PLC0415

    found = in_force(read_settings(), name)
    if as_json:
        print_json(found)
        return
    table = Grid("part", "list", "version", "date", "entries", "origin", box=None, title=found.lists)
    for part, what in found.parts.items():
        table.add_row(part, what.name, what.version, what.date or "-", str(what.entries), what.origin)
    out.print(table)


def _show(lines: Iterator[tuple[object, str, str, str]], as_json: bool, if_none: str = "nothing there") -> None:
    """Print *lines*, each with what is shown of it as text: verdict, list, and what was classified."""
    counts: Counter[str] = Counter()
    for line, verdict, whose, text in lines:
        counts[verdict] += 1
        print(msgspec.json.encode(line).decode() if as_json else f"{verdict}\t{whose}\t{shown(text)}")
    if not as_json:
        err.print(", ".join(f"{count} {verdict}" for verdict, count in counts.most_common()) or if_none)
