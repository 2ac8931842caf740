"""Tries two models of the registry on the labels of the ledger, beside whatever runs."""

from msgspec import Struct

from domain.placement_events import Stage
from domain.placements import fold_placements
from ledger.codec import UnreadableCommit
from ledger.postgres_connection import PostgresConnection
from ledger.store import EventStore, read_everything
from ml.models.scorer import Scorer
from ml.registry.experiments import TrialResult
from ml.registry.loading import ready
from ml.registry.placing import read_placements
from ml.registry.postgres import PostgresModels
from ml.registry.registry import ModelStore, NoSuchModel
from ml.registry.trials import terms_for, try_models
from service.clock import now_ms
from service.processes import LauncherError
from service.settings import Settings
from service.wiring import database_url, load_pack, open_store

_DEADLINE_S = 30.0


class NothingToCompare(LauncherError):
    """There are not two models, or one cannot be loaded; the text says which."""


class Comparison(Struct, frozen=True):
    """What two models were found to be worth on the ledger up to now."""

    champion: str
    other: str
    result: TrialResult


async def compare_models(settings: Settings, champion: str, other: str, mature_h: float) -> Comparison:
    """
    Return how *other* does against *champion*; empty names stand for the champion in force, and for its rival.

    Raises:
        NothingToCompare: with what is missing.
        LedgerUnavailable: ledger or registry did not answer.
    """
    store, connection = open_store(settings), PostgresConnection(database_url(settings), _DEADLINE_S)
    try:
        champion, other = await named_or_in_force(store, champion, other)
        models = PostgresModels(connection)
        ours, theirs = [await _scorer(models, model) for model in (champion, other)]
        terms = terms_for((ours, theirs), now_ms(), load_pack(settings.rule_pack).accuses, mature_h)
        result = await try_models(store, read_everything(store, terms.after), ours, theirs, terms)
        return Comparison(champion, other, result)
    finally:
        await connection.close()
        await store.close()


async def named_or_in_force(store: EventStore, champion: str, other: str) -> tuple[str, str]:
    """
    Return *champion* and *other*; for one that is empty, what *store* says is in force.

    Raises:
        NothingToCompare: nothing is in force, or that cannot be read.
        LedgerUnavailable: the store did not answer.
    """
    if champion and other:
        return champion, other
    try:
        in_force = fold_placements(await read_placements(store)).of(Stage.S2)
    except UnreadableCommit as error:
        raise NothingToCompare(f"what is in force cannot be read ({error}); name two models.") from error
    rival = in_force.challenger if in_force.canary is None else in_force.canary.ref
    named = [
        name or ("" if ref is None else ref.model) for name, ref in ((champion, in_force.champion), (other, rival))
    ]
    if not all(named):
        missing = "champion" if not named[0] else "canary or challenger"
        raise NothingToCompare(f"no {missing} is in force; name two models, `impledger models list` has them.")
    return named[0], named[1]


async def _scorer(models: ModelStore, model: str) -> Scorer:
    entry = await models.find(model)
    if entry is None:
        raise NothingToCompare(f"the registry has no model {model}; `impledger models list` has those that there are.")
    try:
        return ready(entry.known.ref, await models.read(model))
    except (NoSuchModel, ValueError) as error:
        raise NothingToCompare(f"{model} cannot be used: {error}") from error
