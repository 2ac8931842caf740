"""The router: each render to its cell, answers in order, and what fails takes nothing else with it."""

import asyncio
import random

import httpx
import msgspec
import pytest
from cellkit import FaultyWire, address, cells_of, cluster, grown, minted, one_cell
from gatekit import Minter
from hypothesis import given
from hypothesis import strategies as st

from commands.items import Answer, Status
from domain.cells_file import cell_map_text
from domain.ids import SHARDS
from domain.reasons import Reason
from ml.traffic.delivery import JSON, NDJSON, Unanswered
from service import router as router_module
from service.routed import RoutedCourier
from service.router import BATCH_MAX, Failed, Limits, NoReply, Reply, Router
from service.router_wires import HttpxWire

THREE = cells_of(3)
ONE_TRY = Limits(tries_max=1)


def encoded(event):
    return msgspec.json.encode(event)


def shard_of(cells, name):
    return cells.epochs("eu")[-1].owners.index(name)


def run(test, cells=THREE, *, routes=None, limits=None, **kept):
    """Hands *test* a router by the map *routes* (the gates' own by default) over a wire whose faults it chooses."""

    async def main():
        async with cluster(cells, **kept) as (gates, http):
            wire = FaultyWire(http)
            router = Router(routes or cells, wire, limits=limits, pause=wire.pause)
            await test(router, Minter(), wire, gates)

    asyncio.run(main())


def from_all_cells(clients, cells, number):
    names = list(cells.cells)
    return [clients.render(minted(clients, cells, shard_of(cells, names[at % len(names)]))) for at in range(number)]


def test_a_batch_is_split_by_cell_and_answered_in_its_order():
    async def test(router, clients, wire, gates):
        events = from_all_cells(clients, THREE, 12)
        outcomes = await router.send(list(map(encoded, events)))
        assert [str(outcome.event_id) for outcome in outcomes] == [event["event_id"] for event in events]
        assert {outcome.status for outcome in outcomes} == {Status.DECIDED}
        assert wire.posts == {address(name): 1 for name in THREE.cells}
        for at, event in enumerate(events):
            token = gates["eu-1"].token_of(event)
            found = [name for name, gate in gates.items() if await gate.events(token.impression)]
            assert found == [list(THREE.cells)[at % 3]]

    run(test)


@given(shards=st.lists(st.integers(0, SHARDS - 1), max_size=30), number=st.integers(1, 6), seed=st.integers(0, 99))
def test_any_batch_comes_back_in_order_each_answered_by_its_owner(shards, number, seed):
    cells = cells_of(number)

    class Echo:
        """Cells that answer what they got, whatever it is."""

        async def post(self, at, body, _):
            await asyncio.sleep(0)
            lines = [msgspec.json.decode(line) for line in body.split(b"\n")]
            answers = [{"event_id": line["event_id"], "status": "decided", "cell": at} for line in lines]
            return Reply(200, b"\n".join(map(encoded, answers)))

        async def cell_map(self, *_):
            raise NoReply("nobody asks for it")

    async def main():
        clients = Minter(seed)
        tokens = [minted(clients, cells, shard, epoch=clients.random.randint(1, number)) for shard in shards]
        events = [clients.render(token) for token in tokens]
        outcomes = await Router(cells, Echo()).send(list(map(encoded, events)))
        assert [str(outcome.event_id) for outcome in outcomes] == [event["event_id"] for event in events]
        owners = [cells.cell_of("eu", token.epoch, shard) for token, shard in zip(tokens, shards, strict=True)]
        assert [outcome.cell for outcome in outcomes] == [owner.address for owner in owners]

    asyncio.run(main())


@pytest.mark.parametrize("seed", range(20))
def test_through_any_faults_every_render_counts_at_most_once_and_order_is_kept(seed):
    dice = random.Random(seed)

    async def test(router, clients, wire, gates):
        events = from_all_cells(clients, THREE, 24)
        for name in THREE.cells:
            wire.faults[address(name)] = dice.choices(["lost", "answer lost", 503, 500, None], k=dice.randrange(6))
        waiting = dict(enumerate(events))
        for _ in range(4):
            outcomes = await router.send([encoded(event) for event in waiting.values()])
            for at, outcome in zip(list(waiting), outcomes, strict=True):
                if isinstance(outcome, Answer):
                    assert str(outcome.event_id) == waiting.pop(at)["event_id"]
                    assert outcome.status is Status.DECIDED
        assert waiting == {}
        for event in events:
            token = gates["eu-1"].token_of(event)
            streams = [await gate.events(token.impression) for gate in gates.values()]
            assert sorted(map(len, streams)) == [0, 0, 3]

    run(test)


