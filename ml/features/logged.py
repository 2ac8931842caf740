"""How a vector stands in `ImpressionScored`: float32, little-endian, and a letter of status for each feature."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ml.features.matrix import STATUS_LETTERS, Vectors
from ml.features.schema import SCHEMA

_FLOAT = np.dtype("<f4")
_LETTERS = np.frombuffer(STATUS_LETTERS.encode(), np.uint8)
_STATUS = np.full(256, len(STATUS_LETTERS), np.uint8)
_STATUS[_LETTERS] = range(len(STATUS_LETTERS))


class UnreadableVector(ValueError):
    """What is logged is not a vector of this schema."""


def pack(vectors: Vectors) -> list[tuple[bytes, str]]:
    """Return each row of *vectors* as it is logged."""
    n, width = vectors.values.shape
    values, letters = vectors.values.astype(_FLOAT).tobytes(), _LETTERS[vectors.status].tobytes().decode()
    step = width * _FLOAT.itemsize
    return [(values[at * step : (at + 1) * step], letters[at * width : (at + 1) * width]) for at in range(n)]


def unpack(rows: Sequence[tuple[bytes, str]]) -> Vectors:
    """
    Return the vectors that are logged as *rows*.

    Raises:
        UnreadableVector: one has other features, or a status that there is not.
    """
    n, width = len(rows), len(SCHEMA)
    for packed, letters in rows:
        if len(packed) != width * _FLOAT.itemsize or len(letters) != width or not letters.isascii():
            raise UnreadableVector(f"a vector has {width} features, not {len(packed) / _FLOAT.itemsize:g}")
    values = np.frombuffer(b"".join([one for one, _ in rows]), _FLOAT).astype(np.float64).reshape(n, width)
    return Vectors(values, status_of([one for _, one in rows]))


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
