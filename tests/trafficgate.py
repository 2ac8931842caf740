"""A scripted gate on a free port, for clients: it gives every answer and failure that a real one can give."""

import asyncio
from contextlib import asynccontextmanager, suppress
from uuid import UUID

import msgspec

from domain.render import Kind
from ml.traffic.events import Event, Sending

HANG, HANG_UP = object(), object()


def outcome(event_id, **changes):
    return {"event_id": event_id, "status": "decided", "verdict": "valid", "reason": None, **changes}


def http(body, status=200, *headers):
    head = [f"HTTP/1.1 {status} X", f"content-length: {len(body)}", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


class FakeGate:
    """Answers each request as *script* says: bytes as they stand, HANG (never), or HANG_UP (close)."""

    def __init__(self, script=None):
        self.script = script or self.decide
        self.seen = []
        self.connections = 0

    def decide(self, renders, headers):
        answers = [outcome(render["event_id"]) for render in renders]
        if headers["content-type"] == "application/x-ndjson":
            return http(b"\n".join(msgspec.json.encode(answer) for answer in answers) + b"\n")
        return http(msgspec.json.encode(answers[0] if headers["single"] else answers))

    @asynccontextmanager
    async def open(self):
        self._closing = asyncio.Event()
        self._writers = {}
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            self._closing.set()
            for writer in self._writers.values():
                writer.transport.abort()
            if self._writers:
                await asyncio.wait(list(self._writers))

    async def _serve(self, reader, writer):
        self._writers[asyncio.current_task()] = writer
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
                body = await reader.readexactly(int(headers["content-length"]))
                headers["authorization"] = next(line for line in head if line.lower().startswith("authorization"))[15:]
                headers["request"] = head[0]
                headers["single"] = body[:1] == b"{" and headers["content-type"] == "application/json"
                renders = self._renders(body, headers)
                self.seen.append((renders, headers))
                answer = self.script(renders, headers)
                if answer is HANG:
                    await self._closing.wait()
                    break
                if answer is HANG_UP:
                    break
                for piece in answer if isinstance(answer, list) else [answer]:
                    writer.write(piece)
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    @staticmethod
    def _renders(body, headers):
        if headers["content-type"] == "application/x-ndjson":
            return [msgspec.json.decode(line) for line in body.split(b"\n")]
        decoded = msgspec.json.decode(body)
        return [decoded] if headers["single"] else decoded


def events(count, kind=Kind.RENDER, skew_ms=0):
    return [
        Event(UUID(int=n + 1), UUID(int=n + 1), kind, b'{"event_id":"%b"' % str(UUID(int=n + 1)).encode(), skew_ms)
        for n in range(count)
    ]


def at_once(made):
    return [Sending(0, event) for event in made]
