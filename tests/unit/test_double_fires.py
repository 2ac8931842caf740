"""One ad shown to one person in one slot, again under another id: a double fire, and what only looks like one."""

import pytest
from gatekit import NOW, run_gate
from msgspec.structs import replace

from domain.reasons import Reason, Verdict


@pytest.mark.parametrize("batches", [1, 2])
def test_the_same_slot_again_under_another_id_is_a_double_fire_and_the_first_one_counts(batches):
    async def test(gate, clients):
        tokens = [clients.token(placement="p-1") for _ in range(3)]
        renders = [clients.render(token, user="anna") for token in tokens]
        if batches == 1:
            answers = await gate.send(*renders)
        else:
            answers = [answer for render in renders for answer in await gate.send(render)]
        assert [answer.verdict for answer in answers] == [Verdict.VALID, Verdict.DUPLICATE, Verdict.DUPLICATE]
        assert answers[1].reason is Reason.DOUBLE_FIRE
        deduped = (await gate.events(tokens[2].impression))[2]
        assert deduped.duplicate_of == tokens[0].impression
        assert (await gate.state(tokens[1].impression)).standing.billable_micros == 0

    run_gate(test)


@pytest.mark.parametrize(
    "change",
    [{"user": "bert"}, {"client_at": NOW - 4_001, "on_screen_at": NOW - 4_001}, {"received_at": NOW}],
    ids=["another person", "out of the window", "history"],
)
def test_what_differs_is_no_double_fire(change):
    async def test(gate, clients):
        first, second = clients.token(placement="p-1"), clients.token(placement="p-1")
        at = NOW - 3_000
        answers = await gate.send(
            clients.render(first, user="anna", client_at=at, on_screen_at=at),
            clients.render(second, **{"user": "anna", "client_at": at, "on_screen_at": at, **change}),
        )
        assert [answer.verdict for answer in answers] == [Verdict.VALID, Verdict.VALID]

    run_gate(test)


def test_a_proof_that_is_a_double_fire_says_of_what():
    async def test(gate, clients):
        first, second = clients.token(placement="p-1"), clients.token(placement="p-1")
        await gate.send(clients.render(first, user="anna", on_screen_at=None))
        clients.now = gate.now = NOW + 1_800_000
        answers = await gate.send(clients.render(second, user="anna"))
        answers += await gate.send(clients.render(first, user="anna"))
        assert [answer.reason for answer in answers] == [None, Reason.DOUBLE_FIRE]
        assert (await gate.events(first.impression))[-1].evidence == f"double fire of {second.impression}"

    run_gate(test)


def test_a_double_fire_of_what_did_not_count_counts():
    async def test(gate, clients):
        first, second = clients.token(placement="p-1"), clients.token(placement="p-1")
        answers = await gate.send(
            clients.render(first, user="anna", prefetched=True, on_screen_at=None), clients.render(second, user="anna")
        )
        assert [answer.reason for answer in answers] == [Reason.PREFETCHED, None]

    run_gate(test)


@pytest.mark.parametrize("placement", ["p-1", "p-2"], ids=["its own slot", "a slot that it claims later"])
def test_a_repeat_is_no_original_of_a_double_fire(placement):
    async def test(gate, clients):
        token = clients.token(placement="p-1")
        await gate.send(clients.render(token, user="anna"))
        clients.now = gate.now = NOW + 1_800_000
        again = replace(token, placement=placement)
        [repeat] = await gate.send(clients.render(again, user="anna"))
        [other] = await gate.send(clients.render(clients.token(placement=placement), user="anna"))
        assert (repeat.verdict, other.verdict) == (Verdict.DUPLICATE, Verdict.VALID)

    run_gate(test)


def test_many_showings_of_one_ad_in_one_slot_fit_in_one_batch():
    async def test(gate, clients):
        events = []
        for n in range(40):
            token, at = clients.token(placement="p-1", at=NOW - 400_000), NOW - 300_000 + n * 2_500
            fired_again = clients.token(placement="p-1", at=NOW - 400_000)
            events.append(clients.render(token, user="anna", client_at=at, on_screen_at=at))
            events.append(clients.render(fired_again, user="anna", client_at=at + 300, on_screen_at=at + 300))
        answers = await gate.send(*events)
        assert [answer.reason for answer in answers] == [None, Reason.DOUBLE_FIRE] * 40

    run_gate(test)


def test_many_prefetches_of_one_slot_do_not_wait_for_each_other():
    async def test(gate, clients):
        tokens = [clients.token(placement="p-1") for _ in range(30)]
        events = [clients.render(token, user="anna", prefetched=True, on_screen_at=None) for token in tokens]
        assert {answer.reason for answer in await gate.send(*events)} == {Reason.PREFETCHED}

    run_gate(test)
