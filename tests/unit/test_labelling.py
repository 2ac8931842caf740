"""Feedback becomes labels: each exactly once, its neighbours unharmed, whatever was there before."""

import asyncio
from uuid import UUID

import pytest
from builders import MINTED
from feedbackkit import DAYS, NOW, TOKEN_AGE_MS, Kit, an_impression, labels_of, wire

from commands.feedback_store import FeedbackState
from commands.labelling import (
    CONFLICTS_MAX,
    FAILING_MAX_MS,
    FAILING_MIN_MS,
    ORPHAN_EVERY_MS,
    PARKED_MIN_MS,
    STREAMS_MAX,
    CannotBeApplied,
    FeedbackActor,
    Labelled,
)
from domain.feedback import ORPHAN_GRACE_MS, label_id
from domain.vocabulary import DataSet, Label, LabelSource
from ledger.codec import UnreadableCommit
from ledger.memory import MemoryStore
from ledger.store import Conflict, LedgerUnavailable

WAITING, PARKED, ORPHANED, APPLIED, REFUSED, HELD = FeedbackState
HOUR, DAY = 3_600_000, 86_400_000


def run(test, **stores):
    async def main():
        kit = Kit(**stores)
        await kit.ledger.prepare_days(*DAYS, DataSet.LIVE)
        await test(kit)

    asyncio.run(main())


def test_a_label_says_source_weight_and_when_it_was_observed_and_received():
    async def test(kit):
        await kit.render(1)
        await kit.send(wire(1, type="human_review", label="human", observed_at=NOW - 77))
        kit.now += 10_000
        assert await kit.apply(1) == Labelled(applied=1)
        [label] = await labels_of(kit.ledger, 1)
        assert (label.source, label.label, label.weight) == (LabelSource.HUMAN_REVIEW, Label.HUMAN, 0.9)
        assert (label.observed_at, label.received_at) == (NOW - 77, NOW)
        assert (label.cause, label.digest) == (
            label_id(UUID(int=1), an_impression(1)),
            kit.feedback.kept[UUID(int=1)].digest,
        )
        kept = kit.feedback.kept[UUID(int=1)]
        assert (kept.state, kept.due_at, kept.settled_at) == (APPLIED, None, NOW + 10_000)

    run(test)


def test_done_twice_it_is_one_label():
    async def test(kit):
        await kit.render(1)
        await kit.send(wire(1))
        await asyncio.gather(kit.apply(1), kit.apply(1), kit.apply(1))
        assert await kit.apply(1) == Labelled()
        assert len(await labels_of(kit.ledger, 1)) == 1

    run(test)


def test_what_a_crash_left_unwritten_is_found_in_the_ledger():
    async def test(kit):
        await kit.render(1)
        await kit.send(wire(1))
        before = dict(kit.feedback.kept)
        await kit.apply(1)
        kit.feedback.kept = before  # it was killed before it wrote down what it had done
        assert await kit.apply(1) == Labelled(applied=1)
        assert len(await labels_of(kit.ledger, 1)) == 1

    run(test)


def test_several_labels_of_one_impression_stand_in_its_stream_in_order():
    async def test(kit):
        await kit.render(1, 2)
        await kit.send(*(wire(number, 1 + number % 2, type="dispute") for number in range(1, 8)))
        assert await kit.apply(*range(1, 8)) == Labelled(applied=7)
        for impression, numbers in ((1, [2, 4, 6]), (2, [1, 3, 5, 7])):
            causes = [label.cause for label in await labels_of(kit.ledger, impression)]
            assert causes == [label_id(UUID(int=number), an_impression(impression)) for number in numbers]

    run(test)


def test_more_impressions_than_fit_in_an_append_are_applied_in_several():
    sizes = []

    class Counting(MemoryStore):
        async def append(self, appends, recorded_at):
            sizes.append(len(appends))
            return await super().append(appends, recorded_at)

    async def test(kit):
        numbers = range(1, 2 * STREAMS_MAX + 2)
        await kit.render(*numbers)
        sizes.clear()
        await kit.send(*(wire(number, number) for number in numbers))
        assert (await kit.apply(*numbers)).applied == len(numbers)
        assert sizes == [STREAMS_MAX, STREAMS_MAX, 1]

    run(test, ledger=Counting())


