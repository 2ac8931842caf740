"""`impledger bench`: what this machine does."""

from typing import Annotated

import typer

from service.cli_shared import AsJson, indented, print_answer, read_settings
from service.console import err

app = typer.Typer(help="Measure what this machine does.", invoke_without_command=True)


@app.callback()
def bench(
    context: typer.Context,
    decisions: Annotated[int, typer.Option(min=1_000, help="Decisions at saturation.")] = 100_000,
    batch: Annotated[int, typer.Option(min=1, max=1_000, help="Renders per request.")] = 100,
    seed: Annotated[int, typer.Option()] = 1,
    as_json: AsJson = False,
) -> None:
    """Measure durable decisions per second, and what each costs in every process, on this machine."""
    if context.invoked_subcommand:
        return
    from service.bench import bench as run  # noqa: PLC0415
    from service.logs import set_up_logs  # noqa: PLC0415

    settings = read_settings()
    set_up_logs("bench", settings.log_json, quiet=True)
    measured = run(
        settings,
        decisions=decisions,
        batch=batch,
        seed=seed,
        tell=lambda text: None if as_json else err.print(text),
    )
    print_answer(measured, as_json, lambda: indented(measured))


@app.command(name="lists")
def bench_lists(
    seed: Annotated[int, typer.Option(help="Draws the addresses that are looked up.")] = 1, as_json: AsJson = False
) -> None:
    """Measure recall and false positives of the lists on agents they were not made of, and what a look-up costs."""
    from service.bench_lists import bench_lists as run  # noqa: PLC0415

    measured = run(seed=seed)
    print_answer(measured, as_json, measured.table)
