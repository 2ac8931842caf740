"""What lies in spools and is nowhere else yet: the books count it beside ledger and quarantine (I1)."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from uuid import UUID

from msgspec import Struct

from commands.spool_records import Kept, KeptAppend, KeptBody, KeptItem, KeptItems, append_of, unpack
from domain.aggregates import AnswersCounted
from domain.events import ImpressionScored
from domain.ids import ImpressionId
from domain.render import Kind
from ledger.codec import decode_impression
from ledger.spool import read_segment, segments_of
from ledger.spool_owners import folders
from ledger.store import READ_MAX, EventStore

_READ_TOGETHER_MAX = 500


class Spooled(Struct, frozen=True, kw_only=True):
    """Events in spools that the ledger has not, bodies that could not be read, refusals that are counted."""

    renders: int = 0
    views: int = 0
    bodies: int = 0
    refused: int = 0


async def take_spooled(root: Path, store: EventStore) -> Spooled:
    """
    Count what the spools under *root* hold beyond the ledger, also while they are written and drained.

    Raises:
        LedgerUnavailable: the store did not answer.
    """
    records = list(_records(root))
    items = {item.claim.cause: item for one in records for item in _items(one)}
    known = await _known(store, {item.impression for item in items.values()})
    waiting = [item for cause, item in items.items() if (cause, item.claim.digest) not in known]
    bodies = {one.event_id or one.sealed for one in records if isinstance(one, KeptBody)}
    return Spooled(
        renders=sum(item.kind is Kind.RENDER for item in waiting),
        views=sum(item.kind is Kind.VIEW for item in waiting),
        bodies=len(bodies),
        refused=sum(_refusals(records)),
    )


def _records(root: Path) -> Iterator[Kept]:
    for folder in folders(root):
        for path in segments_of(folder):
            try:
                segment = read_segment(path)
            except FileNotFoundError:
                continue  # drained meanwhile
            for payload in segment.payloads():
                yield from unpack(payload)


def _items(kept: Kept) -> tuple[KeptItem, ...]:
    return kept.items if isinstance(kept, KeptAppend | KeptItems) else ()


def _refusals(records: Iterable[Kept]) -> Iterator[int]:
    for one in records:
        if isinstance(one, KeptAppend) and one.impression is None:
            for event in append_of(one).events:
                if isinstance(event, AnswersCounted):
                    yield sum(event.refused.values())


async def _known(store: EventStore, impressions: set[ImpressionId]) -> set[tuple[UUID, str]]:
    """Return the causes that the streams of *impressions* have, with their digests."""
    found: set[tuple[UUID, str]] = set()
    waiting = sorted(impressions)
    for at in range(0, len(waiting), _READ_TOGETHER_MAX):
        streams = await store.read_streams(waiting[at : at + _READ_TOGETHER_MAX], READ_MAX)
        found |= {
            (event.cause, event.digest)
            for commits in streams.values()
            for commit in commits
            for event in decode_impression(commit.data)
            if not isinstance(event, ImpressionScored)
        }
    return found
