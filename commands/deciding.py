"""What a batch's renders of one impression come to, one after the other, over the state that the ledger has."""

from commands.activity import PLAIN
from commands.answers import decided, not_taken
from commands.funding import Funds
from commands.items import Answer, Ready
from commands.judge import funded_by, render_of, view_of
from commands.recent import FirstAnswer, RecentSlots
from commands.turns import Batch, Group
from domain.decide import AdmitRender, CommandRefused, decide
from domain.events import (
    ImpressionDeduped,
    ImpressionEvent,
    ImpressionReconciled,
    ImpressionRendered,
    ImpressionScored,
)
from domain.funding import committed_micros
from domain.impression import Decided, Impression, Unseen, conflicts, counts_again, fold, lacks_proof
from domain.pack import Pack
from domain.reasons import Reason, Verdict
from domain.render import Kind
from domain.standing import in_gross
from domain.vocabulary import DataSet


class GroupDecider:
    """Decides groups by *pack*. *slots* says what was shown where, *funds* has the money, if budgets are kept."""

    def __init__(self, pack: Pack, slots: RecentSlots, funds: Funds | None) -> None:
        self._pack = pack
        self._slots = slots
        self._funds = funds

    def decide(self, group: Group, batch: Batch) -> None:
        """Run the members, in order, over the state that the ledger has; they fold into one append."""
        state = group.state
        group.events, group.shown, group.rendered, group.grants, group.first = (), (), (), (), None
        group.unmoved, group.repeats = 0, []
        for at, item in group.members:
            try:
                new = self._run(group, state, at, item, batch)
            except CommandRefused as error:
                batch.answers[at] = not_taken(item, error)
                continue
            if not new:
                batch.answers[at] = self._known(group, item, state)
                continue
            batch.answers[at] = self._made(group, item, new)
            if len(group.members) > 1:
                state = fold(new, state)

    def _made(self, group: Group, item: Ready, new: tuple[ImpressionEvent, ...]) -> Answer:
        """Note what came of *item*; the answer follows from the last event."""
        group.events += new
        rung = None
        if isinstance(first := new[0], ImpressionRendered):
            group.rendered += (first,)
            scored = new[1]
            assert isinstance(scored, ImpressionScored), "a score follows on its render"
            rung = scored.rung
        match last := new[-1]:
            case ImpressionDeduped():
                if last.before is None:
                    group.first = FirstAnswer(last.cause.int, last.digest, last.verdict, last.reason, rung)
                if isinstance(first, ImpressionRendered) and in_gross(last.after):  # a repeat shows nothing anew
                    group.shown += (item,)
                return decided(item, last.verdict, last.reason, rung)
            case ImpressionReconciled():
                if in_gross(last.after):
                    group.shown += (item,)
                return decided(item, last.after.verdict, last.after.reason, rung)
            case _:
                return decided(item, None, None)

    def _run(self, group: Group, state: Impression, at: int, item: Ready, batch: Batch) -> tuple[ImpressionEvent, ...]:
        """Decide one member; what its decision commits is set aside."""
        if item.kind is Kind.VIEW:
            return decide(state, view_of(item, self._pack, batch.now))
        conduct = batch.conduct.get(at, PLAIN)
        command = render_of(item, self._pack, self._slots, conduct, batch.rungs, now=batch.now)
        if self._funds is None or not is_paid(item, state):
            return decide(state, command)
        if not _counts_anew(state):
            return self._proved(group, state, command, self._funds)
        funded = self._funds.fund(item.claim, item.claim.event_at, command.scored.reasons)
        try:
            new = decide(state, funded_by(command, funded))
        except CommandRefused:
            if funded.grant is not None:
                self._funds.settle([funded.grant], is_appended=False)
            raise
        if funded.grant is not None:
            group.grants += (funded.grant,)
            last = new[-1] if new else None
            after = last.after if isinstance(last, ImpressionDeduped) else None
            self._funds.keep(funded.grant, committed_micros(after))
        return new

    def _proved(
        self, group: Group, state: Impression, command: AdmitRender, funds: Funds
    ) -> tuple[ImpressionEvent, ...]:
        """
        Decide what may be a proof: in the flight that the registry knows, on the money that was set aside before.

        What was set aside in this append is kept only as far as it is still needed.
        """
        if isinstance(state, Decided) and lacks_proof(state):
            claim = command.rendered
            command = funded_by(command, funds.unleased(claim, claim.event_at, command.scored.reasons, ""))
        new = decide(state, command)
        if new and group.grants and isinstance(last := new[-1], ImpressionReconciled):
            funds.keep(group.grants[-1], committed_micros(last.after))
        return new

    def _known(self, group: Group, item: Ready, state: Impression) -> Answer:
        """The first answer again; or what is only counted: a view that moved nothing, one repeat of too many."""
        assert isinstance(state, Decided)
        first = state.absorbed.get(item.claim.cause)
        if item.kind is Kind.VIEW:
            group.unmoved += first is None
            return decided(item, None, None)
        if first is not None:
            return decided(item, first.verdict, first.reason, first.rung, is_stored=True)
        differs = conflicts(state.cut, item.claim)
        reason = Reason.DUPLICATE_CONFLICT if differs else Reason.DUPLICATE_RENDER
        group.repeats.append((reason, state.repeats))
        return decided(item, Verdict.DUPLICATE, reason)


def is_paid(item: Ready, state: Impression) -> bool:
    """Replayed history takes nobody's money; of which data set an impression is, its first render said."""
    data_set = state.cut.data_set if isinstance(state, Decided) else item.data_set
    return data_set is DataSet.LIVE


def _counts_anew(state: Impression) -> bool:
    """Tell whether a render may take money now; an impression that was decided before has what it takes."""
    return isinstance(state, Unseen) or (isinstance(state, Decided) and counts_again(state))
