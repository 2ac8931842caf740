"""
Senders, gates, schedulers, workers, renders that may not come, and faults before and after each write, from a seed.

Whatever is lost, repeated, done twice or killed half-way: every accepted piece of feedback ends as exactly one label,
or as an orphan whose render did not come; labels equal those of a model; and the books add up at every moment.
"""

import asyncio
import random
from collections import Counter
from contextlib import suppress
from uuid import UUID

import msgspec
import pytest
from feedbackkit import NOW, Kit, a_first_render, about_traffic, an_impression, labels_of, open_days, wire
from test_gate_simulation import FAULT_SHARE, FaultyStore

from commands.feedback import FeedbackStatus
from commands.feedback_memory import MemoryFeedback
from commands.feedback_store import FeedbackState
from commands.labelling import FeedbackActor
from commands.messages import FEEDBACK_QUEUE, BrokerUnavailable, MemoryMessages
from commands.reevaluations import MemoryReevaluations
from domain.feedback import SOURCES as TRUST
from domain.feedback import Feedback, label_id
from ledger.store import READ_MAX, LedgerUnavailable

pytestmark = pytest.mark.slow

SEEDS = 60
SOAK_SEEDS = 5_000
IMPRESSIONS = 12
KINDS = ("third_party", "dispute", "human_signal", "honeypot", "account_action")


class Faults:
    def __init__(self, dice):
        self.dice, self.calm = dice, False

    def maybe(self, error, share=FAULT_SHARE):
        if not self.calm and self.dice.random() < share:
            raise error

    def ledger(self):
        self.maybe(LedgerUnavailable("fault"))

    def broker(self):
        self.maybe(BrokerUnavailable("fault"))


def faulty(cls, names, fault):
    """A class like *cls* whose calls of these *names* fail before or after they are done."""

    def wrapped(name):
        async def call(self, *arguments):
            fault(self.faults)
            done = await getattr(cls, name)(self, *arguments)
            fault(self.faults)
            return done

        return call

    return type(f"Faulty{cls.__name__}", (cls,), {name: wrapped(name) for name in names})


FaultyFeedback = faulty(MemoryFeedback, ("keep", "claim", "unsettled", "move"), Faults.ledger)
FaultyReevaluations = faulty(MemoryReevaluations, ("note",), Faults.ledger)
FaultyMessages = faulty(MemoryMessages, ("send", "depth"), Faults.broker)


