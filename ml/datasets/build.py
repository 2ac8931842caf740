"""
From the ledger to Parquet, in one pass and in bounded memory.

What stands in a row was known when its render was decided: vectors come from the same code as the gate's, fed with what
the ledger held before. Labels stand apart and join a row as of a time.
"""

import shutil
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import mkdtemp
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
import polars as pl
from msgspec.structs import replace
from numpy.typing import NDArray

from domain.events import ImpressionLabelled, ImpressionViewed
from domain.ids import ImpressionId
from ledger.codec import decode_readable
from ledger.store import Commit
from ml.datasets.history import PublisherLog
from ml.datasets.rows import (
    PARTS,
    Groups,
    decision_of,
    facts_of,
    label_of,
    view_of,
)
from ml.datasets.snapshot import RangeDigest, Recipe, Snapshot, open_snapshot, save, snapshot_id
from ml.datasets.vectors import as_served, with_history
from ml.features.matrix import STATUS_LETTERS, Vectors
from ml.features.publishers import NO_HISTORY, History
from ml.features.replayed import Replay, Row
from ml.features.schema import SCHEMA_ID
from ml.models.masks import MASK_NAMES, masks_of

PART_ROWS = 20_000
"""Rows of a file; so many of each part are held in memory."""
PAGE = 512
"""Commits that are looked at together."""
MAKING = "making-"
"""What folders of data sets that are not whole yet begin with."""


async def build(commits: AsyncIterator[Commit], until: int, recipe: Recipe, folder: Path) -> Snapshot:
    """
    Make a data set of *commits*, in order and up to position *until*, in a folder of *folder* that is named by its id.

    One that is there already is left as it is. Commits that cannot be read are left out, and counted.

    Raises:
        OSError: it cannot be written.
    """
    with _Making(recipe, folder) as making:
        async for commit in commits:
            if commit.position > until:
                break
            making.take(commit)
        return making.finish()


def build_of(commits: Iterable[Commit], recipe: Recipe, folder: Path) -> Snapshot:
    """Make a data set of all *commits*, as `build` does."""
    with _Making(recipe, folder) as making:
        for commit in commits:
            making.take(commit)
        return making.finish()


class _Making:
    """A data set on its way, in a folder of its own until it is whole."""

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._made = Path(mkdtemp(prefix=MAKING, dir=folder))
        self._builder = Builder(self._made, recipe)
        self._page: list[Commit] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        shutil.rmtree(self._made, ignore_errors=True)

    def take(self, commit: Commit) -> None:
        self._page.append(commit)
        if len(self._page) == PAGE:
            self._builder.add(self._page)
            self._page = []

    def finish(self) -> Snapshot:
        self._builder.add(self._page)
        snapshot = self._builder.finish()
        save(snapshot, self._made)
        kept = self._folder / snapshot.id
        if not kept.exists():
            self._made.rename(kept)
        return open_snapshot(kept)


class _Told(NamedTuple):
    """When a commit was recorded, and what was known of publishers before it."""

    recorded_at: int
    history: History


