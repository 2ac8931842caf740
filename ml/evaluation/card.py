"""A model card: what a model was made of, what it is worth and what it is not, in Markdown."""

from collections.abc import Sequence
from datetime import UTC, datetime

from ml.evaluation.card_text import NOTHING, Column, cells, grid, shown, titles
from ml.evaluation.real_table import RealTable
from ml.evaluation.report import Again, Attack, Delay, Evaluation, RungRow
from ml.evaluation.tables import Against, Row, Table
from ml.models.artifact import ModelFacts

PLOTS = ("calibration", "precision-recall", "scores")
"""Names of the plots beside the card, without their ending."""

_SHARE = Column("share_invalid", "invalid", "%")
_RANKS = (
    Column("pr_auc", "PR-AUC"),
    Column("recall_low", "recall at 0.1 %", "%"),
    Column("recall_high", "recall at 1 %", "%"),
)
_ECE = Column("ece", "ECE")
_SIZES = (_ECE, Column("ece_by_mass", "ECE by mass"), Column("calibration_ratio", "seen / foretold"))
_UNCERTAIN = Column("uncertain_share", "uncertain", "%")
_OUTCOMES = (
    _UNCERTAIN,
    Column("uncertain_share_by_rules", "uncertain by rules alone", "%"),
    Column("valid_uncertain", "of valid: uncertain", "%"),
    Column("valid_dropped", "of valid: dropped", "%"),
    Column("invalid_billed", "of invalid: billed", "%"),
)
_FAMILY = (
    Column("over_low", "over the 0.1 % line", "%"),
    Column("over_high", "over the 1 % line", "%"),
    Column("billed", "billed", "%"),
    Column("billed_by_rules", "billed by rules alone", "%"),
    Column("dropped", "dropped", "%"),
    Column("undecided", "uncertain", "%"),
)
_REAL = (Column("roc_auc", "AUC"), Column("pr_auc", "PR-AUC"), Column("recall_high", "recall at 1 %", "%"))

_INTERVALS = """\
In brackets: 95 % intervals, by drawing entities (persons, bots, farms) again with all their rows; where there are too
few of them there is none. Recall at 0.1 % is the share of invalid traffic over the score that 0.1 % of valid traffic
reaches. ECE is the mean distance of foretold and seen, over 15 bins of equal width; by mass: of equal weight."""
_FAMILIES = """\
Invalid families first; of a valid one, what stands over a line or is dropped is a false alarm. The lines are the scores
that 0.1 % and 1 % of the valid traffic reaches that rules leave open; over them are shares of what rules leave open."""
_WEAK = """\
Scored without what agents say and without what is compared with it. **The label is weak**: it is what the agent said,
so bots that say nothing count as people, and a web page's requests are no ads. The figures say whether rhythm and
network alone tell robots from readers, and no more. `fitted to the log` is no baseline but a bound: trees trained on
this log's own labels, each address scored by trees that never saw it."""
_ATTACKED = """\
It sees the answers to its own impressions and nothing else, and changes rhythm, addresses, browsers and looks by them,
for what earns most: counted impressions per device and hour. In brackets: the least and the most of its runs."""
_LIMITS = """\
- Generated traffic is not real traffic: its figures compare models and show what they miss; they promise nothing.
- Held-out families are attacks that somebody here thought of. What nobody thought of is in no table."""


def card(found: Evaluation) -> str:
    """Return the card of *found*; it names the plots in `PLOTS` as files beside it."""
    parts = [
        _head(found),
        *_table(found.known),
        *_table(found.held_out),
        *_real(found.real),
        *_rungs(found.rungs),
        "## Plots",
        "\n".join(f"![{name}]({name}.svg)" for name in PLOTS),
        *_ablations(found.ablations),
        *_delays(found.delays),
        *_again(found.again),
        *_attacks(found.attacks),
        "## What this card does not say",
        f"{_LIMITS}\n- {found.data.aside:,} impressions are in no row: rules set them aside before any model matters.",
    ]
    return "\n\n".join(parts) + "\n"


def _head(found: Evaluation) -> str:
    facts, data, costs = found.facts, found.data, found.costs
    until, positions = _read_of_ledger(facts)
    about = {
        "Trained on": f"{facts.rows:,} rows, {facts.positives:,} of them positive{until}; seed {facts.seed}",
        "Snapshot": f"`{facts.snapshot}`, {positions}",
        "Evaluated on": f"{data.origin}; intervals by seed {found.seed}",
        "Baselines fitted to": data.baselines_from,
        "Impressions": f"{data.gross:,} in gross, {data.invalid:,} of them invalid by the truth",
        "Settled by rules alone": f"{data.settled:,} dropped",
        "Left open by rules": f"{data.left_open:,}, {data.left_open_invalid:,} of them invalid",
        "Costs in prices": f"{costs.billed_invalid:g} for an invalid impression that is billed, "
        f"{costs.dropped_human:g} for a valid one that is dropped, {costs.undecided:g} for an undecided one",
    }
    if facts.note:
        about["Note"] = facts.note
    lines = "\n".join(f"- **{what}**: {says}" for what, says in about.items())
    return f"# Model card: {found.model}\n\n{lines}\n\n{_INTERVALS}"


