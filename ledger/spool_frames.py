"""
How a spool's segments are written: frames of a batch, or a part of one, checked by a checksum, numbered without a gap.

A frame is written only after the one before it is on disk. So what cannot be read at the end of a segment was never
acknowledged (a torn tail), and what cannot be read before a good frame is damage.
"""

import struct
import zlib
from collections.abc import Iterator
from itertools import pairwise

from msgspec import Struct

FRAME_MAX = 64 << 20
"""Bytes of a frame, before compression: far more than 512 renders take, but not 512 bodies that cannot be read."""
_MAGIC = b"ILS1"
_HEAD = struct.Struct(">4sIQI")
_CHECKED = struct.Struct(">IQ")
_LEVEL = 1
HEAD_BYTES = _HEAD.size


class FrameTooLarge(ValueError):
    """A payload has more than `FRAME_MAX` bytes."""


class Frame(Struct, frozen=True, gc=False):
    """A good frame: its number, and where it stands in the segment."""

    number: int
    start: int
    end: int


class Scan(Struct, frozen=True):
    """
    What a segment holds: good frames, the byte ranges between them that cannot be read, and where the tail is torn.

    `whole_bytes` is where the last good frame ends. `gaps` counts frames that are missing between good ones.
    """

    frames: list[Frame]
    damage: list[tuple[int, int]]
    whole_bytes: int
    torn_bytes: int

    @property
    def gaps(self) -> int:
        return sum(after.number - before.number - 1 for before, after in pairwise(self.frames))

    @property
    def is_damaged(self) -> bool:
        return bool(self.damage or self.gaps)


def frame(number: int, payload: bytes) -> bytes:
    """
    Return *payload* as frame *number*.

    Raises:
        FrameTooLarge: it is.
    """
    if len(payload) > FRAME_MAX:
        raise FrameTooLarge(f"{len(payload)} bytes are more than {FRAME_MAX}")
    body = zlib.compress(payload, _LEVEL)
    return _HEAD.pack(_MAGIC, len(body), number, _checksum(number, body)) + body


def payload_of(data: bytes, found: Frame) -> bytes:
    """Return what was written as *found* in the segment *data*."""
    return zlib.decompress(data[found.start + HEAD_BYTES : found.end])


def scan(data: bytes) -> Scan:
    """Return what the segment *data* holds, whatever became of it."""
    frames: list[Frame] = []
    damage: list[tuple[int, int]] = []
    at = 0
    while at < len(data):
        number = frames[-1].number if frames else -1
        found = _frame_at(data, at, number)
        if found is None:
            found = next(_later(data, at + 1, number), None)
            if found is None:
                break
            damage.append((at, found.start))
        frames.append(found)
        at = found.end
    return Scan(frames, damage, at, len(data) - at)


def _later(data: bytes, at: int, number: int) -> Iterator[Frame]:
    while (at := data.find(_MAGIC, at)) >= 0:
        found = _frame_at(data, at, number)
        if found is not None:
            yield found
        at += 1


def _frame_at(data: bytes, at: int, after: int) -> Frame | None:
    if len(data) - at < HEAD_BYTES:
        return None
    magic, length, number, checksum = _HEAD.unpack_from(data, at)
    end = at + HEAD_BYTES + length
    if magic != _MAGIC or number <= after or end > len(data):
        return None
    if _checksum(number, data[at + HEAD_BYTES : end]) != checksum:
        return None
    return Frame(number, at, end)


def _checksum(number: int, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(_CHECKED.pack(len(body), number)))
