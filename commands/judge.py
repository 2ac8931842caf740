"""From a prepared render to the command that admits it: what speaks against it beyond its own screen."""

from msgspec.structs import replace

from commands.activity import Conduct
from commands.funding import Funded
from commands.items import Ready
from commands.recent import RecentSlots
from domain.decide import AdmitRender, RecordView, measures_of
from domain.events import ImpressionScored
from domain.ladder import is_measured, name_rungs
from domain.pack import Pack
from domain.reasons import Reason
from domain.screen import cut_of, in_order
from domain.suspicion import geometry, suspect
from domain.vocabulary import Rung

_PLAIN = Conduct()


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
    conduct: Conduct = _PLAIN,
    rungs: tuple[Rung, ...] = (),
    *,
    now: int,
) -> AdmitRender:
    """
    Return the command that admits a render, with all reasons that hold against it in order of precedence.

    *rungs* are those that its whole batch is on. As if measures were missing, no signal is made of them.
    """
    claim, against = item.claim, set[Reason]()
    original = slots.original_of(item)
    if original is not None:
        against.add(Reason.DOUBLE_FIRE)
    if conduct.abusive:
        against.add(Reason.RATE_ABUSIVE)
    rungs = (item.rung, *rungs, *conduct.rungs)
    is_without_measures = Rung.PARTIAL_CLIENT in rungs
    signals = conduct.signals if is_without_measures else geometry(claim, pack) + conduct.signals
    if not is_without_measures and not is_measured(claim):
        rungs = (*rungs, Rung.PARTIAL_CLIENT)
    rung, beside = name_rungs(*rungs)
    suspicion = suspect(signals, pack) if signals else None
    if suspicion is not None:
        against.add(suspicion.reason)
    scored = ImpressionScored(
        reasons=in_order({*item.reasons, *against}) if against else item.reasons,
        versions=item.versions,
        rung=rung,
        rungs=beside,
        signals=signals,
        pair=() if suspicion is None else suspicion.pair,
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
