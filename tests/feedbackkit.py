"""Feedback for tests, the impressions that it speaks of, and all that applies it, in memory."""

from uuid import UUID

import msgspec
from builders import MINTED, a_token, admit

from commands.dead_letters import MemoryLetters
from commands.dispatch import Dispatcher
from commands.feedback import FeedbackInbox
from commands.feedback_memory import MemoryFeedback
from commands.feedback_store import FeedbackState, Kept
from commands.labelling import FeedbackActor, Labeller
from commands.messages import MemoryMessages
from commands.reevaluations import MemoryReevaluations
from domain.decide import decide
from domain.events import ImpressionLabelled
from domain.feedback import Feedback, digest
from domain.ids import day_of, mint
from domain.impression import Unseen
from domain.reevaluation import Why
from domain.vocabulary import DataSet, LabelSource
from ledger.codec import decode_impression
from ledger.memory import MemoryStore
from ledger.store import READ_MAX, Append

NOW = MINTED + 3_600_000
TOKEN_AGE_MS = 7 * 86_400_000
CLOCK_AHEAD_MS = 300_000
DAYS = day_of(MINTED), day_of(MINTED)


def an_impression(number):
    return mint(MINTED, 7, number)


def wire(number=1, impression=1, **changes):
    """Feedback as a sender has it, from a third party about an impression unless told otherwise."""
    fields = {
        "id": str(UUID(int=number)),
        "type": "third_party",
        "impression_id": None if impression is None else str(an_impression(impression)),
        "observed_at": NOW - 1_000,
    }
    return {name: value for name, value in {**fields, **changes}.items() if value is not None}


def traffic(**changes):
    """A predicate: one SDK version on one surface in one hour."""
    fields = {"sdk": "ios/12.3", "surface": "reels", "since": NOW - 3_600_000, "until": NOW}
    return {name: value for name, value in {**fields, **changes}.items() if value is not None}


def about_traffic(number=1, **changes):
    return wire(number, None, **{"type": "sdk_bug", "traffic": traffic(), **changes})


def raw(*documents):
    return [msgspec.json.encode(document) for document in documents]


def kept(number=1, impression=1, *, received_at=NOW, **changes):
    """Feedback as it is kept when it comes."""
    of_feedback = {name: changes.pop(name) for name in ("type", "observed_at", "traffic", "label") if name in changes}
    feedback = msgspec.convert(wire(number, impression, **of_feedback), Feedback)
    is_held = feedback.impression_id is None
    fields = {
        "feedback": feedback,
        "digest": digest(feedback),
        "sent_by": "k1",
        "received_at": received_at,
        "orphan_at": None if is_held else received_at + TOKEN_AGE_MS,
        "state": FeedbackState.HELD if is_held else FeedbackState.WAITING,
        "due_at": None if is_held else received_at,
    }
    return Kept(**{**fields, **changes})


async def open_days(ledger):
    await ledger.prepare_days(*DAYS, DataSet.LIVE)


def a_first_render(number):
    """The append that makes impression *number* one that has rendered."""
    impression = an_impression(number)
    command = admit(token=a_token(impression=impression))
    rendered = command.rendered
    return Append(
        stream=impression,
        expected=0,
        cause=rendered.cause,
        digest=rendered.digest,
        events=decide(Unseen(), command),
    )


async def labels_of(ledger, number):
    commits = (await ledger.read_streams([an_impression(number)], READ_MAX)).get(an_impression(number), [])
    events = [event for commit in commits for event in decode_impression(commit.data)]
    return [event for event in events if isinstance(event, ImpressionLabelled)]


def an_inbox(feedback, *, pending_max=1_000, clock=lambda: NOW):
    ages = {"token_age_max_ms": TOKEN_AGE_MS, "clock_ahead_max_ms": CLOCK_AHEAD_MS}
    return FeedbackInbox(feedback, **ages, pending_max=pending_max, clock=clock)


class Kit:
    """Inbox, scheduler and worker over stores in memory, or over those that are handed in."""

    def __init__(self, *, ledger=None, feedback=None, messages=None, letters=None, reevaluations=None):
        self.now = NOW
        self.ledger = ledger or MemoryStore()
        self.feedback = feedback or MemoryFeedback()
        self.messages = messages or MemoryMessages()
        self.letters = letters or MemoryLetters()
        self.reevaluations = reevaluations or MemoryReevaluations()
        self.noted = []
        self.inbox = an_inbox(self.feedback, clock=self.clock)
        self.dispatcher = self.a_dispatcher()
        self.labeller = self.a_labeller()
        self.actor = FeedbackActor(self.labeller, self.messages, self.noted.append)

    def clock(self):
        return self.now

    def a_dispatcher(self):
        return Dispatcher(
            feedback=self.feedback,
            letters=self.letters,
            reevaluations=self.reevaluations,
            messages=self.messages,
            clock=self.clock,
        )

    def a_labeller(self):
        async def touched(impressions, now):
            await self.reevaluations.note(impressions, Why.LABEL, now, now)

        return Labeller(ledger=self.ledger, feedback=self.feedback, touched=touched, clock=self.clock)

    async def open(self, *rendered):
        """Make room for the day, and impressions of these numbers rendered."""
        await open_days(self.ledger)
        await self.render(*rendered)

    async def render(self, *numbers):
        if numbers:
            await self.ledger.append([a_first_render(number) for number in numbers], self.now)

    async def send(self, *documents):
        return await self.inbox.take(raw(*documents), "k1")

    async def apply(self, *numbers):
        return await self.labeller.apply([UUID(int=number) for number in numbers])

    async def work(self):
        """Enqueue what is due and do all that is enqueued; return the errors that messages ended in."""
        await self.dispatcher.sweep()
        died = []
        queue = self.messages.queues.get("feedback", [])
        while queue:
            message = queue.popleft()
            try:
                await self.actor([UUID(one) for one in message.args[0]])
            except Exception as error:  # noqa: BLE001 (as a broker's worker does)
                died.append((message, error))
        return died

    async def states(self):
        return {id_.int: one.state for id_, one in self.feedback.kept.items()}


SOURCES = tuple(source for source in LabelSource if source is not LabelSource.VIEW)
