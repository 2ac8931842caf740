"""Views through the gate: what they move, and where they wait for their render."""

from datetime import date

import msgspec
from gatekit import EVERYTHING, NOW, PRICE, counted, run_gate

from commands.items import Caller, Status
from commands.keyring import DAY_MS
from commands.quarantine import ROOM
from domain.events import ImpressionViewed
from domain.reasons import Reason
from domain.standing import Valid
from domain.vocabulary import BillingEvent, Label

DAY = date(2026, 9, 21)


def test_keys_that_are_destroyed_while_a_batch_waits_expire_its_early_views_of_that_day_and_nothing_else():
    async def test(gate, clients):
        then = NOW - 9 * DAY_MS
        old = clients.token(at=then)
        await gate.keyring.ensure([then // DAY_MS], then, b"f" * 32)
        events = [
            clients.view(old, received_at=then, client_at=None),
            clients.view(clients.token()),
            clients.render(),
        ]
        items = await gate.intake.prepare([msgspec.json.encode(event) for event in events], Caller(EVERYTHING))
        assert await gate.keyring.destroy_due(NOW) == 1
        answers = await gate.ingest.decide_batch(items)
        assert [answer.status for answer in answers] == [Status.REFUSED, Status.PARKED, Status.DECIDED]
        assert answers[0].reason is Reason.TOKEN_EXPIRED
        assert await counted(gate) == ({Reason.TOKEN_EXPIRED: 1}, 0)
        assert len(gate.holding_store.views) == 1

    run_gate(test)


def test_a_view_moves_viewability_once_and_a_repeat_of_it_is_only_counted():
    async def test(gate, clients):
        token = clients.token(billing_event=BillingEvent.VIEWABLE)
        await gate.send(clients.render(token))
        assert (await gate.state(token.impression)).standing == Valid(reserved_micros=PRICE)
        answers = await gate.send(clients.view(token), clients.view(token))
        assert [answer.status for answer in answers] == [Status.RECORDED, Status.RECORDED]
        state = await gate.state(token.impression)
        assert state.standing.billable_micros == PRICE
        events = await gate.events(token.impression)
        assert [type(event) for event in events[3:]] == [ImpressionViewed]
        assert await counted(gate) == ({}, 1)

    run_gate(test)


def test_views_that_come_too_late_without_end_fill_no_stream():
    async def test(gate, clients):
        token = clients.token()
        await gate.send(clients.render(token))
        gate.now = NOW + 2 * DAY_MS
        for _ in range(3):
            answers = await gate.send(*[clients.view(token, visible_ratio=ratio) for ratio in (0.1, 0.9, 0.1)])
            assert [answer.status for answer in answers] == [Status.RECORDED] * 3
        labels = (await gate.events(token.impression))[3:]
        assert [event.label for event in labels] == [Label.NOT_VIEWABLE, Label.VIEWABLE]
        assert await counted(gate) == ({}, 7)

    run_gate(test)


def test_a_view_before_its_render_is_parked_and_applied_when_it_lands():
    async def test(gate, clients):
        token = clients.token(billing_event=BillingEvent.VIEWABLE)
        view = clients.view(token)
        [parked] = await gate.send(view)
        [again] = await gate.send(view)
        assert parked == again
        assert parked.status is Status.PARKED
        assert len(gate.holding_store.views) == 1
        assert await gate.holding.due_views(10, NOW) == []
        await gate.send(clients.render(token))
        [(event_id, received_at, body)] = await gate.holding.due_views(10, NOW)
        assert (str(event_id), received_at) == (view["event_id"], NOW)
        [answer] = await gate.send(body)
        await gate.holding.unpark([event_id])
        assert answer.status is Status.RECORDED
        assert gate.holding_store.views == {}
        assert (await gate.state(token.impression)).standing.billable_micros == PRICE

    run_gate(test)


def test_beyond_what_may_wait_of_an_impression_its_views_are_deferred_and_nothing_else_of_the_batch():
    async def test(gate, clients):
        token = clients.token()
        views = [clients.view(token) for _ in range(ROOM.impression_max)]
        assert {answer.status for answer in await gate.send(*views)} == {Status.PARKED}
        late = clients.view(token)
        answers = await gate.send(late, clients.view(clients.token()), views[0], clients.render())
        assert [answer.status for answer in answers] == [
            Status.DEFERRED,
            Status.PARKED,
            Status.PARKED,
            Status.DECIDED,
        ]
        assert len(gate.holding_store.views) == ROOM.impression_max + 1
        await gate.send(clients.render(token))
        assert [answer.status for answer in await gate.send(late)] == [Status.RECORDED]

    run_gate(test)
