"""`impledger demo`: generated traffic through everything on this machine."""

from typing import Annotated

import typer

from service.cli_shared import AsJson, print_json, read_settings
from service.console import err, out


def demo(
    seconds: Annotated[float, typer.Option(min=1, help="How long to drive traffic.")] = 60,
    rate: Annotated[float, typer.Option(min=1, help="Events per second.")] = 1_000,
    seed: Annotated[int, typer.Option(help="The same seed makes the same people, ads and faults.")] = 1,
    family: Annotated[
        list[str], typer.Option(metavar="NAME", help="A held-out family of traffic that is to take part, too.")
    ] = [],  # noqa: B006
    day: Annotated[
        list[str], typer.Option(metavar="NAME", help="A day that is like no other; docs/traffic.md has both lists.")
    ] = [],  # noqa: B006
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the data in IMPLEDGER_DATA_DIR, which has none yet.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run the main job on this machine with generated traffic, then check the books; exits 1 if they are wrong."""
    from ml.traffic.drills import days  # noqa: PLC0415
    from ml.traffic.families import TRAINABLE, known  # noqa: PLC0415
    from ml.traffic.generator import Plan  # noqa: PLC0415
    from service.demo import demo as run  # noqa: PLC0415
    from service.demo_screen import DemoScreen  # noqa: PLC0415
    from service.logs import set_up_logs  # noqa: PLC0415

    try:
        known(family)
        families = (*TRAINABLE, *(name for name in family if name not in TRAINABLE))
        plan = Plan(seed=seed, rate=rate, seconds=seconds, families=families, drills=days(day))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    settings = read_settings()
    set_up_logs("demo", settings.log_json, quiet=True)
    with DemoScreen(out, err, is_quiet=as_json) as screen:
        report = run(settings, plan, keep=keep, show=screen.show, tell=screen.tell)
    if as_json:
        print_json(report)
    else:
        out.print(screen.summary(report))
        if keep:
            out.print(f"The data stay in {report.data_dir}; `impledger up` goes on with them.")
    raise typer.Exit(0 if report.holds else 1)
