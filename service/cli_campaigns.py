"""`impledger campaigns`: open, show and change campaigns through the running gate; compare what follows from them."""

import asyncio
from typing import Annotated, Any
from uuid import uuid4

import typer

from domain.vocabulary import BillingEvent
from service.cli_shared import AsJson, gate_client, in_path, indented, print_answer, print_json, read_settings
from service.console import Grid, out

app = typer.Typer(help="Campaigns: flights, budgets, and what has been spent of them.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(metavar="ID", help="Id of the campaign, as tokens name it.")]
Start = Annotated[str, typer.Option("--flight-start", help="First moment of the flight, RFC 3339 or epoch ms.")]
End = Annotated[str, typer.Option("--flight-end", help="Last moment of the flight, RFC 3339 or epoch ms.")]
Budget = Annotated[int, typer.Option("--budget-micros", min=1, help="For the whole campaign, in micros.")]
NewBudget = Annotated[int | None, typer.Option("--budget-micros", min=1, help="For the whole campaign, in micros.")]
Daily = Annotated[
    int | None, typer.Option("--daily-budget-micros", min=1, help="For each day of the account, in micros.")
]
RequestId = Annotated[str, typer.Option("--request-id", help="UUID; the same one again does the same thing once.")]


@app.command(name="list")
def list_campaigns(
    advertiser: Annotated[str, typer.Option(help="Only this advertiser's.")] = "",
    after: Annotated[str, typer.Option(help="Begin after this id.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="Most campaigns.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List campaigns in order of their ids."""
    asked = {"advertiser": advertiser, "after": after, "limit": str(limit)}
    with gate_client() as gate:
        answer = gate.get("/v1/campaigns", asked)
    if as_json:
        print_json(answer)
        return
    table = Grid(box=None, pad_edge=False)
    for name in ("campaign", "status", "flight end", "budget", "spent", "leased", "currency"):
        table.add_column(name, justify="right" if name in {"budget", "spent", "leased"} else "left")
    for one in answer["campaigns"]:
        budget = one["budget"] or {"spent_micros": 0, "leased_micros": 0}
        money = (one["budget_micros"], budget["spent_micros"], budget["leased_micros"])
        units = [f"{micros / 1e6:,.2f}" for micros in money]
        table.add_row(one["campaign"], one["status"], one["flight_end"], *units, one["currency"])
    out.print(table)
    if answer["next"]:
        out.print(f"more: --after {answer['next']}")


@app.command()
def show(id_: Id, as_json: AsJson = False) -> None:
    """Show a campaign as the ledger has it, and how its budget stands."""
    with gate_client() as gate:
        _show(gate.get(_path(id_)), as_json)


@app.command(name="open")
def open_campaign(
    id_: Id,
    advertiser: Annotated[str, typer.Option(help="Who pays.")],
    account: Annotated[str, typer.Option(help="The account that is billed.")],
    currency: Annotated[str, typer.Option(help="ISO 4217; never changes.")],
    time_zone: Annotated[str, typer.Option(help="The account's, as IANA names it; never changes.")],
    flight_start: Start,
    flight_end: End,
    budget_micros: Budget,
    daily_budget_micros: Daily = None,
    billing_event: Annotated[BillingEvent, typer.Option(help="What is billed.")] = BillingEvent.IMPRESSION,
    viewability_pack: Annotated[str, typer.Option(help="What viewable means.")] = "mrc",
    request_id: RequestId = "",
    as_json: AsJson = False,
) -> None:
    """Open a campaign."""
    document = {
        "request_id": request_id or str(uuid4()),
        "campaign": id_,
        "advertiser": advertiser,
        "account": account,
        "currency": currency,
        "time_zone": time_zone,
        "billing_event": billing_event.value,
        "viewability_pack": viewability_pack,
        "flight_start": _time(flight_start),
        "flight_end": _time(flight_end),
        "budget_micros": budget_micros,
        "daily_budget_micros": daily_budget_micros,
    }
    with gate_client() as gate:
        _show(gate.post("/v1/campaigns", document), as_json)


@app.command(name="set")
def set_campaign(
    id_: Id,
    flight_start: Start = "",
    flight_end: End = "",
    budget_micros: NewBudget = None,
    daily_budget_micros: Daily = None,
    no_daily_budget: Annotated[bool, typer.Option("--no-daily-budget", help="Take the daily budget away.")] = False,
    request_id: RequestId = "",
    as_json: AsJson = False,
) -> None:
    """Change a campaign's flight or budget; what is not named stays."""
    if no_daily_budget and daily_budget_micros is not None:
        raise typer.BadParameter("--daily-budget-micros and --no-daily-budget exclude each other")
    asked: dict[str, Any] = {
        "flight_start": _time(flight_start) if flight_start else None,
        "flight_end": _time(flight_end) if flight_end else None,
        "budget_micros": budget_micros,
        "daily_budget_micros": daily_budget_micros,
    }
    changes = {name: value for name, value in asked.items() if value is not None}
    if no_daily_budget:
        changes["daily_budget_micros"] = None
    if not changes:
        raise typer.BadParameter("name something to change; --help lists what there is")
    _show(_change(id_, request_id, changes), as_json)


@app.command()
def pause(id_: Id, request_id: RequestId = "", as_json: AsJson = False) -> None:
    """Pause a campaign: from now on nothing of it counts."""
    _show(_change(id_, request_id, {"paused": True}), as_json)


@app.command()
def resume(id_: Id, request_id: RequestId = "", as_json: AsJson = False) -> None:
    """Let a paused campaign run again."""
    _show(_change(id_, request_id, {"paused": False}), as_json)


@app.command()
def verify(
    mend: Annotated[bool, typer.Option("--mend", help="Put right what is otherwise than the ledger.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compare the list of campaigns, and budgets if they are kept, with the ledger; exits 1 if they differ."""
    from service.campaigns_check import check_campaigns  # noqa: PLC0415 (each command loads what it needs)

    checked = asyncio.run(check_campaigns(read_settings(), mend=mend))
    if as_json:
        print_json(checked)
    else:
        for line in _verified_lines(checked):
            out.print(line)
        out.print(_said(checked, mend=mend))
    raise typer.Exit(0 if checked.good or (mend and not _is_unsure(checked)) else 1)


def _is_unsure(checked: Any) -> bool:
    return checked.budgets is not None and bool(checked.budgets.unreadable)


def _said(checked: Any, *, mend: bool) -> str:
    if _is_unsure(checked):
        return "budgets stay as they are, for part of the ledger cannot be read"
    return "put right" if mend and not checked.good else "all alike" if checked.good else "--mend puts it right"


def _verified_lines(checked: Any) -> list[str]:
    unlike = [f"the list has campaign {id_} otherwise than the ledger" for id_ in checked.unlike]
    if checked.budgets is None:
        return [
            "budgets are not kept: IMPLEDGER_CAMPAIGNS=token leaves them to whoever mints; the list compared",
            *unlike,
        ]
    return [
        f"{checked.budgets.accounts:,} accounts compared up to position {checked.budgets.through:,}",
        *unlike,
        *(f"the commit at position {position:,} cannot be read" for position in checked.budgets.unreadable),
        *(
            f"{one.campaign} day {one.day}: ledger {one.ledger:,}, booked {one.booked:,} micros"
            for one in checked.budgets.differences
        ),
    ]


def _change(id_: str, request_id: str, changes: dict[str, Any]) -> Any:
    """Whoever changed the campaign between the two requests wins, and this change is refused."""
    with gate_client() as gate:
        version = gate.get(_path(id_))["version"]
        return gate.patch(_path(id_), {"request_id": request_id or str(uuid4()), **changes}, version)


def _path(id_: str) -> str:
    return f"/v1/campaigns/{in_path(id_)}"


def _time(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdigit() else text


def _show(answer: Any, as_json: bool) -> None:
    print_answer(answer, as_json, lambda: indented(answer))
