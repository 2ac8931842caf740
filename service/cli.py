"""The command line. Every command that answers and ends has `--json`; what fails says what to do next."""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from domain.cells import CellMapError
from domain.pack import PackError
from ledger.store import LedgerUnavailable
from ml.lists.readers import ListsRefused
from ml.traffic.access_log import LogUnreadable
from projections.errors import ProjectionError
from service import (
    cli_bench,
    cli_campaigns,
    cli_capacity,
    cli_cells,
    cli_demo,
    cli_drill,
    cli_evaluate,
    cli_feedback,
    cli_lists,
    cli_models,
    cli_monitors,
    cli_packs,
    cli_quarantine,
    cli_reevaluations,
    cli_shelter,
    cli_train,
    cli_work,
    process,
)
from service.cli_shared import AsJson, in_path, indented, print_answer, print_json, read_settings
from service.console import err, out
from service.processes import LauncherError
from service.settings import Settings, SettingsError

app = typer.Typer(
    help="Decides at once whether an ad impression counts, and can prove it months later.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command line; our own errors are told in a sentence, everything else is a bug with its traceback."""
    try:
        app()
    except SettingsError as error:
        _fail("\n".join(error.problems), "Change or unset these variables; docs/settings.md lists all.")
    except ListsRefused as error:
        _fail(str(error), "Mend that list; docs/lists.md says what each file has to look like.")
    except PackError as error:
        _fail(str(error), "Mend the rule pack, or choose another with IMPLEDGER_RULE_PACK.")
    except CellMapError as error:
        _fail(str(error), "Mend the cell map; docs/cells.md says what it has to look like.")
    except LogUnreadable as error:
        _fail(str(error), "Name a log that is whole, plain or gzip.")
    except LauncherError as error:
        _fail(str(error), error.next_step)
    except (LedgerUnavailable, ProjectionError) as error:
        _fail(str(error), "Is it running? `impledger up` starts everything on this machine.")


def up() -> None:
    """Run everything on this machine until Ctrl-C: PostgreSQL, Valkey, gate, desk, work and scheduler."""
    from service.logs import set_up_logs  # noqa: PLC0415 (each command loads what it needs)
    from service.machine import children, ports, starter  # noqa: PLC0415
    from service.supervisor import Supervisor  # noqa: PLC0415

    settings = read_settings()
    set_up_logs("up", settings.log_json, quiet=True)
    once = [starter(settings)] if settings.starter == "yes" else []
    supervisor = Supervisor(
        settings.data_dir,
        [*children(settings), *once],
        host=settings.host,
        ports=ports(settings),
        watch=_Watch(settings),
    )
    supervisor.run()


def migrate(as_json: AsJson = False) -> None:
    """Bring the tables of PostgreSQL (which must run) and ClickHouse to this version; safe to repeat."""
    from service.machine import migrate as run  # noqa: PLC0415
    from service.migrate_tables import migrate_tables  # noqa: PLC0415

    settings = read_settings()
    version = run(settings)
    applied = asyncio.run(migrate_tables(settings))
    tables = "in the running desk's hands" if applied is None else f"{len(applied)} files applied"
    facts = {"postgres": version, "clickhouse": applied}
    print_answer(facts, as_json, lambda: f"PostgreSQL is at version {version}; ClickHouse: {tables}.")


def gate() -> None:
    """Run the write API alone, against the servers that the settings name."""
    from service.gate import Gate  # noqa: PLC0415
    from service.keyfiles import load_or_make_keys  # noqa: PLC0415
    from service.lists_open import open_lists  # noqa: PLC0415
    from service.wiring import database_url, ledger_url, load_pack, open_store  # noqa: PLC0415

    settings = process.begin("gate")

    async def serve() -> None:
        await Gate(
            settings=settings,
            keys=load_or_make_keys(settings.data_dir),
            pack=load_pack(settings.rule_pack),
            lists=open_lists(settings),
            store=open_store(settings),
            ledger_url=ledger_url(settings),
            database_url=database_url(settings),
        ).serve()

    process.run(serve())


def desk() -> None:
    """Run the read API and the projector alone, against the servers that the settings name."""
    from service.access import Access  # noqa: PLC0415
    from service.desk import run_desk  # noqa: PLC0415
    from service.keyfiles import load_or_make_keys  # noqa: PLC0415
    from service.wiring import database_url, open_store  # noqa: PLC0415

    settings = process.begin("desk")
    access = Access(load_or_make_keys(settings.data_dir).api)
    process.run(run_desk(open_store(settings), database_url(settings), settings, access))


def replay_log(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Combined access log, plain or .gz.")],
    site: Annotated[str, typer.Option(help="Name of the site; starts every campaign's name.")] = "site",
    as_json: AsJson = False,
) -> None:
    """
    Send a real Apache or nginx access log through the gate; starts everything if nothing is running.

    Of a log that was replayed before, only the lines that came since count.
    """
    from service.logs import set_up_logs  # noqa: PLC0415
    from service.replay import replay  # noqa: PLC0415
    from service.replay_log import ReplayStopped  # noqa: PLC0415
    from service.replay_screen import replay_screen  # noqa: PLC0415

    if not site or not site.isprintable():
        raise typer.BadParameter("a site is a name that can be printed")
    settings = read_settings()
    set_up_logs("replay-log", settings.log_json, quiet=True)
    try:
        report = replay(settings, file, site=site, tell=lambda text: None if as_json else err.print(text))
    except ReplayStopped as stopped:
        answered = sum(stopped.report.statuses.values())
        what = f"{stopped}; {answered} impressions of {stopped.report.lines} lines were answered before"
        _fail(what, "Is the gate of this data folder running? Replay the log again then: no line counts twice.")
    print_answer(report, as_json, lambda: replay_screen(report))
    raise typer.Exit(0 if report.holds else 1)


def report(
    by: Annotated[list[str], typer.Option(help="Dimension to cut by; may be given several times.")] = [],  # noqa: B006
    metric: Annotated[list[str], typer.Option(help="Metric to show; may be given several times.")] = [],  # noqa: B006
    pack: Annotated[list[str], typer.Option(help="Viewability pack to show; all by default.")] = [],  # noqa: B006
    full: Annotated[bool, typer.Option("--full", help="Every metric; display, video and currencies apart.")] = False,
    granularity: Annotated[str, typer.Option(help="none, minute, hour or day.")] = "none",
    since: Annotated[str, typer.Option(help="From this time on, RFC 3339.")] = "",
    until: Annotated[str, typer.Option(help="To before this time, RFC 3339.")] = "",
    as_of: Annotated[str, typer.Option(help="As known at this time, RFC 3339.")] = "",
    data_set: Annotated[str, typer.Option(help="live or replay.")] = "live",
    limit: Annotated[str, typer.Option(help="Most rows, up to 100000; 10000 by default.")] = "",
    as_csv: Annotated[bool, typer.Option("--csv", help="Print comma-separated values and nothing else.")] = False,
    as_json: AsJson = False,
) -> None:
    """Ask the running desk for a report; exits 1 if gross is not the sum of its parts, or --csv lacks rows."""
    from service.asking import ask, ask_csv  # noqa: PLC0415
    from service.report_screen import FULL, identity_of, screen_of  # noqa: PLC0415

    asked = {
        "dimensions": by,
        "metrics": metric or (FULL if full else []),
        "pack": pack,
        "granularity": granularity,
        "since": since,
        "until": until,
        "as_of": as_of,
        "data_set": data_set,
        "limit": limit,
    }
    if as_csv and not as_json:
        values = ask_csv(read_settings(), "/v1/reports", asked)
        print(values.text, end="")
        if values.truncated:
            _fail("there are more rows than these", "Raise --limit, or ask for a shorter time or fewer dimensions.")
        return
    answer = ask(read_settings(), "/v1/reports", asked)
    print_answer(answer, as_json, lambda: screen_of(answer))
    identity = identity_of(answer)
    raise typer.Exit(0 if identity is None or identity.holds else 1)


def pacing(campaign: str, as_json: AsJson = False) -> None:
    """Ask the running desk what a campaign has spent and reserved."""
    from service.asking import ask  # noqa: PLC0415
    from service.report_screen import pacing_screen_of  # noqa: PLC0415

    answer = ask(read_settings(), f"/v1/campaigns/{in_path(campaign)}/pacing", {})
    print_answer(answer, as_json, lambda: pacing_screen_of(answer))


def completeness(
    by: Annotated[list[str], typer.Option(help="campaign, surface, format or sdk; may be given several times.")] = [],  # noqa: B006
    since: Annotated[str, typer.Option(help="Served from this time on, RFC 3339.")] = "",
    until: Annotated[str, typer.Option(help="Served before this time, RFC 3339.")] = "",
    as_json: AsJson = False,
) -> None:
    """Ask the running desk how much of what was served has rendered, and how much is lost."""
    from service.asking import ask  # noqa: PLC0415
    from service.served_screen import completeness_table  # noqa: PLC0415

    answer = ask(read_settings(), "/v1/completeness", {"dimensions": by, "since": since, "until": until})
    print_answer(answer, as_json, lambda: completeness_table(answer))


def show(impression: str, as_json: AsJson = False) -> None:
    """Ask the running desk for one impression: where it stands, and its events from the ledger."""
    from service.asking import ask  # noqa: PLC0415

    answer = ask(read_settings(), f"/v1/impressions/{in_path(impression)}", {})
    print_answer(answer, as_json, lambda: indented(answer))


def doctor(as_json: AsJson = False) -> None:
    """Look at everything that can be in the way, and say what to do about it."""
    from service.doctor import checks  # noqa: PLC0415

    try:
        settings, problems = read_settings(), []
    except SettingsError as error:
        settings, problems = error.usable, error.problems
    found = list(checks(settings, problems))
    if as_json:
        print_json({"checks": found})
    else:
        for check in found:
            mark, colour = ("ok  ", "green") if check.ok else ("fail", "red")
            out.print(mark, style=colour, end=" ")
            out.print(f"{check.name}: {check.says}")
            if not check.ok:
                out.print(f"     {check.fix}")
    raise typer.Exit(0 if all(check.ok for check in found) else 1)


class _Watch:
    """Tells of every child whose state changes, and where to go once all are ready."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._told: dict[str, str] = {}
        self._announced = False

    def __call__(self, states: Any) -> None:
        for child in states:
            if self._told.get(child.name) != child.state:
                self._told[child.name] = child.state
                err.print(f"{child.name:<9} {child.state}  {child.says}")
        if not self._announced and all(child.state in {"ready", "done"} for child in states):
            self._announced = True
            host = self._settings.host
            err.print(f"write API  http://{host}:{self._settings.gate_port}/v1/impressions")
            err.print(f"read API   http://{host}:{self._settings.desk_port}/v1/reports")
            err.print("In another terminal: `impledger report`; `impledger --help` lists all that can be asked.")
            err.print("Ctrl-C stops everything; the data stay in " + str(self._settings.data_dir))


def _fail(what: str, next_step: str) -> NoReturn:
    err.print(what, style="red")
    err.print(next_step)
    sys.exit(1)


_COMMANDS: dict[str, dict[str, Callable[..., object] | typer.Typer]] = {
    "Run it": {
        "demo": cli_demo.demo,
        "up": up,
        "replay-log": replay_log,
        "doctor": doctor,
        "migrate": migrate,
        "gate": gate,
        "desk": desk,
        "work": cli_work.work,
        "scheduler": cli_work.scheduler,
        "drill": cli_drill.drill,
    },
    "Ask it": {
        "report": report,
        "pacing": pacing,
        "completeness": completeness,
        "show": show,
        "monitors": cli_monitors.monitors,
        "monitor": cli_monitors.monitor,
        "feedback": cli_feedback.app,
        "reevaluations": cli_reevaluations.app,
    },
    "Tell it": {
        "campaigns": cli_campaigns.app,
        "quarantine": cli_quarantine.app,
        "dead-letters": cli_work.letters_app,
        "reevaluate": cli_reevaluations.reevaluate,
        "shelter": cli_shelter.app,
    },
    "Models": {
        "train": cli_train.train,
        "evaluate": cli_evaluate.evaluate,
        "models": cli_models.app,
        "promote": cli_models.promote,
        "rollback": cli_models.rollback,
    },
    "Rules and cells": {
        "classify": cli_lists.app,
        "packs": cli_packs.app,
        "cells": cli_cells.app,
    },
    "Plan and measure": {
        "capacity": cli_capacity.capacity,
        "bench": cli_bench.app,
    },
}
"""As `--help` shows them."""

for _panel, _named in _COMMANDS.items():
    for _name, _command in _named.items():
        if isinstance(_command, typer.Typer):
            app.add_typer(_command, name=_name, rich_help_panel=_panel)
        else:
            app.command(name=_name, rich_help_panel=_panel)(_command)
app.command(name="starter", hidden=True)(cli_train.starter)


if __name__ == "__main__":
    main()
