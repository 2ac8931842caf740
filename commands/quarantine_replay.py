"""
The operator's side of the quarantine: look at a body, explain it, mend it, and send it through the gate once more.

A replay keeps the event id and the token, so it is the same cause on the same stream, whatever the fix: the ledger
appends it once and answers every further attempt from the stream, or refuses it as another content. That, not the mark
on the entry, is why nothing counts twice; the mark says what became of it.
"""

import secrets
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from typing import Any

import msgspec
from cryptography.exceptions import InvalidTag
from msgspec import Struct

from commands.answers import elsewhere, refused
from commands.intake import Intake
from commands.items import Answer, Deferred, Item, Malformed, Ready, Refused, Status
from commands.keyring import KEY_BYTES, Keyring
from commands.mending import IDENTIFIERS, Document, Flaw, Patch, derived, flaws, masked, mend, read
from commands.quarantine import Sender, unsealed_sender
from commands.quarantine_entries import (
    REUSED,
    BodyGone,
    Entry,
    EntryState,
    FixRefused,
    NotInQuarantine,
    NotReplayable,
    QuarantineStore,
    SealedEntry,
    Settlement,
    as_of,
)
from commands.streams import state_of
from domain.ids import ImpressionId, day_of, minted_at
from domain.impression import Decided, ImpossibleTransition
from domain.reasons import Reason
from domain.render import RENDER_MAX_BYTES
from domain.token import TokenInvalid, check_token
from ledger.codec import UnreadableCommit
from ledger.store import READ_MAX, EventStore, LedgerUnavailable

_REPLAYED = frozenset({Status.DECIDED, Status.RECORDED, Status.PARKED})
_HIDDEN = "<hidden>"
_NOT_AGAIN = (
    "its event id has an answer already, for another content. Under that id it would be refused again, and under a new "
    "one a single event would count as two. What the impression is, `impledger show` says; what is wrong with it, a "
    "correction mends"
)


class Known(StrEnum):
    """What the ledger has of a render that is to be replayed."""

    NOTHING = "nothing"
    """No render of its impression has arrived."""
    IMPRESSION = "impression"
    """Another render of its impression has; this one is a further render."""
    ANSWER = "answer"
    """This very event: the client sent it again, or a replay of it was cut off before it was written down."""
    OTHER_CONTENT = "other_content"
    """This event id, with another content."""


class Explained(Struct, frozen=True, kw_only=True):
    """
    An entry and what is wrong with its body. `body` is the document (a text where it is none), masked unless asked for.

    `fix` is the merge patch that follows from the flaws, masked as the body is, None if none follows; `leaves_out` are
    the fields that it removes. `advice` says what can be done, or why nothing can.
    """

    entry: Entry
    impression_id: ImpressionId | None = None
    flaws: tuple[Flaw, ...] = ()
    body: Any = None
    fix: dict[str, Any] | None = None
    leaves_out: tuple[str, ...] = ()
    advice: str


class Fix(Struct, frozen=True, forbid_unknown_fields=True):
    """What to change: a merge patch, and with `suggested` also the one that follows from the flaws."""

    patch: dict[str, Any] = {}
    suggested: bool = False


class Replayed(Struct, frozen=True, kw_only=True):
    """
    What became of a replay. `known` is what the ledger had of it before, None where it was not asked, or where what it
    has of the impression cannot be read: then the gate defers it.

    `answer` is the gate's; None in a dry run, and where the entry was settled before (`again`). `reasons` hold against
    it by the screen alone.
    """

    entry: Entry
    dry_run: bool = False
    again: bool = False
    known: Known | None = None
    reasons: tuple[Reason, ...] = ()
    answer: Answer | None = None