class Builder:
    """Turns commits into the parts of a data set."""

    def __init__(self, folder: Path, recipe: Recipe) -> None:
        self._recipe = recipe
        self._digest = RangeDigest()
        self._groups = Groups(recipe.seed.to_bytes(16, "big", signed=True))
        self._log = PublisherLog()
        self._replay = Replay()
        self._history = NO_HISTORY
        self._last_at = 0
        self._unreadable = 0
        self._parts = {name: _Part(folder, name, columns) for name, columns in PARTS.items()}

    def add(self, commits: Sequence[Commit]) -> None:
        """Take the next *commits*; those of other streams than impressions' count in the digest alone."""
        self._digest.update(commits)
        known = {commit.position: self._told(commit) for commit in commits if self._is_known(commit)}
        for replayed in self._replay.take([commit for commit in commits if commit.position in known]):
            places = [at for at, row in enumerate(replayed.rows) if row.decision is not None]
            if places:
                rows = [replayed.rows[at] for at in places]
                self._keep(rows, as_served(replayed.vectors.take(places), rows), known)

    def finish(self) -> Snapshot:
        """Write what is left and say what there is."""
        for part in self._parts.values():
            part.flush()
        cutoff = self._last_at if self._recipe.cutoff is None else self._recipe.cutoff
        return Snapshot(
            id=snapshot_id(self._digest.digest(), SCHEMA_ID, replace(self._recipe, cutoff=cutoff), self._unreadable),
            recipe=self._recipe,
            cutoff=cutoff,
            schema_id=SCHEMA_ID,
            ledger_range=(self._digest.first, self._digest.last),
            parts={name: part.total for name, part in self._parts.items()},
            unreadable=self._unreadable,
        )

    def _is_known(self, commit: Commit) -> bool:
        return isinstance(commit.stream, ImpressionId) and not self._is_later(commit.recorded_at)

    def _is_later(self, at: int) -> bool:
        return self._recipe.cutoff is not None and at > self._recipe.cutoff

    def _told(self, commit: Commit) -> _Told:
        """Keep what *commit* says of others than its decisions; return what was known before it."""
        impression, at = commit.stream, commit.recorded_at
        assert isinstance(impression, ImpressionId)
        self._last_at = max(self._last_at, at)
        history = self._history_at(at) if self._recipe.history else NO_HISTORY
        events = decode_readable(commit.data)
        if events is None:
            self._unreadable += 1
            return _Told(at, history)
        for event in events:
            if isinstance(event, ImpressionLabelled) and not self._is_later(event.received_at):
                self._parts["labels"].add([label_of(impression, event, at)])
            elif isinstance(event, ImpressionViewed):
                self._parts["views"].add([view_of(impression, event, at)])
        if self._recipe.history:  # nothing else asks the log, nor makes it forget
            self._log.count(events, at)
        return _Told(at, history)

    def _history_at(self, recorded_at: int) -> History:
        history = self._log.at(recorded_at)
        if history is not self._history:
            self._history = history
            self._parts["history"].add(
                [(publisher, history.computed_at, *said) for publisher, said in history.publishers.items()]
            )
        return history

    def _keep(self, rows: list[Row], found: Vectors, known: Mapping[int, _Told]) -> None:
        told = [known[row.position] for row in rows]
        if self._recipe.history:
            found = with_history(found, [row.rendered for row in rows], [one.history for one in told])
        letters = _LETTERS[found.status].tobytes().decode()
        width = found.status.shape[1]
        facts = [
            (*facts_of(decision_of(row, one.recorded_at), self._groups), MASK_NAMES[mask], letters[at : at + width])
            for at, row, one, mask in zip(
                range(0, len(letters), width), rows, told, masks_of(found.status).tolist(), strict=True
            )
        ]
        self._parts["rows"].add(facts, found.values.astype(np.float32))


class _Part:
    """Rows on their way into numbered files. The last columns may come as blocks of numbers."""

    def __init__(self, folder: Path, name: str, columns: dict[str, type[pl.DataType]]) -> None:
        self._folder, self._name, self._columns = folder, name, columns
        self._waiting: list[tuple[Any, ...]] = []
        self._blocks: list[NDArray[np.float32]] = []
        self._files = 0
        self.total = 0

    def add(self, rows: list[tuple[Any, ...]], block: NDArray[np.float32] | None = None) -> None:
        self._waiting += rows
        self.total += len(rows)
        if block is not None:
            self._blocks.append(block)
        if len(self._waiting) >= PART_ROWS:
            self.flush()

    def flush(self) -> None:
        """Write what waits; the first file is there even if it is empty, so that its columns are known."""
        if self._waiting or not self._files:
            file = self._folder / f"{self._name}-{self._files:05}.parquet"
            self._frame().write_parquet(file, compression="zstd")
            self._files += 1
            self._waiting, self._blocks = [], []

    def _frame(self) -> pl.DataFrame:
        if not self._blocks:
            return pl.DataFrame(self._waiting, schema=self._columns, orient="row")
        names, block = list(self._columns), np.concatenate(self._blocks)
        first = len(names) - block.shape[1]
        facts = pl.DataFrame(self._waiting, schema={name: self._columns[name] for name in names[:first]}, orient="row")
        return facts.with_columns(pl.Series(name, block[:, at]) for at, name in enumerate(names[first:]))


_LETTERS = np.frombuffer(STATUS_LETTERS.encode(), np.uint8)
