"""`impledger evaluate`: what a model is worth, and a card that says so."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from service.cli_screen import AsJson
from service.settings import Settings

if TYPE_CHECKING:
    from ml.evaluation.report import Evaluation
    from service.evaluating import Evaluated

out = Console(highlight=False, soft_wrap=True, markup=False)
err = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)

CARD, FIGURES = "card.md", "evaluation.json"
"""Files in the folder of the card, beside its plots."""


def evaluate(
    model: Annotated[
        Path | None, typer.Argument(exists=True, dir_okay=False, help="A model's file; none: one is trained for it.")
    ] = None,
    generated: Annotated[int, typer.Option(min=1_000, max=5_000_000, help="Impressions to evaluate on.")] = 200_000,
    seed: Annotated[int, typer.Option(min=0, help="Draws traffic and intervals; the same gives the same.")] = 1,
    training: Annotated[
        int,
        typer.Option(
            min=1_000, max=5_000_000, help="Impressions that baselines, and a model if none is given, learn from."
        ),
    ] = 60_000,
    training_seed: Annotated[int, typer.Option(min=0, help="Draws those.")] = 1,
    rounds: Annotated[int, typer.Option(min=0, max=10_000, help="Drawings for intervals; 0: no intervals.")] = 200,
    access_log: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="A combined access log, plain or .gz: real input.")
    ] = None,
    studies: Annotated[bool, typer.Option(help="Rungs, groups of features, delays of labels, an adversary.")] = True,
    folder: Annotated[Path | None, typer.Option("--out", file_okay=False, help="Where card and plots go.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say what a model is worth on generated traffic that it was not trained on, and on a real access log."""
    from ml.models.artifact import CorruptArtifact, SchemaMismatch  # noqa: PLC0415 (each command loads what it needs)
    from service.compiled import keep_compiled  # noqa: PLC0415
    from service.logs import set_up_logs  # noqa: PLC0415

    settings = Settings.from_env(os.environ)
    set_up_logs("evaluate", settings.log_json, quiet=True)
    keep_compiled(settings.data_dir)
    from service.evaluating import Order, evaluate_generated  # noqa: PLC0415
    from service.wiring import load_pack  # noqa: PLC0415

    order = Order(
        impressions=generated,
        seed=seed,
        rounds=rounds,
        training_impressions=training,
        training_seed=training_seed,
        access_log=access_log,
        studies=studies,
    )

    def tell(text: str) -> None:
        if not as_json:
            err.print(text)

    try:
        data = None if model is None else model.read_bytes()
        evaluated = evaluate_generated(data, order, load_pack(settings.rule_pack), tell)
    except (CorruptArtifact, SchemaMismatch) as error:
        err.print(f"{model}: {error}.")
        err.print("`impledger train` makes one for the features of this version.")
        raise typer.Exit(1) from error
    if folder is not None:
        _write(evaluated, folder)
    if as_json:
        print(msgspec.json.encode(evaluated.found).decode())
        return
    _show(evaluated.found)
    if folder is None:
        out.print("next: --out FOLDER writes the whole card")
    else:
        out.print(f"next: {folder / CARD} says all of it")


def _write(evaluated: "Evaluated", folder: Path) -> None:
    from ml.evaluation.card import card  # noqa: PLC0415

    folder.mkdir(parents=True, exist_ok=True)
    (folder / CARD).write_text(card(evaluated.found), "utf-8")
    (folder / FIGURES).write_bytes(msgspec.json.format(msgspec.json.encode(evaluated.found)))
    for name, svg in evaluated.plots.items():
        (folder / f"{name}.svg").write_text(svg, "utf-8")


def _show(found: "Evaluation") -> None:
    from ml.evaluation.card_text import shown  # noqa: PLC0415

    columns = ("pr_auc", "recall_low", "recall_high", "ece", "uncertain_share", "invalid_billed", "valid_dropped")
    titles = ("PR-AUC", "recall at 0.1 %", "at 1 %", "ECE", "uncertain", "invalid billed", "valid dropped")
    out.print(f"{found.model} on {found.data.origin}")
    grid = Table("", "rows", *titles, box=None)
    for table in (found.known, found.held_out):
        for row in (table.everything, table.left_open):
            figures = (shown(row.figures.get(name), "%" if name not in {"pr_auc", "ece"} else "") for name in columns)
            grid.add_row(f"{table.name}: {row.name}", f"{row.rows:,}", *figures)
        for against in table.baselines:
            figures = (shown(against.baseline.figures.get(name)) for name in columns[:4])
            grid.add_row(f"  by {against.baseline.name}", "", *figures)
    if found.real is not None:
        for cut in found.real.cuts:
            grid.add_row(f"real, AUC: {cut.model.name}", f"{cut.model.rows:,}", shown(cut.model.figures["roc_auc"]))
            for against in cut.baselines:
                grid.add_row(f"  by {against.baseline.name}", "", shown(against.baseline.figures["roc_auc"]))
    out.print(grid)
