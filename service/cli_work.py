"""`impledger work`, `scheduler` and `dead-letters`: what applies feedback and the like, and what it could not do."""

from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
import typer

from service import process
from service.cli_shared import AsJson, gate_client, tell
from service.console import out

letters_app = typer.Typer(help="Look at messages that no worker could process, and replay them.", no_args_is_help=True)

_PAGE = 500
_NAME_LENGTH = 32
_OF_ONE_LETTER = {404}

States = Annotated[list[str], typer.Option("--state", help="dead, replaying or replayed; may be given several times.")]


def work() -> None:
    """Apply feedback and look again: take messages off the broker, alone, against the servers of the settings."""
    from service.wiring import broker_url, database_url, open_store  # noqa: PLC0415 (each command loads what it needs)
    from service.work import run_work  # noqa: PLC0415

    settings = process.begin("work")
    process.run(run_work(settings, open_store(settings), database_url(settings), broker_url(settings)))


def scheduler() -> None:
    """Enqueue what is due, alone, against the servers that the settings name; several at once do no harm."""
    from service.scheduler import run_scheduler  # noqa: PLC0415
    from service.wiring import broker_url, database_url, open_store  # noqa: PLC0415

    settings = process.begin("scheduler")
    process.run(run_scheduler(settings, open_store(settings), database_url(settings), broker_url(settings)))


@letters_app.command(name="list")
def list_(
    state: States = ["dead"],  # noqa: B006
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="Most letters.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List messages that died, the last to die first."""
    with gate_client() as gate:
        answer = gate.get("/v1/dead-letters", {"state": state, "limit": str(limit)})
    letters = answer["letters"]
    tell(answer, as_json, [_line(one) for one in letters] or ["there are none"])
    if not as_json and answer["after"]:
        out.print("There are more: raise --limit.")


@letters_app.command()
def show(
    name: Annotated[str, typer.Argument(help="As the list has it.")],
    as_json: AsJson = False,
) -> None:
    """Show one dead letter: what it asked for, and the end of the error that it died of."""
    with gate_client() as gate:
        letter = gate.get(f"/v1/dead-letters/{_checked(name)}", {})
    args = msgspec.json.encode(letter["args"]).decode()
    tell(letter, as_json, [_line(letter), f"{letter['actor']}{args}", *letter["error"].split("\n")])


@letters_app.command()
def replay(
    names: Annotated[list[str], typer.Argument(help="Letters, as the list has them.")] = [],  # noqa: B006
    everything: Annotated[bool, typer.Option("--all", help="All that are dead.")] = False,
    as_json: AsJson = False,
) -> None:
    """Have letters sent again within seconds; safe to repeat. Exits 1 if there is none of a name."""
    if bool(names) is everything:
        raise typer.BadParameter("name letters, or say --all; not both")
    with gate_client() as gate:
        done = [_replayed(gate, _checked(name)) for name in (list(_dead(gate)) if everything else names)]
    missing = sum(not one["ok"] for one in done)
    lines = [f"{one['name']}  {'is sent again' if one['ok'] else one['problem']}" for one in done]
    tell({"replays": done, "failed": missing}, as_json, lines or ["nothing is dead"])
    raise typer.Exit(1 if missing else 0)


def _dead(gate: Any) -> Iterator[str]:
    after = ""
    while True:
        page = gate.get("/v1/dead-letters", {"state": "dead", "limit": str(_PAGE), "after": after})
        yield from (letter["name"] for letter in page["letters"])
        after = page["after"]
        if not after:
            return


def _replayed(gate: Any, name: str) -> dict[str, Any]:
    from service.asking import Refused  # noqa: PLC0415

    try:
        letter = gate.post(f"/v1/dead-letters/{name}/replay", {})
    except Refused as refused:
        if refused.status not in _OF_ONE_LETTER:
            raise
        return {"name": name, "ok": False, "problem": str(refused)}
    return {"name": name, "ok": True, "letter": letter}


def _checked(name: str) -> str:
    if len(name) != _NAME_LENGTH or not name.isalnum():
        raise typer.BadParameter(f"{name} is no name of a letter; `impledger dead-letters list` has them")
    return name


def _line(letter: dict[str, Any]) -> str:
    said = letter["error"].strip().rpartition("\n")[2]
    return f"{letter['name']}  {letter['state']}  {letter['last_at']}  x{letter['times']}  {letter['actor']}: {said}"
