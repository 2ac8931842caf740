"""The log's file: appended, checksummed, fsynced; a torn tail is cut off at the start."""

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

_HEADER = struct.Struct("<II")
_MAX = 64 << 20


class Journal:
    """Frames of `length, crc32, msgpack`; a frame is one write, whole or not there."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a+b")
        self._buffer: list[bytes] = []

    def replay(self) -> Iterator[list[Any]]:
        """Yield what each write wrote; then the file ends where its last whole frame does."""
        self._file.seek(0)
        whole = 0
        while len(header := self._file.read(_HEADER.size)) == _HEADER.size:
            length, crc = _HEADER.unpack(header)
            payload = self._file.read(length) if length <= _MAX else b""
            if len(payload) != length or zlib.crc32(payload) != crc:
                break
            yield msgspec.msgpack.decode(payload)
            whole = self._file.tell()
        self._file.truncate(whole)

    def add(self, rows: list[tuple[object, ...]]) -> None:
        payload = msgspec.msgpack.encode(rows)
        self._buffer.append(_HEADER.pack(len(payload), zlib.crc32(payload)) + payload)

    def flush(self) -> None:
        if self._buffer:
            self._file.write(b"".join(self._buffer))
            self._buffer.clear()
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        self.flush()
        self._file.close()
