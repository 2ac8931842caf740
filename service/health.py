"""What a process without an API of its own says over HTTP: alive, ready, metrics."""

from collections.abc import Awaitable, Callable

from prometheus_client import CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from service.endpoints import ASTRAY


def health_app(registry: CollectorRegistry, unready: Callable[[], Awaitable[str | None]]) -> Starlette:
    """Return the application; *unready* says why the process is not ready, None if it is."""

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        why = await unready()
        return PlainTextResponse("ready\n" if why is None else f"{why}\n", 200 if why is None else 503)

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(registry), media_type="text/plain; version=0.0.4")

    routes = [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)]
    return Starlette(routes=routes, exception_handlers=ASTRAY)
