"""
The starter model: a fresh installation scores from its first minute.

It is trained on generated traffic, once per data folder, in a process of its own that gives way to all others, and put
in force only where no model ever was. Until then the gate decides by rules; that is the rung `model_fallback`, and
nobody waits. What depends on the installation's own scale is left out of it. Its card says what it is.
"""

import os
import time
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from uuid import UUID, uuid5

import msgspec
from msgspec import Struct

from commands.keyring import DAY_MS
from domain.placement_events import Stage
from ml.features.later import LATER_SCHEMA_ID
from ml.features.schema import SCHEMA_ID
from ml.models.artifact import CorruptArtifact, SchemaMismatch
from ml.models.s3 import load_any
from ml.training.params import Params
from service.asking import AskedInVain, GateClient
from service.clock import now_ms
from service.generated import Generated
from service.settings import Settings
from service.training import MODELS, Order, train_on_generated

IMPRESSIONS = 16_000
SEED = 1
NOTE = "starter, generated traffic"
UNSCALED = ("network_hour", "network_devices_hour")
"""Features whose size is that of the installation's traffic: what is busy in one is quiet in another."""
GATE_WITHIN_S = 120.0
_FILE = "starter.json"
_NICE = 5
_POLL_S = 0.5
_REQUESTS = UUID("5b3c7a54-8f0e-4f0d-9a3e-6f6d5f1f6a10")


class Starter(Struct, frozen=True, kw_only=True):
    """What was trained as starter, by stage: model ids. `key` says of what; another program trains another."""

    key: str
    models: dict[str, str]


def ensure_starter(settings: Settings, say: Callable[[str], None]) -> dict[str, str]:
    """
    Put starter models in force for the stages that never had one, and return them by stage.

    Safe to repeat, also after a crash half-way: models are kept by their content, a promotion has one id.

    Raises:
        AskedInVain: the gate does not answer, or refuses.
    """
    if not _lacks(settings, Stage.S2.value):
        return {}
    starter = kept_starter(settings) or _train(settings, say)
    placed = {}
    for stage, model in starter.models.items():
        if _lacks(settings, stage):
            _promote(settings, model)
            placed[stage] = model
    return placed


def kept_starter(settings: Settings) -> Starter | None:
    """Return the starter that this program trained before in the data folder, if all of it is there and whole."""
    folder = settings.data_dir / MODELS
    try:
        found = msgspec.json.decode((folder / _FILE).read_bytes(), type=Starter)
        for model in found.models.values():
            load_any(_file(folder, model).read_bytes(), model)
    except (OSError, msgspec.DecodeError, CorruptArtifact, SchemaMismatch):
        return None
    return found if found.key == _key() else None


def give_way() -> None:
    """Let every other process of the machine go first."""
    os.nice(_NICE)


def _train(settings: Settings, say: Callable[[str], None]) -> Starter:
    order = Order(seed=SEED, params=Params(note=NOTE, unread=UNSCALED))
    # so that agents and SDKs are as old as those that it will see
    start_ms = now_ms() // DAY_MS * DAY_MS
    report = train_on_generated(settings, order, Generated(impressions=IMPRESSIONS, seed=SEED, start_ms=start_ms), say)
    starter = Starter(key=_key(), models={stage: model.model for stage, model in report.models.items()})
    (settings.data_dir / MODELS / _FILE).write_bytes(msgspec.json.encode(starter))
    return starter


def _key() -> str:
    made_of = (SCHEMA_ID, LATER_SCHEMA_ID, IMPRESSIONS, SEED, NOTE, UNSCALED)
    return blake2b(msgspec.json.encode(made_of), digest_size=8).hexdigest()


def _promote(settings: Settings, model: str) -> None:
    document = {
        "request_id": str(uuid5(_REQUESTS, model)),
        "action": "promote",
        "model": model,
        "reason": NOTE,
    }
    with GateClient(settings) as gate:
        gate.post("/v1/models", _file(settings.data_dir / MODELS, model).read_bytes())
        gate.post("/v1/models/placements", document)


def _lacks(settings: Settings, stage: str) -> bool:
    """Tell whether *stage* never had a champion: where one was retired, rules alone are to decide."""
    return _in_force(settings)[stage]["since"] is None


def _in_force(settings: Settings) -> dict[str, dict[str, object]]:
    """Ask the gate, which may still be starting."""
    until = time.monotonic() + GATE_WITHIN_S
    while True:
        try:
            with GateClient(settings) as gate:
                in_force: dict[str, dict[str, object]] = gate.get("/v1/models", {"limit": "1"})["in_force"]
        except AskedInVain:
            if time.monotonic() >= until:
                raise
            time.sleep(_POLL_S)
        else:
            return in_force


def _file(folder: Path, model: str) -> Path:
    return folder / f"{model}.model"
