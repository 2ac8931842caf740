"""Commands about which models are in force, and what they lead to; `domain/placements.py` has what follows from it."""

from enum import StrEnum
from typing import TypeAlias, assert_never

from msgspec import Struct

from domain.ids import CauseId
from domain.placement_events import ModelPlaced, ModelRef, Role, Stage
from domain.placements import SHARE_MAX, InForce, Placements, has_role, role_of

PLACEMENTS_MAX = 8_000
"""Events of the stream, so that it is read in one go. What takes a model away is taken beyond that, too."""
REASON_MAX = 500


class PlacementRefusal(StrEnum):
    UNKNOWN_MODEL = "UNKNOWN_MODEL"
    SCHEMA_MISMATCH = "SCHEMA_MISMATCH"
    """It reads other features than this program computes."""
    REQUEST_REUSED = "REQUEST_REUSED"
    """The request's id came before with another content."""
    NO_CHAMPION = "NO_CHAMPION"
    IS_CHAMPION = "IS_CHAMPION"
    NOT_PLACED = "NOT_PLACED"
    NOTHING_BEFORE = "NOTHING_BEFORE"
    CHANGED_SINCE = "CHANGED_SINCE"
    BAD_SHARE = "BAD_SHARE"
    BAD_REASON = "BAD_REASON"
    ROLE_OF_STAGE = "ROLE_OF_STAGE"
    """Nothing of that stage is decided in shares, or compared while it is decided."""
    TOO_MANY = "TOO_MANY"


class PlacementRefused(Exception):
    """The command cannot be done as things stand; nothing was changed."""

    def __init__(self, refusal: PlacementRefusal, why: str) -> None:
        super().__init__(why)
        self.refusal = refusal


class KnownModel(Struct, frozen=True):
    """What the registry knows of a model that is to be placed."""

    ref: ModelRef
    stage: Stage


class PlaceModel(Struct, frozen=True, kw_only=True):
    """
    Give *model* the role champion, challenger or canary.

    *known* is what the registry has of it, *schema* that of the features that are made here for the model's stage.
    """

    cause: CauseId
    digest: str
    by: str
    reason: str
    decided_at: int
    model: str
    role: Role
    share: float = 0.0
    known: KnownModel | None = None
    schema: str = ""


class RetireModel(Struct, frozen=True, kw_only=True):
    """Take whatever role it has from *model*; without a champion rules alone decide."""

    cause: CauseId
    digest: str
    by: str
    reason: str
    decided_at: int
    model: str
    only_as: Role | None = None
    """Only if it has this role still; else nothing happens."""


class RollBack(Struct, frozen=True, kw_only=True):
    """Take back the latest placement that decides: end the canary or, without one, return to the champion before."""

    cause: CauseId
    digest: str
    by: str
    reason: str
    decided_at: int
    stage: Stage = Stage.S2
    seen: str
    """The model that the caller wants gone: of two who ask at once, one is told that it has happened."""


PlacementCommand: TypeAlias = PlaceModel | RetireModel | RollBack


def decide_placement(state: Placements, command: PlacementCommand) -> tuple[ModelPlaced, ...]:
    """
    Return the event that *command* leads to in *state*; none if its cause is absorbed or it changes nothing.

    Raises:
        PlacementRefused: with the reason; nothing happened.
    """
    known = state.absorbed.get(command.cause)
    if known is not None:
        if known != command.digest:
            raise PlacementRefused(PlacementRefusal.REQUEST_REUSED, "the request's id came before with another content")
        return ()
    if not 1 <= len(command.reason) <= REASON_MAX or "\0" in command.reason:
        why = f"a reason has 1 to {REASON_MAX} characters, and no U+0000, which databases do not take"
        raise PlacementRefused(PlacementRefusal.BAD_REASON, why)
    match command:
        case PlaceModel():
            return _place(state, command)
        case RetireModel():
            return _retire(state, command)
        case RollBack():
            return _roll_back(state.of(command.stage), command)
        case _:
            assert_never(command)


