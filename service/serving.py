"""Serves HTTP until a signal says stop, and lets the caller tidy up afterwards."""

import asyncio
import gc
import math
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

GRACE_S = 5
REQUEST_WITHIN_S = 30.0
"""By when a request must be here as a whole: what is here of it takes memory, and its connection a file."""
HEAD_MAX_BYTES = 65_536
"""Of a request's head while it has not ended; one that ends within what is read at once (256 KiB) may be larger."""


class _Protocol(HttpToolsProtocol):
    """
    Closes connections whose head or trailer does not end, for the parser would gather it without a limit, and those
    whose request is not here in time.
    """

    _gathered = 0
    _since = 0.0
    """Loop time since when a request is awaited; infinite where none is, as after one was read."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._since = self.loop.time()
        self._look = self.loop.call_later(REQUEST_WITHIN_S, self._close_if_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        self._look.cancel()
        super().connection_lost(exc)

    def _close_if_slow(self) -> None:
        awaited_s = max(self.loop.time() - self._since, 0.0)
        if awaited_s >= REQUEST_WITHIN_S:
            self.transport.close()
        else:
            self._look = self.loop.call_later(REQUEST_WITHIN_S - awaited_s, self._close_if_slow)

    def data_received(self, data: bytes) -> None:
        self._gathered += len(data)
        self._since = min(self._since, self.loop.time())
        super().data_received(data)
        if self._gathered > HEAD_MAX_BYTES and not self.transport.is_closing():
            self.send_400_response("The head of the request is too large.")

    def on_headers_complete(self) -> None:
        self._gathered = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._gathered = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._gathered = 0
        self._since = math.inf
        super().on_message_complete()


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Uvicorn's own raises the signal again at the end, which would cut off our tidying up."""
        yield


def server_for(app: ASGIApp, host: str, port: int) -> uvicorn.Server:
    """Return a server of *app* that logs nothing of its own."""
    return _Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            http=_Protocol,
            access_log=False,
            log_config=None,
            lifespan="off",
            timeout_graceful_shutdown=GRACE_S,
        )
    )


async def serve_until_stopped(*servers: uvicorn.Server) -> None:
    """Serve until SIGTERM or SIGINT; requests under way are answered first."""
    loop = asyncio.get_running_loop()

    def stop() -> None:
        for server in servers:
            server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    await asyncio.gather(*(server.serve() for server in servers))


def calm_collector() -> None:
    """
    Let the cyclic garbage collector look rarely, and never at what the process was built of.

    Per render nothing cyclic is made (its structs are not even tracked), but on default settings the collector walked
    the recent window again and again: a third of the gate's time. A look at ten thousand new objects takes 2 to 3 ms.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 100)
