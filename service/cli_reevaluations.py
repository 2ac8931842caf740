"""`impledger reevaluate` and `reevaluations`: looks at a period again, and tells what looking again has found."""

import asyncio
from typing import Annotated, Any

import typer
from rich.progress import Progress

from service.cli_shared import AsJson, epoch_ms, gate_client, in_path, read_settings, tell
from service.clock import now_ms
from service.console import out

app = typer.Typer(help="See what looking again would have otherwise; nothing is changed.", invoke_without_command=True)


def reevaluate(
    since: Annotated[str, typer.Option(help="Impressions from this time on, RFC 3339.")],
    until: Annotated[str, typer.Option(help="To before this time, RFC 3339.")],
    campaign: Annotated[str, typer.Option(help="Only those of this campaign.")] = "",
    go: Annotated[bool, typer.Option("--go", help="Do it; without, it is only said what would be done.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Once more, where it was finished before.")] = False,
    as_json: AsJson = False,
) -> None:
    """Have everything that counts in a period looked at again, before it is closed; safe to stop and to repeat."""
    from service.finalise import Period, finalise, plan  # noqa: PLC0415 (each command loads what it needs)

    settings, period = read_settings(), Period(epoch_ms(since, "--since"), epoch_ms(until, "--until"), campaign)
    if not period.since < period.until:
        raise typer.BadParameter("--since must be before --until")
    if period.until > now_ms():
        raise typer.BadParameter("--until must be past: until then more may come to count")
    if not go:
        planned = asyncio.run(plan(settings, period))
        tell(planned, as_json, [planned.line(), "Nothing was done: say --go to do it."])
        return
    with Progress(disable=as_json, console=out) as progress:
        bar = progress.add_task("looked at again", total=None)

        def show(noted: int, done: int, expected: int) -> None:
            progress.update(bar, completed=done, total=max(expected, noted))

        result = asyncio.run(finalise(settings, period, again=again, show=show))
    tell(result, as_json, [result.line()])
    raise typer.Exit(0 if result.is_done else 1)


@app.callback()
def reevaluations(
    context: typer.Context,
    since: Annotated[str, typer.Option(help="Looked at from this time on, RFC 3339; the last 7 days by default.")] = "",
    as_json: AsJson = False,
) -> None:
    """Sum up what looking again would have otherwise, by why, from where, to where, and money."""
    if context.invoked_subcommand:
        return
    answer = _asked("/v1/reevaluations/summary", {"since": since})
    groups = [_group_line(one) for one in answer["groups"]] or ["nothing was looked at again"]
    due = [f"due: {one['due']} {one['why']} since {one['oldest_at']}, {one['failing']} failed" for one in answer["due"]]
    tell(answer, as_json, [*groups, *due])


@app.command(name="list")
def list_(
    since: Annotated[str, typer.Option(help="Looked at from this time on, RFC 3339; the last 7 days by default.")] = "",
    why: Annotated[str, typer.Option(help="label, deadline, uncertain, shed, sample, finalise or unread.")] = "",
    campaign: Annotated[str, typer.Option(help="Only those of this campaign.")] = "",
    changes: Annotated[bool, typer.Option("--changes", help="Only those that would stand otherwise.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="Most of them.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List impressions that were looked at again, the last first."""
    asked = {"since": since, "why": why, "campaign": campaign, "limit": str(limit)}
    answer = _asked("/v1/reevaluations", {**asked, "changes": "true" if changes else ""})
    tell(answer, as_json, [_line(one) for one in answer["reevaluations"]] or ["there are none"])
    if not as_json and answer["after"]:
        out.print("There are more: raise --limit.")


@app.command()
def show(impression: Annotated[str, typer.Argument(help="Its id.")], as_json: AsJson = False) -> None:
    """Show what looking again found of one impression."""
    answer = _asked(f"/v1/reevaluations/{in_path(impression)}", {})
    tell(answer, as_json, [f"{name}: {value}" for name, value in answer.items()])


def _asked(path: str, parameters: dict[str, str]) -> Any:
    with gate_client() as gate:
        return gate.get(path, parameters)


def _group_line(one: dict[str, Any]) -> str:
    note = "" if one["allowed"] else "  (would be refused: somebody of more authority has spoken)"
    return f"{one['impressions']:>9}  {one['why']:<9}  {_way(one)}  {one['micros']:+,} micros {one['currency']}{note}"


def _line(one: dict[str, Any]) -> str:
    return (
        f"{one['impression']}  {one['looked_at']}  {one['why']}  {_way(one)}  risk {one['risk']:.3f}"
        f"  {one['micros']:+,} micros {one['currency']}  {one['model']}"
    )


def _way(one: dict[str, Any]) -> str:
    stands = " ".join(filter(None, (one["from_verdict"], one["from_reason"])))
    if not one["changes"]:
        return f"stays {stands}"
    return f"{stands} -> {' '.join(filter(None, (one['to_verdict'], one['to_reason'])))}"
