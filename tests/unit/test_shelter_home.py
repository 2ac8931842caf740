"""What the home of sheltered renders makes of them when they are forwarded to it, and when."""

import random
from uuid import UUID

import msgspec
import pytest
from gatekit import EVERYTHING, NOW
from shelterkit import HOUR, TTL, an_order, region_token, regions, run, seed_of

from commands.items import Caller, Status
from commands.quarantine_entries import Wanted
from commands.sealed_box import BoxKey, Sealer
from commands.shelter import Contents, bound
from commands.shelter_arrivals import Envelope, Fate
from commands.shelter_forward import NotTaken
from commands.shelter_store import Counts, Dropped
from domain.reasons import Reason, Verdict


def test_forwarded_it_is_decided_as_received_when_it_was_by_who_sent_it():
    async def test(pair):
        await pair.away.ordered()
        token = pair.clients.token()
        caller = Caller(frozenset(), "a bot", "10.0.0.1")
        await pair.away.send(pair.clients.render(token, agent="Mozilla/5.0"), caller=caller)
        pair.at(NOW + 6 * HOUR)
        done = await pair.forwarder.run()
        assert (done.taken, done.failed) == (1, {})
        rendered, _, deduped = await pair.home.events(token.impression)
        assert rendered.received_at == NOW
        assert (deduped.verdict, deduped.reason) == (Verdict.DROPPED, Reason.AGENT_DECLARED_BOT)
        assert await pair.away.events(token.impression) == []
        assert await pair.away.shelter_store.count(NOW) == Counts(moved=1)
        assert await pair.home.shelter_store.count(NOW) == Counts(arrived=1)

    run(test)


def test_a_forwarder_cannot_date_a_render_into_the_future():
    async def test(pair):
        pair.away.now = NOW + HOUR
        await pair.away.ordered(an_order(issued_at=NOW + HOUR, valid_until=NOW + 2 * HOUR))
        token = pair.clients.token()
        await pair.away.send(pair.clients.render(token))
        await pair.forwarder.run()
        assert (await pair.home.events(token.impression))[0].received_at == NOW

    run(test)


def test_an_event_that_its_home_has_heard_of_meanwhile_keeps_its_first_answer():
    async def test(pair):
        await pair.away.ordered()
        token = pair.clients.token()
        event = pair.clients.render(token)
        await pair.away.send(event)
        [first] = await pair.home.send(event)
        before = await pair.home.events(token.impression)
        [receipt] = await forwarded(pair)
        assert (receipt.fate, receipt.verdict) == (Fate.TAKEN, first.verdict)
        assert await pair.home.events(token.impression) == before

    run(test)


async def forwarded(pair):
    page = await pair.away.shelter_store.due("eu-1", pair.away.now, 99, 1 << 20)
    return await pair.wires.forward(
        "eu-1",
        [
            Envelope(
                impression_id=one.impression, event_id=one.event_id, received_at=one.received_at, sealed=one.sealed
            )
            for one in page
        ],
    )


def test_another_render_of_its_impression_is_a_repeat_at_home():
    async def test(pair):
        await pair.away.ordered()
        token = pair.clients.token()
        await pair.home.send(pair.clients.render(token))
        await pair.away.send(pair.clients.render(token))
        [receipt] = await forwarded(pair)
        assert (receipt.verdict, receipt.reason) == (Verdict.DUPLICATE, Reason.DUPLICATE_RENDER)

    run(test)


def test_what_the_homes_gate_did_not_take_stays_in_the_shelter():
    async def test(pair):
        await pair.away.ordered()
        await pair.away.send(*(pair.clients.render() for _ in range(3)))

        async def submit(items):
            first, *rest = await pair.home.ingest.decide_batch(items)
            return [msgspec.structs.replace(first, status=Status.DEFERRED, verdict=None, reason=None), *rest]

        pair.home.arrivals._submit = submit
        done = await pair.forwarder.run()
        assert (done.taken, done.later) == (2, 1)
        assert (await pair.away.shelter_store.count(NOW)).waiting == 1
        assert (await pair.home.shelter_store.count(NOW)).arrived == 2

    run(test)


