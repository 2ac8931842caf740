"""
Inspections of what a model decides: its decisions beside its training, its risks beside the labels that came.

Both read bounded samples of the ledger. Loading this module takes a second (scipy), so `service.monitoring.Later` does.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ledger.postgres_connection import PostgresConnection
from ledger.store import Commit, EventStore
from ml.features.schema import PLACE, SCHEMA_ID
from ml.monitors.checks import DECISION_CHECKS, LABEL_CHECKS, Measured
from ml.monitors.decisions import Window
from ml.monitors.kept import KeptReferences
from ml.monitors.maturity import Aged, arrivals, calibrations, late
from ml.monitors.reference import LabelCurve, Reference, References
from ml.monitors.sampling import Decision, Past, PositionAt, decisions_of, past, rows_of_decisions, tail
from ml.monitors.slices import CHUNKS, Slices
from ml.registry.postgres import PostgresModels
from projections.queries import KnownThrough
from service.clock import now_ms
from service.monitoring import Seen

LABELS_BACK_MS = 14 * 86_400_000
"""How old decisions may be whose labels are looked at."""
PAGES = 100
MEASURED_BY_CLIENTS = tuple(PLACE[name] for name in ("area_px", "visible_ratio", "visible_ms"))
"""What has a unit that an SDK can mistake. Times differ between versions for good: not all send their clock."""
_NO_MODEL = "no model decided"


@dataclass(frozen=True)
class Sources:
    """What is read: the ledger, positions by time, what models were trained on, and the time in epoch ms."""

    store: EventStore
    position_at: PositionAt
    references: References
    now: Callable[[], int]


def sources(store: EventStore, position_at: PositionAt, registry: PostgresConnection) -> Sources:
    """Return what a running cell is read from."""
    return Sources(store, position_at, KeptReferences(PostgresModels(registry)), now_ms)


class DecisionInspection:
    """
    Compares the decisions of the last *window_s* with those that their model was trained on.

    Each look reads what is new in the ledger, at most *sample* commits from its end.
    """

    name = "decisions"
    checks = DECISION_CHECKS

    def __init__(self, sources: Sources, *, every_s: int, window_s: int, sample: int, chunks: int = CHUNKS) -> None:
        self._sources = sources
        self.every_s = every_s
        self._sample = sample
        self._slices = Slices(window_s * 1_000, chunks)
        self._after = 0
        self._model = ""

    async def measure(self) -> Seen:
        """See `Inspection.measure`."""
        began = self._sources.now()
        read = await tail(self._sources.store, self._after, self._sample)
        decisions = await asyncio.to_thread(decisions_of, read.commits)
        model = self._model = _main_model(decisions) or self._model
        reference = await self._sources.references.reference(model) if model else None
        self._after = read.through  # where the reference cannot be had, these are looked at again
        known = KnownThrough(read.through, began)
        if reference is None or reference.schema_id != SCHEMA_ID:
            return Seen(known_through=known, lag_s=0.0, measured=[], says=_why_nothing(model, reference))
        measured = await asyncio.to_thread(self._measured, (model, reference), decisions, began)
        of_more = " of more" if read.skipped else ""
        says = f"{len(decisions):,} new decisions{of_more}, against the training of {model}"
        return Seen(known_through=known, lag_s=0.0, measured=measured, says=says)

    def _measured(self, model: tuple[str, Reference], decisions: Sequence[Decision], at: int) -> list[Measured]:
        name, reference = model
        rows = rows_of_decisions([one for one in decisions if one.model == name])
        bins = reference.bins._replace(clients=MEASURED_BY_CLIENTS)
        self._slices.add(name, at, rows, bins)
        return Window(reference, bins, self._slices.of(name), self._slices.times(name)).measured()


class LabelInspection:
    """Compares the labels that decisions of the last two weeks have by now with those that they should have."""

    name = "labels"
    checks = LABEL_CHECKS

    def __init__(self, sources: Sources, *, every_s: int) -> None:
        self._sources = sources
        self.every_s = every_s

    async def measure(self) -> Seen:
        """See `Inspection.measure`."""
        store, now = self._sources.store, self._sources.now()
        times = _times(await store.read_all(0, 1), now)
        head = await store.head()
        found = await past(store, self._sources.position_at, times)
        model = _main_model(found.decisions)
        reference = await self._sources.references.reference(model) if model else None
        known = KnownThrough(head, now)
        if reference is None or not reference.labels:
            return Seen(known_through=known, lag_s=0.0, measured=[], says=_why_nothing(model, reference))
        measured = await asyncio.to_thread(_labels_measured, found, (model, reference.labels), now)
        says = f"{len(found.decisions):,} decisions of the last 14 days and their labels"
        return Seen(known_through=known, lag_s=0.0, measured=measured, says=says)


def _labels_measured(found: Past, model: tuple[str, Sequence[LabelCurve]], now: int) -> list[Measured]:
    name, curves = model
    aged: Aged = found.of(name, [curve.source for curve in curves], now)
    arrived = arrivals(aged, curves)
    return [*arrived, *calibrations(aged, curves, late(arrived))]


def _times(first: Sequence[Commit], now: int) -> list[int]:
    """Return when pages begin: once at random in each of equal spans since the ledger or the two weeks began."""
    if not first:
        return []
    since = max(first[0].recorded_at, now - LABELS_BACK_MS)
    chance = np.random.default_rng(now)
    spans = (np.arange(PAGES) + chance.random(PAGES)) / PAGES
    return [since + int(span * (now - since)) for span in spans]


def _main_model(decisions: Sequence[Decision]) -> str:
    """Return the model that made most of *decisions*, empty if none did."""
    models = Counter(one.model for one in decisions if one.model)
    return models.most_common(1)[0][0] if models else ""


def _why_nothing(model: str, reference: Reference | None) -> str:
    if not model:
        return _NO_MODEL
    if reference is None:
        return f"{model} has nothing to be compared with"
    return f"{model} has {'other features' if reference.schema_id != SCHEMA_ID else 'no curves of labels'}"
