"""
Answers without the ledger: what a batch could not bring in is decided as far as that goes, journalled, and answered.

Nothing sent: a render is decided on the rung `spooled`. What speaks against it by itself still decides; one that
nothing else speaks against is uncertain, `DEGRADED`. Sent and unanswered: exactly what was sent is kept, for it may be
in the ledger; the answer is uncertain, `DEGRADED`. A view waits. All of it is provisional.
"""

from collections.abc import Sequence
from typing import Protocol
from uuid import uuid4

from msgspec import Struct
from msgspec.structs import replace

from commands.answers import decided, refused, reused
from commands.funding import Funds
from commands.items import Answer, Malformed, Ready, Status
from commands.judge import funded_by, render_of
from commands.keyring import DAY_MS, Keyring
from commands.recent import Recent, RecentSlots
from commands.spool_records import Kept, KeptItem, KeptItems, keep_append, keep_body, keep_item, pack
from commands.stranded import Stranded
from domain.aggregates import AnswersCounted
from domain.decide import decide
from domain.events import ImpressionDeduped
from domain.ids import ImpressionId
from domain.impression import Unseen
from domain.ladder import name_rungs
from domain.pack import Pack
from domain.reasons import Reason, Verdict
from domain.render import Kind
from domain.screen import in_order
from domain.vocabulary import DataSet, Rung
from ledger.store import Append


class Journal(Protocol):
    """Where it is kept: `ledger.spool.Spool`."""

    async def write(self, *payloads: bytes) -> None:
        """Keep *payloads*; all are on disk when this returns. Raises `SpoolRefused`: none is kept."""


class _Answered(Struct, frozen=True, gc=False):
    digest: str
    answer: Answer


