"""The registry on PostgreSQL."""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from domain.placement_events import ModelPlaced, Role, Stage
from ledger.postgres_connection import PostgresConnection, Row
from ml.registry.registry import Compared, ComparedKey, ModelEntry, NoSuchModel, PlacementRow, Tables, check_page

_ENTRY = "model, stage, sha256, features, size, added_by, added_at, card"
_ADD = f"""
insert into models ({_ENTRY}, data) values (%s, %s, %s, %s, %s, %s, %s, %s, %s)
on conflict (model) do nothing returning model
"""  # noqa: S608 (constants of our own)
_FIND = f"select {_ENTRY} from models where model = %s"  # noqa: S608
_PAGE = f"""
select {_ENTRY} from models
where (%(after)s = '' or (added_at, model) < (select added_at, model from models where model = %(after)s))
  and (%(stage)s = '' or stage = %(stage)s)
order by added_at desc, model desc limit %(limit)s
"""  # noqa: S608
_PUT_PLACEMENTS = """
insert into model_placements (version, stage, role, model, share, placed_by, reason, decided_at, data)
select version, stage, role, model, share, placed_by, reason, decided_at, data
from jsonb_to_recordset(%s::text::jsonb) as r(
    version integer, stage text, role text, model text, share double precision, placed_by text, reason text,
    decided_at bigint, data jsonb
)
on conflict (version) do nothing returning version
"""
_PLACEMENTS = "select version, data::text from model_placements where version < %s order by version desc limit %s"
_PUT_COMPARISONS = """
insert into model_comparisons (
    hour, gate, role, champion, other, currency, rows, agreed, stricter, milder, difference_sum, difference_abs_sum,
    difference_max, money_micros
)
select * from jsonb_to_recordset(%s::text::jsonb) as r(
    hour bigint, gate text, role text, champion text, other text, currency text, rows bigint, agreed bigint,
    stricter bigint, milder bigint, difference_sum double precision, difference_abs_sum double precision,
    difference_max double precision, money_micros bigint
)
on conflict (hour, gate, role, champion, other, currency) do update set
    rows = excluded.rows, agreed = excluded.agreed, stricter = excluded.stricter, milder = excluded.milder,
    difference_sum = excluded.difference_sum, difference_abs_sum = excluded.difference_abs_sum,
    difference_max = excluded.difference_max, money_micros = excluded.money_micros
returning hour
"""
_COMPARISONS = """
select hour, role, champion, other, currency, sum(rows)::bigint, sum(agreed)::bigint, sum(stricter)::bigint,
       sum(milder)::bigint, sum(difference_sum), sum(difference_abs_sum), max(difference_max),
       sum(money_micros)::bigint
from model_comparisons where hour >= %s
group by hour, role, champion, other, currency
order by hour desc, role, champion, other, currency limit %s
"""


class PostgresModels:
    """A `ModelStore`."""

    def __init__(self, connection: PostgresConnection) -> None:
        self._connection = connection

    async def add(self, entry: ModelEntry, data: bytes) -> bool:
        card = msgspec.json.encode(entry.card)
        facts = [entry.model, entry.stage.value, entry.sha256, entry.features, entry.size, entry.by, entry.added_at]
        return bool(await self._connection.fetch(_ADD, [*facts, card, data]))

    async def find(self, model: str) -> ModelEntry | None:
        rows = await self._connection.fetch(_FIND, [model])
        return _entry(rows[0]) if rows else None

    async def page(self, after: str, limit: int, stage: Stage | None = None) -> list[ModelEntry]:
        check_page(limit)
        asked = {"after": after, "stage": "" if stage is None else stage.value, "limit": limit}
        return [_entry(row) for row in await self._connection.fetch(_PAGE, asked)]

    async def read(self, model: str) -> bytes:
        rows = await self._connection.fetch("select data from models where model = %s", [model])
        if not rows:
            raise NoSuchModel(model)
        return bytes(rows[0][0])


class PostgresPlacementTable:
    """A `PlacementTable`."""

    def __init__(self, connection: PostgresConnection) -> None:
        self._connection = connection

    async def through(self) -> int:
        [[last]] = await self._connection.fetch("select coalesce(max(version), -1) from model_placements", [])
        return int(last) + 1

    async def put(self, rows: Sequence[PlacementRow]) -> None:
        await self._connection.fetch(_PUT_PLACEMENTS, [_json([_placement(row) for row in rows])])

    async def page(self, before: int, limit: int) -> list[PlacementRow]:
        check_page(limit)
        rows = await self._connection.fetch(_PLACEMENTS, [before, limit])
        return [PlacementRow(version, _PLACED(data)) for version, data in rows]

    async def clear(self) -> None:
        await self._connection.fetch("delete from model_placements returning version", [])


class PostgresComparisonTable:
    """A `ComparisonTable`."""

    def __init__(self, connection: PostgresConnection) -> None:
        self._connection = connection

    async def put(self, rows: Sequence[Compared]) -> None:
        flat = [{**plain.pop("key"), **plain} for plain in msgspec.to_builtins(rows)]
        await self._connection.fetch(_PUT_COMPARISONS, [_json(flat)])

    async def since(self, hour: int, limit: int) -> list[Compared]:
        check_page(limit)
        return [_compared(row) for row in await self._connection.fetch(_COMPARISONS, [hour, limit])]

    async def drop_before(self, hour: int) -> int:
        gone = await self._connection.fetch("delete from model_comparisons where hour < %s returning hour", [hour])
        return len(gone)


def postgres_tables(connection: PostgresConnection) -> Tables:
    """Return the tables of the database that *connection* is to."""
    return Tables(PostgresModels(connection), PostgresPlacementTable(connection), PostgresComparisonTable(connection))


_PLACED = msgspec.json.Decoder(ModelPlaced).decode
_CARD = msgspec.json.Decoder(dict[str, Any]).decode


def _entry(row: Row) -> ModelEntry:
    model, stage, digest, features, size, by, added_at, card = row
    return ModelEntry(
        model=model,
        stage=Stage(stage),
        sha256=digest,
        features=features,
        size=size,
        by=by,
        added_at=added_at,
        card=_CARD(card),
    )


def _placement(row: PlacementRow) -> dict[str, Any]:
    """The columns are for whoever looks with SQL; the event itself is in `data`."""
    # PostgreSQL has no U+0000: of an old ledger's reason that has one, the rest is told, and nothing stops.
    placed = replace(row.placed, reason=row.placed.reason.replace("\0", "\ufffd"))
    return {
        "version": row.version,
        "stage": placed.stage,
        "role": placed.role,
        "model": "" if placed.model is None else placed.model.model,
        "share": placed.share,
        "placed_by": placed.by,
        "reason": placed.reason,
        "decided_at": placed.decided_at,
        "data": placed,
    }


def _compared(row: Row) -> Compared:
    hour, role, champion, other, currency, *figures = row
    key = ComparedKey(hour=hour, gate="", role=Role(role), champion=champion, other=other, currency=currency)
    names = Compared.__struct_fields__[1:]
    return Compared(key=key, **dict(zip(names, figures, strict=True)))


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