def _read_of_ledger(facts: ModelFacts) -> tuple[str, str]:
    first, last = facts.ledger_range
    if not last:
        return "", "generated traffic, no ledger"
    until = datetime.fromtimestamp(facts.trained_until / 1_000, UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f", up to {until}", f"ledger positions {first:,} to {last:,}"


def _table(table: Table) -> list[str]:
    both = [table.everything, table.left_open]
    parts = [f"## {table.name}", _figures(both, "rows"), _outcomes(both), _money(both)]
    parts += ["### Beside baselines, on what rules leave open", _beside(table.left_open, table.baselines, _RANKS)]
    for by, rows in table.cuts.items():
        parts += [f"### By {by}, on what rules leave open", _figures(rows, by)]
    families = [
        (f"{row.name} ({_kind(row)})", f"{row.rows:,}", f"{row.entities:,}", *cells(row, _FAMILY))
        for row in table.families
    ]
    parts += ["### By family", _FAMILIES, grid(("family", "rows", "entities", *titles(_FAMILY)), families)]
    return parts


def _kind(row: Row) -> str:
    return "invalid" if row.invalid else "valid"


def _figures(rows: Sequence[Row], by: str) -> str:
    columns = (_SHARE, *_RANKS, *_SIZES)
    return grid((by, "rows", *titles(columns)), [(row.name, f"{row.rows:,}", *cells(row, columns)) for row in rows])


def _outcomes(rows: Sequence[Row]) -> str:
    return grid(("what becomes of them", *titles(_OUTCOMES)), [(row.name, *cells(row, _OUTCOMES)) for row in rows])


def _money(rows: Sequence[Row]) -> str:
    """Errors in money: per thousand impressions of a currency, in its units."""
    names = [name for name in rows[0].figures if name.startswith("cost_")]
    columns = [
        Column(name, name.rpartition("_")[2] + " by rules alone" * ("_by_rules_" in name), "money") for name in names
    ]
    head = ("what errors cost, per thousand", *titles(columns))
    return grid(head, [(row.name, *cells(row, columns)) for row in rows])


def _beside(model: Row | None, baselines: Sequence[Against], ranks: tuple[Column, ...]) -> str:
    more = [f"{column.title}: model has more" for column in ranks]
    ours = [] if model is None else [("the model", *cells(model, (*ranks, _ECE)), *[""] * len(ranks))]
    theirs = [
        (
            one.baseline.name.replace("_", " "),
            *cells(one.baseline, (*ranks, _ECE)),
            *(shown(one.more.get(column.figure), column.unit) for column in ranks),
        )
        for one in baselines
    ]
    return grid(("score", *titles((*ranks, _ECE)), *more), ours + theirs)


def _real(real: RealTable | None) -> list[str]:
    if real is None:
        return ["## Real input", "Not evaluated: no access log was given."]
    counts = (
        f"{real.requests:,} requests of {real.addresses:,} addresses in {real.sessions:,} sessions of an access log; "
        f"{real.unread_lines:,} lines could not be read. {real.declared:,} sessions are of agents that declare to be "
        f"bots, {real.neither:,} of agents that are neither that nor a browser."
    )
    parts = ["## Real input", counts, _WEAK]
    for cut in real.cuts:
        parts.append(f"### {cut.model.name}: {cut.model.rows:,}, {cut.model.invalid:,} of them declared")
        parts.append(_beside(cut.model, cut.baselines, _REAL))
    return parts


def _rungs(rungs: Sequence[RungRow]) -> list[str]:
    if not rungs:
        return []
    columns = (*_RANKS, *_SIZES, _UNCERTAIN)
    rows = [(rung.rung, rung.mask or NOTHING, *cells(rung.row, columns), rung.note) for rung in rungs]
    says = "Every rung's calibration and uncertain share, from a run on it, on what rules leave open."
    return ["## By rung", says, grid(("rung", "mask", *titles(columns), "note"), rows)]


def _ablations(ablations: Sequence[Against]) -> list[str]:
    if not ablations:
        return []
    says = "Trained and evaluated without one group: what the whole model has more is what the group is worth."
    return ["## Without a group of features", says, _beside(None, ablations, _RANKS)]


def _delays(delays: Sequence[Delay]) -> list[str]:
    if not delays:
        return []
    columns = (*_RANKS, *_SIZES)
    rows = [(one.after, f"{one.labels:,}", f"{one.positives:,}", *cells(one.row, columns)) for one in delays]
    says = "Trained on the same impressions, with the labels that had arrived so long after the last of them."
    return [
        "## By how long labels were waited for",
        says,
        grid(("after", "labels", "positive", *titles(columns)), rows),
    ]


def _again(again: Sequence[Again]) -> list[str]:
    if not again:
        return []
    columns = (*_RANKS, _ECE)
    rows = [
        (f"{one.after}, {which}", model, f"{row.rows:,}", *cells(row, columns))
        for one in again
        for which, rows in (
            ("known", (one.known_decided, one.known)),
            ("held out", (one.held_out_decided, one.held_out)),
        )
        for model, row in zip(("at the decision", one.model), rows, strict=True)
    ]
    says = "On what rules leave open, with what had arrived by then: views, the person's next renders, labels."
    return ["## Looking again", says, grid(("after", "model", "rows", *titles(columns)), rows)]


def _attacks(attacks: Sequence[Attack]) -> list[str]:
    if not attacks:
        return []
    rows = [
        (
            attack.against,
            f"{attack.runs} x {attack.rounds}",
            f"{attack.impressions:,}",
            shown(attack.counted_before, "%"),
            shown(attack.counted_after, "%"),
            shown(attack.earned_before),
            shown(attack.earned_after),
            ", ".join(f"{name} {value:.3g}" for name, value in sorted(attack.tuned.items())),
        )
        for attack in attacks
    ]
    head = ("against", "runs x rounds", "impressions", "counted at first", "in the end", "per device and hour at first")
    return ["## An adversary", _ATTACKED, grid((*head, "in the end", "came to"), rows)]
