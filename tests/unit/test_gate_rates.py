"""Rates at the gate: a machine's are dropped, an office's are not, whatever is retried, restarted or renamed."""

import asyncio
import random
from datetime import date

import pytest
from gatekit import NOW, PACK, KitGate, Minter
from spoolkit import SpoolGate, run_spool

from commands.recall import recall
from domain.events import ImpressionScored
from domain.reasons import Reason, Verdict
from ledger.store import LedgerUnavailable
from ml.counters.tables import Capacities
from service.activity import CountedActivity

SMALL = Capacities(*[2_048] * 8)
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
LIMIT = PACK.rates.abusive.per_10s
BURST_AT = NOW // 10_000 * 10_000 - 20_000
"""Ten seconds that begin together with a bucket of the counters."""
MIDNIGHT = NOW // DAY * DAY + DAY
DROPPED = (Verdict.DROPPED, Reason.RATE_ABUSIVE)
VALID = (Verdict.VALID, None)


def run(test):
    async def main():
        gate = KitGate(activity=counting())
        await gate.open(date(2026, 9, 10), date(2026, 9, 24))
        await test(gate, Minter())

    asyncio.run(main())


def counting(since=NOW - 2 * DAY):
    return CountedActivity(PACK.rates, since, SMALL)


def shown_at(clients, at, **changes):
    """One showing at *at*, in a slot of its own, of an ad served a second before."""
    return clients.render(clients.token(at=at - 1_000), client_at=at, on_screen_at=at, **changes)


def burst(clients, count, at=BURST_AT, **changes):
    """Uneven: a burst, not a rhythm."""
    times = random.Random(7).sample(range(9_000), count)
    return [shown_at(clients, at + moment, **{"user": "bot", **changes}) for moment in sorted(times)]


def told(answers):
    return [(answer.verdict, answer.reason) for answer in answers]


async def signals_of(gate, answers):
    events = [event for answer in answers for event in await gate.events(answer.impression_id)]
    return [signal for event in events if isinstance(event, ImpressionScored) for signal in event.signals]


def test_the_render_that_is_one_too_many_in_ten_seconds_is_dropped_and_none_before_it():
    async def test(gate, clients):
        answers = await gate.send(*burst(clients, LIMIT + 2))
        assert told(answers) == [VALID] * LIMIT + [DROPPED] * 2

    run(test)


def test_three_hundred_people_behind_one_address_are_no_abusers_and_a_machine_among_them_is():
    async def test(gate, clients):
        dice = random.Random(300)
        people = [f"person-{number}" for number in range(300)]
        at_work = [
            shown_at(clients, NOW - dice.randrange(MINUTE), user=person, device=f"{person}'s")
            for person in people
            for _ in range(dice.randrange(4, 20))
        ]
        machine = burst(clients, LIMIT + 1)
        together = [*at_work, *machine]
        dice.shuffle(together)
        answers = [
            answer for at in range(0, len(together), 100) for answer in await gate.send(*together[at : at + 100])
        ]
        ids = {str(answer.event_id): answer for answer in answers}
        office = [ids[event["event_id"]] for event in at_work]
        assert len(office) > 3_000
        assert set(told(office)) == {VALID}
        assert await signals_of(gate, office) == []
        assert told([ids[event["event_id"]] for event in machine]).count(DROPPED) == 1

    run(test)


def test_retries_move_no_counter():
    async def test(gate, clients):
        events = burst(clients, LIMIT)
        first = await gate.send(*events)
        for _ in range(3):
            assert await gate.send(*events) == first
        gate.restart()
        assert await gate.send(*events) == first
        assert told(await gate.send(shown_at(clients, BURST_AT + 9_000, user="bot"))) == [DROPPED]

    run(test)


def test_what_was_counted_before_a_restart_still_counts():
    async def test(gate, clients):
        await gate.send(*burst(clients, LIMIT))
        gate.activity = counting(since=NOW)
        gate.restart()
        await recall(gate.store, 1_000, [gate.ingest.recall, gate.activity.recall])
        assert told(await gate.send(shown_at(clients, BURST_AT + 9_000, user="bot"))) == [DROPPED]
        assert told(await gate.send(shown_at(clients, BURST_AT + 9_000, user="anna"))) == [VALID]

    run(test)


