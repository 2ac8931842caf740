"""`impledger quarantine`: look at what could not be read, explain it, mend it, replay it. Asks the running gate."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from service.cli_shared import AsJson, gate_client, print_json
from service.console import PROSE_WIDTH, Grid, err, out, shown

app = typer.Typer(help="Look at renders that could not be read, mend and replay them.", no_args_is_help=True)

_PAGE = 500
_NAME_LENGTH = 32
_OF_ONE_ENTRY = {404, 409, 410, 422}
"""Statuses that say something of one entry; with any other, the next would fare no better."""

Since = Annotated[str, typer.Option(help="Received from this time on, RFC 3339.")]
Codes = Annotated[list[str], typer.Option("--code", help="Only this error code; may be given several times.")]


@app.command(name="list")
def list_(
    since: Since = "",
    code: Codes = [],  # noqa: B006
    state: Annotated[list[str], typer.Option(help="waiting, replayed, superseded or expired.")] = [],  # noqa: B006
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="Most entries, or groups.")] = 50,
    summary: Annotated[bool, typer.Option("--summary", help="Group by code, path and SDK.")] = False,
    as_json: AsJson = False,
) -> None:
    """List what is in quarantine, the newest first; floods are best seen with --summary."""
    asked: dict[str, Any] = {"since": since, "code": code, "state": state, "limit": str(limit)}
    with gate_client() as gate:
        answer = gate.get("/v1/quarantine/summary" if summary else "/v1/quarantine", asked)
    if as_json:
        print_json(answer)
        return
    out.print(_groups(answer["groups"]) if summary else _entries(answer["entries"]))
    if not summary and answer["after"]:
        err.print("There are more: raise --limit, or look at --summary.")


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="As the list has it.")],
    raw: Annotated[bool, typer.Option("--raw", help="Show identifiers, too; the gate's log notes who looked.")] = False,
    as_json: AsJson = False,
) -> None:
    """Decrypt one body, mark what cannot be read, and say what would mend it."""
    with gate_client() as gate:
        answer = gate.get(f"/v1/quarantine/{_checked(name)}", {"raw": "true" if raw else ""})
    if as_json:
        print_json(answer)
        return
    entry = answer["entry"]
    out.print(f"{entry['code']} at {shown(entry['path'])}: {shown(entry['detail'])}")
    out.print(f"{entry['state']}; received {entry['received_at']}, {entry['times']} times; gone {entry['expires_at']}")
    if answer["impression_id"]:
        out.print(f"impression {answer['impression_id']}")
    for line in _marked(answer["body"], answer["flaws"]):
        out.print(shown(line))
    if answer["fix"]:
        out.print("fix: " + msgspec.json.encode(answer["fix"]).decode())
        if answer["leaves_out"]:
            out.print("it leaves out what the client said as: " + shown(", ".join(answer["leaves_out"])))
    out.print(answer["advice"])


@app.command()
def replay(
    names: Annotated[list[str], typer.Argument(help="Entries, as the list has them.")] = [],  # noqa: B006
    code: Codes = [],  # noqa: B006
    since: Since = "",
    set_: Annotated[
        list[str], typer.Option("--set", help="FIELD=JSON, null leaves it out; may be given several times.")
    ] = [],  # noqa: B006
    patch: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="JSON merge patch (RFC 7386) in a file.")
    ] = None,
    suggested: Annotated[bool, typer.Option("--suggested", help="Apply the fix that `show` suggests.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen, change nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Mend entries and send them through the gate as received when they were; exits 1 unless all were replayed."""
    if bool(names) == bool(code):
        raise typer.BadParameter("name entries, or choose those that wait with --code; not both")
    document = {"patch": _patch(set_, patch), "suggested": suggested, "dry_run": dry_run}
    done: list[dict[str, Any]] = []
    with gate_client() as gate:
        chosen = [_checked(name) for name in names] if names else _waiting(gate, code, since)
        for name in chosen:
            done.append(_replayed(gate, name, document))
            if not as_json:
                out.print(shown(_told(done[-1])))
    failed = sum(not one["ok"] for one in done)
    if as_json:
        print_json({"replays": done, "failed": failed})
    else:
        err.print(f"{len(done) - failed} of {len(done)} {'could be ' if dry_run else ''}replayed")
    raise typer.Exit(1 if failed else 0)


def _waiting(gate: Any, codes: list[str], since: str) -> Iterator[str]:
    """Yield what waits, the oldest first, so that of two renders of an impression the first counts."""
    asked: dict[str, Any] = {"code": codes, "since": since, "state": "waiting", "order": "oldest", "limit": str(_PAGE)}
    after = ""
    while True:
        page = gate.get("/v1/quarantine", {**asked, "after": after})
        yield from (entry["name"] for entry in page["entries"])
        after = page["after"]
        if not after:
            return


