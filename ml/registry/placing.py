"""Puts models in force: reads the stream, decides, appends at the version that was read; keeps the table up to it."""

from collections.abc import Callable, Mapping, Sequence
from typing import cast

from msgspec import Struct
from msgspec.structs import replace

from domain.placement_events import ModelPlaced, Stage
from domain.placements import NO_PLACEMENTS, Placements, fold_placements
from domain.placing import PlacementCommand, PlaceModel, decide_placement
from ledger.codec import decode
from ledger.store import READ_MAX, Append, Appended, Commit, EventStore, LedgerUnavailable
from ml.features.later import LATER_SCHEMA_ID
from ml.features.schema import SCHEMA_ID
from ml.registry.registry import ModelStore, PlacementRow, PlacementTable

STREAM = "config-models"
SCHEMAS: Mapping[Stage, str] = {Stage.S2: SCHEMA_ID, Stage.S3: LATER_SCHEMA_ID}
"""By stage: the schema of the features that this program computes."""
ROUNDS_MAX = 5
"""Placements that others keep changing are decided again this often; then the caller is told to ask again."""
_PUT_AT_ONCE = 500


class Recorded(Struct, frozen=True):
    """Placements as the command left them; `placed` is None where it came before, or changed nothing."""

    placements: Placements
    placed: ModelPlaced | None


class ModelPlacements:
    """Handles commands about placements. `clock` gives epoch ms."""

    def __init__(self, store: EventStore, models: ModelStore, clock: Callable[[], int]) -> None:
        self._store = store
        self._models = models
        self._clock = clock

    async def handle(self, command: PlacementCommand) -> Recorded:
        """
        Do *command*; what it says of the model is looked up here.

        Raises:
            PlacementRefused: it cannot be done; nothing was changed.
            LedgerUnavailable: it may have been done; sending the same command again is safe.
        """
        command = await self._informed(command)
        for _ in range(ROUNDS_MAX):
            state = await self.read()
            new = decide_placement(state, command)
            if not new:
                return Recorded(state, None)
            append = Append(
                stream=STREAM, expected=state.version, cause=command.cause, digest=command.digest, events=new
            )
            [outcome] = await self._store.append([append], self._clock())
            if isinstance(outcome, Appended):
                return Recorded(fold_placements(new, state), new[0])
        raise LedgerUnavailable("placements kept changing")

    async def read(self) -> Placements:
        """Return which models are in force, as the ledger has it; raises `LedgerUnavailable`."""
        return fold_placements(await read_placements(self._store))

    async def _informed(self, command: PlacementCommand) -> PlacementCommand:
        if not isinstance(command, PlaceModel):
            return command
        entry = await self._models.find(command.model)
        if entry is None:
            return command
        return replace(command, known=entry.known, schema=SCHEMAS.get(entry.stage, ""))


class PlacementTail:
    """A copy of the placements that is kept up with the ledger. Belongs to one task."""

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self.placements = NO_PLACEMENTS

    async def follow(self) -> list[ModelPlaced]:
        """
        Take in what is new, and return it.

        Raises:
            LedgerUnavailable: the store did not answer; the copy is as old as it is.
            UnreadableCommit: a newer program wrote, or what is there is damaged.
        """
        news = [commit for commit in await _commits(self._store) if commit.version >= self.placements.version]
        events = events_of(news)
        if events:
            self.placements = fold_placements(events, self.placements)
        return events


class PlacementList:
    """Keeps *table* up to the ledger."""

    def __init__(self, store: EventStore, table: PlacementTable) -> None:
        self._store = store
        self._table = table

    async def follow(self) -> int:
        """
        Bring the table up to the ledger; return how many placements it has then.

        Raises:
            LedgerUnavailable: ledger or table did not answer; nothing is lost by trying again.
        """
        through = await self._table.through()
        events = await read_placements(self._store)
        news = [PlacementRow(version, event) for version, event in enumerate(events) if version >= through]
        for at in range(0, len(news), _PUT_AT_ONCE):
            await self._table.put(news[at : at + _PUT_AT_ONCE])
        return max(through, len(events))

    async def rebuild(self) -> int:
        """Make the table anew from the ledger alone; as `follow`."""
        await self._table.clear()
        return await self.follow()


async def read_placements(store: EventStore) -> list[ModelPlaced]:
    """Return all placements, in order; raises `LedgerUnavailable`, `UnreadableCommit`."""
    return events_of(await _commits(store))


def events_of(commits: Sequence[Commit]) -> list[ModelPlaced]:
    """Return the events of *commits* of the stream; raises `UnreadableCommit` on damaged ones."""
    return [cast("ModelPlaced", event) for commit in commits for event in decode(commit.data)]


async def _commits(store: EventStore) -> list[Commit]:
    return (await store.read_streams([STREAM], READ_MAX)).get(STREAM, [])
