"""The registry in memory: the reference model of its ports."""

from collections.abc import Sequence

from msgspec.structs import replace

from domain.placement_events import Stage
from ml.registry.registry import Compared, ComparedKey, ModelEntry, NoSuchModel, PlacementRow, Tables, check_page


class MemoryModels:
    """A `ModelStore`."""

    def __init__(self) -> None:
        self._entries: dict[str, ModelEntry] = {}
        self.data: dict[str, bytes] = {}
        """Bytes by model: a test may damage them."""

    async def add(self, entry: ModelEntry, data: bytes) -> bool:
        if entry.model in self._entries:
            return False
        self._entries[entry.model], self.data[entry.model] = entry, data
        return True

    async def find(self, model: str) -> ModelEntry | None:
        return self._entries.get(model)

    async def page(self, after: str, limit: int, stage: Stage | None = None) -> list[ModelEntry]:
        check_page(limit)
        latest = sorted(self._entries.values(), key=_age, reverse=True)
        if after:
            if after not in self._entries:
                return []
            latest = [entry for entry in latest if _age(entry) < _age(self._entries[after])]
        return [entry for entry in latest if stage in {None, entry.stage}][:limit]

    async def read(self, model: str) -> bytes:
        if model not in self.data:
            raise NoSuchModel(model)
        return self.data[model]


class MemoryPlacementTable:
    """A `PlacementTable`."""

    def __init__(self) -> None:
        self._rows: dict[int, PlacementRow] = {}

    async def through(self) -> int:
        return max(self._rows, default=-1) + 1

    async def put(self, rows: Sequence[PlacementRow]) -> None:
        for row in rows:
            self._rows.setdefault(row.version, row)

    async def page(self, before: int, limit: int) -> list[PlacementRow]:
        check_page(limit)
        return [row for version, row in sorted(self._rows.items(), reverse=True) if version < before][:limit]

    async def clear(self) -> None:
        self._rows.clear()


class MemoryComparisonTable:
    """A `ComparisonTable`."""

    def __init__(self) -> None:
        self._rows: dict[ComparedKey, Compared] = {}

    async def put(self, rows: Sequence[Compared]) -> None:
        self._rows |= {row.key: row for row in rows}

    async def since(self, hour: int, limit: int) -> list[Compared]:
        check_page(limit)
        found: dict[ComparedKey, Compared] = {}
        for key, row in self._rows.items():
            if key.hour >= hour:
                whole = replace(key, gate="")
                found[whole] = added(found.get(whole, Compared(key=whole)), row)
        return sorted(found.values(), key=_order)[:limit]

    async def drop_before(self, hour: int) -> int:
        gone = [key for key in self._rows if key.hour < hour]
        for key in gone:
            del self._rows[key]
        return len(gone)


def memory_tables() -> Tables:
    """Return empty tables."""
    return Tables(MemoryModels(), MemoryPlacementTable(), MemoryComparisonTable())


def added(one: Compared, other: Compared) -> Compared:
    """Return *one* with what *other* saw, under the key of *one*."""
    return Compared(
        key=one.key,
        rows=one.rows + other.rows,
        agreed=one.agreed + other.agreed,
        stricter=one.stricter + other.stricter,
        milder=one.milder + other.milder,
        difference_sum=one.difference_sum + other.difference_sum,
        difference_abs_sum=one.difference_abs_sum + other.difference_abs_sum,
        difference_max=max(one.difference_max, other.difference_max),
        money_micros=one.money_micros + other.money_micros,
    )


def _age(entry: ModelEntry) -> tuple[int, str]:
    return (entry.added_at, entry.model)


def _order(row: Compared) -> tuple[int, str, str, str, str]:
    key = row.key
    return (-key.hour, key.role.value, key.champion, key.other, key.currency)
