"""What the server refuses before any application of ours sees it."""

import asyncio
import socket
from contextlib import suppress

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from service import serving
from service.serving import HEAD_MAX_BYTES, server_for

FIELDS = b"".join(b"x-%04d: a\r\n" % n for n in range(500))
POST = b"POST / HTTP/1.1\r\nhost: h\r\n"
CHUNKED = POST + b"transfer-encoding: chunked\r\n\r\n"
PIECES = 2_000
WITHIN_S = 10.0


async def _size(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"{len(await request.body())} bytes")


async def _late(_: Request) -> PlainTextResponse:
    await asyncio.sleep(3 * serving.REQUEST_WITHIN_S)
    return PlainTextResponse("late")


ROUTES = [Route("/", _size, methods=["POST"]), Route("/late", _late, methods=["POST"])]


def on_server(talk):
    async def main():
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            server = server_for(Starlette(routes=ROUTES), "127.0.0.1", 0)
            serving = asyncio.create_task(server.serve([listener]))
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            try:
                return await talk(reader, writer)
            finally:
                writer.close()
                server.should_exit = True
                await serving

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("begin", "piece"),
    [(POST + b"x: ", b"a" * 4_096), (POST, FIELDS), (CHUNKED + b"0\r\n", FIELDS), (b"GET /", b"a" * 99)],
)
def test_a_head_or_trailer_without_end_ends_the_connection(begin, piece):
    async def talk(reader, writer):
        async with asyncio.timeout(WITHIN_S):
            with suppress(ConnectionError):
                writer.write(begin)
                for _ in range(PIECES):
                    writer.write(piece)
                    await writer.drain()
                await reader.read()

    on_server(talk)


def test_requests_within_the_limit_follow_each_other_whatever_their_bodies_are():
    async def talk(reader, writer):
        size = 3 * HEAD_MAX_BYTES
        for _ in range(3):
            writer.write(POST + FIELDS + b"content-length: %d\r\n\r\n" % size + b"x" * size)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            assert await reader.readexactly(len(b"196608 bytes")) == b"196608 bytes"
        chunk = b"1000\r\n" + b"x" * 4_096 + b"\r\n"
        writer.write(CHUNKED + chunk * 48 + b"0\r\n\r\n")
        await reader.readuntil(b"196608 bytes")

    on_server(talk)


UNFINISHED = (b"\r\n", POST, POST + b"content-length: 9\r\n\r\nabc", CHUNKED + b"3\r\nabc\r\n")


@pytest.mark.parametrize(
    ("before", "begin"), [(0, b""), *((before, begin) for before in (0, 1) for begin in UNFINISHED)]
)
def test_a_connection_whose_request_does_not_come_is_closed_in_time(monkeypatch, before, begin):
    monkeypatch.setattr(serving, "REQUEST_WITHIN_S", 0.1)

    async def talk(reader, writer):
        async with asyncio.timeout(WITHIN_S):
            for _ in range(before):
                writer.write(POST + b"content-length: 3\r\n\r\nabc")
                await reader.readuntil(b"3 bytes")
            writer.write(begin)
            assert await reader.read() == b""

    on_server(talk)


def test_a_request_whose_answer_takes_long_is_answered_and_so_are_those_after_it(monkeypatch):
    monkeypatch.setattr(serving, "REQUEST_WITHIN_S", 0.05)

    async def talk(reader, writer):
        async with asyncio.timeout(WITHIN_S):
            for _ in range(5):
                writer.write(b"POST /late HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n")
                await reader.readuntil(b"late")

    on_server(talk)
