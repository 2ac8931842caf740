"""What holds in every cut of a report over embedded ClickHouse, whatever happened, as known at any position."""

from collections import Counter

import pytest
from deskkit import an_engine
from histories import scattered
from hypothesis import given, settings
from hypothesis import strategies as st
from reportkit import by_fold, coarser, cut_dimensions, identity_holds, ledgers, of
from reportworld import World

from domain.vocabulary import DataSet
from projections.metrics import columns_of
from projections.vocabulary import IDENTITY, Dimension, Granularity, Metric

pytestmark = pytest.mark.slow

BOTH = {Dimension.DATA_SET: tuple(DataSet)}
COUNTED = (
    *IDENTITY,
    Metric.EXPIRED,
    Metric.GIVT_BY_REASON,
    Metric.SIVT_BY_REASON,
    Metric.UNDECIDED_BY_REASON,
    Metric.DUPLICATES,
    Metric.NOT_COUNTED,
    Metric.NOT_COUNTED_BY_REASON,
    Metric.POLICY,
    Metric.POLICY_BY_REASON,
)
"""All that is counted of impressions without splitting anything."""
COLUMNS = [name for metric in COUNTED for name, _ in columns_of(metric, ())]
SPLIT = (Metric.VIEWABLE, Metric.NOT_VIEWABLE, Metric.BILLABLE_MICROS, Metric.RESERVED_MICROS)
SPLIT_COLUMNS = [name for metric in SPLIT for name, _ in columns_of(metric, ("mrc", "mrc_cross_media"))]


@pytest.fixture(scope="module")
def world():
    with an_engine() as engine:
        world = World(engine)
        yield world
        world.close()


def by_sql(world, dimensions, metrics=COUNTED, **question):
    """Return the totals of a report, cut -> column -> sum, and the dimensions that it is split by besides."""
    answer = world.ask(dimensions=dimensions, metrics=metrics, filters=BOTH, **question)
    cut = len(answer.columns) - sum(len(columns_of(metric, answer.packs)) for metric in metrics)
    assert answer.columns[:cut] == (*dimensions, *answer.split_by)
    names = answer.columns[cut:]
    return of({row[:cut]: dict(zip(names, row[cut:], strict=True)) for row in answer.rows}, names), answer.split_by


LAW = settings(max_examples=15)
"""Each example makes tables of its own."""


@LAW
@given(commits=ledgers(scattered), cuts=st.lists(cut_dimensions, min_size=3, max_size=3), data=st.data())
def test_in_every_cut_as_known_at_any_position_gross_adds_up_and_is_what_the_ledger_folds_to(
    world, commits, cuts, data
):
    placed = world.hold(commits)
    for dimensions in cuts:
        known = data.draw(st.integers(1, len(placed)))
        fewer = tuple(one for one in dimensions if data.draw(st.booleans()))
        for asked, folded in (({"position": placed[known - 1].position}, placed[:known]), ({}, placed)):
            found, split_by = by_sql(world, dimensions, **asked)
            cut = (*dimensions, *split_by)
            assert found == of(by_fold(folded, cut), COLUMNS)
            assert found
            assert all(identity_holds(Counter(total)) for total in found.values())
            some, split_by = by_sql(world, fewer, **asked)
            assert coarser(found, cut, (*fewer, *split_by)) == some


@LAW
@given(commits=ledgers(scattered), dimensions=cut_dimensions, data=st.data())
def test_what_is_split_adds_up_too_and_is_never_mixed(world, commits, dimensions, data):
    placed = world.hold(commits)
    known = data.draw(st.integers(1, len(placed)))
    for asked, folded in (({"position": placed[known - 1].position}, placed[:known]), ({}, placed)):
        found, split_by = by_sql(world, dimensions, SPLIT, packs=("mrc", "mrc_cross_media"), **asked)
        assert {*dimensions, *split_by} >= {Dimension.FORMAT, Dimension.CURRENCY, Dimension.DATA_SET}
        assert found == of(by_fold(folded, (*dimensions, *split_by)), SPLIT_COLUMNS)


@LAW
@given(commits=ledgers(scattered), data=st.data())
def test_minutes_hours_and_days_add_up_to_the_same(world, commits, data):
    placed = world.hold(commits)
    for position in (None, data.draw(st.sampled_from(placed)).position):
        for data_set in DataSet:
            asked = {"metrics": COUNTED, "filters": {Dimension.DATA_SET: (data_set,)}, "position": position}
            whole = world.rows(**asked)
            for granularity in (Granularity.MINUTE, Granularity.HOUR, Granularity.DAY):
                rows = world.rows(**asked, granularity=granularity)
                assert all(identity_holds(row) for row in rows)
                assert [{name: sum(row[name] for row in rows) for name in total} for total in whole] == whole
