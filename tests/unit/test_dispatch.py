"""The scheduler's duties: what is due is enqueued, in chunks, by one of several, and never without end."""

import asyncio
from uuid import UUID

import pytest
from feedbackkit import NOW, Kit, wire

from commands.dead_letters import KEPT_MS, LetterState, name_of
from commands.dispatch import AGAIN_MS, CHUNK, DEPTH_MAX, Swept
from commands.feedback_store import SETTLED_KEPT_MS
from commands.messages import FEEDBACK_QUEUE, BrokerUnavailable, MemoryMessages, Message, apply_feedback
from commands.reevaluations import KEPT_MS as REEVALUATIONS_KEPT_MS
from domain.reevaluation import Why

LETTER = Message("feedback", "apply_feedback", (["x"],))


class Away(MemoryMessages):
    is_away = False

    async def send(self, message):
        if self.is_away:
            raise BrokerUnavailable("away")
        await super().send(message)

    async def depth(self, queue):
        if self.is_away:
            raise BrokerUnavailable("away")
        return await super().depth(queue)


def run(test, **stores):
    async def main():
        kit = Kit(**stores)
        await kit.open()
        await test(kit)

    asyncio.run(main())


def queued(kit):
    return [len(message.args[0]) for message in kit.messages.queues.get(FEEDBACK_QUEUE, ())]


async def fill(kit, count):
    kit.inbox._room = type(kit.inbox._room)(1_000_000, 10, 64)
    for start in range(1, count + 1, 250):
        await kit.send(*(wire(number, number) for number in range(start, min(start + 250, count + 1))))


def test_what_is_due_is_enqueued_in_chunks_once():
    async def test(kit):
        await fill(kit, CHUNK + 7)
        assert await kit.dispatcher.sweep() == Swept(2, CHUNK + 7)
        assert queued(kit) == [CHUNK, 7]
        assert await kit.dispatcher.sweep() == Swept()
        assert queued(kit) == [CHUNK, 7]

    run(test)


def test_what_is_not_done_after_a_while_is_enqueued_again():
    async def test(kit):
        await kit.render(1)
        await kit.send(wire(1))
        await kit.dispatcher.sweep()
        kit.messages.queues.clear()  # the broker lost everything
        kit.now += AGAIN_MS - 1
        assert await kit.dispatcher.sweep() == Swept()
        kit.now += 1
        assert await kit.work() == []
        assert (await kit.feedback.books()).applied == 1
        kit.now += AGAIN_MS
        assert await kit.dispatcher.sweep() == Swept()

    run(test)


def test_a_queue_that_nobody_empties_does_not_grow_without_end():
    async def test(kit):
        for _ in range(DEPTH_MAX - 1):
            await kit.messages.send(apply_feedback([]))
        await fill(kit, 2 * CHUNK + 1)
        for _ in range(5):
            await kit.dispatcher.sweep()
            kit.now += AGAIN_MS
        assert await kit.messages.depth(FEEDBACK_QUEUE) == DEPTH_MAX

    run(test)


def test_two_schedulers_share_what_is_due():
    async def test(kit):
        await fill(kit, 2 * CHUNK)
        other = kit.a_dispatcher()
        await asyncio.gather(kit.dispatcher.sweep(), other.sweep())
        ids = [one for message in kit.messages.queues[FEEDBACK_QUEUE] for one in message.args[0]]
        assert len(ids) == len(set(ids)) == 2 * CHUNK

    run(test)


def test_while_the_broker_is_away_nothing_is_claimed():
    async def test(kit):
        await kit.send(wire(1))
        kit.messages.is_away = True
        with pytest.raises(BrokerUnavailable):
            await kit.dispatcher.sweep()
        assert kit.feedback.kept[UUID(int=1)].due_at == NOW
        kit.messages.is_away = False
        assert (await kit.dispatcher.sweep()).items == 1

    run(test, messages=Away())


def test_letters_that_are_to_be_replayed_are_sent_once():
    async def test(kit):
        await kit.letters.bury(LETTER, "torn", NOW)
        assert await kit.dispatcher.replay() == 0
        await kit.letters.replay(name_of(LETTER))
        assert await kit.dispatcher.replay() == 1
        assert list(kit.messages.queues["feedback"]) == [LETTER]
        assert await kit.dispatcher.replay() == 0
        assert (await kit.letters.find(name_of(LETTER))).state is LetterState.REPLAYED

    run(test)


def test_a_letter_that_cannot_be_sent_is_sent_later():
    async def test(kit):
        await kit.letters.bury(LETTER, "torn", NOW)
        await kit.letters.replay(name_of(LETTER))
        kit.messages.is_away = True
        with pytest.raises(BrokerUnavailable):
            await kit.dispatcher.replay()
        kit.messages.is_away = False
        assert await kit.dispatcher.replay() == 1

    run(test, messages=Away())


def test_what_has_outlived_its_time_is_deleted():
    async def test(kit):
        await kit.render(1)
        await kit.send(wire(1))
        await kit.work()
        await kit.letters.bury(LETTER, "torn", NOW)
        await kit.reevaluations.note([UUID(int=5)], Why.LABEL, NOW, NOW)
        assert await kit.dispatcher.tidy() == 0
        kit.now += SETTLED_KEPT_MS
        assert await kit.dispatcher.tidy() == 1
        kit.now = NOW + KEPT_MS
        assert await kit.dispatcher.tidy() == 1
        kit.now = NOW + REEVALUATIONS_KEPT_MS
        assert await kit.dispatcher.tidy() == 2
        assert kit.feedback.kept == kit.letters.kept == {}

    run(test)
