"""The operator's side of the quarantine in memory: the reference model, for tests and simulation."""

from collections import Counter
from collections.abc import Mapping

from msgspec.structs import replace

from commands.holding_memory import MemoryHolding
from commands.quarantine_entries import Entry, EntryState, Group, SealedEntry, Settlement, Wanted, as_of

_OPEN = {EntryState.WAITING, EntryState.EXPIRED}


class MemoryQuarantine:
    """A `QuarantineStore` over what *holding* keeps."""

    def __init__(self, holding: MemoryHolding) -> None:
        self._holding = holding

    async def entries(self, wanted: Wanted) -> list[Entry]:
        found = sorted(self._matching(wanted), key=_order, reverse=wanted.newest_first)
        after = wanted.after
        if after is not None:
            found = [
                entry for entry in found if (_order(entry) < after if wanted.newest_first else _order(entry) > after)
            ]
        return found[: wanted.limit]

    async def groups(self, wanted: Wanted) -> list[Group]:
        grouped: dict[tuple[str, str, str], list[Entry]] = {}
        for entry in self._matching(wanted):
            grouped.setdefault((entry.code, entry.path, entry.sdk), []).append(entry)
        groups = [
            Group(
                code=code,
                path=path,
                sdk=sdk,
                entries=len(entries),
                times=sum(entry.times for entry in entries),
                first_at=min(entry.received_at for entry in entries),
                last_at=max(entry.last_at for entry in entries),
                example=min(entry.name for entry in entries),
            )
            for (code, path, sdk), entries in grouped.items()
        ]
        return sorted(groups, key=lambda one: (-one.entries, one.code, one.path, one.sdk))[: wanted.limit]

    async def find(self, name: str) -> SealedEntry | None:
        entry, body = self._holding.entries.get(name), self._holding.bodies.get(name)
        if entry is None:
            return None
        return SealedEntry(entry, None, None) if body is None else SealedEntry(entry, body.sealed, body.sender)

    async def settle(self, name: str, settlement: Settlement) -> Entry | None:
        entry = self._holding.entries.get(name)
        if entry is None or not settles(entry.state, settlement.state):
            return entry
        settled = replace(
            entry,
            state=settlement.state,
            outcome=settlement.outcome,
            fixed=settlement.fixed,
            settled_at=settlement.at,
        )
        self._holding.entries[name] = settled
        return settled

    async def waiting(self, now: int) -> Mapping[str, int]:
        waits = Wanted(now=now, states=(EntryState.WAITING,))
        return Counter(entry.code for entry in self._matching(waits))

    def _matching(self, wanted: Wanted) -> list[Entry]:
        entries = [as_of(entry, wanted.now) for entry in self._holding.entries.values()]
        return [
            entry
            for entry in entries
            if wanted.since <= entry.received_at < wanted.until
            and (not wanted.codes or entry.code in wanted.codes)
            and (not wanted.states or entry.state in wanted.states)
        ]


def settles(now: EntryState, then: EntryState) -> bool:
    """Say whether an entry may go from one state to another: see `QuarantineStore.settle`."""
    if then is EntryState.WAITING:
        return now is EntryState.WAITING
    return now in _OPEN or (now is EntryState.SUPERSEDED and then is EntryState.REPLAYED)


def _order(entry: Entry) -> tuple[int, str]:
    return entry.received_at, entry.name