def test_one_event_id_with_two_contents_is_refused_at_home_and_kept_to_be_looked_at():
    async def test(pair):
        await pair.away.ordered()
        event = pair.clients.render()
        await pair.home.send({**event, "width": 301})
        await pair.away.send(event)
        [receipt] = await forwarded(pair)
        assert (receipt.fate, receipt.reason) == (Fate.REFUSED, Reason.EVENT_ID_REUSED)
        assert (await pair.home.holding_store.count(NOW)).reused == 1

    run(test)


def test_a_view_that_comes_home_before_its_render_waits_for_it():
    async def test(pair):
        await pair.away.ordered()
        token = pair.clients.token()
        await pair.away.send(pair.clients.view(token))
        [receipt] = await forwarded(pair)
        assert receipt.fate is Fate.TAKEN
        assert (await pair.home.holding_store.count(NOW)).parked == 1

    run(test)


def test_history_stays_history():
    async def test(pair):
        await pair.away.ordered()
        token = pair.clients.token()
        event = pair.clients.render(token, received_at=NOW - 1_000)
        await pair.away.send(event, scopes=EVERYTHING)
        assert [receipt.fate for receipt in await forwarded(pair)] == [Fate.TAKEN]
        assert (await pair.home.events(token.impression))[0].received_at == NOW - 1_000

    run(test)


def test_a_box_that_cannot_be_opened_is_kept_at_home_with_the_reason_and_holds_up_nothing():
    async def test(pair):
        await pair.away.ordered()
        events = [pair.clients.render() for _ in range(3)]
        await pair.away.send(*events)
        broken = list(pair.away.shelter_store.entries.values())[1]
        broken.event = msgspec.structs.replace(
            broken.event, sealed=broken.event.sealed[:-1] + bytes([broken.event.sealed[-1] ^ 1])
        )
        done = await pair.forwarder.run()
        assert (done.taken, done.quarantined) == (2, 1)
        [entry] = await pair.home.quarantine_store.entries(Wanted(now=NOW))
        assert (entry.code, entry.event_id) == ("unopenable", None)
        assert entry.detail == "it is damaged, or belongs to another event"
        assert (await pair.away.shelter_store.count(NOW)).moved == 3

    run(test)


def a_box(pair, key, body, sender=None):
    sealer = Sealer(BoxKey(seed_of("eu-1", "opens")).public, random.Random(1).randbytes(32))
    content = body if sender is None else msgspec.msgpack.encode(Contents(body, sender))
    return Envelope(
        impression_id=key[1], event_id=key[2], received_at=NOW, sealed=sealer.seal(content, bound(key, NOW))
    )


def test_what_another_event_is_sealed_in_or_nothing_readable_is_unopenable_too():
    from commands.quarantine import NOBODY  # noqa: PLC0415

    async def test(pair):
        token = pair.clients.token()
        event = pair.clients.render(token)
        named = ("eu-1", token.impression, UUID(int=5))
        envelopes = [
            a_box(pair, named, msgspec.json.encode(event), NOBODY),
            a_box(pair, named, b"\xff\xff"),
        ]
        receipts = await pair.home.arrivals.take(envelopes)
        assert [receipt.fate for receipt in receipts] == [Fate.QUARANTINED] * 2
        assert await pair.home.events(token.impression) == []

    run(test)


@pytest.mark.parametrize("changed", ["received_at", "event_id", "impression_id"])
def test_a_box_does_not_pass_for_another_event_or_another_time(changed):
    async def test(pair):
        await pair.away.ordered()
        await pair.away.send(pair.clients.render())
        [kept] = await pair.away.shelter_store.due("eu-1", NOW, 9, 1 << 20)
        named = {"impression_id": kept.impression, "event_id": kept.event_id, "received_at": NOW}
        other = {"impression_id": UUID(int=7), "event_id": UUID(int=8), "received_at": NOW - 1}
        envelope = Envelope(sealed=kept.sealed, **{**named, changed: other[changed]})
        assert [receipt.fate for receipt in await pair.home.arrivals.take([envelope])] == [Fate.QUARANTINED]

    run(test)