def test_feedback_that_is_not_there_or_speaks_of_traffic_is_passed_over():
    async def test(kit):
        from feedbackkit import about_traffic  # noqa: PLC0415

        await kit.send(about_traffic(1))
        assert await kit.apply(1, 99) == Labelled()

    run(test)


def test_what_precedes_its_render_is_parked_and_applied_when_it_has_landed():
    async def test(kit):
        await kit.send(wire(1))
        assert await kit.apply(1) == Labelled(parked=1)
        kept = kit.feedback.kept[UUID(int=1)]
        assert (kept.state, kept.due_at) == (PARKED, NOW + PARKED_MIN_MS)
        await kit.render(1)
        kit.now = kept.due_at
        assert await kit.work() == []
        assert len(await labels_of(kit.ledger, 1)) == 1
        assert (await kit.states())[1] is APPLIED

    run(test)


@pytest.mark.parametrize(
    ("waited", "pause"),
    [(0, PARKED_MIN_MS), (8 * PARKED_MIN_MS, PARKED_MIN_MS), (HOUR, HOUR // 8), (2 * DAY, HOUR)],
)
def test_what_is_parked_is_looked_at_after_an_eighth_of_the_time_that_it_waited(waited, pause):
    async def test(kit):
        await kit.send(wire(1))
        kit.now += waited
        await kit.apply(1)
        assert kit.feedback.kept[UUID(int=1)].due_at == kit.now + pause

    run(test)


def test_after_the_tokens_age_it_is_an_orphan_and_still_a_label_should_a_render_come():
    orphan_at = MINTED + TOKEN_AGE_MS + ORPHAN_GRACE_MS

    async def test(kit):
        await kit.send(wire(1))
        kit.now = orphan_at - 10
        await kit.apply(1)
        assert kit.feedback.kept[UUID(int=1)].due_at == orphan_at
        kit.now = orphan_at
        assert await kit.apply(1) == Labelled(orphaned=1)
        kept = kit.feedback.kept[UUID(int=1)]
        assert (kept.state, kept.due_at) == (ORPHANED, orphan_at + ORPHAN_EVERY_MS)
        await kit.render(1)
        kit.now = kept.due_at
        assert await kit.work() == []
        assert (await kit.states())[1] is APPLIED
        assert (await kit.feedback.books()).unaccounted == 0

    run(test)


class Torn(MemoryStore):
    """Some streams cannot be read."""

    torn = frozenset()

    async def read_streams(self, streams, limit):
        found = await super().read_streams(streams, limit)
        for stream in self.torn & found.keys():
            first, *rest = found[stream]
            found[stream] = [
                type(first)(**{n: getattr(first, n) for n in first.__struct_fields__} | {"data": b"[1"}),
                *rest,
            ]
        return found


def test_a_stream_that_cannot_be_read_harms_no_neighbour_and_is_tried_again_ever_later():
    async def test(kit):
        await kit.render(1, 2, 3)
        kit.ledger.torn = {an_impression(2)}
        await kit.send(*(wire(number, number) for number in (1, 2, 3)))
        done = await kit.apply(1, 2, 3)
        assert (done.applied, list(done.failing)) == (2, [UUID(int=2)])
        kept = kit.feedback.kept[UUID(int=2)]
        assert (kept.state, kept.due_at, kept.tries) == (WAITING, NOW + FAILING_MIN_MS, 1)
        assert kept.error.startswith(UnreadableCommit.__name__)
        pauses = []
        for _ in range(12):
            await kit.apply(2)
            pauses.append(kit.feedback.kept[UUID(int=2)].due_at - kit.now)
        assert pauses[:3] == [2 * FAILING_MIN_MS, 4 * FAILING_MIN_MS, 8 * FAILING_MIN_MS]
        assert pauses[-1] == FAILING_MAX_MS
        kit.ledger.torn = frozenset()
        assert await kit.apply(2) == Labelled(applied=1)
        assert kit.feedback.kept[UUID(int=2)].error == ""

    run(test, ledger=Torn())


def test_what_fails_gets_a_message_of_its_own_and_dies_alone():
    async def test(kit):
        await kit.render(1, 2, 3)
        kit.ledger.torn = {an_impression(2)}
        await kit.send(*(wire(number, number) for number in (1, 2, 3)))
        [(message, error)] = await kit.work()
        assert message.args == ([str(UUID(int=2))],)
        assert isinstance(error, CannotBeApplied)
        assert str(UUID(int=2)) in str(error)
        assert [done.applied for done in kit.noted] == [2, 0]

    run(test, ledger=Torn())


def test_an_id_that_labelled_the_impression_otherwise_before_this_table_remembers_is_refused():
    async def test(kit):
        await kit.render(1)
        await kit.send(wire(1))
        await kit.apply(1)
        kit.feedback.kept.clear()
        await kit.send(wire(1, type="dispute"))
        assert await kit.apply(1) == Labelled(refused=1)
        assert (await kit.states())[1] is REFUSED
        assert len(await labels_of(kit.ledger, 1)) == 1

    run(test)


class Contended(MemoryStore):
    """Somebody else labels the impression first, *times* times."""

    times = 0

    async def append(self, appends, recorded_at):
        if self.times and all(append.expected for append in appends):
            self.times -= 1
            return [Conflict(append.expected + 1) for append in appends]
        return await super().append(appends, recorded_at)


@pytest.mark.parametrize(("times", "is_done"), [(1, True), (CONFLICTS_MAX, True), (CONFLICTS_MAX + 1, False)])
def test_a_conflict_is_read_again_until_it_is_too_often(times, is_done):
    async def test(kit):
        await kit.render(1)
        await kit.send(wire(1))
        kit.ledger.times = times
        if is_done:
            assert await kit.apply(1) == Labelled(applied=1)
            return
        with pytest.raises(LedgerUnavailable, match="kept changing"):
            await kit.apply(1)
        assert (await kit.states())[1] is WAITING

    run(test, ledger=Contended())


def test_labels_that_two_workers_append_at_once_all_stand_there():
    async def test(kit):
        await kit.render(1)
        await kit.send(*(wire(number) for number in range(1, 31)))
        halves = [kit.apply(*range(1, 16)), kit.apply(*range(16, 31)), kit.apply(*range(30, 0, -1))]
        await asyncio.gather(*halves)
        assert len(await labels_of(kit.ledger, 1)) == 30
        assert set((await kit.states()).values()) == {APPLIED}

    run(test)


def test_impressions_that_got_a_label_are_to_be_scored_again_before_it_counts_as_done():
    async def test(kit):
        await kit.render(1, 2)
        await kit.send(wire(1, 1), wire(2, 2), wire(3, 1), wire(4, 9))
        kit.now += 7
        await kit.apply(1, 2, 3, 4)
        due = await kit.reevaluations.due(kit.now, 10)
        assert [(one.impression, one.why.value, one.due_at) for one in due] == [
            (an_impression(1), "label", NOW + 7),
            (an_impression(2), "label", NOW + 7),
        ]

    run(test)


def test_if_the_hook_fails_the_label_is_not_done_and_comes_again():
    async def test(kit):
        await kit.render(1)
        await kit.send(wire(1))

        async def fails(*_):
            raise LedgerUnavailable("away")

        labeller = kit.a_labeller()
        labeller._touched = fails
        with pytest.raises(LedgerUnavailable):
            await FeedbackActor(labeller, kit.messages, kit.noted.append)([UUID(int=1)])
        assert (await kit.states())[1] is WAITING
        assert kit.noted == []
        await kit.apply(1)
        assert len(await labels_of(kit.ledger, 1)) == 1
        assert len(await kit.reevaluations.due(kit.now, 10)) == 1

    run(test)
