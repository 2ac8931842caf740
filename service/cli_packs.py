"""`impledger packs`: the rule packs that ship, what they say, and whether a pack's file is sound."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from domain.pack import PackError
from service.cli_shared import AsJson, print_json
from service.console import out

app = typer.Typer(help="Rule packs: list those that ship, show one, check the file of one.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="Name and version of a rule pack that ships, or a path to a TOML file.")]


@app.command(name="list")
def list_packs(as_json: AsJson = False) -> None:
    """List the rule packs that ship with the program."""
    from service import packs  # noqa: PLC0415 (each command loads what it needs)

    found = list(packs.summaries())
    if as_json:
        print_json({"packs": found})
        return
    for pack in found:
        names = ", ".join(map(str, pack["viewability_packs"]))  # type: ignore[call-overload]
        out.print(f"{pack['id']}  {pack['count_points']} count points, {pack['vectors']} vectors; viewability: {names}")


@app.command()
def show(name: Name, as_json: AsJson = False) -> None:
    """Show a rule pack: its text, or with --json its values with all defaults."""
    from service import packs  # noqa: PLC0415

    pack = packs.load(name)
    print(
        msgspec.json.encode({"id": pack.id, **msgspec.structs.asdict(pack)}).decode()
        if as_json
        else packs.text_of(name)
    )


@app.command()
def check(
    name: Name,
    vectors: Annotated[Path | None, typer.Option(help="File of boundary vectors; default: the one beside.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check the file of a rule pack and run its boundary vectors; exits 1 if one fails."""
    from service import packs  # noqa: PLC0415
    from service.pack_cover import uncovered  # noqa: PLC0415
    from service.pack_run import failures  # noqa: PLC0415
    from service.pack_vectors import Vectors  # noqa: PLC0415

    pack = packs.load(name)
    found = packs.vectors_of(name, vectors) or Vectors(pack=pack.id)
    if found.pack != pack.id:
        raise PackError(f"{vectors or name}: pack: the vectors are of {found.pack!r}, not of {pack.id!r}")
    failed = list(failures(found, pack))
    unproved = uncovered(pack, found) if not failed else []
    report = {"id": pack.id, "vectors": sum(1 for _ in found.all()), "failed": failed, "unproved": unproved}
    if as_json:
        print_json(report)
    else:
        out.print(f"{pack.id}: the file is sound; {report['vectors']} vectors, {len(failed)} of them fail.")
        for failure in failed:
            out.print(f"  {failure}")
        if unproved:
            out.print(f"No vector would notice these {len(unproved)} changes:")
        for change in unproved:
            out.print(f"  {change}")
    raise typer.Exit(1 if failed else 0)
