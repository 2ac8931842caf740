"""What a gate does with another region's renders while it shelters it."""

from uuid import UUID

import msgspec
import pytest
from gatekit import NOW
from shelterkit import FINGERPRINTS, ShelterGate, an_order, region_token, run, signer, trust

from commands.items import Status
from commands.quarantine_entries import Wanted
from commands.shelter_arrivals import Envelope, Fate
from commands.shelter_memory import MemoryShelter
from commands.shelter_store import Counts, Room
from commands.shelter_trust import OrderRefused
from domain.reasons import Reason, Verdict
from domain.render import RENDER_MAX_BYTES
from domain.token import TokenKey, mint_token
from domain.vocabulary import Rung
from ledger.store import LedgerUnavailable

REGION_MISDIRECTED = (Status.REFUSED, Reason.REGION_MISDIRECTED)


def told(answer):
    return answer.status, answer.reason


async def sheltered(pair, event, now=NOW):
    """Whether the away gate keeps *event*, sent at *now*."""
    pair.at(now)
    [answer] = await pair.away.send(event)
    return answer.rung is Rung.SHELTERED


def test_without_an_order_it_is_refused_as_ever():
    async def test(pair):
        [answer] = await pair.away.send(pair.clients.render())
        assert told(answer) == REGION_MISDIRECTED
        assert await pair.away.shelter_store.count(NOW) == Counts()

    run(test)


def test_under_an_order_it_is_kept_and_answered_as_uncertain():
    async def test(pair):
        await pair.away.ordered()
        token = pair.clients.token()
        event = pair.clients.render(token)
        [answer] = await pair.away.send(event)
        assert (answer.event_id, answer.impression_id) == (UUID(event["event_id"]), token.impression)
        assert (answer.status, answer.verdict, answer.reason) == (Status.DECIDED, Verdict.UNCERTAIN, Reason.DEGRADED)
        assert (answer.provisional, answer.rung) == (True, Rung.SHELTERED)
        assert await pair.away.events(token.impression) == []
        assert (await pair.away.shelter_store.count(NOW)).waiting == 1

    run(test)


def test_a_retry_gets_the_same_answer_and_is_kept_once():
    async def test(pair):
        await pair.away.ordered()
        event = pair.clients.render()
        first, again = await pair.away.send(event, {**event, "attempt": 1})
        pair.at(NOW + 5_000)
        assert [first, again] == [first, *await pair.away.send({**event, "attempt": 2, "sent_at": NOW})]
        [kept] = await pair.away.shelter_store.due("eu-1", NOW + 5_000, 9, 1 << 20)
        assert kept.received_at == NOW

    run(test)


def test_own_renders_malformed_ones_and_those_of_third_regions_go_their_usual_way():
    async def test(pair):
        await pair.away.ordered()
        events = [
            pair.clients.render(),
            pair.clients.render(region_token(pair, "us")),
            {"broken": True},
            pair.clients.render(region_token(pair, "ap")),
            pair.clients.render(),
        ]
        answers = await pair.away.send(*events)
        assert [answer.status for answer in answers] == ["decided", "decided", "quarantined", "refused", "decided"]
        assert [answer.rung is Rung.SHELTERED for answer in answers] == [True, False, False, False, True]
        assert told(answers[3]) == REGION_MISDIRECTED
        assert [str(answers[at].event_id) for at in (0, 1, 3, 4)] == [events[at]["event_id"] for at in (0, 1, 3, 4)]

    run(test, names=("eu-1", "us-1", "ap-1"))


def test_an_order_holds_from_its_beginning_to_before_its_end():
    async def test(pair):
        await pair.away.ordered(an_order(valid_from=NOW + 1_000, valid_until=NOW + 2_000))
        event = pair.clients.render()
        found = [await sheltered(pair, event, NOW + at) for at in (999, 1_000, 1_999, 2_000)]
        assert found == [False, True, True, False]

    run(test)


def test_a_revoked_order_ends_at_once_and_for_every_process_of_the_cell():
    async def test(pair):
        other = ShelterGate(pair.cells, "us-1", whom=pair.whom, shelter_store=pair.away.shelter_store)
        await pair.away.ordered()
        await other.book.refresh(NOW)
        assert other.book.regions(NOW) == {"eu"}
        await other.book.revoke(an_order().order_id, NOW)
        await pair.away.book.refresh(NOW)
        for gate in (other, pair.away):
            assert gate.book.regions(NOW) == frozenset()
        await pair.away.ordered()
        assert pair.away.book.regions(NOW) == frozenset(), "sent once more, it stays revoked"

    run(test)


def test_an_order_outlives_the_process_that_took_it():
    async def test(pair):
        await pair.away.ordered()
        pair.away.restart()
        assert not await sheltered(pair, pair.clients.render())
        await pair.away.book.refresh(NOW)
        assert await sheltered(pair, pair.clients.render())

    run(test)


