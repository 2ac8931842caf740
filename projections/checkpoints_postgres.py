"""Checkpoints in PostgreSQL. Its clock is the clock of leases and heads, and a row lock makes heads final (C4)."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from ledger.postgres_connection import Connection, PostgresConnection, Row
from ledger.store import LedgerUnavailable
from projections.checkpoints import FIRST_GENERATION, HEAD_MS, Known, Lease, Progress, Range, check_past
from projections.errors import CheckpointsUnavailable, LeaseLost

T = TypeVar("T")

_NOW_MS = "(extract(epoch from clock_timestamp()) * 1000)::bigint"
_LEASE = """
update projections
set fence = fence + (holder <> %(holder)s)::int, holder = %(holder)s,
    leased_until = clock_timestamp() + %(ttl_ms)s * interval '1 millisecond'
where name = %(name)s and (holder = %(holder)s or leased_until < clock_timestamp())
returning fence
"""
_RELEASE = "update projections set holder = '', leased_until = '-infinity' where name = %s and fence = %s"
_HOLD = "select active from projections where name = %s and fence = %s for update"
_PROGRESS = """
select done, pending_after, pending_through from projection_generations where name = %s and generation = %s
"""
_ADD_GENERATION = "insert into projection_generations (name, generation) values (%s, %s) on conflict do nothing"
_BEGIN = """
update projection_generations set pending_after = %(after)s, pending_through = %(through)s
where name = %(name)s and generation = %(generation)s and done = %(after)s
    and (pending_through is null or pending_through = %(through)s)
"""
_FINISH = """
update projection_generations
set done = %(through)s, pending_after = null, pending_through = null, known_at = greatest(known_at, %(known_at)s)
where name = %(name)s and generation = %(generation)s
    and pending_after = %(after)s and pending_through = %(through)s
"""
_ADD_HEAD = f"""
insert into projection_heads (name, handled_at, position)
select %(name)s, (greatest({_NOW_MS}, coalesce(max(handled_at), 0) - {HEAD_MS}) / {HEAD_MS} + 1) * {HEAD_MS},
       %(through)s
from projection_heads where name = %(name)s having coalesce(max(position), 0) <= %(through)s
on conflict (name, handled_at) do update set position = excluded.position
"""  # noqa: S608 (constants of our own)
_TOUCH = """
insert into projection_generations (name, generation, known_at) values (%(name)s, %(generation)s, %(known_at)s)
on conflict (name, generation) do update set known_at = greatest(projection_generations.known_at, excluded.known_at)
"""
_ACTIVATE = """
update projections p set active = shadow.generation
from projection_generations shadow
where p.name = %(name)s and shadow.name = p.name and shadow.generation = %(generation)s
    and shadow.pending_after is null
    and shadow.done >= coalesce((select done from projection_generations a
                                 where a.name = p.name and a.generation = p.active), 0)
