"""
Renders, labels, schedulers, workers, a model that comes and goes, and faults before and after each write, from a seed.

Whatever is lost, repeated, done twice or killed half-way: everything that is to be looked at again is, ends with
exactly one row that knows the last label, and the ledger has nothing that was not put there by gates and labels.
"""

import asyncio
import random
from contextlib import suppress
from uuid import UUID

import pytest
from builders import cause
from lookkit import NOW, TIMES, Kit, a_first, a_later_model, a_lesson, an_impression, append
from test_feedback_simulation import Faults
from test_gate_simulation import FaultyStore

from commands.messages import REEVALUATIONS_QUEUE, BrokerUnavailable, MemoryMessages
from commands.reevaluated import MemoryReevaluated
from commands.reevaluations import MemoryReevaluations
from domain.events import ImpressionDeduped, ImpressionLabelled, ImpressionScored
from domain.reasons import Reason, Verdict
from domain.reevaluation import Why
from domain.vocabulary import Label, LabelSource, Rung
from ledger.codec import decode_impression
from ledger.following import advance
from ledger.memory import MemoryStore
from ledger.store import LedgerUnavailable, read_everything
from ml.context.store import MemoryLater

SEEDS = 40
SOAK_SEEDS = 4_000
IMPRESSIONS = 14
PEOPLE = ("ann", "bob", "cyd", "")
AGAINST = ((), (), (Reason.RISK_GREY,), (Reason.OMID_UNPROVEN,), (Reason.AREA_INVISIBLE,))
LESSONS = ((LabelSource.THIRD_PARTY, Label.INVALID), (LabelSource.HUMAN_SIGNAL, Label.HUMAN))


def faulty(cls, names, fault):
    """A class like *cls* whose calls of these *names* fail before or after they are done, and let others in between."""

    def wrapped(name):
        async def call(self, *arguments, **options):
            await asyncio.sleep(0)
            fault(self.faults)
            done = await getattr(cls, name)(self, *arguments, **options)
            fault(self.faults)
            await asyncio.sleep(0)
            return done

        return call

    return type(f"Faulty{cls.__name__}", (cls,), {name: wrapped(name) for name in names})


class Noted(MemoryReevaluations):
    """Remembers what each page that was taken gave cause for."""

    def __init__(self):
        super().__init__()
        self.chosen = []

    async def choose(self, page, looks, now):
        is_taken = await super().choose(page, looks, now)
        if is_taken:
            self.chosen += [(impression, look) for impression, look in looks if look.why is not Why.LABEL]
        return is_taken


FaultyNoted = faulty(Noted, ("note", "choose", "followed", "claim", "noted", "done", "postpone"), Faults.ledger)
FaultyFound = faulty(MemoryReevaluated, ("put",), Faults.ledger)
FaultyLater = faulty(MemoryLater, ("take", "followed", "known", "others", "tallies"), Faults.ledger)
FaultyMessages = faulty(MemoryMessages, ("send", "depth"), Faults.broker)


class Ledger(FaultyStore):
    """Lets others in before and after it is read; what gates and labellers do is whole."""

    async def read_streams(self, streams, limit):
        await asyncio.sleep(0)
        found = await super().read_streams(streams, limit)
        if not self.calm:
            await asyncio.sleep(0)
        return found

    async def read_all(self, after, limit):
        await asyncio.sleep(0)
        return await super().read_all(after, limit)


class Whole:
    """The ledger as gates and labellers have it here: it answers, and nobody comes in between."""

    def __init__(self, ledger):
        self.ledger = ledger

    async def append(self, appends, recorded_at):
        return await MemoryStore.append(self.ledger, appends, recorded_at)

    async def read_streams(self, streams, limit):
        return await MemoryStore.read_streams(self.ledger, streams, limit)


