"""Floods of repeats of one impression: bounded in the stream, counted to the last one, and nobody else has to wait."""

import pytest
from damagekit import damage
from gatekit import NOW, PACK, run_gate

from commands.floods import FLOODS_MAX, OVER_MS, Floods
from domain.events import ImpressionDeduped
from domain.ids import mint
from domain.reasons import Reason
from ledger.census import take_census
from ledger.memory import MemoryStore
from ledger.store import LedgerUnavailable


def test_a_flood_of_repeats_takes_bounded_space_and_is_counted():
    async def test(gate, clients):
        token = clients.token()
        await gate.send(clients.render(token))
        for _ in range(5):
            answers = await gate.send(*(clients.render(token) for _ in range(50)))
            assert {answer.reason for answer in answers} == {Reason.DUPLICATE_RENDER}
        assert (await gate.state(token.impression)).repeats == PACK.repeats_kept_max
        assert len(await gate.events(token.impression)) == 3 + PACK.repeats_kept_max
        census = await take_census(gate.store)
        assert (census.renders, census.repeats) == (1 + PACK.repeats_kept_max, 250 - PACK.repeats_kept_max)

    run_gate(test)


def test_counted_repeats_are_written_at_every_doubling_and_when_the_flood_is_over():
    async def test(gate, clients):
        token = clients.token()
        await gate.send(clients.render(token))
        await gate.send(*(clients.render(token) for _ in range(70)))
        assert await gate.ingest.write_floods() == 3
        assert [event.renders for event in await gate.events(token.impression) if stands_for_many(event)] == [8, 16, 32]
        assert await gate.ingest.write_floods() == 0
        await gate.send(*(clients.render(token) for _ in range(10)))
        gate.now += PACK.repeats_idle_ms
        assert await gate.ingest.write_floods() == 1
        assert (await gate.state(token.impression)).repeats == 80
        gate.now += OVER_MS
        assert await gate.ingest.write_floods() == 0

    run_gate(test)


def test_a_flood_of_a_million_leaves_a_score_of_events():
    floods = Floods(PACK.repeats_idle_ms)
    impression = mint(NOW, 1, 1)
    for _ in range(1_000_000 - PACK.repeats_kept_max):
        floods.note(impression, Reason.DUPLICATE_RENDER, PACK.repeats_kept_max, NOW)
    lots = []
    floods.pause(NOW + OVER_MS)
    while due := floods.due(1_000):
        lots += due
        for lot in due:
            floods.written(lot)
    assert sum(lot.renders for lot in lots) == 1_000_000 - PACK.repeats_kept_max
    assert len(lots) == 17


@pytest.mark.parametrize("pause_ms", [PACK.repeats_idle_ms, OVER_MS // 2, OVER_MS])
def test_a_flood_that_pauses_after_every_repeat_for_as_long_as_a_token_lives_fills_no_stream(pause_ms):
    floods, impression, written = Floods(PACK.repeats_idle_ms), mint(NOW, 1, 1), []
    stored = PACK.repeats_kept_max
    for now in range(NOW, NOW + PACK.token_age_max_ms, pause_ms):
        floods.note(impression, Reason.DUPLICATE_RENDER, stored, now)
        for then in (now + pause_ms - 1_000, now + pause_ms):
            floods.pause(then)
            for lot in floods.due(64):
                floods.written(lot)
                written.append(lot.renders)
                stored += lot.renders
    assert len(written) < 200
    assert sum(written) > 0.8 * PACK.token_age_max_ms / pause_ms


def test_floods_that_rest_make_room_for_new_ones():
    floods = Floods(PACK.repeats_idle_ms)
    for number in range(FLOODS_MAX):
        floods.note(mint(NOW, 1, number), Reason.DUPLICATE_RENDER, PACK.repeats_kept_max, NOW)
    floods.pause(NOW + PACK.repeats_idle_ms)
    assert floods.due(1) == []
    for _ in range(8):
        floods.note(mint(NOW, 2, 1), Reason.DUPLICATE_RENDER, PACK.repeats_kept_max, NOW + PACK.repeats_idle_ms)
    assert [lot.renders for lot in floods.due(10)] == [8]


def test_what_is_left_of_a_flood_is_written_once_it_is_over():
    async def test(gate, clients):
        token = clients.token()
        await gate.send(clients.render(token))
        await gate.send(*(clients.render(token) for _ in range(66)))
        gate.now += PACK.repeats_idle_ms
        await gate.ingest.write_floods()
        assert (await gate.state(token.impression)).repeats == 64
        gate.now += OVER_MS
        assert await gate.ingest.write_floods() == 1
        assert (await gate.state(token.impression)).repeats == 66

    run_gate(test)


def test_many_floods_are_written_in_one_read_and_one_append():
    async def test(gate, clients):
        tokens = [clients.token() for _ in range(40)]
        await gate.send(*(clients.render(token) for token in tokens))
        for _ in range(12):
            await gate.send(*(clients.render(token) for token in tokens))
        gate.now += PACK.repeats_idle_ms
        gate.store.calls = 0
        assert await gate.ingest.write_floods() == 40
        assert gate.store.calls == 2

    run_gate(test, CountsCalls())


def test_repeats_of_a_stream_that_cannot_be_read_hold_up_no_others():
    async def test(gate, clients):
        tokens = [clients.token() for _ in range(2)]
        for token in tokens:
            await gate.send(clients.render(token))
            await gate.send(*(clients.render(token) for _ in range(12)))
        damage(gate.store, tokens[0].impression)
        gate.now += PACK.repeats_idle_ms
        assert await gate.ingest.write_floods() == 1
        assert (await gate.state(tokens[1].impression)).repeats == 12

    run_gate(test)


def test_counted_repeats_whose_answer_was_lost_are_written_once():
    async def test(gate, clients):
        token = clients.token()
        await gate.send(clients.render(token))
        await gate.send(*(clients.render(token) for _ in range(16)))
        gate.store.losing = True
        with pytest.raises(LedgerUnavailable):
            await gate.ingest.write_floods()
        gate.store.losing = False
        await gate.send(*(clients.render(token) for _ in range(3)))
        assert await gate.ingest.write_floods() == 0
        assert (await gate.state(token.impression)).repeats == 16

    run_gate(test, LosesAnswers())


def stands_for_many(event):
    return isinstance(event, ImpressionDeduped) and event.counted


class LosesAnswers(MemoryStore):
    """A store that does what it is told and does not say so."""

    losing = False

    async def append(self, appends, recorded_at):
        outcomes = await super().append(appends, recorded_at)
        if self.losing:
            raise LedgerUnavailable("the answer was lost")
        return outcomes


class CountsCalls(MemoryStore):
    calls = 0

    async def append(self, appends, recorded_at):
        self.calls += 1
        return await super().append(appends, recorded_at)

    async def read_streams(self, streams, limit):
        self.calls += 1
        return await super().read_streams(streams, limit)
