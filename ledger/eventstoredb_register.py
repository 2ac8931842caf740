"""Small streams that the adapter keeps for itself: days that were prepared, streams that go on elsewhere."""

from collections.abc import Sequence

from ledger.eventstoredb_appends import Appender
from ledger.eventstoredb_client import NO_STREAM, Appended, append_request, read_stream
from ledger.eventstoredb_connection import Connection, events
from ledger.eventstoredb_layout import Draft, nonce

_PAGE = 500


class Register:
    """A stream *name* of JSON values, read from where it was read before. Belongs to one event loop."""

    def __init__(self, connection: Connection, appender: Appender, name: str, kind: str) -> None:
        self._connection = connection
        self._appender = appender
        self._name = name
        self._kind = kind
        self._last = NO_STREAM

    async def news(self) -> list[bytes]:
        """Return what was added since it was asked last."""
        async with self._connection.use() as node:
            found = [event async for event in events(node, read_stream(self._name, self._last + 1))]
        if found:
            self._last = found[-1].revision
        return [event.data for event in found]

    async def add(self, values: Sequence[bytes]) -> bool:
        """Add up to 500 of *values* if nobody added any meanwhile; say whether that is known to have happened."""
        drafts = [Draft(self._kind, b"{}", value) for value in values[:_PAGE]]
        request = append_request(self._name, self._last, nonce(), drafts)
        [answer], _ = await self._appender.send([request])
        return isinstance(answer, Appended)