def test_a_cell_that_is_down_fails_only_its_own_renders():
    async def test(router, clients, wire, _):
        outcomes = await router.send(list(map(encoded, from_all_cells(clients, THREE, 9))))
        failed = [outcome for outcome in outcomes if isinstance(outcome, Failed)]
        assert [isinstance(outcome, Failed) for outcome in outcomes] == [False, True, False] * 3
        assert {(outcome.cell, outcome.status, outcome.may_pass) for outcome in failed} == {("eu-2", 0, True)}
        assert wire.posts[address("eu-2")] == Limits().tries_max
        assert len(wire.pauses) == Limits().tries_max - 1

    run(test, only=["eu-1", "eu-3"])


def test_a_busy_cell_is_asked_again_after_the_time_it_asked_for():
    async def test(router, clients, wire, _):
        wire.faults[address("eu-2")] = [503]
        outcomes = await router.send(list(map(encoded, from_all_cells(clients, THREE, 3))))
        assert [outcome.status for outcome in outcomes] == [Status.DECIDED] * 3
        assert wire.posts[address("eu-2")] == 2
        [waited] = wire.pauses
        assert waited >= 0.25

    run(test)


@pytest.mark.parametrize("status", [400, 401, 403, 413])
def test_what_a_cell_refuses_for_good_is_not_asked_again(status):
    async def test(router, clients, wire, _):
        wire.faults[address("eu-2")] = [status]
        outcomes = await router.send(list(map(encoded, from_all_cells(clients, THREE, 3))))
        assert outcomes[1] == Failed(cell="eu-2", status=status, why="as the test says")
        assert not outcomes[1].may_pass
        assert wire.posts[address("eu-2")] == 1

    run(test)


def test_nothing_is_asked_after_the_deadline():
    async def test(router, clients, wire, _):
        outcomes = await router.send(list(map(encoded, from_all_cells(clients, THREE, 3))))
        assert {outcome.why for outcome in outcomes} == {"the deadline passed"}
        assert not wire.posts

    run(test, limits=Limits(deadline_s=0.0))


def test_a_wait_that_would_pass_the_deadline_is_not_waited():
    async def test(router, clients, wire, _):
        wire.faults[address("eu-1")] = [503]
        outcomes = await router.send([encoded(clients.render(minted(clients, THREE, shard_of(THREE, "eu-1"))))])
        assert outcomes == [Failed(cell="eu-1", status=503, why="as the test says")]
        assert wire.pauses == []

    run(test, limits=Limits(deadline_s=0.2))


def test_a_router_with_an_old_map_follows_a_421_once_with_the_cells_newer_one(tmp_path):
    two = grown(one_cell(), "eu-2")

    async def test(router, clients, wire, gates):
        tokens = [minted(clients, two, shard_of(two, name)) for name in ("eu-1", "eu-2", "eu-1")]
        # by the old map the epoch is unknown, and all of it was eu-1's
        outcomes = await router.send([encoded(clients.render(token)) for token in tokens])
        assert [outcome.status for outcome in outcomes] == [Status.DECIDED] * 3
        assert len(await gates["eu-2"].events(tokens[1].impression)) == 3
        assert await gates["eu-1"].events(tokens[1].impression) == []
        assert len(router.cells.epochs("eu")) == 2
        assert wire.maps == {address("eu-1"): 1}
        await router.send([encoded(clients.render(token)) for token in tokens])
        assert wire.maps == {address("eu-1"): 1}
        assert wire.posts == {address("eu-1"): 2, address("eu-2"): 2}

    run(test, two, routes=one_cell(), tmp_path=tmp_path)


