"""Chooses from the ledger what is looked at again: a follower that notes what each page gives cause for."""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

from commands.reevaluations import Reevaluations
from domain.ids import ImpressionId
from domain.reevaluation import Look, LookTimes, Why, is_about_traffic, looks_of
from ledger.following import Followed, Page, Seen

OTHERS_MAX = 32
"""Of a person whose impression got a label so many others, the latest, are looked at again."""
OTHERS_AFTER_MS = 60_000
"""Labels of one person come together: the others wait for them so long."""

Others: TypeAlias = Callable[[Sequence[ImpressionId], int], Awaitable[Mapping[ImpressionId, Sequence[ImpressionId]]]]
"""Return of each labelled impression up to so many other impressions of its person, the latest."""


class Chooser:
    """A `Follower`. `clock` gives epoch ms. What is known of persons must be there before it takes a page."""

    def __init__(self, noted: Reevaluations, times: LookTimes, others: Others, clock: Callable[[], int]) -> None:
        self._noted = noted
        self._times = times
        self._others = others
        self._clock = clock

    async def followed(self) -> Followed:
        return await self._noted.followed()

    async def take(self, page: Page) -> None:
        now = self._clock()
        looks = [(one.impression, look) for one in page.seen for look in self._looks(one, now)]
        labelled = sorted({one.impression for one in page.seen if any(map(is_about_traffic, one.events or ()))})
        if labelled:
            for others in (await self._others(labelled, OTHERS_MAX)).values():
                looks += [(one, Look(Why.LABEL, now + OTHERS_AFTER_MS)) for one in others]
        await self._noted.choose(page, looks, now)

    def _looks(self, one: Seen, now: int) -> Iterator[Look]:
        if one.events is None:
            yield Look(Why.UNREAD, now)
        else:
            yield from looks_of(one.events, self._times)
