"""What delivery serves, told as an ad server does: counts of the last seconds, numbered by minute, until answered."""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

import msgspec
from msgspec import Struct

from domain.vocabulary import Format, Surface
from ml.traffic.http1 import Connections, NoAnswer, Origin

PATH = "/v1/serves"
COUNTS_MAX = 500
"""Kinds in one report; more of them take another number."""
REPORTS_MAX = 40
"""Reports in one request."""
AGE_MAX_MS = 6 * 86_400_000
"""What was served before belongs to another story: the gate takes no reports of it."""
EVERY_S = 2.0
_SECOND_MS, _MINUTE_MS = 1_000, 60_000
_ANSWER_MAX_S = 5.0
_TRIES_MAX = 40
_OK = 200
_TRY_AGAIN = frozenset({500, 502, 503, 504})


class Serve(NamedTuple):
    """One ad that was minted at `at_ms` (epoch ms)."""

    at_ms: int
    campaign: str
    surface: Surface
    format: Format
    sdk: str
    currency: str
    price_micros: int


_Kind: TypeAlias = tuple[str, Surface, Format, str, str]


class ServeLog:
    """Counts what is served, and gives it out as reports of *source* about *region*, each count once."""

    def __init__(self, source: str, region: str) -> None:
        self._source = source
        self._region = region
        self._waiting: dict[int, dict[_Kind, list[int]]] = {}
        self._numbers: Counter[int] = Counter()
        self.served = 0

    def __call__(self, serve: Serve) -> None:
        second = serve.at_ms // _SECOND_MS
        kinds = self._waiting.get(second)
        if kinds is None:
            kinds = self._waiting[second] = {}
        kind = serve[1:6]
        sums = kinds.get(kind)
        if sums is None:
            kinds[kind] = [1, serve.price_micros]
        else:
            sums[0] += 1
            sums[1] += serve.price_micros

    def reports(self, now: int) -> Iterator[dict[str, Any]]:
        """Yield reports of all that was served before *now* (epoch ms), and was not given out yet."""
        due = [second for second in self._waiting if (second + 1) * _SECOND_MS <= now]
        minutes: dict[int, dict[_Kind, list[int]]] = defaultdict(dict)
        for second in due:
            kinds = self._waiting.pop(second)
            if now - second * _SECOND_MS > AGE_MAX_MS:
                continue
            minute = minutes[second * _SECOND_MS // _MINUTE_MS * _MINUTE_MS]
            for kind, (served, micros) in kinds.items():
                sums = minute.setdefault(kind, [0, 0])
                sums[0] += served
                sums[1] += micros
        for began in sorted(minutes):
            counts = list(minutes[began].items())
            for at in range(0, len(counts), COUNTS_MAX):
                yield self._report(began, counts[at : at + COUNTS_MAX])

    def _report(self, minute: int, counts: list[tuple[_Kind, list[int]]]) -> dict[str, Any]:
        number = self._numbers[minute]
        self._numbers[minute] += 1
        self.served += sum(served for _, (served, _) in counts)
        names = ("campaign", "surface", "format", "sdk", "currency")
        return {
            "source": self._source,
            "minute": minute,
            "sequence": number,
            "region": self._region,
            "counts": [
                {**dict(zip(names, kind, strict=True)), "served": served, "micros": micros}
                for kind, (served, micros) in counts
            ],
        }


class ServeTally(Struct):
    """What came of the reports. `lost` were never answered, so their ads may or may not be counted."""

    reports: int = 0
    served: int = 0
    recorded: int = 0
    refused: int = 0
    lost: int = 0


class AdServer:
    """Reports to the gate at *url*, with the key *bearer*, what *log* says; what fails again after *retry_s*."""

    def __init__(self, url: str, bearer: str, log: ServeLog, *, retry_s: float = 0.2) -> None:
        self._connections = Connections(Origin.of(url), size=1, timeout_s=_ANSWER_MAX_S)
        self._headers = {"authorization": f"Bearer {bearer}", "content-type": "application/json"}
        self._log = log
        self._retry_s = retry_s
        self.tally = ServeTally()

    async def run(self, stop: asyncio.Event) -> ServeTally:
        """Report every few seconds until *stop*, and then what is left; return the tally."""
        async with self._connections:
            while not stop.is_set():
                try:
                    await asyncio.wait_for(stop.wait(), EVERY_S)
                except TimeoutError:
                    await self._report(_now_ms())
            await self._report(_now_ms() + _SECOND_MS)
        self.tally.served = self._log.served
        return self.tally

    async def _report(self, now: int) -> None:
        reports = list(self._log.reports(now))
        for at in range(0, len(reports), REPORTS_MAX):
            await self._send(reports[at : at + REPORTS_MAX])

    async def _send(self, reports: list[dict[str, Any]]) -> None:
        body = msgspec.json.encode(reports)
        self.tally.reports += len(reports)
        for _ in range(_TRIES_MAX):
            try:
                response = await self._connections.post(PATH, self._headers, body)
            except NoAnswer:
                response = None
            if response is not None and response.status not in _TRY_AGAIN:
                self._note(response.status, response.body, len(reports))
                return
            await asyncio.sleep(self._retry_s)
        self.tally.lost += len(reports)

    def _note(self, status: int, body: bytes, reports: int) -> None:
        recorded = 0
        if status == _OK:
            recorded = sum(answer["status"] == "recorded" for answer in msgspec.json.decode(body))
        self.tally.recorded += recorded
        self.tally.refused += reports - recorded


def _now_ms() -> int:
    return int(time.time() * 1e3)