def test_a_cell_with_an_older_map_than_the_routers_does_not_turn_it_back(tmp_path):
    two = grown(one_cell(), "eu-2")

    async def test(router, clients, wire, gates):
        token = minted(clients, two, shard_of(two, "eu-1"))
        [outcome] = await router.send([encoded(clients.render(token))])
        assert (outcome.status, outcome.reason, outcome.cell) == (Status.REFUSED, Reason.REGION_MISDIRECTED, None)
        assert router.cells is two
        assert wire.posts == {address("eu-1"): 1}
        assert await gates["eu-1"].events(token.impression) == []

    run(test, two, only=["eu-1"], known_to={"eu-1": one_cell()}, tmp_path=tmp_path)


def test_of_cells_that_refuse_any_may_have_the_newer_map(tmp_path):
    old, new = cells_of(2), cells_of(3)
    before, after = old.epochs("eu")[-1].owners, new.epochs("eu")[-1].owners
    moved = {was: shard for shard, (was, now) in enumerate(zip(before, after, strict=True)) if was != now}

    async def test(router, clients, wire, gates):
        tokens = [minted(clients, new, moved[name]) for name in ("eu-1", "eu-2")]
        outcomes = await router.send([encoded(clients.render(token)) for token in tokens])
        assert [outcome.status for outcome in outcomes] == [Status.DECIDED] * 2
        assert [len(await gates["eu-3"].events(token.impression)) for token in tokens] == [3, 3]
        assert len(router.cells.epochs("eu")) == 3

    run(test, new, routes=old, known_to={"eu-1": old}, tmp_path=tmp_path)


def test_a_cell_that_hands_out_no_map_leaves_the_refusal_as_the_answer():
    two = grown(one_cell(), "eu-2")

    async def test(router, clients, wire, _):
        token = minted(clients, two, shard_of(two, "eu-2"))
        [outcome] = await router.send([encoded(clients.render(token))])
        assert (outcome.status, outcome.cell, outcome.address) == (Status.REFUSED, "eu-2", address("eu-2"))
        assert wire.posts == {address("eu-1"): 1}

    run(test, two, routes=one_cell())


def test_two_cells_that_point_at_each_other_are_asked_once_each():
    two = grown(one_cell(), "eu-2")

    class Ping:
        """Cells that each say the other is right."""

        def __init__(self):
            self.posts = []

        async def post(self, at, body, _):
            self.posts.append(at)
            event = msgspec.json.decode(body)
            told = {"event_id": event["event_id"], "status": "refused", "reason": "REGION_MISDIRECTED"}
            return Reply(421, encoded({"title": "elsewhere", "outcomes": [told]}))

        async def cell_map(self, *_):
            return cell_map_text(two)

    async def main():
        clients, wire = Minter(), Ping()
        token = minted(clients, two, shard_of(two, "eu-2"))
        [outcome] = await Router(one_cell(), wire).send([encoded(clients.render(token))])
        assert outcome.reason is Reason.REGION_MISDIRECTED
        assert wire.posts == [address("eu-1"), address("eu-2")]

    asyncio.run(main())


def test_what_cannot_be_read_is_kept_by_the_first_cell_and_its_neighbours_are_counted():
    async def test(router, clients, wire, gates):
        good = clients.render(minted(clients, THREE, shard_of(THREE, "eu-3")))
        pretty = msgspec.json.format(encoded(clients.render(minted(clients, THREE, shard_of(THREE, "eu-2")))), indent=2)
        renders = [b"{broken", encoded(good), b'{"token": 7}', b'{"token": "v1.k1.AAAA.00"}', b"", b" \n ", pretty]
        outcomes = await router.send(renders)
        quarantined, decided = Status.QUARANTINED, Status.DECIDED
        told = [outcome.status for outcome in outcomes]
        assert told == [quarantined, decided, quarantined, quarantined, 422, 422, decided]
        assert len(gates["eu-1"].holding_store.entries) == 3

    run(test)


