"""
Which models are in force, as the events of the `config-models` stream say.

`evolve` accepts exactly what `decide` (`domain/placing.py`) emits. A model has one role at a time. A canary is measured
against the champion that it was placed beside, so a new champion ends it.
"""

from collections.abc import Iterable, Mapping
from functools import reduce
from typing import assert_never

from msgspec import Struct
from msgspec.structs import replace

from domain.ids import CauseId
from domain.impression import ImpossibleTransition
from domain.placement_events import ModelPlaced, ModelRef, Role, Stage

SHARE_MAX = 0.5
"""A canary decides for half of the impressions at most."""
CHAMPIONS_MAX = 32
"""So many champions back one can roll."""


class Canary(Struct, frozen=True):
    ref: ModelRef
    share: float
    since: int


class InForce(Struct, frozen=True, kw_only=True):
    """
    What one stage has. `champions` ends with the one in force; None in it stands for rules alone.

    `challenger_since` and `canary.since` (epoch ms) tell when they got their role.
    """

    champions: tuple[ModelRef | None, ...] = ()
    champion_since: int = 0
    challenger: ModelRef | None = None
    challenger_since: int = 0
    canary: Canary | None = None

    @property
    def champion(self) -> ModelRef | None:
        return self.champions[-1] if self.champions else None

    @property
    def before(self) -> tuple[ModelRef, ...]:
        """Champions before the one in force, the latest first."""
        return tuple([ref for ref in reversed(self.champions[:-1]) if ref is not None and ref != self.champion])


class Placements(Struct, frozen=True):
    """What all events of the stream say; `version` counts them, `absorbed` has the digest of each cause."""

    stages: Mapping[Stage, InForce] = {}
    absorbed: Mapping[CauseId, str] = {}
    version: int = 0

    def of(self, stage: Stage) -> InForce:
        return self.stages.get(stage, _NOTHING)


_NOTHING = InForce()
NO_PLACEMENTS = Placements()


def evolve_placements(state: Placements, event: ModelPlaced) -> Placements:
    """
    Return *state* after *event*.

    Raises:
        ImpossibleTransition: `decide_placement` would not have emitted *event*.
    """
    changed = _evolve(state.of(event.stage), event)
    return Placements(
        stages={**state.stages, event.stage: changed},
        absorbed={**state.absorbed, event.cause: event.digest},
        version=state.version + 1,
    )


def fold_placements(events: Iterable[ModelPlaced], state: Placements = NO_PLACEMENTS) -> Placements:
    """
    Return the state after *events*.

    Raises:
        ImpossibleTransition: an event cannot follow on what is before it.
    """
    return reduce(evolve_placements, events, state)


def role_of(in_force: InForce, model: str) -> Role:
    """Return the role that *model* has, `none` if it has none."""
    if in_force.champion is not None and in_force.champion.model == model:
        return Role.CHAMPION
    if in_force.canary is not None and in_force.canary.ref.model == model:
        return Role.CANARY
    if in_force.challenger is not None and in_force.challenger.model == model:
        return Role.CHALLENGER
    return Role.NONE


def has_role(in_force: InForce, ref: ModelRef, role: Role, share: float) -> bool:
    if role_of(in_force, ref.model) is not role:
        return False
    return in_force.canary is None or role is not Role.CANARY or in_force.canary.share == share


def _evolve(in_force: InForce, event: ModelPlaced) -> InForce:
    if event.rolled_back:
        return _rolled_back(in_force, event)
    ref = event.model
    if ref is None:
        raise ImpossibleTransition(in_force, event, "it names no model")
    has = role_of(in_force, ref.model)
    if has is event.role and has is not Role.CANARY:
        raise ImpossibleTransition(in_force, event, f"it is {has.value} already")
    match event.role:
        case Role.CHAMPION:
            return _crowned(in_force, (*in_force.champions, ref), event.decided_at)
        case Role.CHALLENGER | Role.CANARY:
            return _beside(in_force, event, ref, has)
        case Role.NONE:
            return _without(in_force, has, event.decided_at)
        case _:
            assert_never(event.role)


def _beside(in_force: InForce, event: ModelPlaced, ref: ModelRef, has: Role) -> InForce:
    if in_force.champion is None or has is Role.CHAMPION:
        raise ImpossibleTransition(in_force, event, "there is no other champion")
    left = _without(in_force, has, event.decided_at)
    if event.role is Role.CHALLENGER:
        return replace(left, challenger=ref, challenger_since=event.decided_at)
    if not 0.0 < event.share <= SHARE_MAX or has_role(in_force, ref, Role.CANARY, event.share):
        raise ImpossibleTransition(in_force, event, "its share cannot be, or is the same as before")
    return replace(left, canary=Canary(ref, event.share, event.decided_at))


def _rolled_back(in_force: InForce, event: ModelPlaced) -> InForce:
    champions = in_force.champions
    if event.role is not Role.CHAMPION or in_force.canary is not None:
        raise ImpossibleTransition(in_force, event, "a canary is ended first")
    if len(champions) < 2 or champions[-2] != event.model:
        raise ImpossibleTransition(in_force, event, "it was not champion before")
    return _crowned(in_force, champions[:-1], event.decided_at)


def _crowned(in_force: InForce, champions: tuple[ModelRef | None, ...], at: int) -> InForce:
    """Nothing stands beside itself, or beside a champion that is not there."""
    crowned = replace(in_force, champions=champions[-CHAMPIONS_MAX:], champion_since=at, canary=None)
    if champions[-1] is None or champions[-1] == crowned.challenger:
        return replace(crowned, challenger=None, challenger_since=0)
    return crowned


def _without(in_force: InForce, role: Role, at: int) -> InForce:
    match role:
        case Role.CHAMPION:
            return _crowned(in_force, (*in_force.champions, None), at)
        case Role.CHALLENGER:
            return replace(in_force, challenger=None, challenger_since=0)
        case Role.CANARY:
            return replace(in_force, canary=None)
        case Role.NONE:
            return in_force
        case _:
            assert_never(role)
