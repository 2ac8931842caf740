"""How other cells are reached: probed, asked what they have seen, and brought what was sheltered for them."""

import asyncio
from collections.abc import Mapping, Sequence

import httpx
import msgspec

from commands.homes import Homes
from commands.shelter_arrivals import Envelope, Receipt
from commands.shelter_forward import NotTaken
from domain.cells import Cell
from domain.shelter import Signed

PROBE_S, FORWARD_S = 2.0, 15.0
"""One exchange takes at most this."""
_OK = 200
_OF_PAGE = frozenset({400, 413, 422})
_SIGNED = msgspec.json.Decoder(list[Signed])
_RECEIPTS = msgspec.json.Decoder(list[Receipt])
_ENCODER = msgspec.json.Encoder()


class HttpxCells:
    """`Carrier` and `Prober` over *client*; *peers* has the bearer tokens to show, by name of cell."""

    def __init__(self, client: httpx.AsyncClient, homes: Homes, peers: Mapping[str, str]) -> None:
        self._client = client
        self._homes = homes
        self._peers = peers

    async def answers(self, cell: Cell) -> bool:
        return await self._is_ok(f"{cell.address}/healthz")

    async def testimonies(self, cell: Cell) -> list[Signed]:
        try:
            async with asyncio.timeout(PROBE_S):
                url = f"{cell.address}/v1/shelter/testimonies"
                response = await self._client.get(url, headers=self._headers(cell.name), timeout=PROBE_S)
            return _SIGNED.decode(response.content) if response.status_code == _OK else []
        except (httpx.HTTPError, TimeoutError, msgspec.DecodeError, UnicodeDecodeError):
            return []

    async def is_ready(self, home: str) -> bool:
        cell = self._homes.cells.cells.get(home)
        return cell is not None and await self._is_ok(f"{cell.address}/readyz")

    async def forward(self, home: str, envelopes: Sequence[Envelope]) -> list[Receipt]:
        url = f"{self._homes.cells.cells[home].address}/v1/sheltered"
        headers = {"content-type": "application/json", **self._headers(home)}
        try:
            async with asyncio.timeout(FORWARD_S):
                response = await self._client.post(
                    url, headers=headers, content=_ENCODER.encode(envelopes), timeout=FORWARD_S
                )
        except (httpx.HTTPError, TimeoutError) as error:
            raise NotTaken(f"no answer from {url}: {type(error).__name__}") from error
        if response.status_code != _OK:
            raise NotTaken(f"{url} answered {response.status_code}", is_of_page=response.status_code in _OF_PAGE)
        try:
            return _RECEIPTS.decode(response.content)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise NotTaken(f"{url} answered what is no list of receipts") from error

    async def close(self) -> None:
        await self._client.aclose()

    async def _is_ok(self, url: str) -> bool:
        try:
            async with asyncio.timeout(PROBE_S):
                response = await self._client.get(url, timeout=PROBE_S)
        except (httpx.HTTPError, TimeoutError):
            return False
        return response.status_code == _OK

    def _headers(self, cell: str) -> dict[str, str]:
        bearer = self._peers.get(cell)
        return {} if bearer is None else {"authorization": f"Bearer {bearer}"}


def open_wires(homes: Homes, peers: Mapping[str, str]) -> HttpxCells:
    """Return wires with a client of their own; close them in the end."""
    return HttpxCells(httpx.AsyncClient(), homes, peers)
