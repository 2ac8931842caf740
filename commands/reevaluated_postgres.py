"""What looking again found, on PostgreSQL."""

from collections.abc import Sequence
from typing import Any

import msgspec

from commands.reevaluated import FORGOTTEN_MAX, GROUPS_MAX, KEPT_MS, Group, Reevaluated, Wanted
from domain.ids import ImpressionId
from ledger.postgres_connection import PostgresConnection, Row

_NAMES = Reevaluated.__struct_fields__
_COLUMNS = ", ".join(_NAMES)
_TYPES = {
    "impression": "uuid",
    "version": "integer",
    "risk": "double precision",
    "masked_risk": "double precision",
    "changes": "boolean",
    "allowed": "boolean",
    "pair": "text[]",
    **dict.fromkeys(("known_at", "looked_at", "micros", "event_at"), "bigint"),
}
_SENT = ", ".join(f"{name} {_TYPES.get(name, 'text')}" for name in _NAMES)
_SET = ", ".join(f"{name} = excluded.{name}" for name in _NAMES if name != "impression")
_PUT = f"""
insert into reevaluated as known ({_COLUMNS})
select {_COLUMNS} from jsonb_to_recordset(%s::text::jsonb) as r({_SENT}) order by impression
on conflict (impression) do update set {_SET}
where (known.version, known.known_at) < (excluded.version, excluded.known_at)
returning impression
"""  # noqa: S608 (made of the names of our own fields, here and below)
_FIND = f"select {_COLUMNS} from reevaluated where impression = %s"  # noqa: S608
_PAGE = f"""
select {_COLUMNS} from reevaluated
where looked_at >= %(since)s and (looked_at, impression) < (%(at)s::bigint, %(id)s::uuid)
    and (%(why)s = '' or why = %(why)s) and (%(campaign)s = '' or campaign = %(campaign)s) {{changes}}
order by looked_at desc, impression desc limit %(limit)s
"""  # noqa: S608
_OF_ALL, _OF_CHANGES = _PAGE.format(changes=""), _PAGE.format(changes="and changes")
_GROUP = "why, from_verdict, from_reason, to_verdict, to_reason, changes, allowed, currency"
_GROUPS = f"""
select {_GROUP}, count(*), sum(micros)::bigint from reevaluated where looked_at >= %s
group by {_GROUP}
order by why, from_verdict, from_reason, to_verdict, to_reason, allowed, currency limit {GROUPS_MAX}
"""  # noqa: S608
_FORGET = f"""
delete from reevaluated where impression in (
    select impression from reevaluated where looked_at <= %s order by looked_at limit {FORGOTTEN_MAX}
    for update skip locked
) returning impression
"""  # noqa: S608
_LAST = (1 << 62, ImpressionId(int=(1 << 128) - 1))


class PostgresReevaluated:
    """A `ReevaluatedStore`."""

    def __init__(self, connection: PostgresConnection) -> None:
        self._connection = connection

    async def put(self, rows: Sequence[Reevaluated]) -> None:
        if rows:
            await self._connection.fetch(_PUT, [msgspec.json.encode([_plain(row) for row in rows]).decode()])

    async def find(self, impression: ImpressionId) -> Reevaluated | None:
        rows = await self._connection.fetch(_FIND, [impression])
        return _row(rows[0]) if rows else None

    async def page(self, wanted: Wanted) -> list[Reevaluated]:
        at, id_ = wanted.after or _LAST
        asked: dict[str, Any] = {"since": wanted.since, "at": at, "id": id_, "limit": wanted.limit}
        asked |= {"why": "" if wanted.why is None else wanted.why.value, "campaign": wanted.campaign}
        statement = _OF_CHANGES if wanted.changes_only else _OF_ALL
        return [_row(row) for row in await self._connection.fetch(statement, asked)]

    async def groups(self, since: int) -> list[Group]:
        names = Group.__struct_fields__
        rows = await self._connection.fetch(_GROUPS, [since])
        return [msgspec.convert(_named(names, row), Group) for row in rows]

    async def forget(self, now: int) -> int:
        return len(await self._connection.fetch(_FORGET, [now - KEPT_MS]))


def _plain(row: Reevaluated) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(row)
    return {**plain, "from_reason": row.from_reason or "", "to_reason": row.to_reason or ""}


def _row(row: Row) -> Reevaluated:
    return msgspec.convert(_named(_NAMES, row), Reevaluated)


def _named(names: Sequence[str], row: Row) -> dict[str, Any]:
    """Return *row* by name; no reason stands as an empty text."""
    found = dict(zip(names, row, strict=True))
    return {**found, "from_reason": found["from_reason"] or None, "to_reason": found["to_reason"] or None}
