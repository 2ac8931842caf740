"""What a process without an API of its own says over HTTP: alive, ready, metrics."""

from collections.abc import Awaitable, Callable

from prometheus_client import CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from service.problems import MethodNotAllowed, NoSuchThing, reply_for


def health_app(registry: CollectorRegistry, unready: Callable[[], Awaitable[str | None]]) -> Starlette:
    """Return the application; *unready* says why the process is not ready, None if it is."""

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        why = await unready()
        return PlainTextResponse("ready\n" if why is None else f"{why}\n", 200 if why is None else 503)

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(registry), media_type="text/plain; version=0.0.4")

    async def nothing(request: Request, _: Exception) -> Response:
        return _refused(NoSuchThing(request.url.path))

    async def wrong_method(request: Request, _: Exception) -> Response:
        return _refused(MethodNotAllowed(request.method))

    routes = [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)]
    return Starlette(routes=routes, exception_handlers={404: nothing, 405: wrong_method})


def _refused(error: Exception) -> Response:
    reply = reply_for(error, "")
    return Response(reply.body, reply.status, media_type=reply.media_type)
