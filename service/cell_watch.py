"""Follows the file of the cell map while the gate runs, and hands the map in force to whoever routes by it."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import structlog
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from commands.homes import Homes
from domain.cells import CellMap, CellMapError, Flaw
from domain.cells_file import parse_cell_map
from service.access import Access
from service.cell_maps import check_follows, kept_path, open_homes, read_text, write_whole
from service.problems import RequestError, ScopeMissing, reply_for
from service.settings import Settings

CELL_MAP_POLL_S = 2.0
MEDIA_TYPE = "application/toml"
_SCOPES = frozenset({"ingest", "decide"})

log = structlog.get_logger()


class CellMapWatch(Collector):
    """
    The map of one gate: takes what is added to it, refuses everything else, and is a collector of Prometheus.

    `homes` is None without a map. `poll` belongs to the loop that routes.

    Raises:
        CellMapError: when built, if the map cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        found = open_homes(settings)
        self._path = Path(settings.cell_map)
        self._kept = kept_path(settings)
        self._text = "" if found is None else found[1]
        self._refused = ""
        self._judged: object = None
        self.homes: Homes | None = None if found is None else found[0]

    async def poll(self) -> None:
        """Look once; what cannot be used is refused, and the map before stays in force."""
        if self.homes is None:
            return
        judged, self._judged = self._judged, None  # a file that cannot be read now is looked at again
        try:
            found = _signature(self._path)
            text = None if found == judged else await asyncio.to_thread(read_text, self._path)
            self._judged = found
            if text is not None:
                await self._refresh(text, self.homes)
                self._refused = ""
        except CellMapError as error:
            self._refuse(error)

    def _refuse(self, error: CellMapError) -> None:
        if str(error) != self._refused:
            self._refused = str(error)
            log.error("cell map refused", file=error.source, flaws=[f"{f.key}: {f.reason}" for f in error.flaws])

    async def _refresh(self, text: str, homes: Homes) -> None:
        if text == self._text:
            return
        cells = await asyncio.to_thread(self._following, text, homes.cells)
        homes.swap(cells)
        self._text = text
        log.info("cell map changed", region=homes.cell.region, epoch=len(cells.epochs(homes.cell.region)))

    def _following(self, text: str, in_force: CellMap) -> CellMap:
        cells = parse_cell_map(text, str(self._path))
        check_follows(cells, in_force, str(self._path))
        try:
            write_whole(self._kept, text)
        except OSError as error:
            self._judged = None
            raise CellMapError(str(self._kept), [Flaw("file", f"cannot be written: {error.strerror}")]) from error
        return cells

    def collect(self) -> Iterator[Metric]:
        if self.homes is None:
            return
        epoch = GaugeMetricFamily("impledger_cell_map_epoch", "Newest epoch of the cell map", labels=("region", "cell"))
        cell = self.homes.cell
        epoch.add_metric((cell.region, cell.name), float(len(self.homes.cells.epochs(cell.region))))
        yield epoch
        text = "1 if the file of the cell map cannot be used and the one before is in force"
        yield GaugeMetricFamily("impledger_cell_map_refused", text, value=float(bool(self._refused)))

    def routes(self, access: Access) -> list[Route]:
        """Return the endpoint that hands out the map; none without one."""

        async def cells(request: Request) -> Response:
            try:
                if not _SCOPES & access.scopes(request.headers.get("authorization")):
                    raise ScopeMissing("this needs the scope ingest or decide")
            except RequestError as error:
                reply = reply_for(error, "")
                return Response(reply.body, reply.status, media_type=reply.media_type)
            return Response(self._text, media_type=MEDIA_TYPE)

        return [] if self.homes is None else [Route("/v1/cells", cells)]


def _signature(path: Path) -> object:
    """Return what changes when somebody writes the file."""
    try:
        found = path.stat()
    except OSError as error:
        raise CellMapError(str(path), [Flaw("file", f"cannot be read: {error.strerror}")]) from error
    return found.st_ino, found.st_size, found.st_mtime_ns