class SpooledAnswers:
    """
    Keeps what is stranded and answers it; a `Spooling`.

    *label* names this process's spool: as the stream of what it counts, and in `funding.lease` of what it decides where
    *funds* are leased. It remembers up to *answers_max* answers, so that a retry gets the same and is not kept twice.
    """

    def __init__(  # noqa: PLR0913 (its collaborators)
        self,
        journal: Journal,
        *,
        keyring: Keyring,
        pack: Pack,
        funds: Funds | None,
        label: str,
        answers_max: int,
    ) -> None:
        self._journal = journal
        self._keyring = keyring
        self._pack = pack
        self._funds = funds
        self._label = label
        self._answered = Recent[int, _Answered](answers_max)

    async def take(self, stranded: Stranded) -> list[Answer]:
        """
        Keep all of *stranded*; return, when it is on disk, an answer to each of `ready`, in order.

        Raises:
            SpoolRefused: the journal does not take it; nothing of it is kept.
            LedgerUnavailable: what could not be read cannot be sealed, for today's key is not at hand.
        """
        batch = _Batch(self, stranded)
        answers = [batch.answer(item) for _, item in stranded.ready]
        kept = batch.kept()
        if kept:
            await self._journal.write(*pack(kept))
        for item, answer in batch.fresh:
            self._answered.put(item.claim.cause.int, _Answered(item.claim.digest, answer))
            stranded.remember(item, answer)
        return answers

    def known(self, item: Ready) -> Answer | None:
        """Return what the spool answered to the event of *item*, refused if that had another content."""
        before = self._answered.get(item.claim.cause.int)
        if before is None:
            return None
        if before.digest != item.claim.digest:
            return refused(item.claim.cause, item.impression, Reason.EVENT_ID_REUSED)
        return before.answer

    def keep(self, item: Ready) -> KeptItem:
        return keep_item(item, self._keyring)

    def seal(self, malformed: Sequence[Malformed], now: int) -> list[Kept]:
        return [keep_body(item, now // DAY_MS, self._keyring) for item in malformed]

    def decide(self, item: Ready, slots: RecentSlots, now: int) -> tuple[Append, Answer]:
        """Decide *item* as the first render of its impression; the ledger will say whether it is."""
        command = render_of(item, self._pack, slots, now=now)
        reasons = in_order({*command.scored.reasons, Reason.DEGRADED})
        named = name_rungs(Rung.SPOOLED, command.scored.rung, *command.scored.rungs)
        scored = replace(command.scored, reasons=reasons, rung=named.rung, rungs=named.beside)
        command = replace(command, scored=scored)
        if self._funds is not None and item.data_set is DataSet.LIVE:
            funded = self._funds.unleased(item.claim, item.claim.event_at, reasons, self._label)
            command = funded_by(command, funded)
        events = decide(Unseen(), command)
        last = events[-1]
        assert isinstance(last, ImpressionDeduped)
        claim = item.claim
        append = Append(stream=item.impression, expected=0, cause=claim.cause, digest=claim.digest, events=events)
        return append, decided(item, last.verdict, last.reason, Rung.SPOOLED)

    def counted(self, refused_renders: int, now: int) -> Append | None:
        """Return what counts renders that were refused here."""
        if not refused_renders:
            return None
        event = AnswersCounted(
            cause=uuid4(), digest="", refused={Reason.EVENT_ID_REUSED: refused_renders}, counted_at=now
        )
        return Append(
            stream=f"rejects-{self._label}", expected=0, cause=event.cause, digest=event.digest, events=(event,)
        )


class _Batch:
    """One batch on its way into the journal."""

    def __init__(self, spool: SpooledAnswers, stranded: Stranded) -> None:
        self._spool = spool
        self._stranded = stranded
        self._sent = {append.stream: append for append in stranded.sent}
        self._members: dict[ImpressionId, list[KeptItem]] = {}
        self._kept: list[Kept] = []
        self._reused: list[Malformed] = []
        self._seen: dict[int, _Answered] = {}
        self.fresh: list[tuple[Ready, Answer]] = []

    def answer(self, item: Ready) -> Answer:
        known = self._known(item)
        is_sent = item.impression in self._sent
        if is_sent:
            self._members.setdefault(item.impression, []).append(self._spool.keep(item))
        elif known is not None:
            if known.status is Status.REFUSED:
                self._reused.append(reused(item))
            return known
        answer = self._fresh(item) if known is None or known.status is Status.REFUSED else known
        self._seen[item.claim.cause.int] = _Answered(item.claim.digest, answer)
        self.fresh.append((item, answer))
        return answer

    def kept(self) -> list[Kept]:
        """Return all that must be kept, in order per impression."""
        stranded = self._stranded
        sent = [
            keep_append(append, sent_at=stranded.now, items=self._members.get(impression, ()))
            for impression, append in self._sent.items()
            if not isinstance(impression, str)
        ]
        counts = [*stranded.counts, self._spool.counted(len(self._reused), stranded.now)]
        bodies = self._spool.seal([*stranded.malformed, *self._reused], stranded.now)
        return [*sent, *self._kept, *[keep_append(append) for append in counts if append], *bodies]

    def _known(self, item: Ready) -> Answer | None:
        here = self._seen.get(item.claim.cause.int)
        if here is not None and here.digest == item.claim.digest:
            return here.answer
        if here is not None:
            return refused(item.claim.cause, item.impression, Reason.EVENT_ID_REUSED)
        first = self._stranded.first(item.impression)
        if first is not None and first.event_id == item.claim.cause.int and first.digest != item.claim.digest:
            return refused(item.claim.cause, item.impression, Reason.EVENT_ID_REUSED)
        return self._spool.known(item)

    def _fresh(self, item: Ready) -> Answer:
        if item.kind is Kind.VIEW:
            if item.impression not in self._sent:
                self._kept.append(KeptItems(items=(self._spool.keep(item),)))
            return _waits(item)
        if item.impression in self._sent:
            return decided(item, Verdict.UNCERTAIN, Reason.DEGRADED, Rung.SPOOLED)
        append, answer = self._spool.decide(item, self._stranded.slots, self._stranded.now)
        self._kept.append(keep_append(append, items=[self._spool.keep(item)]))
        return answer


def _waits(item: Ready) -> Answer:
    return Answer(
        event_id=item.claim.cause,
        impression_id=item.impression,
        status=Status.PARKED,
        reason=Reason.DEGRADED,
        provisional=True,
        rung=Rung.SPOOLED,
    )