class World:
    def __init__(self, seed):
        self.dice = dice = random.Random(seed)
        self.faults = Faults(dice)
        self.ledger = FaultyStore(dice)
        stores = {"feedback": FaultyFeedback(), "reevaluations": FaultyReevaluations(), "messages": FaultyMessages()}
        for store in stores.values():
            store.faults = self.faults
        self.kits = [Kit(ledger=self.ledger, **stores) for _ in range(2)]
        self.feedback, self.messages = stores["feedback"], stores["messages"]
        self.reevaluations = stores["reevaluations"]
        self.coming = [number for number in range(IMPRESSIONS) if dice.random() < 0.75]
        self.sent, self.accepted = {}, {}

    def calm(self, is_calm):
        self.ledger.calm = self.faults.calm = is_calm

    def pass_by(self, ms):
        for kit in self.kits:
            kit.now += ms

    async def step(self):
        name = self.dice.choice(["send", "send", "render", "sweep", "work", "work", "lose", "time", "race"])
        with suppress(LedgerUnavailable, BrokerUnavailable):
            await getattr(self, name)(self.dice.choice(self.kits))

    async def send(self, kit):
        documents = [self.a_document() for _ in range(self.dice.randint(1, 8))]
        answers = await kit.send(*documents)
        for document, answer in zip(documents, answers, strict=True):
            id_ = document["id"]
            if answer.status is FeedbackStatus.REFUSED:
                assert id_ not in self.accepted or self.accepted[id_][0] != document
            else:
                assert self.accepted.setdefault(id_, (document, answer)) == (document, answer)

    def a_document(self):
        number = self.dice.randint(1, 60)
        id_ = str(UUID(int=number))
        if id_ in self.sent and self.dice.random() < 0.8:
            return self.sent[id_]
        if self.dice.random() < 0.1:
            document = about_traffic(number, observed_at=NOW - self.dice.randint(1, 9))
        else:
            kind, impression = self.dice.choice(KINDS), self.dice.randrange(IMPRESSIONS)
            document = wire(number, impression, type=kind, observed_at=NOW - self.dice.randint(1, 9))
        self.sent.setdefault(id_, document)
        return document

    async def render(self, kit):
        if self.coming:
            number = self.dice.choice(self.coming)
            self.coming.remove(number)
            await self.ledger.append([a_first_render(number)], kit.now)

    async def sweep(self, kit):
        await kit.dispatcher.sweep()

    async def work(self, kit):
        queue = self.messages.queues.get(FEEDBACK_QUEUE)
        if queue:
            at = self.dice.randrange(len(queue))
            message = queue[at]
            if self.dice.random() < 0.8:
                del queue[at]  # else it is delivered again
            await self.process(kit, message)

    async def process(self, kit, message):
        actor = FeedbackActor(kit.a_labeller(), self.messages, kit.noted.append)
        await actor([UUID(one) for one in message.args[0]])

    async def race(self, kit):
        """Several workers at the same messages at once; some are killed in the middle."""
        queue = list(self.messages.queues.get(FEEDBACK_QUEUE, ()))
        tasks = [asyncio.create_task(self.process(kit, message)) for message in queue[:3] for _ in range(2)]
        for task in tasks:
            await asyncio.sleep(0)
            if self.dice.random() < 0.3:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def lose(self, _):
        """The broker forgets everything."""
        if self.dice.random() < 0.3:
            self.messages.queues.clear()

    async def time(self, _):
        self.pass_by(self.dice.choice([10, 1_000, 30_000, 200_000, 3_600_000]))

    async def settle(self):
        """Everything answers again, and long enough for every deadline."""
        self.calm(True)
        for _ in range(400):
            await self.kits[0].dispatcher.sweep()
            while queue := self.messages.queues.get(FEEDBACK_QUEUE):
                await self.process(self.kits[0], queue.popleft())
            books = await self.feedback.books()
            if not books.waiting and not books.parked:
                return
            self.pass_by(3_600_000)
        raise AssertionError("something waits for ever")


@pytest.mark.parametrize("seed", range(SEEDS))
def test_feedback_through_any_faults_becomes_one_label_each_or_an_orphan(seed):
    simulate(seed)


@pytest.mark.soak
def test_thousands_of_histories_of_feedback_become_one_label_each_or_an_orphan():
    for seed in range(SEEDS, SOAK_SEEDS):
        simulate(seed)


def simulate(seed):
    async def main():
        world = World(seed)
        world.calm(True)
        await open_days(world.ledger)
        world.calm(False)
        for _ in range(world.dice.randint(30, 160)):
            await world.step()
            books = await world.feedback.books()
            assert books.unaccounted == 0
        await world.settle()
        await check(world)

    asyncio.run(main())


async def check(world):
    kept = world.feedback.kept
    for id_, (document, _) in world.accepted.items():
        assert kept[UUID(id_)].feedback == msgspec.convert(document, Feedback), (
            "what was accepted is kept as it was sent"
        )
    numbers = {an_impression(number): number for number in range(IMPRESSIONS)}
    rendered = {numbers[one] for one in await world.ledger.read_streams(list(numbers), READ_MAX)}
    model = Counter()
    for id_, one in kept.items():
        impression, source = one.feedback.impression_id, one.feedback.type
        if impression is None:
            assert one.state is FeedbackState.HELD
        elif numbers[impression] in rendered:
            assert one.state is FeedbackState.APPLIED
            model[numbers[impression], label_id(id_, impression), source, TRUST[source].weight] += 1
        else:
            assert one.state is FeedbackState.ORPHANED
    found = Counter()
    for number in range(IMPRESSIONS):
        for label in await labels_of(world.ledger, number):
            found[number, label.cause, label.source, label.weight] += 1
    assert found == model, "each label once, and nothing else"
    touched = {one.impression for one in await world.reevaluations.due(world.kits[0].now, 1_000)}
    assert touched == {an_impression(number) for number, *_ in model}
    books = await world.feedback.books()
    assert (books.unaccounted, books.applied, books.waiting, books.parked) == (0, model.total(), 0, 0)
