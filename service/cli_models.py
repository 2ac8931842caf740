"""`impledger models`, `promote` and `rollback`: which models there are and which decide, told to the running gate."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import typer

from domain.placement_events import Stage
from service.cli_shared import AsJson, gate_client, in_path, indented, print_answer, print_json, read_settings
from service.console import Grid, out

app = typer.Typer(help="Models: which there are, which decide, and how they compare.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(metavar="MODEL", help="Id of the model, as `impledger models list` shows it.")]
Reason = Annotated[str, typer.Option(help="Why; it stands in the ledger.")]
RequestId = Annotated[str, typer.Option("--request-id", help="UUID; the same one again does the same thing once.")]


@app.command(name="list")
def list_models(
    stage: Annotated[str, typer.Option(help="Only models of this stage: s2 or s3.")] = "",
    after: Annotated[str, typer.Option(help="Begin after this model.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="Most models.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List models, the latest first, and what is in force."""
    with gate_client() as gate:
        answer = gate.get("/v1/models", {"stage": stage, "after": after, "limit": str(limit)})
    if as_json:
        print_json(answer)
        return
    _table(answer["models"], ("model", "stage", "role", "bytes", "rows", "trained_until", "added_at"))
    _say_in_force(answer)
    if answer["next"]:
        out.print(f"more: --after {answer['next']}")


@app.command()
def show(id_: Id, as_json: AsJson = False) -> None:
    """Show a model with its card."""
    with gate_client() as gate:
        answer = gate.get(f"/v1/models/{in_path(id_)}")
    print_answer(answer, as_json, lambda: indented(answer))


@app.command()
def add(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A model that `impledger train` wrote.")],
    as_json: AsJson = False,
) -> None:
    """Put a model into the registry; it decides nothing until it is promoted."""
    with gate_client() as gate:
        answer = gate.post("/v1/models", file.read_bytes())
    if as_json:
        print_json(answer)
        return
    out.print(f"{answer['model']} is in the registry, {answer['bytes']:,} bytes.")
    out.print(f"next: impledger promote {answer['model']} --shadow")


@app.command()
def history(
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="Most placements.")] = 50,
    before: Annotated[int, typer.Option(min=1, help="Only placements before this one.")] = 1 << 30,
    as_json: AsJson = False,
) -> None:
    """Show who put which model in force when, and why, the latest first."""
    with gate_client() as gate:
        answer = gate.get("/v1/models/placements", {"limit": str(limit), "before": str(before)})
    if as_json:
        print_json(answer)
        return
    _table(answer["placements"], ("version", "at", "stage", "role", "model", "share", "by", "reason"))


@app.command()
def beside(
    hours: Annotated[int, typer.Option(min=1, max=840, help="How far back.")] = 24,
    as_json: AsJson = False,
) -> None:
    """Show hour by hour what challenger and canary said beside the champion."""
    with gate_client() as gate:
        answer = gate.get("/v1/models/comparisons", {"hours": str(hours)})
    if as_json:
        print_json(answer)
        return
    figures = ("agreement", "stricter", "milder", "difference_mean", "money_micros")
    _table(answer["hours"], ("hour", "role", "other", "currency", "rows", *figures))


@app.command()
def compare(
    champion: Annotated[str, typer.Argument(help="A model; empty: the champion.")] = "",
    other: Annotated[str, typer.Argument(help="A model; empty: the canary, else the challenger.")] = "",
    mature_h: Annotated[float, typer.Option(min=0, help="How old an impression is when its label is final.")] = 72,
    as_json: AsJson = False,
) -> None:
    """Compare two models on matured labels, in agreement and in money; may be asked as often as one likes."""
    from service.models_compare import compare_models  # noqa: PLC0415 (each command loads what it needs)

    found = asyncio.run(compare_models(read_settings(), champion, other, mature_h))
    if as_json:
        print_json(found)
        return
    result = found.result
    out.print(f"{found.other} against {found.champion}: {result.finding.value}")
    at = result.agreement
    out.print(f"agreement {at.mean:+.4f}, {at.lower:+.4f} to {at.upper:+.4f}, on {at.labels:,} labels")
    for currency, one in result.money_micros.items():
        out.print(
            f"money {one.mean:+,.1f} micros of {currency} an impression, {one.lower:+,.1f} to {one.upper:+,.1f},"
            f" on {one.labels:,} labels"
        )


@app.command()
def retire(
    id_: Id, reason: Reason = "impledger models retire", request_id: RequestId = "", as_json: AsJson = False
) -> None:
    """Take a model out of whatever role it has; without a champion rules alone decide."""
    _place("retire", id_, reason, request_id, as_json)


def promote(
    id_: Id,
    shadow: Annotated[bool, typer.Option("--shadow", help="Score beside the champion, decide nothing.")] = False,
    canary: Annotated[
        float | None, typer.Option("--canary", help="Decide for this share of impressions, 0.5 at most.")
    ] = None,
    reason: Reason = "impledger promote",
    request_id: RequestId = "",
    as_json: AsJson = False,
) -> None:
    """Have a model decide: for all, for a share, or in shadow. Gates follow within a second, without a restart."""
    if shadow and canary is not None:
        raise typer.BadParameter("--shadow and --canary exclude each other")
    action = "shadow" if shadow else "promote" if canary is None else "canary"
    _place(action, id_, reason, request_id, as_json, share=0.0 if canary is None else canary)


def rollback(
    stage: Annotated[Stage, typer.Option(help="Of which stage.")] = Stage.S2,
    reason: Reason = "impledger rollback",
    request_id: RequestId = "",
    as_json: AsJson = False,
) -> None:
    """End the canary; without one, have the champion before decide again."""
    with gate_client() as gate:
        standing = gate.get("/v1/models", {"limit": "1"})["in_force"][stage.value]
    latest = standing["canary"] or standing["champion"] or ""
    _place("roll_back", latest, reason, request_id, as_json, stage=stage.value)


def _place(action: str, model: str, reason: str, request_id: str, as_json: bool, **more: object) -> None:
    document = {
        "request_id": request_id or str(uuid4()),
        "action": action,
        "model": model,
        "reason": reason,
        **more,
    }
    with gate_client() as gate:
        answer = gate.post("/v1/models/placements", document)
    if as_json:
        print_json(answer)
        return
    if not answer["changed"]:
        out.print("It was so already.")
    _say_in_force(answer)


def _say_in_force(answer: Any) -> None:
    for stage, standing in answer["in_force"].items():
        rivals = [f"{role} {standing[role]}" for role in ("challenger", "canary") if standing[role]]
        share = f" for {standing['share'] * 100:g} %" if standing["canary"] else ""
        champion = standing["champion"] or "rules alone"
        out.print(f"{stage}: {champion}{'' if not rivals else ', beside it ' + ' and '.join(rivals)}{share}")
    for model, why in answer["gate"]["refused"].items():
        out.print(f"refused by the gate: {model}: {why}")


def _table(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
    table = Grid(box=None, pad_edge=False)
    for name in columns:
        table.add_column(name.replace("_", " "))
    for row in rows:
        table.add_row(*[_cell(row[name]) for name in columns])
    out.print(table)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