@pytest.mark.parametrize("body", [b"", b"{", b'{"status": "decided"}\n{"status": "decided"}', b"\xff"])
def test_an_answer_that_does_not_fit_is_no_answer(body):
    class Strange:
        async def post(self, *_):
            return Reply(200, body)

        async def cell_map(self, *_):
            raise NoReply("none")

    async def main():
        clients = Minter()
        [outcome] = await Router(one_cell(), Strange()).send([encoded(clients.render())])
        assert isinstance(outcome, Failed)
        assert not outcome.may_pass

    asyncio.run(main())


def test_a_cell_that_never_answers_is_waited_for_no_longer_than_was_asked():
    class Deaf(httpx.AsyncBaseTransport):
        async def handle_async_request(self, _):
            await asyncio.Event().wait()

    async def main():
        clients = Minter()
        async with httpx.AsyncClient(transport=Deaf()) as http:
            wire = HttpxWire(http, lambda _: "")
            router = Router(one_cell(), wire, limits=Limits(deadline_s=0.1, try_s=0.02, tries_max=2))
            async with asyncio.timeout(5):
                [outcome] = await router.send([encoded(clients.render())])
            assert (outcome.status, outcome.cell, outcome.may_pass) == (0, "eu-1", True)
            assert "TimeoutError" in outcome.why
            with pytest.raises(NoReply):
                await wire.cell_map(address("eu-1"), 0.01)

    asyncio.run(main())


def test_large_batches_go_in_several_requests_one_after_the_other(monkeypatch):
    monkeypatch.setattr(router_module, "PART_RENDERS_MAX", 4)

    async def test(router, clients, wire, _):
        token = minted(clients, THREE, shard_of(THREE, "eu-1"))
        events = [clients.render(token) for _ in range(10)]
        outcomes = await router.send(list(map(encoded, events)))
        assert wire.posts == {address("eu-1"): 3}
        assert [outcome.reason for outcome in outcomes] == [None, *[Reason.DUPLICATE_RENDER] * 9]
        wire.faults[address("eu-1")] = [None, "lost"]
        again = await router.send(list(map(encoded, events)))
        assert [isinstance(outcome, Failed) for outcome in again] == [False] * 4 + [True] * 6
        assert wire.posts == {address("eu-1"): 5}, "the third part has the same fate, unasked"

    run(test, limits=ONE_TRY)


def test_a_batch_has_a_limit():
    async def test(router, *_):
        with pytest.raises(ValueError, match="at most"):
            await router.send([b"{}"] * (BATCH_MAX + 1))
        assert await router.send([]) == []

    run(test)


def deliver(router, events, kind, *, give_up_s=30.0):
    bodies = list(map(encoded, events))
    body = bodies[0] if len(bodies) == 1 else b"\n".join(bodies) if kind == NDJSON else b"[" + b",".join(bodies) + b"]"
    courier = RoutedCourier(router)
    give_up_at = asyncio.get_running_loop().time() + give_up_s
    return courier, courier.deliver(kind, lambda _: body, lambda: give_up_at, lambda _: None)


@pytest.mark.parametrize(("kind", "number"), [(JSON, 1), (JSON, 7), (NDJSON, 7)])
def test_the_load_client_gets_over_the_router_what_one_gate_would_answer(kind, number):
    async def test(router, clients, wire, _):
        events = from_all_cells(clients, THREE, number)
        wire.faults[address("eu-1")] = ["lost"]
        courier, delivery = deliver(router, events, kind)
        response = await delivery
        found = response.body if number > 1 else b"[" + response.body + b"]"
        answers = (
            [msgspec.json.decode(line) for line in found.splitlines()] if kind == NDJSON else msgspec.json.decode(found)
        )
        assert [answer["event_id"] for answer in answers] == [event["event_id"] for event in events]
        assert {answer["status"] for answer in answers} == {"decided"}
        assert courier.resends == 1

    run(test, limits=ONE_TRY)


def test_the_load_client_is_told_what_never_was_answered_and_what_is_refused_for_good():
    async def test(router, clients, wire, _):
        events = from_all_cells(clients, THREE, 3)
        wire.faults[address("eu-2")] = ["lost"] * 50
        with pytest.raises(Unanswered):
            await deliver(router, events, JSON, give_up_s=0.0)[1]
        wire.faults[address("eu-2")] = [401]
        assert (await deliver(router, events, JSON)[1]).status == 401

    run(test, limits=ONE_TRY)
