"""How a router reaches its cells: by httpx, or by the load client's own connections."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

import httpx

from domain.cells_file import FILE_MAX_BYTES
from ml.traffic.delivery import NDJSON, PATH
from ml.traffic.http1 import Connections, NoAnswer, Origin
from service.router import NoReply, Reply

Bearer = Callable[[str], str]
"""Address of a cell -> the bearer token to show there; empty for none."""
_OK = 200
_RETRY_AFTER_MAX_S = 30.0


class HttpxWire:
    """Over *client*, whose TLS and pool are the caller's; for any cell."""

    def __init__(self, client: httpx.AsyncClient, bearer: Bearer) -> None:
        self._client = client
        self._bearer = bearer

    async def post(self, address: str, body: bytes, timeout_s: float) -> Reply:
        headers = {"content-type": NDJSON, **self.authorization(address)}
        response = await self._ask("POST", address + PATH, headers, timeout_s, body)
        return Reply(response.status_code, response.content, retry_after_s(response.headers.get("retry-after", "")))

    async def cell_map(self, address: str, timeout_s: float) -> str:
        response = await self._ask("GET", f"{address}/v1/cells", self.authorization(address), timeout_s)
        if response.status_code != _OK or len(response.content) > FILE_MAX_BYTES:
            raise NoReply(f"the cell at {address} hands out no map: {response.status_code}")
        return response.text

    def authorization(self, address: str) -> dict[str, str]:
        bearer = self._bearer(address)
        return {"authorization": f"Bearer {bearer}"} if bearer else {}

    async def _ask(
        self, method: str, url: str, headers: dict[str, str], timeout_s: float, body: bytes = b""
    ) -> httpx.Response:
        try:
            async with asyncio.timeout(timeout_s):
                return await self._client.request(method, url, headers=headers, content=body, timeout=timeout_s)
        except (httpx.HTTPError, TimeoutError) as error:
            raise NoReply(f"no answer from {url}: {type(error).__name__}") from error


class LoadWire(HttpxWire):
    """Over the load client's connections, which cost a tenth of the CPU; for cells without TLS. Use it as a context."""

    def __init__(self, bearer: Bearer, *, connections: int, try_s: float) -> None:
        super().__init__(httpx.AsyncClient(), bearer)
        self._size = connections
        self._try_s = try_s
        self._open: dict[str, Connections] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._client)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def post(self, address: str, body: bytes, timeout_s: float) -> Reply:
        headers = {"content-type": NDJSON, **self.authorization(address)}
        try:
            async with asyncio.timeout(timeout_s):
                response = await (await self._connections(address)).post(PATH, headers, body)
        except (NoAnswer, TimeoutError, ValueError) as error:
            raise NoReply(f"no answer from {address}: {error}") from error
        return Reply(response.status, response.body, retry_after_s(response.headers.get("retry-after", "")))

    async def _connections(self, address: str) -> Connections:
        found = self._open.get(address)
        if found is None:
            found = self._open[address] = Connections(Origin.of(address), size=self._size, timeout_s=self._try_s)
            await self._stack.enter_async_context(found)
        return found


def retry_after_s(text: str) -> float:
    """Return the seconds that a 503 asks for; a date is as good as nothing here."""
    try:
        return min(max(float(text), 0.0), _RETRY_AFTER_MAX_S)
    except ValueError:
        return 0.0
