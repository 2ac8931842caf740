"""PostgreSQL's binary arrays, built in one join: psycopg's own cost a Python call per element."""

import struct
from collections.abc import Sequence
from itertools import chain, repeat
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.adapt import Buffer, Dumper
from psycopg.pq import Format

_UUID, _INT4, _INT8, _TEXT, _BYTEA = 2950, 23, 20, 25, 17
_UUID_ARRAY, _INT4_ARRAY, _INT8_ARRAY, _TEXT_ARRAY, _BYTEA_ARRAY = 2951, 1007, 1016, 1009, 1001
_HEADER = struct.Struct("!iiIii")
_LENGTH = struct.Struct("!i")
_SIXTEEN = _LENGTH.pack(16)


class UuidArray(bytes):
    __slots__ = ()

    @classmethod
    def of(cls, values: Sequence[UUID]) -> "UuidArray":
        items = chain.from_iterable(zip(repeat(_SIXTEEN), (value.bytes for value in values), strict=False))
        return cls(_header(_UUID, len(values)) + b"".join(items))

    @classmethod
    def of_bytes(cls, values: Sequence[bytes]) -> "UuidArray":
        """Return the array of *values* of 16 bytes each."""
        return cls(
            _header(_UUID, len(values)) + b"".join(chain.from_iterable(zip(repeat(_SIXTEEN), values, strict=False)))
        )


class IntArray(bytes):
    __slots__ = ()

    @classmethod
    def of(cls, values: Sequence[int]) -> "IntArray":
        items = chain.from_iterable(zip(repeat(4), values, strict=False))
        return cls(_header(_INT4, len(values)) + struct.pack("!" + "ii" * len(values), *items))


class BigintArray(bytes):
    __slots__ = ()

    @classmethod
    def of(cls, values: Sequence[int]) -> "BigintArray":
        items = chain.from_iterable(zip(repeat(8), values, strict=False))
        return cls(_header(_INT8, len(values)) + struct.pack("!" + "iq" * len(values), *items))


class TextArray(bytes):
    __slots__ = ()

    @classmethod
    def of(cls, values: Sequence[str]) -> "TextArray":
        return cls(_varied(_TEXT, [value.encode() for value in values]))


class ByteaArray(bytes):
    __slots__ = ()

    @classmethod
    def of(cls, values: Sequence[bytes]) -> "ByteaArray":
        return cls(_varied(_BYTEA, values))


def _header(oid: int, length: int) -> bytes:
    return _HEADER.pack(1, 0, oid, length, 1)


def _varied(oid: int, values: Sequence[bytes]) -> bytes:
    lengths = map(_LENGTH.pack, map(len, values))
    return _header(oid, len(values)) + b"".join(chain.from_iterable(zip(lengths, values, strict=True)))


class _ArrayDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: bytes) -> Buffer:
        return obj


class _UuidArrayDumper(_ArrayDumper):
    oid = _UUID_ARRAY


class _IntArrayDumper(_ArrayDumper):
    oid = _INT4_ARRAY


class _BigintArrayDumper(_ArrayDumper):
    oid = _INT8_ARRAY


class _TextArrayDumper(_ArrayDumper):
    oid = _TEXT_ARRAY


class _ByteaArrayDumper(_ArrayDumper):
    oid = _BYTEA_ARRAY


def register(connection: AsyncConnection[tuple[object, ...]]) -> None:
    """Teach *connection* to send the arrays of this module."""
    connection.adapters.register_dumper(UuidArray, _UuidArrayDumper)
    connection.adapters.register_dumper(IntArray, _IntArrayDumper)
    connection.adapters.register_dumper(BigintArray, _BigintArrayDumper)
    connection.adapters.register_dumper(TextArray, _TextArrayDumper)
    connection.adapters.register_dumper(ByteaArray, _ByteaArrayDumper)