class Quarantine(Struct, frozen=True, kw_only=True):
    """Explains and replays entries. `submit` is the gate's way in for prepared renders, `clock` gives epoch ms."""

    store: QuarantineStore
    ledger: EventStore
    keyring: Keyring
    intake: Intake
    submit: Callable[[Sequence[Item]], Awaitable[list[Answer]]]
    clock: Callable[[], int]

    async def explain(self, name: str, *, raw: bool = False) -> Explained:
        """
        Say what is wrong with entry *name*; *raw* shows the body as it came.

        Raises:
            NotInQuarantine: there is no such entry.
            LedgerUnavailable: a store did not answer.
        """
        found = await self._find(name)
        try:
            body, sender = await self._open(found)
        except BodyGone as gone:
            return Explained(entry=found.entry, advice=f"{gone}.")
        try:
            document = read(body)
        except NotReplayable as error:
            shown = _as_it_came(body) if raw else f"<{found.entry.size} bytes, hidden>"
            return Explained(entry=found.entry, body=shown, advice=f"It cannot be replayed: {error}.")
        wrong = flaws(document, may_be_history=sender.may_be_history)
        follows = derived(wrong)
        fix, leaves_out = (None, []) if follows is None or _is_lost(found.entry, wrong) else follows
        return Explained(
            entry=found.entry,
            impression_id=self._impression(document),
            flaws=tuple(wrong),
            body=_as_it_came(body) if raw else masked(document, wrong),
            fix=fix if raw else _hidden(fix),
            leaves_out=tuple(leaves_out),
            advice=_advice(found.entry, wrong, fix),
        )

    async def replay(self, name: str, fix: Fix, *, dry_run: bool = False) -> Replayed:
        """
        Mend entry *name* by *fix*, send it through the gate as received when it was, and write down what became of it.

        It is safe to repeat, at any moment and from several places at once.

        Raises:
            NotInQuarantine, BodyGone, NotReplayable, FixRefused: nothing happened; the text says why.
            LedgerUnavailable: it may have happened; repeating it tells.
        """
        found = await self._find(name)
        if found.entry.state is EntryState.REPLAYED:
            return Replayed(entry=found.entry, again=True, dry_run=dry_run)
        _check_may_replay(found.entry)
        body, sender = await self._open(found)
        document = read(body)
        patch = self._patch(document, fix, sender)
        mended, fixed = mend(document, patch, name, may_be_history=sender.may_be_history)
        [item] = await self.intake.prepare([mended], sender.caller(found.entry.received_at))
        match item:
            case Malformed():
                raise FixRefused(f"it still cannot be read. {item.fault.path}: {item.fault.detail}")
            case Deferred():
                raise LedgerUnavailable("the key of its day could not be had in time")
            case Refused():
                answer = refused(item.event_id, item.impression_id, item.reason)
                if item.home is not None:
                    answer = elsewhere(item.event_id, item.impression_id, item.home)
                return await self._settled(found.entry, answer, fixed, None, dry_run=dry_run)
            case Ready():
                return await self._replay(found.entry, item, fixed, dry_run=dry_run)

    async def _replay(self, entry: Entry, item: Ready, fixed: tuple[str, ...], *, dry_run: bool) -> Replayed:
        known = await self._known(item)
        if known is Known.OTHER_CONTENT:
            answer = Answer(
                event_id=item.claim.cause,
                impression_id=item.impression,
                status=Status.REFUSED,
                reason=Reason.EVENT_ID_REUSED,
            )
            return await self._settled(entry, answer, fixed, known, dry_run=dry_run)
        if dry_run:
            return Replayed(entry=entry, dry_run=True, known=known, reasons=item.reasons)
        day = day_of(minted_at(item.impression))
        await self.ledger.prepare_days(day, day, item.data_set)
        [answer] = await self.submit([item])
        return await self._settled(entry, answer, fixed, known, dry_run=False)

    async def _settled(
        self, entry: Entry, answer: Answer, fixed: tuple[str, ...], known: Known | None, *, dry_run: bool
    ) -> Replayed:
        """Write down what came of an attempt; a refusal that may pass leaves the entry waiting."""
        if not dry_run:
            state = _state_after(answer)
            settlement = Settlement(state=state, outcome=_outcome(answer), fixed=fixed, at=self.clock())
            entry = await self.store.settle(entry.name, settlement) or entry
        return Replayed(entry=entry, dry_run=dry_run, known=known, answer=answer)

    async def _find(self, name: str) -> SealedEntry:
        found = await self.store.find(name)
        if found is None:
            raise NotInQuarantine("nothing is in quarantine under this name; records are cleared away after a while")
        return SealedEntry(as_of(found.entry, self.clock()), found.sealed, found.sender)

    async def _open(self, found: SealedEntry) -> tuple[bytes, Sender]:
        entry = found.entry
        if entry.state is EntryState.EXPIRED or found.sealed is None:
            raise BodyGone("its time is up and the body is deleted; nobody can read or replay it any more")
        await self.keyring.ensure([entry.key_day], self.clock(), secrets.token_bytes(KEY_BYTES))
        keys = self.keyring.of(entry.key_day)
        try:
            if keys is not None:
                return keys.unseal(found.sealed, entry.name), unsealed_sender(found.sender, keys, entry.name)
        except InvalidTag:
            raise BodyGone("the body is damaged, or was sealed under another root key; it cannot be opened") from None
        raise BodyGone("the key of the day on which it came is destroyed; nobody can read or replay it any more")

    def _patch(self, document: Document, fix: Fix, sender: Sender) -> Patch:
        if not fix.suggested:
            return fix.patch
        follows = derived(flaws(document, may_be_history=sender.may_be_history))
        if follows is None:
            raise FixRefused("no fix follows from what is wrong with it; say one")
        return {**follows[0], **fix.patch}

    def _impression(self, document: Document) -> ImpressionId | None:
        try:
            text = msgspec.json.decode(document["token"], type=str)
            return check_token(text, self.intake.token_keys).impression
        except (KeyError, msgspec.DecodeError, UnicodeDecodeError, TokenInvalid):
            return None

    async def _known(self, item: Ready) -> Known | None:
        impression = item.impression
        commits = (await self.ledger.read_streams([impression], READ_MAX)).get(impression, [])
        try:
            state = state_of(commits)
        except (UnreadableCommit, ImpossibleTransition):
            return None
        if not isinstance(state, Decided):
            return Known.NOTHING
        answer = state.absorbed.get(item.claim.cause)
        if answer is None:
            return Known.IMPRESSION
        return Known.ANSWER if answer.digest == item.claim.digest else Known.OTHER_CONTENT


