"""
The ClickHouse HTTP protocol, read-only, over the engine in this process.

One process may have the folder, so the others read through this, on loopback, with an ordinary client; they cannot tell
it from a server. Nothing can be changed: the engine itself refuses writes (`readonly = 1`), and statements are refused
here that it would let through although they do more than read. Of table functions, which can open files and other
machines while the engine only looks what their columns are, only harmless ones are served.
Settings that a client sends are not applied: limits are this side's.
"""

import re
import time
from collections.abc import Mapping
from email import message_from_bytes, policy
from email.message import EmailMessage
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import parse_qsl
from uuid import uuid4

import msgspec
from starlette.types import Message, Receive, Scope, Send

from projections.engine import READING, Client, Clients
from projections.errors import TablesUnavailable

_RESULT_MAX = 1 << 28
READ_ONLY: Mapping[str, Any] = MappingProxyType(
    {**READING, "max_result_bytes": _RESULT_MAX, "result_overflow_mode": "throw", "readonly": 1}
)
"""Settings of the clients that this serves from."""
BODY_MAX = 4 << 20

_SYNTAX_ERROR, _TOO_LARGE, _TOO_MUCH, _READONLY = 62, 307, 396, 164
_STARTS = re.compile(
    r"(?:\s|--[^\n]*\n|/\*.*?\*/|\()*+(?:select|with|show|describe|desc|exists|explain)\b",
    re.IGNORECASE | re.DOTALL,
)
_WORD = re.compile(r"\w+", re.ASCII)
_MORE_THAN_READING = frozenset({"infile", "outfile", "file", "python"})
"""Reading and writing files of this machine, and variables of this process."""
_HARMLESS = frozenset(
    {"format", "generate_series", "generateseries", "null", "numbers", "numbers_mt", "values", "view", "zeros"}
)
_NAMES_FILE = re.compile(r"""[`'"\u201c\u2018](?:\\[x/.]|\.{0,2}/+[^`'"\u201d\u2019/])""")
"""Embedded, each file of this machine is a table named after its path, and the engine tells whether it exists."""
_NAMES_FORMAT = re.compile(r"\bformat\s+\w+\s*;?\s*$", re.IGNORECASE)
_FORMAT = re.compile(r"\w+")
_BOUND = re.compile(r"\{(\w+):[^}]+\}")
"""As the driver has it: of a statement without such a place it would make text, with the values as they are."""
_DEFAULT_FORMAT = "TabSeparated"


class _AsSent:
    """A bound value that the caller's client wrote out already; the driver takes what `str` returns."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __str__(self) -> str:
        return self._text


class _Asked(NamedTuple):
    text: str
    parameters: dict[str, _AsSent]
    fmt: str | None
    query_id: str


class _Answer(NamedTuple):
    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()


class ClickHouseHttp:
    """The ASGI application. *clients* were opened with `READ_ONLY`."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._unserved: frozenset[str] = frozenset()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            answer = await self._answer(scope, receive)
        except TablesUnavailable as error:
            code = str(error.code).encode()
            answer = _Answer(500, str(error).encode(), ((b"x-clickhouse-exception-code", code),))
        headers = [
            (b"content-type", b"application/octet-stream" if answer.status == 200 else b"text/plain; charset=UTF-8"),
            (b"content-length", str(len(answer.body)).encode()),
            (b"x-clickhouse-server-display-name", b"desk"),
            *answer.headers,
        ]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body if scope["method"] != "HEAD" else b""})

    async def _answer(self, scope: Scope, receive: Receive) -> _Answer:
        if scope["method"] not in {"GET", "HEAD", "POST"}:
            return _Answer(405, b"GET, HEAD or POST\n")
        body = await _body(receive)
        asked = _asked(scope, body)
        if scope["path"] == "/ping" or not asked.text.strip():
            return _Answer(200, b"Ok.\n")
        self._unserved = self._unserved or await self._clients.run(unserved_words)
        refuse_unless_reading(asked.text, self._unserved)
        began = time.monotonic_ns()
        found = await self._clients.run(lambda client: _run(client, asked))
        summary = {"read_rows": "0", "read_bytes": "0", "elapsed_ns": str(time.monotonic_ns() - began)}
        return _Answer(
            200,
            found,
            (
                (b"x-clickhouse-format", _format_of(asked).encode()),
                (b"x-clickhouse-query-id", asked.query_id.encode()),
                (b"x-clickhouse-summary", msgspec.json.encode(summary)),
            ),
        )


