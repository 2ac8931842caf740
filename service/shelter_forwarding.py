"""Forwarding without a gate: what `impledger shelter forward` does beside, or instead of, the gate's own."""

from types import TracebackType
from typing import Any, Self

from commands.shelter_forward import Forwarded, Forwarder
from commands.shelter_postgres import PostgresShelter
from domain.cells import CellMapError, Flaw
from ledger.postgres_connection import PostgresConnection
from service.cell_maps import homes_of
from service.clock import now_ms
from service.settings import Settings
from service.shelter_files import load_or_make_shelter_keys
from service.shelter_wires import open_wires
from service.sheltering import forwarded_facts
from service.wiring import database_url

_DEADLINE_S = 30.0


class Forwarding:
    """
    Use it as a context. `run` may be called again and again; sums go on.

    Raises:
        CellMapError: when made: there is no cell map, or it cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        found = homes_of(settings)
        if found is None:
            raise CellMapError("IMPLEDGER_CELL_MAP", [Flaw("file", "is not set, and only the map knows the homes")])
        self._connection = PostgresConnection(database_url(settings), _DEADLINE_S)
        self._store = PostgresShelter(self._connection)
        self._wires = open_wires(found[0], load_or_make_shelter_keys(settings.data_dir).peers)
        self._forwarder = Forwarder(self._store, self._wires, now_ms)
        self._sums = Forwarded()

    async def run(self) -> dict[str, Any]:
        """Do one run; return the sums of all, what is `left`, and why homes took nothing."""
        done, sums = await self._forwarder.run(), self._sums
        self._sums = Forwarded(
            sums.taken + done.taken,
            sums.quarantined + done.quarantined,
            sums.refused + done.refused,
            sums.later + done.later,
            done.failed or sums.failed,
        )
        left = (await self._store.count(now_ms())).waiting
        if not left:
            self._sums.failed = {}
        return {**forwarded_facts(self._sums), "left": left}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._connection.close()
        await self._wires.close()
