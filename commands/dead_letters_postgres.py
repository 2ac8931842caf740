"""Dead letters on PostgreSQL."""

from collections.abc import Mapping, Sequence

import msgspec

from commands.dead_letters import ERROR_MAX, KEPT_MS, LETTERS_MAX, Letter, LetterState, name_of
from commands.messages import Message
from ledger.postgres_connection import PostgresConnection, Row

_COLUMNS = "name, queue, actor, args, error, times, first_at, last_at, state"
_BURY = f"""
insert into dead_letters (name, queue, actor, args, error, first_at, last_at, state)
select %(name)s, %(queue)s, %(actor)s, %(args)s, %(error)s, %(now)s, %(now)s, 'dead'
where exists (select from dead_letters where name = %(name)s)
    or (select count(*) from (select from dead_letters limit {LETTERS_MAX}) full_at) < {LETTERS_MAX}
on conflict (name) do update set
    error = excluded.error, times = dead_letters.times + 1, last_at = excluded.last_at, state = 'dead'
returning name
"""  # noqa: S608 (made of constants)
_LETTERS = f"""
select {_COLUMNS} from dead_letters
where state = any(%s::text[]) and (last_at, name) < (%s::bigint, %s::text) order by last_at desc, name desc limit %s
"""  # noqa: S608
_FIND = f"select {_COLUMNS} from dead_letters where name = %s"  # noqa: S608
_REPLAY = f"update dead_letters set state = 'replaying' where name = %s returning {_COLUMNS}"  # noqa: S608
_SENT = """
update dead_letters set state = 'replayed' where name = any(%s::text[]) and state = 'replaying' returning name
"""
_LAST = (1 << 62, "")


class PostgresLetters:
    """`DeadLetters`."""

    def __init__(self, connection: PostgresConnection) -> None:
        self._connection = connection

    async def bury(self, message: Message, error: str, now: int) -> bool:
        arguments = {
            "name": name_of(message),
            "queue": message.queue,
            "actor": message.actor,
            "args": msgspec.json.encode(message.args),
            "error": error[-ERROR_MAX:].replace("\0", ""),
            "now": now,
        }
        return bool(await self._connection.fetch(_BURY, arguments))

    async def letters(self, states: Sequence[LetterState], after: tuple[int, str] | None, limit: int) -> list[Letter]:
        named = [state.value for state in states]
        rows = await self._connection.fetch(_LETTERS, [named, *(after or _LAST), limit])
        return [_letter(row) for row in rows]

    async def find(self, name: str) -> Letter | None:
        rows = await self._connection.fetch(_FIND, [name])
        return _letter(rows[0]) if rows else None

    async def replay(self, name: str) -> Letter | None:
        rows = await self._connection.fetch(_REPLAY, [name])
        return _letter(rows[0]) if rows else None

    async def sent(self, names: Sequence[str]) -> None:
        if names:
            await self._connection.fetch(_SENT, [list(names)])

    async def count(self) -> Mapping[LetterState, int]:
        rows = await self._connection.fetch("select state, count(*) from dead_letters group by state", [])
        return {**dict.fromkeys(LetterState, 0), **{LetterState(state): count for state, count in rows}}

    async def forget(self, now: int) -> int:
        rows = await self._connection.fetch(
            "delete from dead_letters where last_at <= %s returning name", [now - KEPT_MS]
        )
        return len(rows)


def _letter(row: Row) -> Letter:
    name, queue, actor, args, error, times, first_at, last_at, state = row
    return Letter(
        name=name,
        message=Message(queue, actor, tuple(msgspec.json.decode(args))),
        error=error,
        times=times,
        first_at=first_at,
        last_at=last_at,
        state=LetterState(state),
    )