def _replayed(gate: Any, name: str, document: object) -> dict[str, Any]:
    from service.asking import Refused  # noqa: PLC0415

    try:
        answer = gate.post(f"/v1/quarantine/{name}/replay", document)
    except Refused as refused:
        if refused.status not in _OF_ONE_ENTRY:
            raise
        return {"name": name, "ok": False, "problem": str(refused)}
    settled = answer["entry"]["state"] == "replayed"
    would = answer["dry_run"] and answer["answer"] is None and answer["known"] is not None
    return {"name": name, "ok": settled or would, **answer}


def _told(done: dict[str, Any]) -> str:
    if "problem" in done:
        return f"{done['name']}  not replayed. {done['problem']}"
    entry, answer = done["entry"], done["answer"]
    if done["again"]:
        return f"{done['name']}  was replayed before: {entry['outcome']}"
    if done["dry_run"] and answer is None:
        if done["known"] is None:
            return f"{done['name']}  would wait: what the ledger has of its impression cannot be read"
        held = ", ".join(done["reasons"]) or "nothing"
        return (
            f"{done['name']}  could be replayed; the ledger has: {done['known']}; the screen holds against it: {held}"
        )
    said = " ".join(word for word in (answer["status"], answer["verdict"], answer["reason"]) if word)
    return f"{done['name']}  {entry['state']}: {said}"


def _patch(sets: list[str], file: Path | None) -> dict[str, Any]:
    """Return the merge patch that the options say; --set comes after the file's."""
    patch: dict[str, Any] = {}
    if file is not None:
        try:
            patch = msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise typer.BadParameter(f"{file} is no JSON object: {error}") from error
    for one in sets:
        path, equals, text = one.partition("=")
        names = path.removeprefix("$.").split(".")
        if not equals or not all(names):
            raise typer.BadParameter(f"--set {one}: say FIELD=JSON, such as client_at=null")
        try:
            value = msgspec.json.decode(text.encode())
        except msgspec.DecodeError as error:
            raise typer.BadParameter(f'--set {one}: the value is not JSON; a text stands in quotes, "so"') from error
        target = patch
        for name in names[:-1]:
            target = target.setdefault(name, {})
        target[names[-1]] = value
    return patch


def _checked(name: str) -> str:
    if len(name) != _NAME_LENGTH or not name.isalnum():
        raise typer.BadParameter(f"{name} is no name of an entry; `impledger quarantine list` has them")
    return name


def _marked(body: Any, flaws: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the document, pretty, with a mark beside each member that cannot be read, and after it what is missing."""
    wrong = {flaw["path"].removeprefix("$."): flaw for flaw in flaws}
    if not isinstance(body, dict):
        yield from ([] if body is None else str(body).splitlines())
        return
    for name, value in body.items():
        line = f"  {msgspec.json.encode(name).decode()}: {msgspec.json.encode(value).decode()}"
        flaw = wrong.pop(name[:64], None)
        yield line if flaw is None else f"{line}    <-- {flaw['found']}: {flaw['says']}"
    for name, flaw in wrong.items():
        yield f"  {name}    <-- {flaw['says']}"


def _entries(entries: list[dict[str, Any]]) -> Grid | str:
    """Leaves out what `show` says of each: a name must fit on the screen."""
    if not entries:
        return "nothing is in quarantine that was asked for"
    table = Grid(title=f"{len(entries)} entries", title_justify="left")
    for column in ("name", "received_at", "state", "code", "path", "sdk", "times"):
        table.add_column(column)
    table.add_column("outcome, or what is wrong", max_width=PROSE_WIDTH)
    for one in entries:
        cells = [one[name] for name in ("name", "received_at", "state", "code", "path", "sdk")]
        table.add_row(*cells, str(one["times"]), one["outcome"] or one["detail"])
    return table


def _groups(groups: list[dict[str, Any]]) -> Grid | str:
    if not groups:
        return "nothing is in quarantine that was asked for"
    table = Grid(title=f"{len(groups)} groups", title_justify="left")
    for column in ("code", "path", "sdk"):
        table.add_column(column)
    for column in ("entries", "times"):
        table.add_column(column, justify="right")
    for column in ("first_at", "last_at", "example"):
        table.add_column(column)
    for one in groups:
        cells = [one["code"], one["path"], one["sdk"], f"{one['entries']:,}", f"{one['times']:,}"]
        table.add_row(*cells, one["first_at"], one["last_at"], one["example"])
    return table
