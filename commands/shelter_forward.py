"""
Sends home what was sheltered, once the home is ready for it.

At least once, and in order of arrival as long as the home takes it: nothing is deleted before its home has answered for
it. The home recognises what comes again. What fails is put off on its own and holds up nothing behind it; a view that
overtakes its render so is parked at home, as any is that comes too early.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec import Struct

from commands.shelter_arrivals import Envelope, Fate, Receipt
from commands.shelter_store import Key, Settled, Sheltered, ShelterStore

PAGE_EVENTS = 100
PAGE_BYTES = 1 << 20
PAGES_MAX = 200
"""In one run, for one home; the others get their turn before the next."""
_PAUSE_MS, _PAUSE_MAX_MS = 1_000, 60_000
_PUT_OFF_MS, _PUT_OFF_MAX_MS = 2_000, 600_000
_DOUBLINGS_MAX = 16


class NotTaken(Exception):
    """
    The home did not take a page, or nobody knows whether it did; sending it again is safe.

    `is_of_page`: it will not take these very envelopes; others may fare better.
    """

    def __init__(self, why: str, *, is_of_page: bool = False) -> None:
        super().__init__(why)
        self.is_of_page = is_of_page


class Carrier(Protocol):
    """How homes are reached, by the names of their cells."""

    async def is_ready(self, home: str) -> bool:
        """Tell whether the cell *home* answers and is ready to decide."""

    async def forward(self, home: str, envelopes: Sequence[Envelope]) -> list[Receipt]:
        """Bring *envelopes* to the cell *home*; return its receipts, in order. Raises `NotTaken`."""


class Forwarded(Struct):
    """What one run did: events by what became of them, and why homes took nothing, by name."""

    taken: int = 0
    quarantined: int = 0
    refused: int = 0
    later: int = 0
    failed: dict[str, str] = {}

    @property
    def settled(self) -> int:
        return self.taken + self.quarantined + self.refused


class _Pause(Struct):
    until: int = 0
    failures: int = 0


class Forwarder:
    """Belongs to one task; several may run at once over one store. `clock` gives epoch ms."""

    def __init__(self, store: ShelterStore, carrier: Carrier, clock: Callable[[], int]) -> None:
        self._store = store
        self._carrier = carrier
        self._clock = clock
        self._pauses: dict[str, _Pause] = {}

    async def run(self) -> Forwarded:
        """
        Send what waits to every home that is ready, up to `PAGES_MAX` pages each.

        Raises:
            LedgerUnavailable: the store did not answer; what was sent and not noted is sent again.
        """
        done = Forwarded()
        for home in await self._store.homes():
            pause = self._pauses.setdefault(home, _Pause())
            if pause.until > self._clock():
                continue
            settled_before = done.settled
            try:
                await self._drain(home, done)
            except NotTaken as error:
                done.failed[home] = str(error)
                failures = 0 if done.settled > settled_before else pause.failures
                pause.until = self._clock() + min(_PAUSE_MS << failures, _PAUSE_MAX_MS)
                pause.failures = min(failures + 1, _DOUBLINGS_MAX)
            else:
                self._pauses[home] = _Pause()
        return done

    async def _drain(self, home: str, done: Forwarded) -> None:
        if not await self._carrier.is_ready(home):
            raise NotTaken("it is not ready")
        limit = PAGE_EVENTS
        for _ in range(PAGES_MAX):
            page = await self._store.due(home, self._clock(), limit, PAGE_BYTES)
            if not page:
                return
            try:
                receipts = await self._carrier.forward(home, [_envelope(one) for one in page])
            except NotTaken as error:
                if not error.is_of_page:
                    raise
                if len(page) == 1:
                    await self._put_off(page)
                    done.later += 1
                limit = max(1, len(page) // 2)
                continue
            _check(page, receipts)
            await self._note(page, receipts, done)
            limit = min(2 * limit, PAGE_EVENTS)

    async def _note(self, page: Sequence[Sheltered], receipts: Sequence[Receipt], done: Forwarded) -> None:
        pairs = list(zip(page, receipts, strict=True))
        settled = [Settled(one.key, _outcome(receipt)) for one, receipt in pairs if receipt.fate is not Fate.LATER]
        await self._store.settle(settled, self._clock())
        await self._put_off([one for one, receipt in pairs if receipt.fate is Fate.LATER])
        for receipt in receipts:
            setattr(done, receipt.fate.value, getattr(done, receipt.fate.value) + 1)

    async def _put_off(self, events: Sequence[Sheltered]) -> None:
        by_tries: dict[int, list[Key]] = {}
        for one in events:
            by_tries.setdefault(min(one.tries, _DOUBLINGS_MAX), []).append(one.key)
        for tries, keys in by_tries.items():
            await self._store.defer(keys, self._clock() + min(_PUT_OFF_MS << tries, _PUT_OFF_MAX_MS))


def _envelope(one: Sheltered) -> Envelope:
    return Envelope(impression_id=one.impression, event_id=one.event_id, received_at=one.received_at, sealed=one.sealed)


def _check(page: Sequence[Sheltered], receipts: Sequence[Receipt]) -> None:
    """Raise `NotTaken` unless *receipts* answer for *page*: nothing is deleted on a wrong word."""
    if [one.event_id for one in page] != [receipt.event_id for receipt in receipts]:
        raise NotTaken("its receipts are not those of what was sent")


def _outcome(receipt: Receipt) -> str:
    words = (receipt.fate, receipt.verdict, receipt.reason)
    return " ".join(word.value for word in words if word is not None)
