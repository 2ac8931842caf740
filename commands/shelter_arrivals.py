"""The home's side: opens what another cell has sheltered and hands it to the gate as received when it was."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import date
from enum import StrEnum
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta, Struct

from commands.intake import Intake
from commands.items import Answer, Fault, Item, Malformed, Ready, Refused, Status
from commands.quarantine import sent_by
from commands.sealed_box import BoxKey, Unopenable, open_box
from commands.shelter import BOX_MAX_BYTES, Contents, bound
from commands.shelter_store import ShelterStore
from domain.ids import day_of, minted_at
from domain.reasons import Reason, Verdict
from domain.vocabulary import DataSet
from ledger.store import EventStore

ENVELOPES_MAX = 500
UNOPENABLE = "unopenable"
_CONTENTS = msgspec.msgpack.Decoder(Contents)
_AT_ONCE = 50
"""So many are opened before others get their turn: opening one costs about 0.1 ms."""


class Envelope(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One sheltered event on its way home; `received_at` is epoch ms."""

    impression_id: UUID
    event_id: UUID
    received_at: Annotated[int, Meta(ge=0, le=1 << 47)]
    sealed: Annotated[bytes, Meta(max_length=BOX_MAX_BYTES)]


class Fate(StrEnum):
    TAKEN = "taken"
    """It has its answer, now or long since: in the ledger, or as a view that waits for its render."""
    QUARANTINED = "quarantined"
    """It cannot be opened or read; kept where it arrived."""
    REFUSED = "refused"
    """A reason of class request holds; counted."""
    LATER = "later"
    """This cell does not know yet that it is its own, or took nothing of it for another reason; send it again."""


_FATES = {
    Status.DECIDED: Fate.TAKEN,
    Status.RECORDED: Fate.TAKEN,
    Status.PARKED: Fate.TAKEN,
    Status.REFUSED: Fate.REFUSED,
    Status.QUARANTINED: Fate.QUARANTINED,
}
"""Any other answer says that nothing was taken: the shelter must keep it."""


class Receipt(Struct, frozen=True, kw_only=True):
    """What became of one envelope; all but `later` may be forgotten by whoever sent it."""

    event_id: UUID
    fate: Fate
    verdict: Verdict | None = None
    reason: Reason | None = None


class Arrivals:
    """Takes envelopes for the cell *name*. `submit` is the gate's way in, *watch* sees what is prepared."""

    def __init__(  # noqa: PLR0913 (its collaborators)
        self,
        *,
        name: str,
        keys: Mapping[bytes, BoxKey],
        intake: Intake,
        ledger: EventStore,
        store: ShelterStore,
        submit: Callable[[Sequence[Item]], Awaitable[list[Answer]]],
        clock: Callable[[], int],
        watch: Callable[[Iterable[Item]], None] = lambda _: None,
    ) -> None:
        self._name = name
        self._keys = keys
        self._intake = intake
        self._ledger = ledger
        self._store = store
        self._submit = submit
        self._clock = clock
        self._watch = watch
        self._prepared: set[date] = set()

    async def take(self, envelopes: Sequence[Envelope]) -> list[Receipt]:
        """
        Return one receipt per envelope, in order; whatever is not `later` is durable.

        Raises:
            LedgerUnavailable: any of them may have been taken; sending all again is safe.
        """
        items: list[Item] = []
        for at, envelope in enumerate(envelopes):
            if at and at % _AT_ONCE == 0:
                await asyncio.sleep(0)
            items.append(await self._item(envelope))
        ours = [at for at, item in enumerate(items) if not _is_elsewhere(item)]
        await self._make_room([items[at] for at in ours])
        self._watch([items[at] for at in ours])
        answers = dict(zip(ours, await self._submit([items[at] for at in ours]), strict=True))
        receipts = [_receipt(envelope, answers.get(at)) for at, envelope in enumerate(envelopes)]
        settled = [
            (self._name, envelope.impression_id, envelope.event_id)
            for envelope, receipt in zip(envelopes, receipts, strict=True)
            if receipt.fate is not Fate.LATER
        ]
        await self._store.arrived(settled, self._clock())
        return receipts

    async def _item(self, envelope: Envelope) -> Item:
        now = self._clock()
        key = (self._name, envelope.impression_id, envelope.event_id)
        try:
            opened = open_box(envelope.sealed, self._keys, bound(key, envelope.received_at))
            contents = _CONTENTS.decode(opened)
        except Unopenable as error:
            return _unopenable(envelope, str(error), now)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return _unopenable(envelope, "what is sealed in it cannot be read", now)
        caller = contents.sender.caller(min(envelope.received_at, now))
        [item] = sent_by(caller, await self._intake.prepare([contents.body], caller))
        if isinstance(item, Ready) and (item.impression, item.claim.cause) != key[1:]:
            return _unopenable(envelope, "the event in it is not the one it names", now)
        return item

    async def _make_room(self, items: Sequence[Item]) -> None:
        """See to partitions: what waited for days may be older than those that a gate keeps ready."""
        live = [item for item in items if isinstance(item, Ready) and item.data_set is DataSet.LIVE]
        days = {day_of(minted_at(item.impression)) for item in live}
        for day in sorted(days - self._prepared):
            await self._ledger.prepare_days(day, day, DataSet.LIVE)
            self._prepared.add(day)


def _is_elsewhere(item: Item) -> bool:
    return isinstance(item, Refused) and item.reason is Reason.REGION_MISDIRECTED


def _unopenable(envelope: Envelope, why: str, now: int) -> Malformed:
    """Keep the box as it came, under a name of its own: the event itself may yet arrive."""
    return Malformed(envelope.sealed, Fault(code=UNOPENABLE, detail=why), min(envelope.received_at, now))


def _receipt(envelope: Envelope, answer: Answer | None) -> Receipt:
    if answer is None:
        return Receipt(event_id=envelope.event_id, fate=Fate.LATER, reason=Reason.REGION_MISDIRECTED)
    fate = _FATES.get(answer.status, Fate.LATER)
    return Receipt(event_id=envelope.event_id, fate=fate, verdict=answer.verdict, reason=answer.reason)
