"""`impledger shelter`: order that another region's renders are kept here, take that back, and bring them home."""

import asyncio
import time
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID, uuid4

import msgspec
import typer

from service.cli_shared import AsJson, gate_client, print_json, read_settings, tell
from service.clock import now_ms
from service.settings import Settings

app = typer.Typer(help="Keep another region's renders, sealed, while it is down.", no_args_is_help=True)

_MINUTE_MS = 60_000
_ROUNDS_PAUSE_S = 1.0


@app.command()
def order(
    region: Annotated[str, typer.Argument(help="The region that is down.")] = "",
    key: Annotated[Path | None, typer.Option(help="File of the operator's key, of `shelter keys --operator`.")] = None,
    minutes: Annotated[int, typer.Option(min=1, max=1_440, help="How long it holds; it can be revoked.")] = 60,
    cell: Annotated[list[str], typer.Option(help="Cells that shelter; default: this one.")] = [],  # noqa: B006
    reason: Annotated[str, typer.Option(help="Why, for the log; up to 200 characters.")] = "",
    document: Annotated[Path | None, typer.Option(help="Send this signed order instead of making one.")] = None,
    only_sign: Annotated[bool, typer.Option("--only-sign", help="Print it for `--document`, send nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Sign an order to shelter a region and hand it to the running gate of this cell."""
    from domain.shelter import REASON_MAX  # noqa: PLC0415 (each command loads what it needs)

    if (document is None) == (key is None):
        raise typer.BadParameter("name the operator's key with --key, or a signed order with --document")
    if len(reason) > REASON_MAX:
        raise typer.BadParameter(f"a reason has at most {REASON_MAX} characters")
    signed = _signed(region, key, minutes, cell, reason) if key else _read(document)
    if only_sign:
        print_json(signed)
        return
    with gate_client() as gate:
        facts = gate.post("/v1/shelter/orders", msgspec.to_builtins(signed))
    revoke_with = f"impledger shelter revoke {facts['order_id']}"
    lines = [f"{', '.join(facts['cells'])}: shelters {facts['region']} until {facts['valid_until']}."]
    tell(facts, as_json, [*lines, f"Take it back with: {revoke_with}"])


@app.command()
def revoke(
    order_id: Annotated[str, typer.Argument(help="As `status` has it.")],
    as_json: AsJson = False,
) -> None:
    """Take an order back: from then on renders of its region get 421 again. What is sheltered is kept and forwarded."""
    with gate_client() as gate:
        facts = gate.post(f"/v1/shelter/orders/{_uuid(order_id)}/revoke", {})
    tell(facts, as_json, [f"The order for {facts['region']} is revoked since {facts['revoked_at']}."])


@app.command()
def status(as_json: AsJson = False) -> None:
    """Say what is sheltered here, by which order, how much waits, and how other regions look."""
    with gate_client() as gate:
        facts = gate.get("/v1/shelter", {})
    tell(facts, as_json, _status_lines(facts))


@app.command()
def forward(
    seconds: Annotated[int, typer.Option(min=1, max=86_400, help="Try for so long.")] = 60,
    as_json: AsJson = False,
) -> None:
    """Bring home what is sheltered; needs the tables, not the gate. Exits 1 if something is left."""
    facts = asyncio.run(_forward(seconds))
    lines = [
        f"taken {facts['taken']}, quarantined {facts['quarantined']}, refused {facts['refused']} by their homes",
        f"{facts['left']} wait",
        *(f"{home}: {why}" for home, why in facts["failed"].items()),
    ]
    tell(facts, as_json, lines)
    raise typer.Exit(1 if facts["left"] else 0)


@app.command()
def keys(
    operator: Annotated[Path | None, typer.Option(help="Make an operator's key in this new file instead.")] = None,
    name: Annotated[str, typer.Option(help="The operator's name, with --operator.")] = "",
    as_json: AsJson = False,
) -> None:
    """Print this cell's public keys (or a new operator's), as an entry for the file of trusted keys."""
    from service.keyfiles import load_or_make_keys  # noqa: PLC0415
    from service.shelter_files import entry_of, load_or_make_shelter_keys, make_operator  # noqa: PLC0415

    settings = read_settings()
    if operator is not None:
        if not name:
            raise typer.BadParameter("say whose key it is with --name")
        entry = make_operator(name, operator)
        tell({"entry": entry}, as_json, entry.rstrip().split("\n"))
        return
    if not settings.cell:
        raise typer.BadParameter("IMPLEDGER_CELL must name this cell")
    own, shelter = load_or_make_keys(settings.data_dir), load_or_make_shelter_keys(settings.data_dir)
    entry = entry_of(settings.cell, shelter, own)
    tell({"entry": entry}, as_json, entry.rstrip().split("\n"))


@app.command()
def admit(as_json: AsJson = False) -> None:
    """Make a bearer token with which one other cell may forward to this one, and print it; restart the gate after."""
    from service.shelter_files import admit_peer  # noqa: PLC0415

    bearer = admit_peer(read_settings().data_dir)
    tell({"bearer": bearer}, as_json, [bearer])


@app.command()
def peer(
    cell: Annotated[str, typer.Argument(help="The cell that has made the token with `shelter admit`.")],
    bearer: Annotated[str, typer.Option(prompt="Bearer token", hide_input=True, help="Better not on a command line.")],
    as_json: AsJson = False,
) -> None:
    """Keep the bearer token that another cell has given to this one; restart the gate after."""
    from service.shelter_files import keep_peer  # noqa: PLC0415

    settings = read_settings()
    _check_in_map(settings, cell)
    keep_peer(settings.data_dir, cell, bearer.strip())
    tell({"cell": cell}, as_json, [f"kept for {cell}; the gate reads it when it starts"])


def _signed(region: str, key: Path, minutes: int, cells: list[str], reason: str) -> Any:
    from domain.shelter import Ground, Order  # noqa: PLC0415
    from service.shelter_files import operator_of  # noqa: PLC0415

    own = read_settings().cell
    if not region or not (cells or own):
        raise typer.BadParameter("name the region, and the cells with --cell if IMPLEDGER_CELL does not")
    signer, now = operator_of(key), now_ms()
    return signer.sign(
        Order(
            order_id=uuid4(),
            region=region,
            cells=tuple(cells or [own]),
            ground=Ground.OPERATOR,
            issuer=signer.name,
            issued_at=now,
            valid_from=now,
            valid_until=now + minutes * _MINUTE_MS,
            reason=reason,
        )
    )


def _check_in_map(settings: Settings, cell: str) -> None:
    from service.cell_maps import load_cell_map  # noqa: PLC0415

    if not settings.cell_map:
        raise typer.BadParameter("IMPLEDGER_CELL_MAP must name the map that the cell is in")
    others = load_cell_map(Path(settings.cell_map)).cells.keys() - {settings.cell}
    if cell not in others:
        known = ", ".join(sorted(others)) or "no other cell"
        raise typer.BadParameter(f"{cell!r} is no other cell of {settings.cell_map}; it has {known}")


def _read(document: Path | None) -> Any:
    from domain.shelter import Signed  # noqa: PLC0415

    assert document is not None
    try:
        return msgspec.json.decode(document.read_bytes(), type=Signed)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{document} holds no signed order") from error


async def _forward(seconds: int) -> dict[str, Any]:
    """Forward until nothing waits or *seconds* are over; a home that is not ready is asked again."""
    from service.shelter_forwarding import Forwarding  # noqa: PLC0415

    deadline = time.monotonic() + seconds
    async with Forwarding(read_settings()) as forwarding:
        while True:
            facts = await forwarding.run()
            if not facts["left"] or time.monotonic() + _ROUNDS_PAUSE_S > deadline:
                return facts
            await asyncio.sleep(_ROUNDS_PAUSE_S)


def _status_lines(facts: dict[str, Any]) -> list[str]:
    lines = [f"{facts['cell']} shelters: {', '.join(facts['sheltering']) or 'no other region'}"]
    lines += [
        f"  {one['order_id']}  {one['region']}  {one['state']} until {one['valid_until']}  by {one['issuer']}"
        for one in facts["orders"]
    ]
    for region, seen in facts["regions"].items():
        lines.append(f"{region}: {'down since ' + str(seen['failed_since']) if seen['down'] else 'answers'}")
    counts = ", ".join(f"{number} {state}" for state, number in facts["events"].items())
    lines.append(f"events: {counts}; {facts['bytes_waiting']} bytes wait")
    lines += [
        f"  for {one['cell']}: {one['waiting']}, the oldest of {one['oldest_at']}  {one['failed']}".rstrip()
        for one in facts["homes"]
    ]
    return lines


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no UUID") from error
