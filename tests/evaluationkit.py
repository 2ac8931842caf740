"""Scored rows as an evaluation has them, drawn from a seed."""

import numpy as np
import polars as pl

from ml.evaluation.scored import COLUMNS, MODEL
from ml.evaluation.tables import Asked
from ml.training.bands import Costs

COSTS = Costs(billed_invalid=2.0, dropped_human=4.0, undecided=0.2)
ASKED = Asked(costs=COSTS, seed=1, rounds=30)
INVALID = ("cloud_bot", "device_farm", "residential_bot")
VALID = ("person", "office", "unit_change_sdk")
HELD_OUT = ("residential_bot", "unit_change_sdk")


def scored(**columns):
    """Rows with the columns given; the others say what is ordinary."""
    n = len(next(iter(columns.values())))
    usual = {
        "y": [0.0] * n,
        "weight": [1.0] * n,
        "entity": list(range(n)),
        "world": ["1"] * n,
        "family": ["person"] * n,
        "held_out": [False] * n,
        "surface": ["feed"] * n,
        "format": ["display"] * n,
        "mask": ["full"] * n,
        "settled": [False] * n,
        "currency": ["EUR"] * n,
        "price_micros": [1_000] * n,
        "outcome": ["billed"] * n,
        "outcome_by_rules": ["billed"] * n,
        MODEL: [0.1] * n,
    }
    frame = pl.DataFrame({**usual, **columns})
    return frame.with_columns(pl.col(name).cast(kind) for name, kind in COLUMNS.items())


def a_world(seed=3, n=4_000):
    """People and bots with scores that tell them apart, mostly; held-out bots score as people do."""
    rng = np.random.default_rng(seed)
    family = rng.choice(np.array([*VALID, *INVALID]), n, p=[0.7, 0.1, 0.02, 0.08, 0.06, 0.04])
    is_invalid = np.isin(family, INVALID)
    found = is_invalid & ~np.isin(family, HELD_OUT)
    margin = rng.normal(np.where(found, 2.5, -3.5), 1.2)
    p = 1 / (1 + np.exp(-margin))
    return scored(
        y=is_invalid.astype(float),
        entity=rng.integers(0, n // 5, n),
        family=family,
        held_out=np.isin(family, HELD_OUT),
        surface=rng.choice(np.array(["feed", "reels"]), n),
        settled=(family == "cloud_bot") & (rng.random(n) < 0.5),
        outcome=np.where(p > 0.9, "undecided", "billed"),
        model=p,
        rules=np.where(family == "cloud_bot", 1.0, 0.0),
        logistic=1 / (1 + np.exp(-margin * 0.5 - rng.normal(0, 1, n))),
    )
