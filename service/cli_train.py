"""`impledger train`: models out of what labels say."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli_shared import SEED_MAX, AsJson, print_json, read_settings
from service.console import Grid, err, out

if TYPE_CHECKING:
    from service.training import ModelReport, TrainReport


_ADVICE_ON_GENERATED = "So little traffic is not enough; ask for more with --generated."
_ADVICE_ON_LEDGER = "Labels come by POST /v1/feedback (docs/feedback.md); --generated trains on generated traffic."
_RFC3339 = ["%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M:%S.%f%z"]


def train(
    generated: Annotated[
        int, typer.Option(min=0, max=5_000_000, help="Impressions of generated traffic to train on; 0: the ledger.")
    ] = 0,
    seed: Annotated[
        int, typer.Option(min=0, max=SEED_MAX, help="Draws what is drawn, and the traffic; the same gives the same.")
    ] = 1,
    until: Annotated[int, typer.Option(min=0, help="Last position of the ledger to read; 0: all.")] = 0,
    cutoff: Annotated[
        datetime | None, typer.Option(formats=_RFC3339, help="Nothing known later than this, RFC 3339.")
    ] = None,
    later: Annotated[bool, typer.Option(help="Also the model that looks again later.")] = True,
    open_max: Annotated[
        float, typer.Option(min=0, max=1, help="Share of renders that may stay undecided for the model's sake.")
    ] = 0.03,
    billed_invalid: Annotated[float, typer.Option(min=0.01, help="Cost of billing invalid traffic, in prices.")] = 2.0,
    dropped_human: Annotated[float, typer.Option(min=0.01, help="Cost of dropping a human, in prices.")] = 4.0,
    undecided: Annotated[float, typer.Option(min=0, help="Cost of leaving it open, in prices.")] = 0.2,
    as_json: AsJson = False,
) -> None:
    """Train models on the ledger of the data folder, or on generated traffic; puts nothing in force."""
    if cutoff is not None and cutoff > datetime.now(UTC):
        raise typer.BadParameter("--cutoff is in the future, of which nothing is known yet")
    from ml.training.bands import Costs  # noqa: PLC0415 (each command loads what it needs)
    from ml.training.params import Params  # noqa: PLC0415
    from service.compiled import keep_compiled  # noqa: PLC0415
    from service.logs import set_up_logs  # noqa: PLC0415

    settings = read_settings()
    set_up_logs("train", settings.log_json, quiet=True)
    keep_compiled(settings.data_dir)
    from service.generated import Generated  # noqa: PLC0415
    from service.training import NothingToLearn, Order, train_on_generated, train_on_ledger  # noqa: PLC0415

    order = Order(
        seed=seed,
        params=Params(
            costs=Costs(billed_invalid=billed_invalid, dropped_human=dropped_human, undecided=undecided),
            open_max=open_max,
        ),
        until=until or None,
        cutoff=None if cutoff is None else int(cutoff.timestamp() * 1_000),
        later=later,
    )

    def tell(text: str) -> None:
        if not as_json:
            err.print(text)

    try:
        if generated:
            report = train_on_generated(settings, order, Generated(impressions=generated, seed=seed), tell)
        else:
            report = train_on_ledger(settings, order, tell)
    except NothingToLearn as error:
        err.print(f"Nothing to learn: {error}.")
        err.print(_ADVICE_ON_GENERATED if generated else _ADVICE_ON_LEDGER)
        raise typer.Exit(1) from error
    if as_json:
        print_json(report)
        return
    _show(report)


def starter() -> None:
    """Put a model that was trained on generated traffic in force where none ever was, then end."""
    from service.process import begin  # noqa: PLC0415
    from service.starter import ensure_starter, give_way  # noqa: PLC0415

    settings = begin("starter")
    give_way()
    placed = ensure_starter(settings, err.print)
    for stage, model in placed.items():
        err.print(f"{stage}: {model} decides from now on; `impledger models show {model}` tells what it is")


def _show(report: "TrainReport") -> None:
    first, last = report.ledger_range
    out.print(f"data set {report.snapshot}: positions {first:,} to {last:,}, {report.parts['rows']:,} renders")
    if report.unreadable:
        out.print(f"{report.unreadable:,} commits cannot be read, and are left out")
    for stage, model in report.models.items():
        out.print(f"{stage}: {model.model}, {model.bytes:,} bytes, in {model.file}")
        labels = ", ".join(f"{count:,} {source}" for source, count in model.positives.items())
        out.print(f"  invalid by labels: {labels or 'none'}; estimated share of all: {model.invalid_share:.2%}")
        out.print(f"  undecided for its sake: {model.uncertain_share:.2%}")
        out.print(_masks(model))
    for stage, why in report.why_not.items():
        out.print(f"{stage}: none, {why}")
    out.print(f"{report.seconds:g} s, {report.cpu_seconds:g} s of CPU, {report.memory_mib:g} MiB")
    for model in report.models.values():
        out.print(f"next: impledger models add {model.file}")


def _masks(model: "ModelReport") -> Grid:
    table = Grid("mask", "calibration", "error", "grey from", "risky from", "undecided", box=None)
    for mask, figures in model.masks.items():
        shares = (figures.ece, figures.grey_from, figures.risky_from, figures.open_share)
        table.add_row(mask, figures.calibration, *(f"{share:.4f}" for share in shares))
    return table
