"""
A data set's columns, and how they are filled from commits: decisions, labels and views, each on its own.

No pseudonym gets into a data set (semantics 12 of the design): persons, devices and networks are numbers, made with a
key that stands nowhere, so that rows of one can be kept together and nobody can be looked up.
"""

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Any, NamedTuple

import polars as pl

from domain.events import (
    ImpressionDeduped,
    ImpressionEvent,
    ImpressionLabelled,
    ImpressionReconciled,
    ImpressionRendered,
    ImpressionScored,
    ImpressionViewed,
)
from domain.ids import ImpressionId
from ml.features.decided import decided_renders
from ml.features.replayed import Row
from ml.features.schema import SCHEMA
from ml.labels.beliefs import LABEL_COLUMNS

GROUP_BYTES = 8
FEATURES = tuple(f"f_{feature.name}" for feature in SCHEMA)
"""Columns of the features, in order of the schema: some facts have the same names."""

FACTS: dict[str, type[pl.DataType]] = {
    "impression": pl.String,
    "position": pl.Int64,
    "event_at": pl.Int64,
    "received_at": pl.Int64,
    "decided_at": pl.Int64,
    "recorded_at": pl.Int64,
    "surface": pl.String,
    "format": pl.String,
    "region": pl.String,
    "country": pl.String,
    "sdk": pl.String,
    "campaign": pl.String,
    "placement": pl.String,
    "publisher": pl.String,
    "currency": pl.String,
    "price_micros": pl.Int64,
    "data_set": pl.String,
    "person": pl.UInt64,
    "device": pl.UInt64,
    "network": pl.UInt64,
    "begun": pl.Boolean,
    "agent_class": pl.String,
    "rungs": pl.String,
    "verdict": pl.String,
    "reason": pl.String,
    "families": pl.String,
    "model": pl.String,
    "risk": pl.Float64,
    "propensity": pl.Float64,
}
"""
What is known of a decided render beside its features. Times in epoch ms; `rungs` and `families` (of its signals) are
joined with `+`; `person`, `device` and `network` are numbers of groups, 0 for nobody.
"""
ROWS: dict[str, type[pl.DataType]] = {
    **FACTS,
    "mask": pl.String,
    "status": pl.String,
    **dict.fromkeys(FEATURES, pl.Float32),
}
LABELS = LABEL_COLUMNS
VIEWS: dict[str, type[pl.DataType]] = {
    "impression": pl.String,
    "viewed_at": pl.Int64,
    "arrived_at": pl.Int64,
    "visible_ratio": pl.Float64,
    "visible_ms": pl.Int64,
    "clicked": pl.Boolean,
}
HISTORY: dict[str, type[pl.DataType]] = {
    "publisher": pl.String,
    "computed_at": pl.Int64,
    "later_duplicate_rate": pl.Float64,
    "later_invisible_share": pl.Float64,
    "later_click_z": pl.Float64,
}
PARTS = {"rows": ROWS, "labels": LABELS, "views": VIEWS, "history": HISTORY}
"""What a data set consists of."""


class Decision(NamedTuple):
    """A render that was decided, wherever it stands in its stream."""

    impression: ImpressionId
    position: int
    recorded_at: int
    rendered: ImpressionRendered
    scored: ImpressionScored
    outcome: ImpressionDeduped | ImpressionReconciled


class Groups:
    """Numbers for pseudonyms, the same throughout a data set and of no use elsewhere. *key* has 16 to 64 bytes."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def number(self, pseudonym: str) -> int:
        """Return the number of *pseudonym*, 0 for none."""
        if not pseudonym:
            return 0
        return int.from_bytes(blake2b(pseudonym.encode(), digest_size=GROUP_BYTES, key=self._key).digest(), "big")


def decisions_of(
    impression: ImpressionId, events: Iterable[ImpressionEvent], position: int, recorded_at: int
) -> Iterator[Decision]:
    """Yield the renders that *events*, one commit at *position*, decide."""
    for render in decided_renders(events):
        yield Decision(impression, position, recorded_at, *render)


def decision_of(row: Row, recorded_at: int) -> Decision:
    """Return the decision that *row*, recorded at *recorded_at* (epoch ms), replays."""
    assert row.decision is not None
    return Decision(row.impression, row.position, recorded_at, row.rendered, row.scored, row.decision)


def facts_of(decision: Decision, groups: Groups) -> tuple[Any, ...]:
    """Return the FACTS of *decision*, in order."""
    rendered, scored, outcome = decision.rendered, decision.scored, decision.outcome
    return (
        str(decision.impression),
        decision.position,
        rendered.event_at,
        rendered.received_at,
        outcome.decided_at,
        decision.recorded_at,
        rendered.surface.value,
        rendered.format.value,
        rendered.region,
        rendered.country,
        rendered.sdk,
        rendered.campaign,
        rendered.placement,
        rendered.publisher,
        rendered.currency,
        rendered.price_micros,
        outcome.cut.data_set.value,
        groups.number(rendered.user or rendered.device or rendered.network),
        groups.number(rendered.device),
        groups.number(rendered.network),
        rendered.begun,
        rendered.agent_class.value,
        "+".join(rung.value for rung in _rungs(scored)),
        outcome.after.verdict.value,
        "" if outcome.after.reason is None else outcome.after.reason.value,
        "+".join(sorted({signal.family.value for signal in scored.signals})),
        scored.versions.model,
        scored.risk,
        scored.propensity,
    )


def label_of(impression: ImpressionId, event: ImpressionLabelled, recorded_at: int) -> tuple[Any, ...]:
    """Return the LABELS columns of *event*, which was recorded at *recorded_at* (epoch ms)."""
    return (
        str(impression),
        event.source.value,
        event.label.value,
        event.weight,
        event.observed_at,
        max(event.received_at, recorded_at),
    )


def view_of(impression: ImpressionId, event: ImpressionViewed, recorded_at: int) -> tuple[Any, ...]:
    """Return the VIEWS columns of *event*, which was recorded at *recorded_at* (epoch ms)."""
    return (
        str(impression),
        event.viewed_at,
        max(event.received_at, recorded_at),
        event.visible_ratio,
        event.visible_ms,
        event.clicked,
    )


def _rungs(scored: ImpressionScored) -> tuple[Any, ...]:
    return (scored.rung, *scored.rungs)