class World:
    def __init__(self, seed):
        self.dice = dice = random.Random(seed)
        self.faults = Faults(dice)
        self.ledger = Ledger(dice)
        self.stores = {"noted": FaultyNoted(), "found": FaultyFound(), "later": FaultyLater()}
        self.messages = FaultyMessages()
        for store in (*self.stores.values(), self.messages):
            store.faults = self.faults
        self.kits = [Kit(ledger=self.ledger, messages=self.messages, **self.stores) for _ in range(2)]
        self.coming = list(range(IMPRESSIONS))
        self.landed = []
        self.appended = 0
        self.told = {}

    def calm(self, is_calm):
        self.ledger.calm = self.faults.calm = is_calm

    def pass_by(self, ms):
        for kit in self.kits:
            kit.now += ms

    async def step(self):
        name = self.dice.choice(
            ["render", "render", "label", "follow", "follow", "sweep", "work", "race", "lose", "time", "model"]
        )
        with suppress(LedgerUnavailable, BrokerUnavailable):
            await getattr(self, name)(self.dice.choice(self.kits))

    async def render(self, kit):
        """What gates and labellers write is no part of this: they have simulations of their own."""
        if not self.coming:
            return
        number = self.coming.pop()
        one = a_first(
            number,
            kit.now,
            person=self.dice.choice(PEOPLE),
            also=self.dice.choice(AGAINST),
            shed=self.dice.random() < 0.2,
            propensity=0.003 if self.dice.random() < 0.2 else None,
        )
        await Whole(self.ledger).append([one], kit.now)
        self.landed.append(number)
        self.appended += 1

    async def label(self, kit):
        """As a labeller does: the label first, then the note, again and again until both are there."""
        if not self.landed:
            return
        number, lesson = self.dice.choice(self.landed), a_lesson(*self.dice.choice(LESSONS), kit.now, cause())
        await append(Whole(self.ledger), number, lesson, kit.now)
        self.appended += 1
        commits = self.ledger._streams[an_impression(number)]
        self.told[number] = commits[-1].version + commits[-1].count, kit.now
        while True:
            with suppress(LedgerUnavailable):
                await self.stores["noted"].note([an_impression(number)], Why.LABEL, kit.now, kit.now)
                return

    async def follow(self, kit):
        await advance(self.ledger, kit.followers(), limit=self.dice.choice([1, 2, 5, 100]), clock=kit.clock)

    async def sweep(self, kit):
        await kit.dispatcher.sweep()

    async def work(self, kit):
        queue = self.messages.queues.get(REEVALUATIONS_QUEUE)
        if queue:
            at = self.dice.randrange(len(queue))
            message = queue[at]
            if self.dice.random() < 0.8:
                del queue[at]  # else it is delivered again
            await self.process(kit, message)

    async def process(self, kit, message):
        await kit.a_reevaluator().look([UUID(one) for one in message.args[0]])

    async def race(self, kit):
        """Schedulers and workers at the same work at once; some are killed in the middle."""
        queue = list(self.messages.queues.get(REEVALUATIONS_QUEUE, ()))
        works = [self.process(kit, message) for message in queue[:3] for _ in range(2)]
        works += [self.follow(one) for one in self.kits * 2] + [self.sweep(kit)]
        works += [self.label(kit)] if self.dice.random() < 0.5 else []
        self.dice.shuffle(works)
        tasks = [asyncio.create_task(work) for work in works]
        for task in tasks:
            for _ in range(self.dice.randrange(4)):
                await asyncio.sleep(0)
            if self.dice.random() < 0.2 and task.get_coro().__name__ != "label":
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def lose(self, _):
        """The broker forgets everything."""
        if self.dice.random() < 0.3:
            self.messages.queues.clear()

    async def time(self, _):
        self.pass_by(self.dice.choice([10, 1_000, 60_000, 400_000, 3_600_000]))

    async def model(self, kit):
        kit.models.model = None if self.dice.random() < 0.3 else a_later_model(self.dice.choice([None, -4.0, 4.0]))

    async def settle(self):
        """Everything answers again, and long enough for every deadline."""
        self.calm(True)
        kit = self.kits[0]
        kit.models.model = a_later_model()
        for _ in range(40):
            await kit.follow()
            await kit.work()
            if not self.stores["noted"].rows:
                return
            self.pass_by(TIMES.sample_ms // 16)
        raise AssertionError("something waits for ever")


@pytest.mark.parametrize("seed", range(SEEDS))
def test_what_is_to_be_looked_at_again_ends_through_any_faults_with_one_row_each(seed):
    simulate(seed)


@pytest.mark.soak
def test_thousands_of_histories_of_looking_again_end_with_one_row_each():
    for seed in range(SEEDS, SOAK_SEEDS):
        simulate(seed)


def simulate(seed):
    async def main():
        world = World(seed)
        world.calm(True)
        await world.kits[0].open()
        world.calm(False)
        for _ in range(world.dice.randint(40, 160)):
            await world.step()
        await world.settle()
        await check(world)

    asyncio.run(main())


async def check(world):
    commits = [commit async for commit in read_everything(world.ledger)]
    assert len(commits) == world.appended, "the ledger has what was put there, and nothing else"
    wanted, standings, people, labelled, touched = set(), {}, {}, set(), set()
    for commit in commits:
        for event in decode_impression(commit.data):
            if isinstance(event, ImpressionLabelled):
                labelled.add(commit.stream)
                person = people[commit.stream]
                touched |= {one for one, other in people.items() if person and other == person}
            elif hasattr(event, "user"):
                people[commit.stream] = event.user
            elif isinstance(event, ImpressionScored) and (event.propensity is not None or event.rung is Rung.SHED):
                wanted.add(commit.stream)
            elif isinstance(event, ImpressionDeduped):
                standings[commit.stream] = event.after
                if event.verdict is Verdict.UNCERTAIN:
                    wanted.add(commit.stream)
    found = world.stores["found"].rows
    may = {one for one, person in people.items() if person in {person for one in touched}}
    assert wanted | labelled | touched <= found.keys() <= wanted | labelled | may
    for impression, row in found.items():
        assert (row.from_verdict, row.from_reason) == (standings[impression].verdict, standings[impression].reason)
        version, at = world.told.get(impression.int & 0xFFFF, (0, NOW))
        assert row.version >= version, "what was said of it last is known"
        assert row.known_at >= at
        if not row.changes:
            assert row.micros == 0
    chosen = world.stores["noted"].chosen
    assert len(chosen) == len(set(chosen)), "nothing is chosen twice"
    positions = [render.position for render in world.stores["later"].renders]
    assert len(positions) == len(set(positions)) == sum(bool(person) for person in people.values())
