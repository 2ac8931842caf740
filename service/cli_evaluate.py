"""`impledger evaluate`: what a model is worth, and a card that says so."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import msgspec
import typer

from service.cli_shared import SEED_MAX, AsJson, print_json, read_settings
from service.console import Grid, err, out
from service.settings import Settings

if TYPE_CHECKING:
    from ml.evaluation.report import Evaluation
    from ml.evaluation.tables import Row
    from service.evaluating import Evaluated, Order
    from service.evaluating_ledger import LedgerEvaluation


CARD, FIGURES = "card.md", "evaluation.json"
"""Files in the folder of the card, beside its plots."""
_COLUMNS = (
    ("pr_auc", "PR-AUC", ""),
    ("recall_low", "recall at 0.1 %", "%"),
    ("recall_high", "at 1 %", "%"),
    ("ece", "ECE", ""),
    ("uncertain_share", "uncertain", "%"),
)


def evaluate(
    model: Annotated[
        str, typer.Argument(help="A model's file, or the id of one in the data folder; none: one is trained for it.")
    ] = "",
    generated: Annotated[int, typer.Option(min=1_000, max=5_000_000, help="Impressions to evaluate on.")] = 200_000,
    range_: Annotated[
        str, typer.Option("--range", metavar="FROM:TO", help="Instead: positions of the ledger; each can be left out.")
    ] = "",
    seed: Annotated[
        int, typer.Option(min=0, max=SEED_MAX, help="Draws traffic and intervals; the same gives the same.")
    ] = 1,
    training: Annotated[
        int, typer.Option(min=1_000, max=5_000_000, help="Impressions that baselines, or a model, learn from.")
    ] = 60_000,
    training_seed: Annotated[int, typer.Option(min=0, max=SEED_MAX, help="Draws those.")] = 1,
    rounds: Annotated[int, typer.Option(min=0, max=10_000, help="Drawings for intervals; 0: no intervals.")] = 200,
    access_log: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="A combined access log, plain or .gz: real input.")
    ] = None,
    studies: Annotated[bool, typer.Option(help="Rungs, groups of features, delays of labels, an adversary.")] = True,
    folder: Annotated[Path | None, typer.Option("--out", file_okay=False, help="Where card and plots go.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say what a model is worth on traffic that it was not trained on: generated, a real log, or the ledger's own."""
    from ml.models.artifact import CorruptArtifact, SchemaMismatch  # noqa: PLC0415 (each command loads what it needs)
    from service.compiled import keep_compiled  # noqa: PLC0415
    from service.logs import set_up_logs  # noqa: PLC0415

    settings = read_settings()
    set_up_logs("evaluate", settings.log_json, quiet=True)
    keep_compiled(settings.data_dir)
    from service.evaluating import Order  # noqa: PLC0415

    order = Order(
        impressions=generated,
        seed=seed,
        rounds=rounds,
        training_impressions=training,
        training_seed=training_seed,
        access_log=access_log,
        studies=studies,
    )
    data = _read(settings, model) if model else None
    try:
        if range_:
            _evaluate_range(data, range_, order, settings, as_json=as_json)
        else:
            _evaluate_generated(data, order, settings, folder, as_json=as_json)
    except (CorruptArtifact, SchemaMismatch) as error:
        _fail(f"{model}: {error}.", "`impledger train` makes one for the features of this version.")


def _evaluate_generated(
    data: bytes | None, order: "Order", settings: Settings, folder: Path | None, *, as_json: bool
) -> None:
    from service.evaluating import evaluate_generated  # noqa: PLC0415
    from service.wiring import load_pack  # noqa: PLC0415

    evaluated = evaluate_generated(data, order, load_pack(settings.rule_pack), _teller(as_json))
    if folder is not None:
        _write(evaluated, folder)
    if as_json:
        print_json(evaluated.found)
        return
    _show(evaluated.found)
    out.print("next: --out FOLDER writes the whole card" if folder is None else f"next: {folder / CARD} says all of it")