returning shadow.done
"""
_FORGET = """
update projection_generations set done = 0, pending_after = null, pending_through = null, known_at = 0
where name = %s and generation = %s
"""
_KNOWN = """
select p.active, coalesce(g.done, 0), coalesce(g.known_at, 0)
from projections p left join projection_generations g on g.name = p.name and g.generation = p.active
where p.name = %s
"""
_WAIT_FOR_HEAD = f"select {_NOW_MS} from projections where name = %s for share"  # noqa: S608
_HEAD_AT = """
select coalesce((
    select position from projection_heads where name = %s and handled_at <= %s order by handled_at desc limit 1
), 0)
"""


class PostgresCheckpoints:
    """`Checkpoints` of the set of tables called *name*. Belongs to one event loop; calls take turns."""

    def __init__(self, url: str, name: str = "desk", *, deadline_s: float = 5.0) -> None:
        self._connection = PostgresConnection(url, deadline_s)
        self._name = name

    async def close(self) -> None:
        await self._connection.close()

    async def lease(self, holder: str, ttl_ms: int) -> Lease | None:
        async def work(connection: Connection) -> Lease | None:
            await connection.execute("insert into projections (name) values (%s) on conflict do nothing", [self._name])
            row = await _one(connection, _LEASE, {"name": self._name, "holder": holder, "ttl_ms": ttl_ms})
            return None if row is None else Lease(row[0])

        return await self._transact(work)

    async def release(self, lease: Lease) -> None:
        async def work(connection: Connection) -> None:
            await connection.execute(_RELEASE, [self._name, lease.fence])

        await self._transact(work)

    async def progress(self, generation: int) -> Progress:
        async def work(connection: Connection) -> Progress:
            row = await _one(connection, _PROGRESS, [self._name, generation])
            if row is None:
                return Progress()
            return Progress(row[0], None if row[1] is None else Range(row[1], row[2]))

        return await self._transact(work)

    async def begin(self, lease: Lease, generation: int, block: Range) -> None:
        async def work(connection: Connection) -> None:
            await self._hold(connection, lease)
            await connection.execute(_ADD_GENERATION, [self._name, generation])
            found = await connection.execute(_BEGIN, self._arguments(generation, block))
            if found.rowcount != 1:
                raise LeaseLost(f"{block} does not follow on what generation {generation} has")

        await self._transact(work)

    async def finish(self, lease: Lease, generation: int, block: Range, known_at: int) -> None:
        async def work(connection: Connection) -> None:
            active = await self._hold(connection, lease)
            arguments = {**self._arguments(generation, block), "known_at": known_at}
            found = await connection.execute(_FINISH, arguments)
            if found.rowcount != 1:
                raise LeaseLost(f"{block} is not the pending range of generation {generation}")
            if generation == active:
                await connection.execute(_ADD_HEAD, {"name": self._name, "through": block.through})

        await self._transact(work)

    async def touch(self, lease: Lease, generation: int, known_at: int) -> None:
        async def work(connection: Connection) -> None:
            await self._hold(connection, lease)
            arguments = {"name": self._name, "generation": generation, "known_at": known_at}
            await connection.execute(_TOUCH, arguments)

        await self._transact(work)

    async def activate(self, lease: Lease, generation: int) -> None:
        async def work(connection: Connection) -> None:
            await self._hold(connection, lease)
            found = await _one(connection, _ACTIVATE, {"name": self._name, "generation": generation})
            if found is None:
                raise LeaseLost(f"generation {generation} is behind the active one, or half-way in a range")
            await connection.execute(_ADD_HEAD, {"name": self._name, "through": found[0]})

        await self._transact(work)

    async def forget(self, lease: Lease, generation: int) -> None:
        async def work(connection: Connection) -> None:
            await self._hold(connection, lease)
            await connection.execute(_FORGET, [self._name, generation])

        await self._transact(work)

    async def known(self) -> Known:
        async def work(connection: Connection) -> Known:
            row = await _one(connection, _KNOWN, [self._name])
            return Known(FIRST_GENERATION, 0, 0) if row is None else Known(*row)

        return await self._transact(work)

    async def position_at(self, at: int) -> int:
        async def work(connection: Connection) -> int:
            # Waits for a `finish` that has read the clock and is not committed; the next statement sees its head.
            now = await _one(connection, _WAIT_FOR_HEAD, [self._name])
            if now is not None:
                check_past(at, now[0])
            row = await _one(connection, _HEAD_AT, [self._name, at])
            assert row is not None
            position: int = row[0]
            return position

        return await self._transact(work)

    def _arguments(self, generation: int, block: Range) -> dict[str, Any]:
        return {"name": self._name, "generation": generation, "after": block.after, "through": block.through}

    async def _hold(self, connection: Connection, lease: Lease) -> int:
        """Lock the set of tables for this transaction and return its active generation."""
        row = await _one(connection, _HOLD, [self._name, lease.fence])
        if row is None:
            raise LeaseLost(f"the lease with fence {lease.fence} is lost")
        active: int = row[0]
        return active

    async def _transact(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        try:
            return await self._connection.transact(work)
        except LedgerUnavailable as error:
            raise CheckpointsUnavailable(str(error)) from error


async def _one(connection: Connection, statement: str, arguments: Any) -> Row | None:
    cursor = await connection.execute(statement.encode(), arguments)
    return await cursor.fetchone()
