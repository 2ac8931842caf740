"""The operator's side of the quarantine on PostgreSQL."""

from collections.abc import Mapping
from typing import Any

from commands.quarantine_entries import Entry, EntryState, Group, SealedEntry, Settlement, Wanted
from ledger.postgres_connection import PostgresConnection, Row

_COLUMNS = """name, event_id, code, detail, path, sdk, size, times, received_at, last_at, expires_at, key_day, state,
outcome, fixed, settled_at"""
_STATE = "case when state = 'waiting' and expires_at <= %(now)s then 'expired' else state end"
_MATCHING = f"""
received_at >= %(since)s and received_at < %(until)s
and (cardinality(%(codes)s::text[]) = 0 or code = any(%(codes)s::text[]))
and (cardinality(%(states)s::text[]) = 0 or {_STATE} = any(%(states)s::text[]))
"""
_LIST = f"""
select {_COLUMNS.replace(" state,", f" {_STATE},")} from quarantine
where {_MATCHING} and (%(at)s::bigint is null or (received_at, name) {{beyond}} (%(at)s::bigint, %(name)s::text))
order by received_at {{order}}, name {{order}} limit %(limit)s
"""  # noqa: S608 (made of constants)
_NEWEST, _OLDEST = _LIST.format(beyond="<", order="desc"), _LIST.format(beyond=">", order="asc")
_GROUPS = f"""
select code, path, sdk, count(*), sum(times)::bigint, min(received_at), max(last_at), min(name) from quarantine
where {_MATCHING} group by code, path, sdk order by count(*) desc, code, path, sdk limit %(limit)s
"""  # noqa: S608
_FIND = f"select {_COLUMNS}, sealed, sender from quarantine where name = %s"  # noqa: S608
_SETTLE = f"""
update quarantine set state = %(state)s, outcome = %(outcome)s, fixed = %(fixed)s, settled_at = %(at)s
where name = %(name)s and (
    state = 'waiting'
    or (%(state)s <> 'waiting' and state = 'expired')
    or (%(state)s = 'replayed' and state = 'superseded')
)
returning {_COLUMNS}
"""  # noqa: S608
_WAITING = "select code, count(*) from quarantine where state = 'waiting' and expires_at > %s group by code"


class PostgresQuarantine:
    """A `QuarantineStore`. Give it a connection of its own: what operators ask must not hold up what clients send."""

    def __init__(self, connection: PostgresConnection) -> None:
        self._connection = connection

    async def entries(self, wanted: Wanted) -> list[Entry]:
        statement = _NEWEST if wanted.newest_first else _OLDEST
        return [_entry(row) for row in await self._connection.fetch(statement, _arguments(wanted))]

    async def groups(self, wanted: Wanted) -> list[Group]:
        return [
            Group(
                code=code,
                path=path,
                sdk=sdk,
                entries=entries,
                times=times,
                first_at=first_at,
                last_at=last_at,
                example=example,
            )
            for code, path, sdk, entries, times, first_at, last_at, example in await self._connection.fetch(
                _GROUPS, _arguments(wanted)
            )
        ]

    async def find(self, name: str) -> SealedEntry | None:
        rows = await self._connection.fetch(_FIND, [name])
        if not rows:
            return None
        *columns, sealed, sender = rows[0]
        return SealedEntry(_entry(tuple(columns)), *(None if one is None else bytes(one) for one in (sealed, sender)))

    async def settle(self, name: str, settlement: Settlement) -> Entry | None:
        arguments = {
            "name": name,
            "state": settlement.state.value,
            "outcome": settlement.outcome,
            "fixed": " ".join(settlement.fixed),
            "at": settlement.at,
        }
        rows = await self._connection.fetch(_SETTLE, arguments)
        if rows:
            return _entry(rows[0])
        found = await self.find(name)
        return None if found is None else found.entry

    async def waiting(self, now: int) -> Mapping[str, int]:
        return dict(await self._connection.fetch(_WAITING, [now]))


def _arguments(wanted: Wanted) -> dict[str, Any]:
    at, name = wanted.after or (None, None)
    return {
        "now": wanted.now,
        "since": wanted.since,
        "until": wanted.until,
        "codes": [code.value for code in wanted.codes],
        "states": [state.value for state in wanted.states],
        "at": at,
        "name": name,
        "limit": wanted.limit,
    }


def _entry(row: Row) -> Entry:
    name, event_id, code, detail, path, sdk, size, times, received_at, last_at, expires_at, key_day, *rest = row
    state, outcome, fixed, settled_at = rest
    return Entry(
        name=name,
        event_id=event_id,
        code=code,
        detail=detail,
        path=path,
        sdk=sdk,
        size=size,
        times=times,
        received_at=received_at,
        last_at=last_at,
        expires_at=expires_at,
        key_day=key_day,
        state=EntryState(state),
        outcome=outcome,
        fixed=tuple(fixed.split()),
        settled_at=settled_at,
    )