def two_more(clients):
    """Renders at the end of a burst: the one that is allowed yet, where the burst had one less, and one too many."""
    return [shown_at(clients, BURST_AT + 9_000 + number, user="bot") for number in range(2)]


async def after_the_death_of(gate):
    """Another process in the place of *gate*, which has recalled the ledger and adopted the spool."""
    gate.die()
    heir = SpoolGate(gate.root, gate.store, gate.holding_store, gate.day_keys, activity=counting(since=NOW))
    await heir.warm()
    await recall(heir.store, 1_000, [heir.ingest.recall, heir.activity.recall])
    heir.backlog.adopt()
    return heir


@pytest.mark.parametrize(("mode", "is_drained"), [("asleep", True), ("after", False)])
def test_a_spool_that_a_restart_adopts_counts_nobodys_renders_twice(tmp_path, mode, is_drained):
    """Its renders stand in the ledger: uncertain still, or as they were sent, with an answer that came too late."""

    async def killed(_):
        raise LedgerUnavailable("killed before anything is decided again")

    async def test(gate, clients):
        with gate.store.away(mode):
            await gate.send(*burst(clients, LIMIT - 1))
        if is_drained:
            gate.redecider.redecide = killed
            with pytest.raises(LedgerUnavailable):
                await gate.backlog.work()
        heir = await after_the_death_of(gate)
        await heir.backlog.work()
        assert told(await heir.send(*two_more(clients))) == [VALID, DROPPED]

    run_spool(test, tmp_path, activity=counting())


def test_draining_that_is_begun_again_counts_nobodys_renders_twice(tmp_path):
    async def test(gate, clients):
        with gate.store.away("after"):
            await gate.send(*burst(clients, LIMIT - 1))
        read, calls = gate.store.read_streams, []

        async def failing(streams, limit):
            calls.append(streams)
            if len(calls) in {2, 4}:
                raise LedgerUnavailable("away again, after the renders were counted")
            return await read(streams, limit)

        gate.store.read_streams = failing
        for _ in range(2):
            with pytest.raises(LedgerUnavailable):
                await gate.backlog.work()
        await gate.backlog.work()
        assert gate.spool.segments == 0
        assert told(await gate.send(*two_more(clients))) == [VALID, DROPPED]

    run_spool(test, tmp_path, activity=counting())


def test_of_an_impression_whose_appends_were_all_left_unanswered_every_render_counts(tmp_path):
    async def test(gate, clients):
        append = gate.store.append

        async def unanswered(appends, recorded_at):
            await append(appends, recorded_at)
            raise LedgerUnavailable("it was written")

        gate.store.append = unanswered
        proof = shown_at(clients, BURST_AT, user="bot")
        await gate.send({name: value for name, value in proof.items() if name != "on_screen_at"})
        await gate.send({**proof, "event_id": str(clients.uuid())})
        gate.store.append = append
        await gate.backlog.work()
        await gate.send(*burst(clients, LIMIT - 3))
        assert told(await gate.send(*two_more(clients))) == [VALID, DROPPED]

    run_spool(test, tmp_path, activity=counting())


def test_midnight_gives_nobody_a_fresh_start():
    async def test(gate, clients):
        gate.now = MIDNIGHT + 5_000
        allowed = PACK.rates.abusive.per_min // LIMIT
        before = [burst(clients, LIMIT, at=MIDNIGHT - 10_000 * number) for number in range(allowed, 0, -1)]
        for events in before:
            assert set(told(await gate.send(*events))) == {VALID}
        after = [shown_at(clients, MIDNIGHT + 2_000, user=name) for name in ("bot", "anna")]
        assert told(await gate.send(*after)) == [DROPPED, VALID]

    run(test)


def test_an_offline_phone_that_uploads_an_hour_at_once_is_no_burst():
    async def test(gate, clients):
        dice = random.Random(1)
        times = sorted(NOW - HOUR + dice.randrange(HOUR - MINUTE) for _ in range(LIMIT * 2))
        answers = await gate.send(*[shown_at(clients, at, user="anna") for at in times])
        assert set(told(answers)) == {VALID}

    run(test)
