"""Partitions of a table of PostgreSQL by the UTC day that impressions were minted on, and the table that lists them."""

from collections.abc import Sequence
from datetime import date
from uuid import UUID

from psycopg import sql

from domain.ids import day_of
from domain.vocabulary import DataSet
from ledger.postgres_connection import PostgresConnection
from ledger.store import Append, NoPartition

_DAY_MS = 86_400_000
_LOCK_TIMEOUT_MS = 2_000
_LOCK = 7_022_029
"""Advisory lock of who makes a partition: `if not exists` does not see what another transaction is about to make."""


class PartitionDays:
    """The days that *table* has partitions for, as *listed* in another."""

    def __init__(self, reader: PostgresConnection, writer: PostgresConnection, table: str, listed: str) -> None:
        self._reader = reader
        self._writer = writer
        self._table = table
        self._listed = listed
        self._known: set[int] = set()

    async def prepare(self, first: date, last: date, data_set: DataSet) -> None:
        """See `EventStore.prepare_days`."""
        for ordinal in range(first.toordinal(), last.toordinal() + 1):
            day = date.fromordinal(ordinal)
            if _number(day) not in self._known:
                await self._writer.execute_all(self._partition(day, data_set))
                self._known.add(_number(day))

    async def check(self, appends: Sequence[Append]) -> None:
        """
        Refuse *appends* before anything of them is written: one id without a partition would fail all in the database.

        Raises:
            NoPartition: an impression was minted on a day that was not prepared.
        """
        days = {(stream.int >> 80) // _DAY_MS for append in appends if not isinstance(stream := append.stream, str)}
        if days <= self._known:
            return
        rows = await self._reader.fetch(f"select day from {self._listed}", [])  # noqa: S608 (a name of our own)
        self._known = {_number(day) for [day] in rows}
        for missing in days - self._known:
            raise NoPartition(day_of(missing * _DAY_MS))

    def _partition(self, day: date, data_set: DataSet) -> list[sql.Composed | sql.SQL]:
        """No default partition: its rows would block making their day."""
        return [
            sql.SQL("set local lock_timeout = {}").format(sql.Literal(_LOCK_TIMEOUT_MS)),
            sql.SQL("select pg_advisory_xact_lock({})").format(sql.Literal(_LOCK)),
            sql.SQL("create table if not exists {} partition of {} for values from ({}) to ({})").format(
                sql.Identifier(f"{self._table}_{day:%Y%m%d}"),
                sql.Identifier(self._table),
                sql.Literal(str(_first_id(_number(day)))),
                sql.Literal(str(_first_id(_number(day) + 1))),
            ),
            sql.SQL("insert into {} values ({}, {}) on conflict do nothing").format(
                sql.Identifier(self._listed), sql.Literal(day), sql.Literal(data_set.value)
            ),
        ]


def _number(day: date) -> int:
    return (day - date(1970, 1, 1)).days


def _first_id(number: int) -> UUID:
    """
    Return the least id that can be minted on the day *number* since 1970; the last day that there is has one after it.

    UUIDs compare by their bytes, whose first 48 bits are the time.
    """
    return UUID(int=number * _DAY_MS << 80)
