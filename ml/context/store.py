"""
The port to what is known of persons and publishers, and its adapter in memory.

All of it follows from the ledger: it is taken in page by page, in order, each page once, with the checkpoint.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from domain.ids import ImpressionId
from domain.vocabulary import Label
from ledger.following import Followed, Page
from ml.context.facts import Facts, PersonLabel, PersonRender
from ml.datasets.history import HOUR_MS, HourTally, Tally

DAY_MS = 86_400_000
RENDERS_KEPT_MS = 40 * DAY_MS
"""For so long a person's renders are known: a month, and until it is closed."""
LABELS_KEPT_MS = 93 * DAY_MS
HOURS_KEPT_MS = 3 * DAY_MS
NEXT_WITHIN_MS = 8 * DAY_MS
"""No render of a person comes later under the same pseudonym: tokens are of its day, and at most seven days old."""
COUNTED_MAX = 10_000
"""More renders or labels of one person than this are counted as this."""
TALLIES_MAX = 1_000_000


class Asked(NamedTuple):
    """A render about which later things are asked; *recorded_at* and *position* are those of its commit."""

    person: int
    recorded_at: int
    position: int
    impression: ImpressionId


class Known(NamedTuple):
    """
    What is known of a render's person: when the next render began (epoch ms; None: none was recorded), how many were
    recorded in the hour after, and the sums of trust in labels of the person's other impressions.
    """

    next_event_at: int | None = None
    next_hour: int = 0
    others_invalid: float = 0.0
    others_human: float = 0.0


class LaterStore(Protocol):
    """Everything is durable when a call returns. Calls raise `LedgerUnavailable` if the store does not answer."""

    async def followed(self) -> Followed: ...

    async def take(self, page: Page, facts: Facts) -> bool:
        """Keep *facts*, all that *page* says, at once with its end; False if the page does not begin there."""

    async def known(self, asked: Sequence[Asked], at: int) -> list[Known]:
        """Say of each of *asked* what is known at *at* (epoch ms) of what came after it."""

    async def others(self, labelled: Sequence[ImpressionId], limit: int) -> Mapping[ImpressionId, list[ImpressionId]]:
        """Return of each of *labelled* up to *limit* other impressions of the same person, the latest."""

    async def tallies(self, first_hour: int) -> list[HourTally]:
        """Return what was counted of publishers from *first_hour* (counted from 1970) on; TALLIES_MAX at most."""

    async def forget(self, now: int) -> int:
        """Delete what is too old to be asked for at *now* (epoch ms), some of it; say how much."""


class MemoryLater:
    """A `LaterStore` in memory, for tests and simulation."""

    def __init__(self) -> None:
        self.renders: list[PersonRender] = []
        self.labels: list[PersonLabel] = []
        self._tallies: dict[tuple[int, str, str], HourTally] = {}
        self._followed = Followed()

    async def followed(self) -> Followed:
        return self._followed

    async def take(self, page: Page, facts: Facts) -> bool:
        if page.after != self._followed.position:
            return False
        self._followed = Followed(page.through, max(page.at, self._followed.at))
        self.renders += facts.renders
        self.labels += facts.labels
        for hour in facts.hours:
            key = hour[:3]
            self._tallies[key] = _added(self._tallies[key], hour) if key in self._tallies else hour
        return True

    async def known(self, asked: Sequence[Asked], at: int) -> list[Known]:
        return [self._known(one, at) for one in asked]

    async def others(self, labelled: Sequence[ImpressionId], limit: int) -> Mapping[ImpressionId, list[ImpressionId]]:
        people = {one.impression: one.person for one in self.labels}
        found: dict[ImpressionId, list[ImpressionId]] = {}
        for impression in labelled:
            if impression in people:
                renders = [
                    one for one in self.renders if one.person == people[impression] and one.impression != impression
                ]
                latest = sorted(renders, key=_place, reverse=True)[:limit]
                found[impression] = list(dict.fromkeys(one.impression for one in latest))
        return {impression: others for impression, others in found.items() if others}

    async def tallies(self, first_hour: int) -> list[HourTally]:
        return [self._tallies[key] for key in sorted(self._tallies) if key[0] >= first_hour][:TALLIES_MAX]

    async def forget(self, now: int) -> int:
        before = len(self.renders) + len(self.labels) + len(self._tallies)
        first_day = (now - RENDERS_KEPT_MS) // DAY_MS
        self.renders = [one for one in self.renders if one.recorded_at // DAY_MS >= first_day]
        self.labels = [one for one in self.labels if one.arrived_at >= now - LABELS_KEPT_MS]
        oldest = (now - HOURS_KEPT_MS) // HOUR_MS
        self._tallies = {key: tally for key, tally in self._tallies.items() if key[0] >= oldest}
        return before - len(self.renders) - len(self.labels) - len(self._tallies)

    def _known(self, asked: Asked, at: int) -> Known:
        after = (asked.recorded_at, asked.position)
        later = sorted((one for one in self.renders if one.person == asked.person and _place(one) > after), key=_place)
        within = min(at, asked.recorded_at + NEXT_WITHIN_MS)
        first = next((one.event_at for one in later if one.recorded_at <= within), None)
        hour = min(at, asked.recorded_at + HOUR_MS)
        sums = {Label.INVALID: 0.0, Label.HUMAN: 0.0}
        for label in self.labels:
            if label.person == asked.person and label.impression != asked.impression and label.arrived_at <= at:
                sums[label.label] += label.trust
        n = sum(one.recorded_at <= hour for one in later)
        return Known(first, min(n, COUNTED_MAX), sums[Label.INVALID], sums[Label.HUMAN])


def _place(one: PersonRender) -> tuple[int, int]:
    return one.recorded_at, one.position


def _added(one: HourTally, other: HourTally) -> HourTally:
    names = Tally.__struct_fields__
    tally = Tally(*(getattr(one.tally, name) + getattr(other.tally, name) for name in names))
    return one._replace(tally=tally)
