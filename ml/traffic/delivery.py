"""Posts to the gate until it answers: the same events again after a 503, a lost connection or a time-out."""

import asyncio
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Protocol

from msgspec import Struct

from ml.traffic.http1 import Connections, NoAnswer, Response

PATH = "/v1/impressions"
JSON, NDJSON = "application/json", "application/x-ndjson"
_TRY_AGAIN = frozenset({429, 500, 502, 503, 504})
_RETRY_AFTER_MAX_S = 30.0


class Unanswered(Exception):
    """The deadline passed before any answer came; the events may or may not have been taken."""


class Patience(Struct, frozen=True, kw_only=True):
    """How long to wait before asking again: doubling from *first_s* to *most_s*, and never less than was asked for."""

    first_s: float = 0.055
    most_s: float = 2.0

    def wait_s(self, failures: int, asked_s: float, rng: Random) -> float:
        wait_s = max(min(self.first_s * 2.0**failures, self.most_s), asked_s)
        return wait_s * (1 + 0.3 * rng.random())


class Courier(Protocol):
    """Whoever brings requests to where they belong and comes back with the answer; see `Postman`."""

    resends: int
    http: Counter[int]

    async def deliver(
        self, kind: str, body: Callable[[int], bytes], give_up_at: Callable[[], float], took: Callable[[float], None]
    ) -> Response: ...


class Postman:
    """Delivers to one gate. `resends` counts requests that were sent again, `http` every answer, 0 being none."""

    def __init__(self, connections: Connections, bearer: str, *, patience: Patience, seed: int = 0) -> None:
        self._connections = connections
        self._headers = {
            kind: {"authorization": f"Bearer {bearer}", "content-type": kind, "accept": JSON} for kind in (JSON, NDJSON)
        }
        self._patience = patience
        self._rng = Random(seed)
        self._clock = asyncio.get_running_loop().time
        self.resends = 0
        self.http: Counter[int] = Counter()

    async def deliver(
        self, kind: str, body: Callable[[int], bytes], give_up_at: Callable[[], float], took: Callable[[float], None]
    ) -> Response:
        """
        Return the answer to *body*, which is given the number of the attempt, from 0.

        *give_up_at* is asked after each failure (a time of the running loop); *took* is told the seconds of each
        request that was answered for good, waiting for a free connection included.

        Raises:
            Unanswered: the deadline passed.
        """
        failures = 0
        while True:
            asked_at = self._clock()
            response = await self._once(kind, body(failures))
            if response is not None and response.status not in _TRY_AGAIN:
                took(self._clock() - asked_at)
                return response
            wait_s = self._patience.wait_s(failures, _retry_after_s(response), self._rng)
            if self._clock() + wait_s >= give_up_at():
                raise Unanswered
            await asyncio.sleep(wait_s)
            failures += 1
            self.resends += 1

    async def _once(self, kind: str, body: bytes) -> Response | None:
        try:
            response = await self._connections.post(PATH, self._headers[kind], body)
        except NoAnswer:
            self.http[0] += 1
            return None
        self.http[response.status] += 1
        return response


def _retry_after_s(response: Response | None) -> float:
    """Return the seconds that a 503 asks for; a date is as good as nothing here."""
    text = "" if response is None else response.headers.get("retry-after", "")
    try:
        return min(max(float(text), 0.0), _RETRY_AFTER_MAX_S)
    except ValueError:
        return 0.0
