"""The store of feedback in memory: the reference model, for tests and simulation."""

from collections import Counter
from collections.abc import Sequence
from uuid import UUID

from msgspec.structs import replace

from commands.feedback_store import (
    FORGOTTEN_MAX,
    OPEN,
    ORPHAN_KEPT_MS,
    SETTLED,
    SETTLED_KEPT_MS,
    Fate,
    FeedbackBooks,
    FeedbackState,
    Kept,
    Move,
    Placed,
    Room,
    Wanted,
)
from domain.ids import ImpressionId


class MemoryFeedback:
    """A `FeedbackStore`."""

    def __init__(self) -> None:
        self.kept: dict[UUID, Kept] = {}
        self._books = Counter[str]()

    async def keep(self, items: Sequence[Kept], room: Room) -> list[Placed]:
        before, seen = Counter(one.feedback.impression_id for one in self.kept.values()), Counter[ImpressionId | None]()
        placed = []
        for item in items:
            impression = item.feedback.impression_id
            fate = self._keep(item, room, before[impression] + seen[impression])
            seen[impression] += fate not in {Fate.KNOWN, Fate.REUSED}
            kept = self.kept.get(item.feedback.id)
            placed.append(Placed(fate, "" if kept is None else kept.digest))
        return placed

    async def claim(self, now: int, again_at: int, limit: int) -> list[UUID]:
        due = [(one.due_at, id_) for id_, one in self.kept.items() if one.due_at is not None and one.due_at <= now]
        ids = [id_ for _, id_ in sorted(due)[:limit]]
        for id_ in ids:
            self.kept[id_] = replace(self.kept[id_], due_at=again_at)
        return ids

    async def unsettled(self, ids: Sequence[UUID]) -> list[Kept]:
        return [self.kept[id_] for id_ in ids if id_ in self.kept and self.kept[id_].state in OPEN]

    async def move(self, moves: Sequence[Move], now: int) -> int:
        known = [(self.kept[move.id], move) for move in moves if move.id in self.kept]
        made = [(one, move) for one, move in known if one.state in OPEN]
        for one, move in made:
            self._books.subtract([one.state.value])
            self._books.update([move.state.value])
            self.kept[move.id] = replace(
                one,
                state=move.state,
                due_at=move.due_at,
                error=move.error,
                tries=one.tries + 1 if move.error else 0,
                settled_at=now if move.state in SETTLED else None,
            )
        return len(made)

    async def find(self, id_: UUID) -> Kept | None:
        return self.kept.get(id_)

    async def entries(self, wanted: Wanted) -> list[Kept]:
        found = [one for one in self.kept.values() if _is_wanted(one, wanted)]
        return sorted(found, key=_place, reverse=True)[: wanted.limit]

    async def books(self) -> FeedbackBooks:
        waiting = [one for one in self.kept.values() if one.state is FeedbackState.WAITING]
        return FeedbackBooks(
            **self._books,
            failing=sum(bool(one.error) for one in waiting),
            oldest_at=min((one.received_at for one in waiting), default=None),
        )

    async def count(self) -> dict[FeedbackState, int]:
        return dict(Counter(one.state for one in self.kept.values()))

    async def forget(self, now: int) -> int:
        old = [id_ for id_, one in self.kept.items() if _is_old(one, now)][:FORGOTTEN_MAX]
        for id_ in old:
            del self.kept[id_]
        return len(old)

    def _keep(self, item: Kept, room: Room, others: int) -> Fate:
        known = self.kept.get(item.feedback.id)
        if known is not None:
            return Fate.KNOWN if known.digest == item.digest else Fate.REUSED
        impression = item.feedback.impression_id
        if impression is not None and others >= room.impression_max:
            return Fate.CROWDED
        if impression is None:
            is_full = self._books["held"] >= room.held_max
        else:
            is_full = self._books["waiting"] + self._books["parked"] >= room.pending_max
        if is_full:
            return Fate.FULL
        self.kept[item.feedback.id] = item
        self._books.update(["accepted", item.state.value])
        return Fate.KEPT


def _place(one: Kept) -> tuple[int, UUID]:
    return one.received_at, one.feedback.id


def _is_wanted(one: Kept, wanted: Wanted) -> bool:
    return (
        (not wanted.states or one.state in wanted.states)
        and wanted.impression in {None, one.feedback.impression_id}
        and (not wanted.failing or bool(one.error))
        and (wanted.after is None or _place(one) < wanted.after)
    )


def _is_old(one: Kept, now: int) -> bool:
    if one.settled_at is not None:
        return one.settled_at + SETTLED_KEPT_MS <= now
    return one.state is FeedbackState.ORPHANED and one.received_at + ORPHAN_KEPT_MS <= now
