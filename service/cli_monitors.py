"""`impledger monitors` asks the running desk; `impledger monitor` looks by itself, now."""

import asyncio
from typing import Annotated

import typer

from service.cli_shared import AsJson, print_answer, read_settings


def monitors(as_json: AsJson = False) -> None:
    """Ask the running desk what its monitors of clients, features, scores and labels say."""
    from service.asking import ask  # noqa: PLC0415 (each command loads what it needs)
    from service.monitors_screen import monitors_table  # noqa: PLC0415

    answer = ask(read_settings(), "/v1/monitors", {})
    print_answer(answer, as_json, lambda: monitors_table(answer))


def monitor(
    commits: Annotated[int, typer.Option(min=100, max=10_000_000, help="Commits of the ledger's end to look at.")] = (
        50_000
    ),
    as_json: AsJson = False,
) -> None:
    """Compare the ledger's end with the model's training and with a replay, now; exits 1 if anything is found."""
    from service.compiled import keep_compiled  # noqa: PLC0415

    settings = read_settings()
    keep_compiled(settings.data_dir)
    from service.monitors_once import look_once  # noqa: PLC0415
    from service.monitors_screen import monitors_table  # noqa: PLC0415

    answer = asyncio.run(look_once(settings, commits))
    print_answer(answer, as_json, lambda: monitors_table(answer))
    raise typer.Exit(1 if answer["alarms"] else 0)
