"""From a prepared render to the command that admits it: what speaks against it beyond its own screen."""

from functools import lru_cache

from msgspec.structs import replace

from commands.activity import PLAIN, Conduct
from commands.funding import Funded
from commands.items import Ready
from commands.recent import RecentSlots
from commands.thoughts import Thought
from domain.decide import AdmitRender, RecordView, measures_of
from domain.events import ImpressionScored, Versions
from domain.ladder import is_measured, name_rungs
from domain.pack import Pack
from domain.reasons import Reason
from domain.screen import cut_of, in_order
from domain.suspicion import SUSPECTED, fingerprint, geometry, suspect
from domain.vocabulary import Rung

_NO_THOUGHT = Thought(rungs=(Rung.MODEL_FALLBACK,))
"""Of what no model was asked about. Where it was shed, that says so."""


def view_of(item: Ready, pack: Pack, now: int) -> RecordView:
    """Return the command that records a view."""
    claim = item.claim
    return RecordView(
        cause=claim.cause,
        digest=claim.digest,
        measures=measures_of(claim),
        viewed_at=claim.event_at,
        received_at=claim.received_at,
        pack=pack,
        decided_at=now,
    )


def render_of(  # noqa: PLR0913 (all that speaks of a render meets here)
    item: Ready,
    pack: Pack,
    slots: RecentSlots,
    conduct: Conduct = PLAIN,
    rungs: tuple[Rung, ...] = (),
    *,
    now: int,
) -> AdmitRender:
    """
    Return the command that admits a render, with all reasons that hold against it in order of precedence.

    *rungs* are those that its whole batch is on. As if measures were missing, no signal is made of them.
    """
    claim, against = item.claim, set[Reason]()
    thought = _NO_THOUGHT if conduct.thought is None else conduct.thought
    original = slots.original_of(item)
    if original is not None:
        against.add(Reason.DOUBLE_FIRE)
    if conduct.abusive:
        against.add(Reason.RATE_ABUSIVE)
    is_without_measures = Rung.PARTIAL_CLIENT in rungs
    signals = fingerprint(claim, pack) + conduct.signals
    if not is_without_measures:
        signals = geometry(claim, pack) + signals
    rungs = (item.rung, *rungs, *conduct.rungs, *thought.rungs)
    if not is_without_measures and not is_measured(claim):
        rungs = (*rungs, Rung.PARTIAL_CLIENT)
    rung, beside = name_rungs(*rungs)
    opinion = thought if thought.band in SUSPECTED and thought.decides else None
    suspicion = suspect(signals, pack, opinion) if signals or opinion is not None else None
    if suspicion is not None:
        against.update(suspicion.reasons)
    scored = ImpressionScored(
        reasons=in_order({*item.reasons, *against}) if against else item.reasons,
        versions=_versions(item.versions.pack, item.versions.lists, thought.model, thought.mask, thought.schema),
        rung=rung,
        rungs=beside,
        signals=signals,
        pair=() if suspicion is None else suspicion.pair,
        risk=thought.risk,
        band="" if thought.band is None else thought.band,
        masked_risk=None if suspicion is None else suspicion.masked_risk,
        propensity=thought.propensity,
        features=thought.features,
        feature_status=thought.status,
        spent_ms=max(0, now - claim.received_at),
    )
    return AdmitRender(claim, scored, cut_of(claim, pack, item.data_set), pack, now, original)


def funded_by(command: AdmitRender, funded: Funded) -> AdmitRender:
    """Return *command* with all that registry and budget say of it."""
    scored, rung = command.scored, funded.funding.rung
    if rung is Rung.FULL:
        scored = replace(scored, reasons=funded.reasons)
    else:
        named = name_rungs(rung, scored.rung, *scored.rungs)
        scored = replace(scored, reasons=funded.reasons, rung=named.rung, rungs=named.beside)
    return replace(command, scored=scored, funding=funded.funding)


@lru_cache(maxsize=256)
def _versions(pack: str, lists: str, model: str, calibration: str, features: str) -> Versions:
    """One object for all renders that are decided by the same."""
    return Versions(pack=pack, lists=lists, model=model, calibration=calibration, features=features)
