"""
From a ledger's commits to rows: what was known of each impression, what the model said and what became of it.

A row is the last decision about an impression that a render led to: what completed it later counts, repeats do not.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import polars as pl

from domain.events import ImpressionScored
from domain.ids import ImpressionId
from domain.pack import Pack
from domain.reasons import PRECEDENCE, Reason
from domain.standing import Standing
from domain.suspicion import suspect
from ledger.codec import decode_impression
from ledger.store import Commit
from ml.evaluation.scored import Outcome, outcome_of
from ml.features.decided import DecidedRender, decided_renders
from ml.features.logged import unpack
from ml.features.matrix import MISSING, STATUS_LETTERS, Vectors
from ml.features.schema import SCHEMA, SCHEMA_ID

FACTS = {
    "impression": pl.String(),
    "event": pl.String(),
    "surface": pl.String(),
    "format": pl.String(),
    "currency": pl.String(),
    "price_micros": pl.Int64(),
    "rung": pl.String(),
    "mask": pl.String(),
    "risk": pl.Float64(),
    "outcome": pl.String(),
    "outcome_by_rules": pl.String(),
}
"""
`event` is the id of the render that was decided; `mask` and `risk` are those that were recorded with it, empty and
None where no model scored it. Outcomes are empty where the impression is outside of gross.
"""
_OF_SIGNALS = frozenset({Reason.RISK_HIGH, Reason.VIEW_FALSIFIED, Reason.STACKED, Reason.RISK_GREY})
"""Reasons that signals and the model lead to; all others are facts."""
_NOTHING = (b"", STATUS_LETTERS[MISSING] * len(SCHEMA))
ASIDE = ""
"""The outcome of what is outside of gross."""


class Collected(NamedTuple):
    """By row: FACTS, and the features that were logged."""

    facts: pl.DataFrame
    vectors: Vectors


class OtherFeatures(ValueError):
    """Decisions were made with features that this program does not know."""


def collect(commits: Iterable[Commit], pack: Pack) -> Collected:
    """
    Return a row for each impression in *commits*, which *pack* decided, in order of their first decisions.

    Raises:
        OtherFeatures: features of another schema were logged.
    """
    latest: dict[ImpressionId, tuple[tuple[Any, ...], tuple[bytes, str]]] = {}
    for commit in commits:
        if isinstance(commit.stream, ImpressionId):
            for render in decided_renders(decode_impression(commit.data)):
                latest[commit.stream] = _facts(commit.stream, render, pack), _features(render.scored)
    facts = pl.DataFrame([row for row, _ in latest.values()], schema=FACTS, orient="row")
    return Collected(facts, unpack([features for _, features in latest.values()]))


def reason_by_rules(scored: ImpressionScored, after: Standing, pack: Pack) -> Reason | None:
    """Return the reason that would decide an impression, which stands as *after*, had no model scored it."""
    suspicion = suspect(scored.signals, pack) if scored.signals else None
    against = [one for one in (*scored.reasons, after.reason) if one is not None and one not in _OF_SIGNALS]
    against += () if suspicion is None else suspicion.reasons
    return min(against, key=PRECEDENCE.__getitem__, default=None)


def _facts(impression: ImpressionId, render: DecidedRender, pack: Pack) -> tuple[Any, ...]:
    rendered, scored, after = render.rendered, render.scored, render.outcome.after
    return (
        str(impression),
        str(rendered.cause),
        rendered.surface.value,
        rendered.format.value,
        rendered.currency,
        rendered.price_micros,
        scored.rung.value,
        scored.versions.calibration,
        scored.risk,
        _named(outcome_of(after.reason)),
        _named(outcome_of(reason_by_rules(scored, after, pack))),
    )


def _named(outcome: Outcome | None) -> str:
    return ASIDE if outcome is None else outcome.value


def _features(scored: ImpressionScored) -> tuple[bytes, str]:
    """Return what is logged of the features; of what was shed that is nothing."""
    if not scored.features and not scored.versions.features:
        return _NOTHING
    if scored.versions.features != SCHEMA_ID:
        raise OtherFeatures(f"features are of {scored.versions.features or 'no schema'}, not of {SCHEMA_ID}")
    return scored.features, scored.feature_status
