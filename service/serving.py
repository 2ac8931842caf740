"""Serves HTTP until a signal says stop, and lets the caller tidy up afterwards."""

import asyncio
import gc
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

GRACE_S = 5


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
