"""Monitors over generated traffic and the packaged lists: the bug of one SDK, and lists that grew old."""

from random import Random

import numpy as np
import pytest
from builders import DAY

from ml.features.matrix import FRESH, MISSING, Vectors
from ml.features.schema import PLACE, SCHEMA, SCHEMA_ID, Group, columns_of
from ml.lists.devices import DAY_MS, Devices
from ml.lists.packaged import packaged, packaged_date_ms
from ml.monitors.checks import Check, judge
from ml.monitors.decisions import Window
from ml.monitors.reference import reference_of
from ml.monitors.rows import rows_of
from ml.monitors.sampling import decisions_of, rows_of_decisions
from ml.monitors.tallies import count
from ml.traffic.browsers import load_browsers
from ml.traffic.families import TRAINABLE
from ml.traffic.generator import Plan
from service.generated import START_MS, density
from service.monitors_model import MEASURED_BY_CLIENTS
from service.offline import World, run_offline, scored
from service.scoring import ModelHolder
from service.wiring import ScreenLists, load_pack

pytestmark = pytest.mark.slow

NAMES = [feature.name for feature in SCHEMA]
AGE = PLACE["agent_age_days"]


def found(reference, rows, chunks=20):
    bins = reference.bins._replace(clients=MEASURED_BY_CLIENTS)
    slices = [count(rows.take(part), bins) for part in np.array_split(np.arange(len(rows.surface)), chunks)]
    return [one for one in judge(Window(reference, bins, slices).measured()) if one.found]


def generated(impressions, seed, families):
    """What a gate without a model decides of generated traffic."""
    pack = load_pack("base-1")
    dense = density(impressions)
    plan = Plan(seed=seed, rate=dense.rate, seconds=2 * dense.span_s, families=families)
    activity = scored(pack, ModelHolder(), seed)
    world = World(seed=seed, start_ms=START_MS, seconds=plan.seconds, pack=pack, lists=ScreenLists(), activity=activity)
    decisions = []
    for passed in run_offline(plan, world):
        decisions += decisions_of(passed.commits)
        if len(decisions) >= impressions:
            break
    return rows_of_decisions(decisions)


def test_the_sdk_of_generated_traffic_that_measures_in_seconds_is_found_and_nothing_else():
    rows = generated(12_000, 1, (*TRAINABLE, "unit_change_sdk"))
    reference = reference_of(rows, NAMES, SCHEMA_ID, unwatched=columns_of(Group.TOKEN))
    assert [(one.check, one.surface, one.subject) for one in found(reference, rows)] == [
        (Check.CLIENT_UNIT, "feed", "fb-494.3 visible_ms")
    ]


def ages(devices, at, n, seed):
    """Rows of people with phones and desktops, of whose agents *devices* know the age at *at*."""
    rng, browsers = Random(seed), load_browsers()
    agents = [(browsers.phone(rng) if rng.random() < 0.7 else browsers.desktop(rng)).agent for _ in range(n)]
    known = [devices.traits(agent, None, None, at).agent_age_days for agent in agents]
    values = np.zeros((n, len(SCHEMA)))
    values[:, AGE] = [np.nan if age is None else age for age in known]
    status = np.where(np.isnan(values), np.uint8(MISSING), np.uint8(FRESH))
    return rows_of(np.full(n, "feed"), Vectors(values, status))


def test_lists_of_agents_that_are_eighteen_months_old_are_found_and_fresh_ones_are_not():
    """Half of a year's browsers are younger than that; their age is unknown to the old lists."""
    sources, at = packaged(), packaged_date_ms()
    last_known = (at - 548 * DAY) // DAY_MS
    old = {version: day for version, day in sources.browsers.items() if day <= last_known}
    fresh, aged = Devices(sources.browsers, sources.sdks), Devices(old, sources.sdks)
    reference = reference_of(ages(fresh, at, 6_000, 1), NAMES, SCHEMA_ID)
    assert found(reference, ages(fresh, at, 4_000, 2)) == []
    assert {(one.check, one.subject) for one in found(reference, ages(aged, at, 4_000, 3))} == {
        (Check.FEATURE_SHIFT, "agent_age_days"),
        (Check.FEATURE_MISSING, "agent_age_days"),
    }