def unserved_words(client: Client) -> frozenset[str]:
    """Return the names, in lower case, that may stand nowhere in a statement: those of most of the table functions."""
    known = {str(name).lower() for (name,) in client.query("SELECT name FROM system.table_functions").result_rows}
    return _MORE_THAN_READING | known - _HARMLESS


def refuse_unless_reading(text: str, unserved: frozenset[str]) -> None:
    """
    Let through one statement that only reads, and has no word of *unserved*, be it in a text.

    Raises:
        TablesUnavailable: with ClickHouse's code for read-only mode.
    """
    if _STARTS.match(text) is None or ";" in text.strip().rstrip(";"):
        raise TablesUnavailable("Code: 164. only single statements that read are served here. (READONLY)", _READONLY)
    if "\\" in text and ("`" in text or '"' in text):
        raise TablesUnavailable("Code: 164. no name with an escape is served here. (READONLY)", _READONLY)
    if _NAMES_FILE.search(text) is not None:
        raise TablesUnavailable(
            "Code: 164. nothing in quotes that begins as a path is served here; bind it as a parameter if it is a "
            "value. (READONLY)",
            _READONLY,
        )
    found = min(unserved.intersection(_WORD.findall(text.lower())), default=None)
    if found is not None:
        raise TablesUnavailable(
            f"Code: 164. the word {found} is not served here; bind it as a parameter if it is a value. (READONLY)",
            _READONLY,
        )


def _run(client: Client, asked: _Asked) -> bytes:
    found = client.raw_query(asked.text, parameters=asked.parameters, fmt=asked.fmt)
    if len(found) > _RESULT_MAX:  # a column that is the same in all rows is counted once by the engine
        raise TablesUnavailable("Code: 396. the answer is too large. (TOO_MANY_ROWS_OR_BYTES)", _TOO_MUCH)
    return found


def _format_of(asked: _Asked) -> str:
    named = _NAMES_FORMAT.search(asked.text)
    return named[0].split()[1].rstrip(";") if named else asked.fmt or _DEFAULT_FORMAT


def _asked(scope: Scope, body: bytes) -> _Asked:
    headers = {name.lower(): value for name, value in scope["headers"]}
    try:
        fields = dict(parse_qsl(scope["query_string"].decode(), keep_blank_values=True))
        if headers.get(b"content-type", b"").startswith(b"multipart/form-data"):
            fields |= _form(headers[b"content-type"], body)
            body = b""
        text = "\n".join(part for part in (fields.get("query", ""), body.decode()) if part)
    except UnicodeDecodeError as error:
        raise TablesUnavailable("Code: 62. the statement is not UTF-8. (SYNTAX_ERROR)", _SYNTAX_ERROR) from error
    fmt = fields.get("default_format") or headers.get(b"x-clickhouse-format", b"").decode("ascii", "replace")
    if _NAMES_FORMAT.search(text) or _FORMAT.fullmatch(fmt) is None:
        fmt = ""
    bound = set(_BOUND.findall(text))
    parameters = {name: _AsSent(fields[f"param_{name}"]) for name in bound if f"param_{name}" in fields}
    return _Asked(text, parameters, fmt or None, fields.get("query_id") or str(uuid4()))


def _form(content_type: bytes, body: bytes) -> dict[str, str]:
    """Clients send many or long parameters as a form."""
    message = message_from_bytes(b"content-type: " + content_type + b"\r\n\r\n" + body, policy=policy.HTTP)
    found = {}
    for part in message.iter_parts() if isinstance(message, EmailMessage) else ():
        name = part.get_param("name", header="content-disposition")
        value = part.get_payload(decode=True)
        if isinstance(name, str) and isinstance(value, bytes):
            found[name] = value.decode()
    return found


async def _body(receive: Receive) -> bytes:
    chunks: list[bytes] = []
    size = 0
    more = True
    while more:
        message: Message = await receive()
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > BODY_MAX:
            raise TablesUnavailable("Code: 307. the statement is too long. (TOO_MANY_BYTES)", _TOO_LARGE)
        chunks.append(chunk)
        more = message.get("more_body", False)
    return b"".join(chunks)
