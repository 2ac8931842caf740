"""A stream that cannot be read keeps nothing else of a spool out of the ledger."""

import pytest
from damagekit import DAMAGE, damage, mend
from msgspec.structs import replace
from spoolkit import SpoolGate, run_spool
from structlog.testing import capture_logs

from commands.spool_census import Spooled, take_spooled
from commands.spool_records import pack, unpack
from domain.reasons import Reason
from domain.standing import Uncertain, Valid
from ledger.spool import read_segment
from ledger.spool_owners import damaged, folders


@pytest.fixture(params=DAMAGE)
def hurt(request):
    def hurt(gate, token):
        damage(gate.store, token.impression, request.param)

    return hurt


async def a_hurt_stream(gate, clients, hurt, **token):
    """Return the token of an impression whose stream cannot be read, and of which the gate has no memory."""
    bad = clients.token(**token)
    await gate.send(clients.render(bad))
    hurt(gate, bad)
    gate.restart()
    return bad


async def standings(gate, tokens):
    return [(await gate.state(token.impression)).standing for token in tokens]


def test_a_stream_that_cannot_be_read_keeps_no_neighbour_out_of_the_ledger(tmp_path, hurt):
    async def test(gate, clients):
        bad = await a_hurt_stream(gate, clients, hurt)
        tokens = [clients.token() for _ in range(99)]
        renders = [clients.render(token) for token in tokens]
        views = [clients.view(token) for token in tokens[:10]]
        with gate.store.away():
            await gate.send(
                *renders[:50], clients.render(bad), *renders[50:], *views[:5], clients.view(bad), *views[5:]
            )
        with capture_logs() as logs:
            await gate.backlog.work()
        found = await standings(gate, tokens)
        assert all(isinstance(one, Valid) for one in found)
        assert [one.viewability.get("mrc") for one in found] == ["viewable"] * 10 + [None] * 89
        [told] = [entry for entry in logs if entry["event"] == "set aside: streams cannot be read"]
        assert list(told["streams"]) == [str(bad.impression)]

    run_spool(test, tmp_path)


def test_what_concerns_a_stream_that_cannot_be_read_is_kept_and_counted(tmp_path, hurt):
    async def test(gate, clients):
        bad = await a_hurt_stream(gate, clients, hurt)
        with gate.store.away():
            await gate.send(clients.render(bad), clients.render(), b'{"broken": 1}')
        await gate.backlog.work()
        totals = gate.backlog.totals
        assert (totals.drained, totals.damaged, len(damaged(gate.root))) == (2, 1, 1)
        assert len(gate.holding_store.bodies) == 1
        assert (gate.spool.size, await take_spooled(gate.root, gate.store)) == (0, Spooled())
        assert await gate.backlog.work() == 0

    run_spool(test, tmp_path)


async def put_back(gate, files):
    """Do what an operator does with the *files* that were set aside, and bring them in."""
    folder, aside = gate.root / "put-back", damaged(gate.root)
    assert len(aside) == files
    folder.mkdir()
    for one in aside:
        one.rename(folder / one.name)
    assert gate.backlog.adopt() == 1
    await gate.backlog.work()


def test_what_was_set_aside_is_brought_in_once_its_stream_is_mended_and_the_file_is_put_back(tmp_path, hurt):
    async def test(gate, clients):
        bad = await a_hurt_stream(gate, clients, lambda *_: None)
        [whole] = await gate.store.read_all(0, 1)
        hurt(gate, bad)
        with gate.store.away():
            await gate.send(clients.render(bad), clients.render())
        await gate.backlog.work()
        mend(gate.store, whole)
        await put_back(gate, files=1)
        assert ((await gate.state(bad.impression)).repeats, folders(gate.root)) == (1, [gate.owned.folder])
        assert (damaged(gate.root), gate.backlog.totals.already) == ([], 1)

    run_spool(test, tmp_path)


def test_files_that_were_set_aside_may_be_put_back_together(tmp_path, hurt):
    async def test(gate, clients):
        bad = await a_hurt_stream(gate, clients, lambda *_: None)
        [whole] = await gate.store.read_all(0, 1)
        hurt(gate, bad)
        with gate.store.away():
            for event in (clients.render(bad), clients.render(), clients.render(bad)):
                await gate.send(event)
                await gate.spool.seal()
        await gate.backlog.work()
        mend(gate.store, whole)
        await put_back(gate, files=2)
        assert (damaged(gate.root), gate.backlog.orphan_segments) == ([], 0)

    run_spool(test, tmp_path)


def test_a_render_that_was_sent_and_whose_stream_cannot_be_read_harms_no_note_beside_it(tmp_path, hurt):
    async def test(gate, clients):
        bad, good = clients.token(), clients.token()
        with gate.store.away("after"):
            await gate.send(clients.render(bad), clients.render(good))
        hurt(gate, bad)
        await gate.backlog.work()
        assert [type(event).__name__ for event in await gate.events(good.impression)][3:] == ["ImpressionAnswered"]
        assert len(damaged(gate.root)) == 1

    run_spool(test, tmp_path)


def test_what_a_newer_program_spooled_is_set_aside_and_its_neighbours_are_brought_in(tmp_path):
    async def test(gate, clients):
        newer, good = clients.token(), clients.token()
        with gate.store.away():
            await gate.send(clients.render(newer), clients.render(good))
        [path] = await gate.spool.seal()
        [payload] = read_segment(path).payloads()
        gate.spool.done(path)
        first, *others = unpack(payload)
        await gate.spool.write(*pack([replace(first, data=DAMAGE["a newer schema"](first.data)), *others]))
        await gate.backlog.work()
        assert not await gate.events(newer.impression)
        assert isinstance((await gate.state(good.impression)).standing, Valid)
        assert (gate.backlog.totals.drained, len(damaged(gate.root))) == (1, 1)

    run_spool(test, tmp_path)


def test_an_impression_that_cannot_be_read_any_more_keeps_no_other_uncertain(tmp_path, hurt):
    async def test(gate, clients):
        bad, good = clients.token(), clients.token()
        with gate.store.away():
            await gate.send(clients.render(bad), clients.render(good))
        again = gate.redecider.redecide

        async def late(impressions):
            hurt(gate, bad)
            return await again(impressions)

        gate.redecider.redecide = late
        await gate.backlog.work()
        assert isinstance((await gate.state(good.impression)).standing, Valid)
        assert (gate.spool.size, gate.backlog.totals.redecided) == (0, 1)

    run_spool(test, tmp_path)


def test_what_may_be_a_double_fire_of_what_cannot_be_read_stays_uncertain_alone(tmp_path):
    async def test(gate, clients):
        original, twin, good = (clients.token(placement=place) for place in ("one", "one", "two"))
        with gate.store.away():
            await gate.send(clients.render(twin, user="ann"), clients.render(good))
        other = SpoolGate(gate.root, gate.store, gate.holding_store, gate.day_keys)
        await other.send(clients.render(original, user="ann"))
        gate.ingest.recall(original.impression, await gate.events(original.impression))
        damage(gate.store, original.impression)
        with capture_logs() as logs:
            await gate.backlog.work()
        first, second = await standings(gate, [twin, good])
        assert (type(first), first.reason, type(second)) == (Uncertain, Reason.DEGRADED, Valid)
        [told] = [entry for entry in logs if entry["event"] == "not decided again: streams cannot be read"]
        assert list(told["streams"]) == [str(twin.impression)]

    run_spool(test, tmp_path)