def _evaluate_range(data: bytes | None, text: str, order: "Order", settings: Settings, *, as_json: bool) -> None:
    from service.evaluating_ledger import NothingLabelled, Range, evaluate_range  # noqa: PLC0415

    if data is None:
        _fail("On the ledger a model has to be named.", "`impledger models list` shows which there are.")
    first, _, last = text.partition(":")
    if not all(part.isdecimal() or not part for part in (first, last)):
        _fail(f"{text} is no range of positions.", "Say --range 1000:2000, --range 1000: or --range :2000.")
    within = Range(first=int(first or 1), last=int(last) if last else None, rounds=order.rounds, seed=order.seed)
    try:
        found = evaluate_range(data, within, settings, _teller(as_json))
    except NothingLabelled as error:
        _fail(f"Nothing to measure: {error}.", "Labels come by POST /v1/feedback; another --range may have some.")
    if as_json:
        print_json(found)
        return
    _show_range(found)


def _read(settings: Settings, model: str) -> bytes:
    from service.training import MODELS  # noqa: PLC0415

    places = (Path(model), settings.data_dir / MODELS / f"{model}.model")
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        _fail(f"There is no model {model}, neither as a file nor in the data folder.", "`impledger train` makes one.")
    return file.read_bytes()


def _write(evaluated: "Evaluated", folder: Path) -> None:
    from ml.evaluation.card import card  # noqa: PLC0415

    folder.mkdir(parents=True, exist_ok=True)
    (folder / CARD).write_text(card(evaluated.found), "utf-8")
    (folder / FIGURES).write_bytes(msgspec.json.format(msgspec.json.encode(evaluated.found)))
    for name, svg in evaluated.plots.items():
        (folder / f"{name}.svg").write_text(svg, "utf-8")


def _show(found: "Evaluation") -> None:
    from ml.evaluation.card_text import shown  # noqa: PLC0415

    out.print(f"{found.model} on {found.data.origin}")
    grid = _grid()
    for table in (found.known, found.held_out):
        for row in (table.everything, table.left_open):
            _add(grid, f"{table.name}: {row.name}", row)
        for against in table.baselines:
            _add(grid, f"  by {against.baseline.name}", against.baseline)
    out.print(grid)
    if found.real is None:
        return
    real = Grid("real input, against what agents declare", "sessions", "AUC", box=None)
    for cut in found.real.cuts:
        real.add_row(cut.model.name, f"{cut.model.rows:,}", shown(cut.model.figures["roc_auc"]))
        for against in cut.baselines:
            real.add_row(f"  by {against.baseline.name}", "", shown(against.baseline.figures["roc_auc"]))
    out.print(real)


def _show_range(found: "LedgerEvaluation") -> None:
    first, last = found.positions
    out.print(f"{found.model} on positions {first:,} to {last:,}: {found.rows:,} impressions after its data end")
    if found.unreadable:
        out.print(f"{found.unreadable:,} commits cannot be read, and are left out")
    grid = _grid()
    for row in (found.labelled, found.unseen, found.sample):
        if row is not None:
            _add(grid, row.name, row)
    for by, rows in found.cuts.items():
        for row in rows:
            _add(grid, f"  {by} {row.name}", row)
    out.print(grid)


def _grid() -> Grid:
    return Grid("", "rows", *(title for _, title, _ in _COLUMNS), box=None)


def _add(grid: Grid, name: str, row: "Row") -> None:
    from ml.evaluation.card_text import shown  # noqa: PLC0415

    grid.add_row(name, f"{row.rows:,}", *(shown(row.figures.get(figure), unit) for figure, _, unit in _COLUMNS))


def _teller(as_json: bool) -> Callable[[str], None]:
    def tell(text: str) -> None:
        if not as_json:
            err.print(f"{time.process_time():6.1f} s of CPU: {text}")

    return tell


def _fail(what: str, next_step: str) -> NoReturn:
    err.print(what)
    err.print(next_step)
    raise typer.Exit(1)