def _as_it_came(body: bytes) -> Any:
    """Return the document in *body*, or as much of the text as can be shown where it is none."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body[:RENDER_MAX_BYTES].decode(errors="replace")


def _check_may_replay(entry: Entry) -> None:
    if entry.code == REUSED:
        raise NotReplayable(_NOT_AGAIN)
    if entry.state is EntryState.SUPERSEDED:
        raise NotReplayable("its event id has been answered with another content since; the event counts there")


def _state_after(answer: Answer) -> EntryState:
    if answer.status in _REPLAYED:
        return EntryState.REPLAYED
    return EntryState.SUPERSEDED if answer.reason is Reason.EVENT_ID_REUSED else EntryState.WAITING


def _outcome(answer: Answer) -> str:
    words = [answer.status.value, answer.verdict and answer.verdict.value, answer.reason and answer.reason.value]
    return " ".join(word for word in words if word)


def _hidden(fix: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return *fix* for a look at it: what is an identifier in the body is one in the fix."""
    if fix is None:
        return None
    return {name: _HIDDEN if name in IDENTIFIERS and value is not None else value for name, value in fix.items()}


def _is_lost(entry: Entry, wrong: Sequence[Flaw]) -> bool:
    return entry.code == REUSED or any(flaw.field == "token" for flaw in wrong)


def _advice(entry: Entry, wrong: Sequence[Flaw], fix: dict[str, Any] | None) -> str:
    if entry.state is not EntryState.WAITING:
        return f"It is settled: {entry.state.value}, {entry.outcome}."
    if entry.code == REUSED:
        return f"It cannot be replayed: {_NOT_AGAIN}."
    if any(flaw.field == "token" for flaw in wrong):
        return "It cannot be replayed: it has no readable token; only delivery can say which ad instance was shown."
    if not wrong:
        return "This program can read it as it is; replay it without a fix."
    if fix is None:
        return "Say what the marked fields should have been (--set FIELD=JSON, null leaves one out), then replay it."
    return "Replay it with --suggested, or say a fix of your own."