def test_whoever_writes_into_the_table_orders_nothing():
    async def test(pair):
        forged = signer("someone").sign(an_order(issuer="ops"))
        genuine = await pair.away.ordered(an_order(order_id=UUID(int=9), valid_until=NOW + 10))
        store = pair.away.shelter_store
        kept = (await store.orders(0))[0]
        await store.keep_order(msgspec.structs.replace(kept, order_id=UUID(int=1), signed=forged))
        pair.away.restart()
        await pair.away.book.refresh(NOW)
        assert pair.away.book.orders() == [genuine]

    run(test)


def test_an_order_for_other_cells_is_not_taken():
    async def test(pair):
        with pytest.raises(OrderRefused, match="this is us-1"):
            await pair.away.ordered(an_order(cells=("ap-1",)))
        assert pair.away.shelter.is_closed

    run(test, names=("eu-1", "us-1", "ap-1"))


def test_the_body_lies_sealed_and_opens_at_home_alone():
    async def test(pair):
        await pair.away.ordered()
        event = pair.clients.render(user="somebody@example.com")
        await pair.away.send(event)
        [kept] = await pair.away.shelter_store.due("eu-1", NOW, 9, 1 << 20)
        for secret in (b"somebody", event["token"].encode(), b"198.51.100.7", b"Mozilla"):
            assert secret not in kept.sealed
        envelope = Envelope(impression_id=kept.impression, event_id=kept.event_id, received_at=NOW, sealed=kept.sealed)
        [there] = await pair.away.arrivals.take([envelope])
        [at_home] = await pair.home.arrivals.take([envelope])
        assert (there.fate, at_home.fate) == (Fate.QUARANTINED, Fate.TAKEN)

    run(test)


def test_nothing_but_event_id_and_token_is_read():
    async def test(pair):
        await pair.away.ordered()
        event = pair.clients.render(visible_ratio=7, no_such_field=[[[1]]])
        assert await sheltered(pair, event)
        await pair.forwarder.run()
        [entry] = await pair.home.quarantine_store.entries(Wanted(now=NOW))
        assert (entry.code, str(entry.event_id)) == ("invalid", event["event_id"])

    run(test)


def test_full_is_busy_for_what_has_no_room_and_retries_need_none():
    async def test(pair):
        await pair.away.ordered()
        events = [pair.clients.render() for _ in range(3)]
        answers = await pair.away.send(*events, pair.clients.render(region_token(pair, "us")))
        assert [answer.status for answer in answers] == ["decided", "decided", "deferred", "decided"]
        assert answers[2].verdict is None
        [retry, busy] = await pair.away.send(events[0], events[2])
        assert (retry, busy.status) == (answers[0], Status.DEFERRED)
        await pair.forwarder.run()
        assert (await pair.away.send(events[2]))[0].status is Status.DECIDED

    run(test, room=Room(2, 1 << 20))


class Dead(MemoryShelter):
    async def keep(self, events, room):
        raise LedgerUnavailable("down")


def test_where_the_tables_do_not_answer_it_is_busy_and_own_renders_are_decided():
    async def test(pair):
        await pair.away.ordered()
        answers = await pair.away.send(pair.clients.render(), pair.clients.render(region_token(pair, "us")))
        assert [answer.status for answer in answers] == ["deferred", "decided"]

    run(test, shelter_store=Dead())


def test_what_is_too_large_for_a_render_is_not_sheltered():
    async def test(pair):
        await pair.away.ordered()
        event = pair.clients.render(agent="x" * RENDER_MAX_BYTES)
        assert not await sheltered(pair, event)

    run(test)


def forged(pair, event):
    token = pair.clients.token()
    return {**event, "token": mint_token(token, "k1", TokenKey(b"x" * 32, b"y" * 32))}


def test_a_forged_token_is_kept_where_only_the_home_can_tell_and_counted_there():
    async def test(pair):
        await pair.away.ordered()
        event = forged(pair, pair.clients.render())
        assert await sheltered(pair, event)
        assert (await pair.forwarder.run()).refused == 1
        assert (await pair.away.shelter_store.count(NOW)).waiting == 0

    run(test)


def test_a_forged_token_is_refused_at_once_where_the_homes_key_is_known():
    async def test(pair):
        await pair.away.ordered()
        answers = await pair.away.send(forged(pair, pair.clients.render()), pair.clients.render())
        assert [answer.status for answer in answers] == ["refused", "decided"]
        assert answers[0].reason is Reason.TOKEN_INVALID

    run(test, whom=trust("eu-1", "us-1", tokens=FINGERPRINTS))


def test_a_home_without_a_published_key_is_not_sheltered():
    async def test(pair):
        await pair.away.ordered()
        assert not await sheltered(pair, pair.clients.render())

    run(test, whom=trust("us-1"))
