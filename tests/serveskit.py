"""Reports of what was served, and stores that fail, for tests."""

import msgspec
from builders import MINTED
from hypothesis import strategies as st

from commands.serves import Serves
from domain.serves import MINUTE_MS, AdsServed
from ledger.codec import decode
from ledger.store import LedgerUnavailable, read_everything

MINUTE = MINTED - MINTED % MINUTE_MS
COUNT = {
    "campaign": "campaign-1",
    "surface": "feed",
    "format": "display",
    "sdk": "fb-501.2",
    "currency": "EUR",
    "served": 10,
    "micros": 20_000,
}


def a_count(**changes):
    return {**COUNT, **changes}


def a_report(*counts, **changes):
    fields = {"source": "edge-1", "minute": MINUTE, "sequence": 0, "region": "eu", "counts": counts or (COUNT,)}
    return {**fields, **changes}


def wire(report):
    return report if isinstance(report, bytes) else msgspec.json.encode(report)


def serves_over(store, **changes):
    parts = {"store": store, "region": "eu", "clock": lambda: MINTED, "counts_max": 5_000, **changes}
    return Serves(**parts)


async def told(serves, *reports):
    return await serves.record([wire(report) for report in reports])


async def recorded(store):
    """All reports in the ledger, in order."""
    events = [event async for commit in read_everything(store) for event in decode(commit.data)]
    return [event for event in events if isinstance(event, AdsServed)]


class Unreliable:
    """A store whose appends fail as *faults* say: `before` or `after` they were written, or not at all (empty)."""

    def __init__(self, store, faults):
        self._store = store
        self._faults = iter(faults)

    async def append(self, appends, recorded_at):
        fault = next(self._faults, "")
        if fault == "before":
            raise LedgerUnavailable("not sent")
        outcomes = await self._store.append(appends, recorded_at)
        if fault == "after":
            raise LedgerUnavailable("the answer was lost")
        return outcomes

    def __getattr__(self, name):
        return getattr(self._store, name)


counts = st.builds(
    a_count,
    campaign=st.sampled_from(["campaign-1", "campaign-2"]),
    surface=st.sampled_from(["feed", "reels"]),
    sdk=st.sampled_from(["", "fb-501.2"]),
    served=st.integers(1, 9),
    micros=st.integers(0, 9_000),
)
reports = st.builds(
    lambda counts, source, minutes, sequence: a_report(
        *counts, source=source, minute=MINUTE - minutes * MINUTE_MS, sequence=sequence
    ),
    st.lists(counts, min_size=1, max_size=3),
    st.sampled_from(["edge-1", "edge-2"]),
    st.integers(0, 2),
    st.integers(0, 2),
)
"""Few sources, minutes and numbers, so that they meet again with the same content and with another."""
