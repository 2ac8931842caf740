"""Publishers' history on its way to the gates: one contract on memory and PostgreSQL."""

import numpy as np
import pytest
from builders import HOUR
from lookkit import NOW
from storekit import ADAPTERS, runner

from domain.vocabulary import Surface
from ledger.following import Page
from ml.context.facts import Facts
from ml.context.histories import (
    PAGE,
    PUBLISH_EVERY_MS,
    MemoryHistories,
    PostgresHistories,
    newest,
    publish_when_due,
)
from ml.context.postgres import PostgresLater
from ml.context.store import MemoryLater
from ml.datasets.history import RENDERS_MIN, HourTally, Tally
from ml.features.publishers import NO_HISTORY, History, PublisherHistory

SAID = PublisherHistory(0.25, 0.5, -1.5)
UNMEASURED = PublisherHistory(0.125, np.nan, 0.0)


class Memory:
    def __init__(self):
        self.later, self.histories = MemoryLater(), MemoryHistories()


class Postgres:
    def __init__(self, connection):
        self.later, self.histories = PostgresLater(connection), PostgresHistories(connection)


@pytest.fixture(params=ADAPTERS)
def run(request):
    return runner(request, Memory, Postgres)


async def followed_at(one, at, tallies=()):
    """Have the follower be at *at*, with *tallies* of publishers of this hour."""
    before = (await one.later.followed()).position
    hours = [HourTally(at // HOUR, name, Surface.FEED, tally) for name, tally in tallies]
    page = Page(after=before, through=before + 1, at=at, seen=())
    assert await one.later.take(page, Facts(hours=hours))


def test_a_gate_has_what_was_published_last_whole_however_many_publishers_there_are(run):
    async def test(one, other):
        assert await newest(one.histories, NO_HISTORY) is NO_HISTORY
        many = {f"app-{number}": SAID for number in range(2 * PAGE + 1)} | {"Ünder": UNMEASURED}
        await one.histories.publish(History(NOW, many))
        found = await newest(other.histories, NO_HISTORY)
        assert found.computed_at == NOW
        assert found.publishers.keys() == many.keys()
        assert found.publishers["app-7"] == SAID
        np.testing.assert_array_equal(found.publishers["Ünder"], UNMEASURED)
        assert await newest(other.histories, found) is found

    run(test)


def test_whoever_is_reading_a_history_can_read_it_to_its_end(run):
    async def test(one, other):
        await one.histories.publish(History(NOW, {"a": SAID, "b": SAID}))
        assert await other.histories.page(NOW, "", 1) == {"a": SAID}
        await one.histories.publish(History(NOW + 1, {"a": UNMEASURED}))
        assert await other.histories.page(NOW, "a", 1) == {"b": SAID}
        await one.histories.publish(History(NOW + 2, {"c": SAID}))
        assert await other.histories.page(NOW, "", 9) == {}
        assert await other.histories.latest() == NOW + 2

    run(test)


def test_what_is_published_twice_stands_once(run):
    async def test(one, other):
        await one.histories.publish(History(NOW, {"a": SAID}))
        await other.histories.publish(History(NOW, {"a": UNMEASURED}))
        assert len(await one.histories.page(NOW, "", 9)) == 1

    run(test)


def test_history_is_published_at_once_and_then_when_it_is_old(run):
    async def test(one):
        assert await publish_when_due(one.later, one.histories) == 0
        busy = ("busy", Tally(renders=RENDERS_MIN, clicks=1, repeats=RENDERS_MIN, measured=0, invisible=0))
        quiet = ("quiet", Tally(renders=RENDERS_MIN - 1, clicks=0, repeats=0, measured=0, invisible=0))
        await followed_at(one, NOW, [busy, quiet])
        assert await publish_when_due(one.later, one.histories) == 1
        found = await newest(one.histories, NO_HISTORY)
        assert found.computed_at == NOW
        assert list(found.publishers) == ["busy"]
        assert found.publishers["busy"].duplicate_rate == 0.5
        assert np.isnan(found.publishers["busy"].invisible_share)
        await followed_at(one, NOW + PUBLISH_EVERY_MS - 1, [quiet])
        assert await publish_when_due(one.later, one.histories) == 0
        await followed_at(one, NOW + PUBLISH_EVERY_MS)
        assert await publish_when_due(one.later, one.histories) == 2

    run(test)
