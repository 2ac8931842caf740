"""Decisions made of numbers: features, risks and clusters as a test wants them."""

import numpy as np

from ml.monitors.checks import TERMS, Check, Terms
from ml.monitors.decisions import Window
from ml.monitors.reference import reference_of
from ml.monitors.rows import plain_rows
from ml.monitors.tallies import count

NAMES = ("visible_ms", "person_min", "agent_age_days", "prefetched", "sometimes")
VISIBLE, PERSON, AGENT, FLAG, SOMETIMES = range(len(NAMES))
ANY_EXCESS = dict.fromkeys(Check, Terms(0.0, 1))
SDKS = ("ios/12.1", "ios/12.2", "android/9.0")


def rows(chance, n=4_000, *, run=1.0, surfaces=("feed",), sdks=SDKS, shift=0.0):
    """
    *n* decisions; visits of *run* on average are of one person, whose rows are alike. Risks are calibrated.

    *shift* moves risks, in log-odds, as more fraud would.
    """
    lengths = chance.geometric(1 / run, n)
    person = np.repeat(np.arange(n), lengths)[:n]
    values = np.empty((n, len(NAMES)))
    values[:, VISIBLE] = chance.lognormal(7.5, 0.8, n)[person]
    values[:, PERSON] = chance.poisson(3, n)[person]
    values[:, AGENT] = chance.gamma(2.0, 40.0, n)[person].round()
    values[:, FLAG] = (chance.random(n) < 0.1)[person]
    values[:, SOMETIMES] = np.where((chance.random(n) < 0.3)[person], np.nan, chance.normal(size=n)[person])
    bots = chance.random(n) < 0.04
    risk = 1 / (1 + np.exp(-((chance.normal(-4, 2, n) + 7 * bots)[person] + shift)))
    found = plain_rows(np.array(surfaces)[chance.integers(0, len(surfaces), n)], values)
    return found._replace(
        sdk=np.array(sdks)[chance.integers(0, len(sdks), n)[person]],
        risk=risk,
        band=np.where(risk > 0.8, "risky", np.where(risk > 0.6, "grey", "clear")),
        invalid_by_rules=bots[person],
        grey=(risk > 0.6) & (risk <= 0.8),
    )


def trained(chance, n=30_000, **changes):
    return reference_of(rows(chance, n, **changes), NAMES, "features-test")


def measured(reference, slices, terms=TERMS, clients=(VISIBLE,), times=()):
    """What a window of *slices* of rows says beside *reference*."""
    bins = reference.bins._replace(clients=clients)
    return Window(reference, bins, [count(one, bins) for one in slices], times, terms).measured()


def window(chance, change=lambda one: one, slices=10, n=1_000, **changes):
    return [change(rows(chance, n, **changes)) for _ in range(slices)]


def with_values(one, column, values, where=None):
    """The rows with other *values* in a column, of those *where* only."""
    new = one.values.copy()
    new[slice(None) if where is None else where, column] = values
    return plain_rows(one.surface, new)._replace(
        **{field: getattr(one, field) for field in one._fields if field not in {"surface", "values", "status"}}
    )
