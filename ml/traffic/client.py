"""
Drives the gate as clients would: open-loop, in batches as SDKs and edges upload them, some events alone, some as JSON
lines; and sends again what was not answered.
"""

import asyncio
import time
from collections.abc import Iterable, Iterator
from random import Random

from msgspec import Struct

from ml.traffic.delivery import JSON, NDJSON, Courier, Patience, Postman, Unanswered
from ml.traffic.draw import Span
from ml.traffic.events import Sending
from ml.traffic.http1 import Connections, Origin
from ml.traffic.tally import Live, Recorder, Tally, outcomes_of

_HOLD_S = 0.02
_ATTEMPT_MAX = 1_000
"""What a render may say of its attempts."""


class Load(Struct, frozen=True, kw_only=True):
    """
    How to send. *batch* is the size of uploads, of which *ndjson_share* go as JSON lines; *single_share* of the events
    go alone. An open upload leaves after *linger_ms* even if it is small.

    At most *waiting_max* events are unanswered at a time; beyond, the client falls silent and says for how long. What
    is unanswered *deadline_s* after the end is given up and reported.
    """

    batch: Span = Span(20, 101)
    single_share: float = 0.015
    ndjson_share: float = 0.21
    linger_ms: int = 180
    connections: int = 32
    timeout_s: float = 5.0
    patience: Patience = Patience()
    waiting_max: int = 100_000
    deadline_s: float = 30.0


class LoadClient:
    """
    Sends traffic to the gate at *url* with the key *bearer*, or wherever *courier* brings it.

    Build it in a running event loop; one run each.
    """

    def __init__(
        self, url: str, bearer: str, *, load: Load | None = None, seed: int = 0, courier: Courier | None = None
    ) -> None:
        self._load = load or Load()
        self._rng = Random(seed)
        self._connections = Connections(Origin.of(url), size=self._load.connections, timeout_s=self._load.timeout_s)
        postman = Postman(self._connections, bearer, patience=self._load.patience, seed=seed)
        self._postman: Courier = courier or postman
        self._clock = asyncio.get_running_loop().time
        self._recorder = Recorder()
        self._waiting = 0
        self._held_back_s = 0.0
        self._began = self._clock()
        self._give_up_at = float("inf")
        self._stopped = False

    async def run(self, sendings: Iterable[Sending]) -> Tally:
        """Send all of *sendings*, each at its time, wait for the answers, and return the tally."""
        self._began = self._clock()
        async with self._connections, asyncio.TaskGroup() as under_way:
            await self._send_in_time(sendings, under_way)
            self._give_up_at = self._clock() + self._load.deadline_s
        return self._recorder.tally(
            seconds=self._clock() - self._began,
            http=self._postman.http,
            resends=self._postman.resends,
            held_back_s=self._held_back_s,
        )

    def stop(self) -> None:
        """Send nothing new; what is under way is still waited for."""
        self._stopped = True

    def live(self) -> Live:
        """Return how it stands at this moment."""
        now = self._clock()
        return self._recorder.live(
            now, elapsed_s=now - self._began, waiting=self._waiting, resends=self._postman.resends
        )

    async def _send_in_time(self, sendings: Iterable[Sending], under_way: asyncio.TaskGroup) -> None:
        for due_ms, batch in uploads(sendings, self._load, self._rng):
            early_s = due_ms / 1e3 - time.time()
            # also when late: answers have to be listened to
            await asyncio.sleep(max(early_s, 0))
            while self._waiting >= self._load.waiting_max and not self._stopped:
                await asyncio.sleep(_HOLD_S)
                self._held_back_s += _HOLD_S
            if self._stopped:
                return
            for sending in batch:
                self._recorder.sending(sending)
            self._waiting += len(batch)
            under_way.create_task(self._deliver(batch))

    async def _deliver(self, batch: list[Sending]) -> None:
        began, single = self._clock(), len(batch) == 1
        kind = NDJSON if not single and self._rng.random() < self._load.ndjson_share else JSON

        def body(failures: int) -> bytes:
            now = _now_ms()
            attempts = [min(sending.attempt + failures, _ATTEMPT_MAX) for sending in batch]
            bodies = [sending.event.body(now, attempt) for sending, attempt in zip(batch, attempts, strict=True)]
            return joined(bodies, kind, single=single)

        def took(seconds: float) -> None:
            self._recorder.took(self._clock(), seconds)

        try:
            response = await self._postman.deliver(kind, body, lambda: self._give_up_at, took)
        except Unanswered:
            self._recorder.given_up(batch)
        else:
            outcomes = outcomes_of(response, kind, single=single, expected=len(batch))
            if outcomes is None:
                self._recorder.rejected(batch, response.status)
            else:
                self._recorder.answered(batch, outcomes, self._clock(), self._clock() - began)
        finally:
            self._waiting -= len(batch)


def uploads(sendings: Iterable[Sending], load: Load, rng: Random) -> Iterator[tuple[int, list[Sending]]]:
    """Yield what goes in one request, and when it leaves (epoch ms): once it is full, or has lingered."""
    upload: list[Sending] = []
    room = load.batch.whole(rng)
    for sending in sendings:
        if upload and sending.at_ms > upload[0].at_ms + load.linger_ms:
            yield upload[0].at_ms + load.linger_ms, upload
            upload = []
        if rng.random() < load.single_share:
            yield sending.at_ms, [sending]
            continue
        upload.append(sending)
        if len(upload) >= room:
            yield sending.at_ms, upload
            upload, room = [], load.batch.whole(rng)
    if upload:
        yield upload[-1].at_ms, upload


def joined(bodies: list[bytes], kind: str, *, single: bool = False) -> bytes:
    """Return the request body of some events."""
    if single:
        return bodies[0]
    return b"\n".join(bodies) if kind == NDJSON else b"[" + b",".join(bodies) + b"]"


def _now_ms() -> int:
    return int(time.time() * 1e3)
