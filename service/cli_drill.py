"""`impledger drill RUNG`: the running gate does without something for a while; what came of it is told in the end."""

import time
from collections.abc import Callable
from typing import Annotated, Any

import typer
from msgspec import Struct

from domain.ladder import LADDER
from service.cli_shared import AsJson, gate_client, print_answer
from service.console import Grid, err

POLL_S = 0.5
RECOVERED_WITHIN_S = 60.0
"""Longer than any stretch of health that a rung asks for (`commands.ladder.PATIENCE`)."""


class Drilled(Struct, frozen=True, kw_only=True):
    """
    What came of a drill. `decisions` counts those that named a rung, while it was drilled and until it recovered.

    `recovered_after_s` is None if it did not; a rung that was in force before the drill has recovered when that ends.
    """

    rung: str
    seconds: float
    decisions: dict[str, int]
    in_force_before: list[str]
    in_force_after: list[str]
    recovered_after_s: float | None


def drill(
    rung: Annotated[str, typer.Argument(help="What to do without; --list says which there are.")] = "",
    seconds: Annotated[float, typer.Option(min=0.5, max=600, help="For how long; it ends by itself.")] = 30,
    show: Annotated[bool, typer.Option("--list", help="Show the ladder and what is in force, and do nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Have the running gate do without something for a while, and say what it decided; exits 1 if it stays so."""
    if not rung and not show:
        raise typer.BadParameter("name a rung, or ask for --list")
    with gate_client() as gate:
        if show:
            standing = gate.get("/v1/drills", {})
            print_answer(standing, as_json, lambda: _ladder(standing))
            return
        done = run(gate, rung, seconds, lambda text: None if as_json else err.print(text))
    print_answer(done, as_json, lambda: _told(done))
    raise typer.Exit(1 if done.recovered_after_s is None else 0)


def run(
    gate: Any,
    rung: str,
    seconds: float,
    tell: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Drilled:
    """
    Drill *rung* at *gate*, wait for its end and for recovery.

    Raises:
        Refused: the gate will not; the text says why.
        AskedInVain: it does not answer.
    """
    before = gate.get("/v1/drills", {})
    gate.post("/v1/drills", {"rung": rung, "seconds": seconds})
    tell(f"{rung} for {seconds:g} s; it ends by itself. DELETE /v1/drills/{rung} ends it sooner.")
    ended_at, after = None, before
    while True:
        sleep(POLL_S)
        after, now = gate.get("/v1/drills", {}), clock()
        if any(one["rung"] == rung for one in after["drills"]):
            continue
        if ended_at is None:
            ended_at = now
            tell("the drill is over; waiting for recovery")
        is_back = rung not in after["in_force"] or rung in before["in_force"]
        if is_back or now - ended_at > RECOVERED_WITHIN_S:
            break
    counted = {name: after["decisions"][name] - count for name, count in before["decisions"].items()}
    return Drilled(
        rung=rung,
        seconds=seconds,
        decisions={name: count for name, count in counted.items() if count},
        in_force_before=before["in_force"],
        in_force_after=after["in_force"],
        recovered_after_s=round(now - ended_at, 3) if is_back else None,
    )


def _ladder(standing: dict[str, Any]) -> Grid:
    table = Grid("rung", "missing", "in force", "drill", "decisions")
    left = {one["rung"]: f"{one['seconds_left']:.0f} s left" for one in standing["drills"]}
    for step in LADDER:
        name = step.rung.value
        can = left.get(name, "can be" if name in standing["drillable"] else "")
        in_force = "yes" if name in standing["in_force"] else ""
        table.add_row(name, step.missing, in_force, can, str(standing["decisions"][name]))
    return table


def _told(done: Drilled) -> Grid:
    table = Grid("decisions that named", "count", title=f"{done.rung}, {done.seconds:g} s")
    for name, count in done.decisions.items():
        table.add_row(name, str(count))
    if not done.decisions:
        table.add_row("none: nothing was sent meanwhile", "0")
    recovered = done.recovered_after_s
    table.caption = "it has not recovered" if recovered is None else f"recovered {recovered:.1f} s after its end"
    return table
