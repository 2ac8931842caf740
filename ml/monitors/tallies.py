"""
Rows counted into frozen bins. Tallies add, so a window is a sum of slices and needs no rows.

A cell counts only where its value is what the decision should have had: what is cold after a restart, stale or late is
counted by its state alone. No value is a bin of its own, so that a null that became zero shows.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from domain.vocabulary import Surface
from ml.features.matrix import AT_LEAST, FRESH, MISSING
from ml.monitors.checks import Check
from ml.monitors.rows import CLEAR, RISKY, STATES, UNSCORED, Codes, Floats, Rows

EDGES_MAX = 15
CELLS = EDGES_MAX + 2
"""Bins of a feature: between the edges and beyond them, then the one of missing values."""
NO_VALUE = CELLS - 1
DECADES = (-3.0, 9.0)
PER_DECADE = 4
LOG_BINS = int((DECADES[1] - DECADES[0]) * PER_DECADE) + 1
"""Bins of what clients measure, by the logarithm of its size; the first is of nought and less."""
CLIENTS_MAX = 40
"""SDK versions of a surface that a slice keeps apart, those with most rows; clients may name as many as they like."""
SURFACES = tuple(Surface)
SHARES = (Check.GREY, Check.RULES_ONLY, Check.MODEL_ONLY)
_LOGIT_MAX, RISK_BINS = 9.0, 256
RISK_EDGES: Floats = 1 / (1 + np.exp(-np.linspace(-_LOGIT_MAX, _LOGIT_MAX, RISK_BINS - 1)))
RISK_CENTRES: Floats = 1 / (1 + np.exp(-(np.linspace(-_LOGIT_MAX, _LOGIT_MAX, RISK_BINS) * (1 + 1 / (RISK_BINS - 2)))))
"""Bins of risks are of equal width in log-odds: most risks are small."""

Counts = NDArray[np.int64]


class Bins(NamedTuple):
    """
    Frozen bins: `edges` (f, EDGES_MAX) ascending, padded with infinity; a bin includes its upper edge.

    `clients` are the columns that clients measure, whose sizes are counted by SDK version, too.
    """

    names: tuple[str, ...]
    edges: Floats
    clients: tuple[int, ...] = ()


class Tally(NamedTuple):
    """
    Counts by surface, in the order of `SURFACES`.

    `features` (s, f, CELLS); `states` (s, f, letters); `risks` (s, RISK_BINS); `shares` (s, SHARES, hits and trials);
    `clients` by surface and SDK version, of the columns `Bins.clients`, (columns, LOG_BINS).
    """

    features: Counts
    states: Counts
    risks: Counts
    shares: Counts
    clients: dict[tuple[int, str], Counts]


def empty(features: int) -> Tally:
    surfaces = len(SURFACES)
    return Tally(
        features=np.zeros((surfaces, features, CELLS), np.int64),
        states=np.zeros((surfaces, features, STATES), np.int64),
        risks=np.zeros((surfaces, RISK_BINS), np.int64),
        shares=np.zeros((surfaces, len(SHARES), 2), np.int64),
        clients={},
    )


def added(one: Tally, other: Tally) -> Tally:
    clients = dict(one.clients)
    for cell, counts in other.clients.items():
        clients[cell] = clients[cell] + counts if cell in clients else counts
    return Tally(
        features=one.features + other.features,
        states=one.states + other.states,
        risks=one.risks + other.risks,
        shares=one.shares + other.shares,
        clients=clients,
    )


def count(rows: Rows, bins: Bins) -> Tally:
    """Return the tally of *rows*; surfaces that nobody knows are left out."""
    places = {surface.value: at for at, surface in enumerate(SURFACES)}
    surface = np.array([places.get(name, -1) for name in rows.surface.tolist()], np.int64)
    rows, surface = rows.take(surface >= 0), surface[surface >= 0]
    binned, surfaces = _binned(rows, bins), len(SURFACES)
    return Tally(
        features=_counted(surface, binned, (surfaces, CELLS)),
        states=_counted(surface, rows.status.astype(np.int64), (surfaces, STATES)),
        risks=_risks(surface, rows.risk),
        shares=_shares(surface, rows),
        clients=_clients(surface, rows.sdk, rows.values[:, list(bins.clients)]) if bins.clients else {},
    )


def _binned(rows: Rows, bins: Bins) -> Counts:
    """Return the bin of each cell, (n, f), CELLS where the cell does not count."""
    binned = np.full(rows.values.shape, NO_VALUE, np.int64)
    for feature, edges in enumerate(bins.edges):
        known = ~np.isnan(rows.values[:, feature])
        binned[known, feature] = np.searchsorted(edges, rows.values[known, feature], side="left")
    binned[~_counts(rows.status)] = CELLS
    return binned


def _counts(status: Codes) -> NDArray[np.bool_]:
    known: NDArray[np.bool_] = (status == FRESH) | (status == AT_LEAST) | (status == MISSING)
    return known


def _counted(group: Counts, codes: Counts, shape: tuple[int, int]) -> Counts:
    """Count *codes* (n, f) by *group* (n): (groups, f, codes); a code beyond them does not count."""
    groups, of_each = shape
    features, wide = codes.shape[1], of_each + 1
    places = (group[:, None] * features + np.arange(features)) * wide + codes
    counted = np.bincount(places.ravel(), minlength=groups * features * wide)
    return counted.reshape(groups, features, wide)[:, :, :of_each]


def _risks(surface: Counts, risk: Floats) -> Counts:
    known = ~np.isnan(risk)
    places = surface[known] * RISK_BINS + np.searchsorted(RISK_EDGES, risk[known], side="left")
    return np.bincount(places, minlength=len(SURFACES) * RISK_BINS).reshape(len(SURFACES), RISK_BINS)


def _shares(surface: Counts, rows: Rows) -> Counts:
    """Count hits and trials of each of `SHARES`."""
    scored = rows.band != UNSCORED
    pairs = (
        (rows.grey, scored & rows.full),
        (rows.band == CLEAR, scored & rows.invalid_by_rules),
        (rows.band == RISKY, scored & ~rows.invalid_by_rules),
    )
    counted = np.zeros((len(SURFACES), len(SHARES), 2), np.int64)
    for at, (hits, trials) in enumerate(pairs):
        counted[:, at, 0] = np.bincount(surface[hits & trials], minlength=len(SURFACES))
        counted[:, at, 1] = np.bincount(surface[trials], minlength=len(SURFACES))
    return counted


def _clients(surface: Counts, sdk: NDArray[np.str_], values: Floats) -> dict[tuple[int, str], Counts]:
    """Count *values* (n, columns) by the logarithm of their size; what is not known does not count."""
    sizes = np.log10(np.maximum(values, 10 ** (DECADES[0] - 1)))
    binned = np.clip(np.floor((sizes - DECADES[0]) * PER_DECADE) + 1, 0, LOG_BINS - 1)
    codes = np.where(np.isnan(values), LOG_BINS, binned).astype(np.int64)
    names, of_row = np.unique(sdk, return_inverse=True)
    cell = surface * len(names) + of_row
    rows_of = np.bincount(cell[sdk != ""], minlength=len(SURFACES) * len(names)).reshape(len(SURFACES), len(names))
    found: dict[tuple[int, str], Counts] = {}
    for place, of_version in enumerate(rows_of):
        for version in np.argsort(-of_version, kind="stable")[:CLIENTS_MAX].tolist():
            if of_version[version]:
                mine = codes[cell == place * len(names) + version]
                found[place, str(names[version])] = _counted(np.zeros(len(mine), np.int64), mine, (1, LOG_BINS))[0]
    return found


def median_of(counts: Counts) -> float:
    """Return the logarithm of the median size in *counts* (LOG_BINS), to a quarter of a decade."""
    at = int(np.searchsorted(counts.cumsum(), counts.sum() / 2))
    return DECADES[0] + (at - 0.5) / PER_DECADE


def stacked(slices: Sequence[Tally], features: int) -> Tally:
    """Return *slices* side by side, each array with one more dimension in front; SDK versions are left out."""
    parts = slices or [empty(features)]
    return Tally(
        features=np.stack([one.features for one in parts]),
        states=np.stack([one.states for one in parts]),
        risks=np.stack([one.risks for one in parts]),
        shares=np.stack([one.shares for one in parts]),
        clients={},
    )


def total(slices: Sequence[Tally], features: int) -> Tally:
    """Return the sum of *slices*."""
    whole = empty(features)
    for one in slices:
        whole = added(whole, one)
    return whole
