"""Ledgers in segments, and what breaks between their two stores."""

import random
from contextlib import asynccontextmanager
from enum import StrEnum

from esdbkit import DAY

from domain.vocabulary import DataSet
from ledger.segments import SegmentStore
from ledger.segments_index import SegmentIndex
from ledger.segments_log import SegmentLog
from ledger.store import LedgerUnavailable


class Break(StrEnum):
    """Where a writer fails: before or after a write, which is done or not, and nobody is told which."""

    BEFORE_PROPOSING = "before proposing"
    AFTER_PROPOSING = "after proposing"
    BEFORE_CLAIMING = "before claiming"
    AFTER_CLAIMING = "after claiming"


class Breaking:
    """Says where the next write of a store fails. `script` is used up; after it, `chance` of every point."""

    def __init__(self, *script, seed=0, chance=0.0):
        self.script, self.chance, self.dice = list(script), chance, random.Random(seed)

    def at(self, point):
        if self.script:
            if self.script[0] is point:
                self.script.pop(0)
                raise LedgerUnavailable(point)
        elif self.dice.random() < self.chance:
            raise LedgerUnavailable(point)


class BreakingLog(SegmentLog):
    def __init__(self, url, breaking, **options):
        super().__init__(url, **options)
        self.breaking = breaking

    async def write(self, data, note, recorded_at):
        self.breaking.at(Break.BEFORE_PROPOSING)
        place = await super().write(data, note, recorded_at)
        self.breaking.at(Break.AFTER_PROPOSING)
        return place


class BreakingIndex(SegmentIndex):
    def __init__(self, url, breaking, **options):
        super().__init__(url, **options)
        self.breaking = breaking

    async def claim(self, place, impressions, names):
        self.breaking.at(Break.BEFORE_CLAIMING)
        lost = await super().claim(place, impressions, names)
        self.breaking.at(Break.AFTER_CLAIMING)
        return lost


def breaking_store(urls, breaking, *, deadline_s=5.0):
    log = BreakingLog(urls[0], breaking, deadline_s=deadline_s)
    return SegmentStore(log, BreakingIndex(urls[1], breaking))


@asynccontextmanager
async def stores_on(urls, *breakings, deadline_s=5.0):
    """Yield one store per *breakings*, each a writer of its own of the same ledger, with the day prepared."""
    stores = [breaking_store(urls, breaking, deadline_s=deadline_s) for breaking in breakings]
    try:
        await stores[0].prepare_days(DAY, DAY, DataSet.LIVE)
        yield stores
    finally:
        for store in stores:
            await store.close()
