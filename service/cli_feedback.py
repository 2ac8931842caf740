"""`impledger feedback`: what became of feedback. Asks the running gate."""

from typing import Annotated, Any

import msgspec
import typer

from service.cli_shared import AsJson, gate_client, in_path, indented, print_answer, tell
from service.console import out

app = typer.Typer(help="See what became of feedback.", no_args_is_help=True)


@app.command(name="list")
def list_(
    state: Annotated[
        list[str],
        typer.Option(help="waiting, parked, orphaned, applied, refused or held; may be given several times."),
    ] = [],  # noqa: B006
    impression: Annotated[str, typer.Option(help="Only feedback of this impression.")] = "",
    failing: Annotated[bool, typer.Option("--failing", help="Only what could not be applied when last tried.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="Most of them.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List feedback, the newest first."""
    asked = {"state": state, "impression_id": impression, "failing": "true" if failing else "", "limit": str(limit)}
    with gate_client() as gate:
        answer = gate.get("/v1/feedback", asked)
    tell(answer, as_json, [_line(one) for one in answer["feedback"]] or ["there is none"])
    if not as_json and answer["after"]:
        out.print("There is more: raise --limit.")


@app.command()
def show(
    id_: Annotated[str, typer.Argument(metavar="ID", help="As its sender gave it.")], as_json: AsJson = False
) -> None:
    """Show one piece of feedback, what it says and where it stands."""
    with gate_client() as gate:
        answer = gate.get(f"/v1/feedback/{in_path(id_)}", {})
    print_answer(answer, as_json, lambda: indented(answer))


@app.command()
def books(as_json: AsJson = False) -> None:
    """Say what was accepted and where it is; exits 1 if something is nowhere."""
    with gate_client() as gate:
        answer = gate.get("/v1/feedback/books", {})
    parts = " + ".join(
        f"{name} {answer[name]}" for name in ("applied", "parked", "orphaned", "waiting", "held", "refused")
    )
    tell(answer, as_json, [f"accepted {answer['accepted']} = {parts}"])
    raise typer.Exit(0 if answer["unaccounted"] == 0 else 1)


def _line(one: dict[str, Any]) -> str:
    about = one["impression_id"] or msgspec.json.encode(one["traffic"]).decode()
    error = f"  {one['error']}" if one["error"] else ""
    return f"{one['id']}  {one['state']}  {one['received_at']}  {one['type']} {one['label']}  {about}{error}"
