"""What a restart must not forget, and what midnight must not tear apart."""

import pytest
from gatekit import NOW, PACK, run_gate

from commands.recall import recall
from domain.reasons import Reason, Verdict

DAY_MS, HOUR, MINUTE = 86_400_000, 3_600_000, 60_000
MIDNIGHT = NOW // DAY_MS * DAY_MS + DAY_MS
SLOT = {"placement": "placement-1"}


def fired_at(clients, served_at, at):
    """One showing to Anna in one slot."""
    token = clients.token(at=served_at, **SLOT)
    return clients.render(token, user="anna", client_at=at, on_screen_at=at)


def test_a_double_fire_of_what_was_shown_before_a_restart_is_recognised():
    async def test(gate, clients):
        await gate.send(fired_at(clients, NOW - 5_000, NOW - 2_000))
        gate.restart()
        assert await recall(gate.store, 1_000, [gate.ingest.recall]) == 1
        [answer] = await gate.send(fired_at(clients, NOW - 5_000, NOW - 2_000 + PACK.double_fire_window_ms))
        assert (answer.verdict, answer.reason) == (Verdict.DUPLICATE, Reason.DOUBLE_FIRE)

    run_gate(test)


def test_a_retry_across_a_restart_is_answered_without_reading_its_stream():
    async def test(gate, clients):
        event = clients.render()
        [first] = await gate.send(event)
        gate.restart()
        await recall(gate.store, 1_000, [gate.ingest.recall])
        gate.store.read_streams = None
        assert await gate.send(event) == [first]

    run_gate(test)


def test_what_did_not_count_is_no_original_after_a_restart_either():
    async def test(gate, clients):
        token = clients.token(**SLOT)
        await gate.send(clients.render(token, user="anna", prefetched=True, on_screen_at=None))
        gate.restart()
        await recall(gate.store, 1_000, [gate.ingest.recall])
        [answer] = await gate.send(fired_at(clients, NOW - 5_000, NOW - 2_000))
        assert answer.verdict is Verdict.VALID

    run_gate(test)


def test_a_double_fire_of_what_was_fetched_ahead_and_shown_in_one_batch_is_recognised_after_a_restart():
    async def test(gate, clients):
        token = clients.token(placement="p")
        fetched = clients.render(token, prefetched=True, on_screen_at=None, user="u")
        await gate.send(fetched, clients.render(token, user="u"))
        gate.restart()
        await recall(gate.store, 1_000, [gate.ingest.recall])
        [again] = await gate.send(clients.render(clients.token(placement="p"), user="u"))
        assert (again.verdict, again.reason) == (Verdict.DUPLICATE, Reason.DOUBLE_FIRE)

    run_gate(test)


def test_a_clock_that_was_off_is_known_after_a_restart():
    async def test(gate, clients):
        off = {"device": "off", "client_at": NOW - 2_000 - HOUR}
        await gate.send(clients.render(sent_at=NOW - 40 - HOUR, **off))
        gate.restart()
        await recall(gate.store, 1_000, [gate.clocks.recall])
        [answer] = await gate.send(clients.render(**off))
        assert answer.reason is None

    run_gate(test)


def test_only_the_tail_is_recalled():
    async def test(gate, clients):
        for _ in range(5):
            await gate.send(clients.render())
        assert await recall(gate.store, 2, []) == 2
        assert await recall(gate.store, 0, []) == 0

    run_gate(test)


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("served_before", [MINUTE, 2 * HOUR])
def test_a_double_fire_across_midnight_is_one(order, served_before):
    async def test(gate, clients):
        gate.now = MIDNIGHT + 2 * MINUTE
        at = MIDNIGHT + MINUTE
        pair = [
            fired_at(clients, MIDNIGHT - served_before, at),
            fired_at(clients, MIDNIGHT + MINUTE - 1, at + 500),
        ]
        answers = [(await gate.send(event))[0] for event in pair[::order]]
        assert [answer.reason for answer in answers] == [None, Reason.DOUBLE_FIRE]

    run_gate(test)