def test_what_the_home_does_not_know_as_its_own_yet_is_put_off_not_lost():
    async def test(pair):
        newer = regions("eu-1", "us-1", epochs=2)
        pair.away.homes.swap(newer)
        await pair.away.ordered()
        await pair.away.send(pair.clients.render(pair.clients.token(epoch=2)))
        assert (await pair.forwarder.run()).later == 1
        assert (await pair.forwarder.run()).later == 0, "not before a while"
        pair.home.homes.swap(newer)
        pair.at(NOW + 5_000)
        assert (await pair.forwarder.run()).taken == 1

    run(test)


@pytest.mark.parametrize("fault", ["lost", "answer lost"])
def test_what_got_no_receipt_is_sent_again_and_counts_once(fault):
    async def test(pair):
        await pair.away.ordered()
        token = pair.clients.token()
        await pair.away.send(pair.clients.render(token))
        pair.wires.faults = [fault]
        done = await pair.forwarder.run()
        assert (done.settled, list(done.failed)) == (0, ["eu-1"])
        assert (await pair.forwarder.run()).settled == 0, "a pause first"
        pair.at(NOW + 1_000)
        assert (await pair.forwarder.run()).taken == 1
        assert len(await pair.home.events(token.impression)) == 3

    run(test)


def test_pauses_grow_while_a_home_stays_away_and_others_do_not_wait():
    async def test(pair):
        await pair.away.ordered(an_order(order_id=UUID(int=1)))
        await pair.away.ordered(an_order("ap", order_id=UUID(int=2)))
        pair.wires.down = {"eu-1"}
        events = [pair.clients.render(region_token(pair, region)) for region in ("eu", "ap")]
        await pair.away.send(*events)
        tried = []
        for second in range(130):
            pair.at(NOW + second * 1_000)
            done = await pair.forwarder.run()
            if done.failed:
                tried.append(second)
        assert tried == [0, 1, 3, 7, 15, 31, 63, 123]
        assert (await pair.away.shelter_store.count(NOW)) == Counts(
            waiting=1, moved=1, bytes_waiting=(await pair.away.shelter_store.count(NOW)).bytes_waiting
        )
        assert pair.wires.posts == {"ap-1": 1}

    run(test, names=("eu-1", "us-1", "ap-1"))


def test_of_a_page_that_is_not_taken_all_but_the_culprit_arrive():
    async def test(pair):
        await pair.away.ordered()
        events = [pair.clients.render() for _ in range(9)]
        await pair.away.send(*events)
        culprit = UUID(events[4]["event_id"])
        carry = pair.wires.forward

        async def forward(home, envelopes):
            if any(envelope.event_id == culprit for envelope in envelopes):
                raise NotTaken("422", is_of_page=True)
            return await carry(home, envelopes)

        pair.wires.forward = forward
        done = await pair.forwarder.run()
        assert (done.taken, done.later, done.failed) == (8, 1, {})
        assert (await pair.away.shelter_store.count(NOW)).waiting == 1

    run(test)


def test_receipts_that_are_not_of_what_was_sent_delete_nothing():
    async def test(pair):
        await pair.away.ordered()
        await pair.away.send(*(pair.clients.render() for _ in range(2)))
        carry = pair.wires.forward

        async def forward(home, envelopes):
            return (await carry(home, envelopes))[::-1]

        pair.wires.forward = forward
        done = await pair.forwarder.run()
        assert done.settled == 0
        assert "receipts" in done.failed["eu-1"]
        assert (await pair.away.shelter_store.count(NOW)).waiting == 2

    run(test)


def test_many_go_home_in_pages_in_order_of_arrival():
    async def test(pair):
        await pair.away.ordered()
        events = [pair.clients.render() for _ in range(250)]
        await pair.away.send(*events)
        assert (await pair.forwarder.run()).taken == 250
        assert [len(page) for page in pair.wires.pages] == [100, 100, 50]
        assert [str(event_id) for page in pair.wires.pages for event_id in page] == [
            event["event_id"] for event in events
        ]

    run(test)


def test_after_its_time_a_body_is_gone_and_said_to_be():
    async def test(pair):
        await pair.away.ordered()
        await pair.away.send(pair.clients.render())
        pair.at(NOW + TTL)
        assert (await pair.forwarder.run()).settled == 0
        assert await pair.away.shelter_store.drop_expired(NOW + TTL) == Dropped(1)
        assert await pair.away.shelter_store.count(NOW + TTL) == Counts(expired=1)

    run(test)
