"""
How the bytes of a commit lie in PostgreSQL: each by itself a Zstandard frame, with a dictionary of typical commits.

What one commit says is in a few hundred of its bytes, the rest are names of fields and words that all of them have. A
frame names its dictionary and has a checksum. There will be other dictionaries, and none is ever changed or taken away:
`benchmarks/compact.py` makes them. Any tool for Zstandard reads a row with the file in `ledger/dictionaries/`.
"""

from functools import cache
from importlib.resources import files

import zstandard

DICTIONARY = 1
"""The one that new commits are written with."""
LEVEL = 1
"""Level 3 takes a quarter more CPU for 3 % less; measured in benchmarks/results/compact.json."""


class Compact:
    """Compresses and expands commits. Belongs to one event loop, for its parts keep what they are working on."""

    def __init__(self) -> None:
        dictionary = _dictionary(DICTIONARY)
        self._compressor = zstandard.ZstdCompressor(level=LEVEL, dict_data=dictionary, write_checksum=True)
        self._decompressor = zstandard.ZstdDecompressor(dict_data=dictionary)

    def shrink(self, data: bytes) -> bytes:
        """Return *data*, the events of one commit, as they are to lie in the table."""
        return self._compressor.compress(data)

    def expand(self, stored: bytes) -> bytes:
        """
        Return what `shrink` made *stored* of.

        What is damaged, or written by a newer program, comes back as it lies there: it is nobody's JSON, and whoever
        decodes it says so, while its neighbours are read.
        """
        try:
            return self._decompressor.decompress(stored)
        except (zstandard.ZstdError, MemoryError):
            return stored


@cache
def _dictionary(number: int) -> zstandard.ZstdCompressionDict:
    return zstandard.ZstdCompressionDict((files("ledger") / "dictionaries" / f"{number}.zdict").read_bytes())
