"""A data set as it lies in its folder, and the id that follows from what it was made of."""

from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

import msgspec
import polars as pl
from msgspec import Struct

from ledger.store import Commit

FORMAT = 1
_FILE = "snapshot.json"
_ID_BYTES = 8


class NoSnapshot(ValueError):
    """The folder holds no data set that this program can read."""


class Recipe(Struct, frozen=True, kw_only=True):
    """
    What a data set is made by, beside the ledger: nothing later than *cutoff* (epoch ms) is in it. Without one, that is
    when the last of it was recorded.

    *seed* keys the numbers of groups. *history*: publishers' history is filled in as it was known, also where the gate
    had none. *generated*: the commits are generated traffic, their positions and times those of no ledger.
    """

    cutoff: int | None = None
    seed: int = 0
    history: bool = True
    generated: bool = False


class Snapshot(Struct, frozen=True, kw_only=True):
    """
    A data set. `ledger_range` is the first and last position that were read, `parts` how many rows each part has;
    `unreadable` commits are in none, for they are damaged, or of a newer program.

    The same ledger, recipe and features have the same `id`, if as much of it can be read; the parts are in `folder`.
    """

    id: str
    recipe: Recipe
    cutoff: int
    schema_id: str
    ledger_range: tuple[int, int]
    parts: dict[str, int]
    unreadable: int = 0
    format: int = FORMAT
    folder: str = ""

    def scan(self, part: str) -> pl.LazyFrame:
        """Return *part*, one of `ml.datasets.rows.PARTS`, to be read as far as it is needed, in order of the ledger."""
        return pl.scan_parquet(Path(self.folder) / f"{part}-*.parquet")


class RangeDigest:
    """A digest over commits in order: the same for the same range, in whatever pieces it is read."""

    def __init__(self) -> None:
        self._hash = blake2b(digest_size=_ID_BYTES)
        self.first = self.last = 0

    def update(self, commits: Sequence[Commit]) -> None:
        for commit in commits:
            self.first = self.first or commit.position
            self.last = commit.position
            self._hash.update(b"%d %d " % (commit.position, len(commit.data)))
            self._hash.update(commit.data)

    def digest(self) -> str:
        return self._hash.hexdigest()


def snapshot_id(range_digest: str, schema_id: str, recipe: Recipe, unreadable: int) -> str:
    """Return the id of the data set that *recipe* makes of a range of the ledger without *unreadable* commits of it."""
    inputs = msgspec.json.encode((FORMAT, range_digest, schema_id, recipe, unreadable))
    return f"data-{blake2b(inputs, digest_size=_ID_BYTES).hexdigest()}"


def save(snapshot: Snapshot, folder: Path) -> None:
    """Write down in *folder* what its parts are."""
    described = msgspec.structs.replace(snapshot, folder="")
    (folder / _FILE).write_bytes(msgspec.json.format(msgspec.json.encode(described)))


def open_snapshot(folder: Path) -> Snapshot:
    """
    Return the data set in *folder*.

    Raises:
        NoSnapshot: there is none, or it is of another format.
    """
    try:
        found = msgspec.json.decode((folder / _FILE).read_bytes(), type=Snapshot)
    except (OSError, msgspec.DecodeError) as error:
        raise NoSnapshot(f"{folder} holds no data set: {error}") from error
    if found.format != FORMAT:
        raise NoSnapshot(f"{folder} has format {found.format}, this program reads {FORMAT}")
    return msgspec.structs.replace(found, folder=str(folder))
