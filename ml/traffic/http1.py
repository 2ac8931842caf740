"""
HTTP/1.1 for a load client: persistent connections, one request at a time on each, parsed by httptools.

Small because it is a client of one server: no redirects, cookies, proxies, or TLS. A general client costs some
1,000 µs of CPU per request, this one some 60, and the machine that is measured is the machine that sends.
"""

import asyncio
from types import TracebackType
from typing import NamedTuple, Self, cast
from urllib.parse import urlsplit

import httptools

BODY_MAX = 64 << 20
HEADERS_MAX = 128


class NoAnswer(ConnectionError):
    """The connection failed, or no whole answer came in time: nothing is known of what became of the request."""


class Response(NamedTuple):
    """*headers* have lower-case names."""

    status: int
    headers: dict[str, str]
    body: bytes


class Origin(NamedTuple):
    """Where to connect to."""

    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> "Origin":
        """
        Return the origin of an `http://` *url*.

        Raises:
            ValueError: it is of another scheme or names no host.
        """
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"{url!r} is no http:// address")
        return cls(parts.hostname, parts.port or 80)


class _Connection(asyncio.Protocol):
    """One connection. What httptools calls back is written down until the message is complete."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.answer: asyncio.Future[Response] | None = None
        self.usable = True
        self._parser: httptools.HttpResponseParser | None = None
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._size = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are asyncio's in all but their class
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable = False
        self._fail(f"the connection was lost: {exc or 'closed by the server'}")

    def data_received(self, data: bytes) -> None:
        if self._parser is None:
            self.close()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(f"the answer is not HTTP: {error}")
            self.close()
        if self.answer is not None and self.answer.done():
            self._parser = None

    async def ask(self, request: bytes) -> Response:
        """
        Send *request* and return the answer to it.

        Raises:
            NoAnswer: no whole answer came.
        """
        if self.transport is None or not self.usable:
            raise NoAnswer("the connection is closed")
        self._parser = httptools.HttpResponseParser(self)
        self._headers, self._body, self._size = {}, [], 0
        self.answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await self.answer

    def close(self) -> None:
        self.usable = False
        if self.transport is not None:
            self.transport.abort()

    def on_message_begin(self) -> None:
        """A second message belongs to no request, and what follows on it cannot be told apart from answers."""
        self.usable = self.usable and self.answer is not None and not self.answer.done()

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(self._headers) < HEADERS_MAX:
            self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size > BODY_MAX:
            self._fail("the answer is too large")
            self.close()
            return
        self._body.append(body)

    def on_message_complete(self) -> None:
        parser = self._parser
        if parser is None or self.answer is None or self.answer.done():
            return
        self.usable = self.usable and parser.should_keep_alive()
        self.answer.set_result(Response(parser.get_status_code(), self._headers, b"".join(self._body)))

    def _fail(self, why: str) -> None:
        if self.answer is not None and not self.answer.done():
            self.answer.set_exception(NoAnswer(why))


class Connections:
    """At most *size* connections to one origin, opened when needed and kept; `async with` closes them."""

    def __init__(self, origin: Origin, *, size: int, timeout_s: float) -> None:
        self._origin = origin
        self._timeout_s = timeout_s
        self._idle: list[_Connection] = []
        self._room = asyncio.Semaphore(size)

    async def post(self, path: str, headers: dict[str, str], body: bytes) -> Response:
        """
        Return the answer to a POST; waiting for a free connection is not limited, the answer is.

        Raises:
            NoAnswer: it could not connect, the connection was lost, or the time is up.
        """
        request = self._head(path, headers, len(body)) + body
        async with self._room:
            connection = None
            try:
                async with asyncio.timeout(self._timeout_s):
                    connection = await self._connect()
                    return await connection.ask(request)
            except TimeoutError as error:
                raise NoAnswer(f"no answer within {self._timeout_s} s") from error
            except OSError as error:
                raise NoAnswer(str(error)) from error
            finally:
                if connection is not None:
                    self._give_back(connection)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        for connection in self._idle:
            connection.close()
        self._idle.clear()
        # sockets close in the loop's next round, and there may be none
        await asyncio.sleep(0)

    async def _connect(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        _, made = await asyncio.get_running_loop().create_connection(_Connection, *self._origin)
        return made

    def _give_back(self, connection: _Connection) -> None:
        """A connection that still owes an answer (its future was cancelled) would give it to the next request."""
        answer = connection.answer
        if connection.usable and answer is not None and answer.done() and not answer.cancelled():
            self._idle.append(connection)
        else:
            connection.close()

    def _head(self, path: str, headers: dict[str, str], length: int) -> bytes:
        lines = [f"POST {path} HTTP/1.1", f"host: {self._origin.host}:{self._origin.port}", f"content-length: {length}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