def _place(state: Placements, command: PlaceModel) -> tuple[ModelPlaced, ...]:
    known = _usable(command)
    if state.version >= PLACEMENTS_MAX:
        raise PlacementRefused(PlacementRefusal.TOO_MANY, f"there are {PLACEMENTS_MAX} placements, and no more")
    in_force = state.of(known.stage)
    if command.role is not Role.CHAMPION:
        _check_beside(in_force, known, command)
    if has_role(in_force, known.ref, command.role, command.share):
        return ()
    return (_event(command, known.stage, command.role, known.ref, share=command.share),)


def _usable(command: PlaceModel) -> KnownModel:
    """Refuse what does not depend on which models are in force."""
    known = command.known
    if known is None:
        raise PlacementRefused(PlacementRefusal.UNKNOWN_MODEL, "the registry has no such model")
    if known.ref.features != command.schema:
        why = f"the model reads {known.ref.features}, this program computes {command.schema or 'nothing for its stage'}"
        raise PlacementRefused(PlacementRefusal.SCHEMA_MISMATCH, why)
    if command.role is Role.CANARY and not 0.0 < command.share <= SHARE_MAX:
        raise PlacementRefused(PlacementRefusal.BAD_SHARE, f"a canary's share is over 0 and at most {SHARE_MAX}")
    if command.role is not Role.CANARY and command.share:
        raise PlacementRefused(PlacementRefusal.BAD_SHARE, "only a canary has a share")
    if command.role is Role.NONE:
        raise PlacementRefused(PlacementRefusal.NOT_PLACED, "retire the model instead")
    return known


def _check_beside(in_force: InForce, known: KnownModel, command: PlaceModel) -> None:
    if known.stage is not Stage.S2:
        why = f"a model of stage {known.stage.value} is champion or nothing"
        raise PlacementRefused(PlacementRefusal.ROLE_OF_STAGE, why)
    if in_force.champion is None:
        why = f"there is no champion that a {command.role.value} could be compared with"
        raise PlacementRefused(PlacementRefusal.NO_CHAMPION, why)
    if in_force.champion.model == known.ref.model:
        raise PlacementRefused(PlacementRefusal.IS_CHAMPION, "the model is champion; promote another first")


def _retire(state: Placements, command: RetireModel) -> tuple[ModelPlaced, ...]:
    for stage, in_force in state.stages.items():
        role = role_of(in_force, command.model)
        if role is not Role.NONE and command.only_as in {None, role}:
            return (_event(command, stage, Role.NONE, _ref_of(in_force, role)),)
    if command.only_as is not None:
        return ()
    raise PlacementRefused(PlacementRefusal.NOT_PLACED, "the model has no role")


def _roll_back(in_force: InForce, command: RollBack) -> tuple[ModelPlaced, ...]:
    canary = in_force.canary
    latest = in_force.champion if canary is None else canary.ref
    if canary is None and len(in_force.champions) < 2:
        raise PlacementRefused(PlacementRefusal.NOTHING_BEFORE, "there is no champion before; retire the model instead")
    if command.seen != ("" if latest is None else latest.model):
        now = "rules alone decide" if latest is None else f"the latest is {latest.model}"
        raise PlacementRefused(PlacementRefusal.CHANGED_SINCE, f"placements have changed since: {now}")
    if canary is not None:
        return (_event(command, command.stage, Role.NONE, canary.ref),)
    return (_event(command, command.stage, Role.CHAMPION, in_force.champions[-2], rolled_back=True),)


def _event(  # noqa: PLR0913 (what an event has beside its command)
    command: PlacementCommand,
    stage: Stage,
    role: Role,
    ref: ModelRef | None,
    *,
    share: float = 0.0,
    rolled_back: bool = False,
) -> ModelPlaced:
    return ModelPlaced(
        cause=command.cause,
        digest=command.digest,
        by=command.by,
        reason=command.reason,
        decided_at=command.decided_at,
        stage=stage,
        role=role,
        model=ref,
        share=share,
        rolled_back=rolled_back,
    )


def _ref_of(in_force: InForce, role: Role) -> ModelRef | None:
    match role:
        case Role.CHAMPION:
            return in_force.champion
        case Role.CHALLENGER:
            return in_force.challenger
        case Role.CANARY:
            return None if in_force.canary is None else in_force.canary.ref
        case Role.NONE:
            return None
        case _:
            assert_never(role)
