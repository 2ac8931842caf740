"""How a vector stands in `ImpressionScored`: a letter of status per feature, and those that are known as float32."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ml.features import kernel
from ml.features.matrix import COLD, MISSING, STATUS_LETTERS, TIMEOUT, Vectors
from ml.features.schema import SCHEMA

_FLOAT = np.dtype("<f4")
_LETTERS = np.frombuffer(STATUS_LETTERS.encode(), np.uint8)
_STATUS = np.full(256, len(STATUS_LETTERS), np.uint8)
_STATUS[_LETTERS] = range(len(STATUS_LETTERS))


_UNKNOWN = (COLD, MISSING, TIMEOUT)
"""With one of these a value is NaN, with another one it is not."""


class UnreadableVector(ValueError):
    """What is logged is not a vector of this schema."""


def pack(vectors: Vectors) -> list[tuple[bytes, str]]:
    """Return each row of *vectors* as it is logged."""
    values, status = vectors
    n, width = values.shape
    known, ends = np.empty(values.size + 1, np.float32), np.empty(n, np.int64)
    kernel.squeeze(np.ascontiguousarray(values), known, ends)
    packed = known.astype(_FLOAT, copy=False).tobytes()
    letters = _LETTERS[status].tobytes().decode()
    rows, begin = [], 0
    for at, end in enumerate((ends * _FLOAT.itemsize).tolist()):
        rows.append((packed[begin:end], letters[at * width : (at + 1) * width]))
        begin = end
    return rows


def unpack(rows: Sequence[tuple[bytes, str]]) -> Vectors:
    """
    Return the vectors that are logged as *rows*.

    Raises:
        UnreadableVector: one has other features, or a status that there is not.
    """
    n, width = len(rows), len(SCHEMA)
    if any(len(letters) != width or not letters.isascii() for _, letters in rows):
        raise UnreadableVector(f"a vector has {width} features")
    status = status_of([letters for _, letters in rows])
    known = ~np.isin(status, _UNKNOWN)
    if (known.sum(axis=1) * _FLOAT.itemsize != [len(packed) for packed, _ in rows]).any():
        raise UnreadableVector("a vector has a value for each feature that is known, and no other")
    values = np.full((n, width), np.nan)
    values[known] = np.frombuffer(b"".join([packed for packed, _ in rows]), _FLOAT)
    return Vectors(values, status)


def status_of(letters: Sequence[str]) -> NDArray[np.uint8]:
    """
    Return the status, (rows, features), that stands as *letters*, of which each has one for every feature.

    Raises:
        UnreadableVector: there is no such status.
    """
    status = _STATUS[np.frombuffer("".join(letters).encode(), np.uint8)].reshape(len(letters), len(SCHEMA))
    if (status == len(STATUS_LETTERS)).any():
        raise UnreadableVector(f"a status is one of {STATUS_LETTERS}")
    return status
