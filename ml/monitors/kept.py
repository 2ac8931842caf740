"""References out of the registry: each model's artifact keeps its own."""

from ml.models.artifact import CorruptArtifact, SchemaMismatch, load
from ml.monitors.reference import CorruptReference, Reference
from ml.monitors.reference import load as load_reference
from ml.registry.registry import ModelStore, NoSuchModel

KEPT_MAX = 4


class KeptReferences:
    """`References` of the models in a registry; the last few are remembered, for models never change."""

    def __init__(self, store: ModelStore) -> None:
        self._store = store
        self._known: dict[str, Reference | None] = {}

    async def reference(self, model: str) -> Reference | None:
        """See `References.reference`; raises `LedgerUnavailable` if the registry does not answer."""
        if model not in self._known:
            found = await self._read(model)
            while len(self._known) >= KEPT_MAX:
                del self._known[next(iter(self._known))]
            self._known[model] = found
        return self._known[model]

    async def _read(self, model: str) -> Reference | None:
        try:
            artifact = load(await self._store.read(model), model)
        except NoSuchModel:
            return None
        except (CorruptArtifact, SchemaMismatch) as error:
            raise CorruptReference(f"{model}: {error}") from error
        return load_reference(artifact.reference) if artifact.reference else None
