"""Feedback comes in: what is answered, and that neighbours are unharmed."""

import asyncio
from uuid import UUID

import pytest
from feedbackkit import CLOCK_AHEAD_MS, NOW, TOKEN_AGE_MS, Kit, about_traffic, an_impression, an_inbox, raw, wire

from commands.feedback import HELD_NOTE, IMPRESSION_MAX, FeedbackAnswer, FeedbackStatus
from commands.feedback_memory import MemoryFeedback
from commands.feedback_store import FeedbackState
from domain.feedback import ORPHAN_GRACE_MS, FeedbackRefusal, digest
from domain.ids import mint
from ledger.store import LedgerUnavailable

ACCEPTED, HELD, REFUSED, MALFORMED, DEFERRED = FeedbackStatus


def run(test):
    asyncio.run(test(Kit()))


def accepted(number):
    return FeedbackAnswer(id=UUID(int=number), status=ACCEPTED)


def test_what_is_accepted_is_kept_with_the_key_that_it_came_with():
    async def test(kit):
        assert await kit.send(wire(1)) == [accepted(1)]
        kept = kit.feedback.kept[UUID(int=1)]
        assert (kept.state, kept.due_at, kept.received_at, kept.sent_by) == (FeedbackState.WAITING, NOW, NOW, "k1")
        assert kept.digest == digest(kept.feedback)
        assert kept.orphan_at == NOW - 3_600_000 + TOKEN_AGE_MS + ORPHAN_GRACE_MS

    run(test)


def test_the_same_again_gets_the_same_answer_and_is_kept_once():
    async def test(kit):
        first = await kit.send(wire(1), about_traffic(2))
        kit.now += 5
        assert await kit.send(wire(1), about_traffic(2)) == first
        assert await kit.send(wire(1), wire(1)) == [accepted(1)] * 2
        assert (await kit.feedback.books()).accepted == 2

    run(test)


def test_its_id_with_another_content_is_refused_also_within_a_request():
    async def test(kit):
        reused = FeedbackAnswer(id=UUID(int=1), status=REFUSED, reason=FeedbackRefusal.FEEDBACK_ID_REUSED)
        assert await kit.send(wire(1), wire(1, type="dispute"), wire(1)) == [accepted(1), reused, accepted(1)]
        assert await kit.send(wire(1, 2)) == [reused]
        assert kit.feedback.kept[UUID(int=1)].feedback.type.value == "third_party"

    run(test)


def test_the_first_content_is_recognised_also_behind_another_one_in_the_same_request():
    async def test(kit):
        await kit.send(wire(1))
        other, first = await kit.send(wire(1, type="dispute"), wire(1))
        assert (other.reason, first) == (FeedbackRefusal.FEEDBACK_ID_REUSED, accepted(1))

    run(test)


def test_what_speaks_of_traffic_is_kept_and_the_answer_says_that_nothing_is_labelled_yet():
    async def test(kit):
        assert await kit.send(about_traffic(1)) == [FeedbackAnswer(id=UUID(int=1), status=HELD, note=HELD_NOTE)]
        kept = kit.feedback.kept[UUID(int=1)]
        assert (kept.state, kept.due_at, kept.orphan_at) == (FeedbackState.HELD, None, None)
        assert await kit.work() == []
        assert (await kit.feedback.books()).held == 1

    run(test)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "not_json at $"),
        (b'{"id": "\xff"}', "invalid at $.id: Invalid UUID"),
        (b'{"id":' + b"[" * 5_000, "invalid at $.id: Expected `uuid`"),
        (b"[]", "invalid at $: Expected `object`"),
        (b'{"id": 7}', "invalid at $.id: Expected `uuid`"),
        (*raw(wire(type="secret word")), "invalid at $.type: the value is none of its closed list"),
        (*raw(wire(type="view")), "invalid at $: Expected `type` to be one of feedback"),
    ],
)
def test_what_cannot_be_read_is_said_without_its_values_and_harms_no_neighbour(body, says):
    async def test(kit):
        first, malformed, last = await kit.inbox.take([*raw(wire(1)), body, *raw(wire(2))], "k1")
        assert (first, last) == (accepted(1), accepted(2))
        assert (malformed.id, malformed.status) == (None, MALFORMED)
        assert malformed.errors[0].startswith(says)
        assert "secret" not in malformed.errors[0]
        assert len(kit.feedback.kept) == 2

    run(test)


def test_what_is_ahead_of_its_time_is_refused():
    async def test(kit):
        answers = await kit.send(
            wire(1, observed_at=NOW + 60_001), wire(2, impression_id=str(mint(NOW + CLOCK_AHEAD_MS + 1, 1, 1)))
        )
        assert [one.reason for one in answers] == [FeedbackRefusal.OBSERVED_AHEAD, FeedbackRefusal.IMPRESSION_AHEAD]
        assert kit.feedback.kept == {}

    run(test)


def test_one_impression_has_its_share_and_no_more():
    async def test(kit):
        answers = await kit.send(*(wire(number, 7) for number in range(IMPRESSION_MAX + 1)), wire(1_000, 8))
        assert [one.status for one in answers] == [ACCEPTED] * IMPRESSION_MAX + [REFUSED, ACCEPTED]
        assert answers[-2].reason is FeedbackRefusal.TOO_MANY_FOR_IMPRESSION

    run(test)


def test_where_there_is_no_room_nothing_is_taken_and_what_is_known_is_still_answered():
    async def test(_):
        inbox = an_inbox(MemoryFeedback(), pending_max=1)
        first, second, traffic = await inbox.take(raw(wire(1, 1), wire(2, 2), about_traffic(3)), "k1")
        assert (first.status, second.status, traffic.status) == (ACCEPTED, DEFERRED, HELD)
        assert await inbox.take(raw(wire(1, 1)), "k1") == [first]

    run(test)


def test_without_its_store_nothing_is_answered():
    class Away(MemoryFeedback):
        async def keep(self, items, room):
            raise LedgerUnavailable("away")

    async def main():
        with pytest.raises(LedgerUnavailable):
            await Kit(feedback=Away()).send(wire(1))

    asyncio.run(main())


def test_a_request_of_nothing_but_what_cannot_be_read_needs_no_store():
    async def test(kit):
        kit.inbox._store = None
        assert [one.status for one in await kit.inbox.take([b"{"], "k1")] == [MALFORMED]
        assert an_impression(1).version == 7

    run(test)
