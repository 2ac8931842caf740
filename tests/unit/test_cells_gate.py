"""A gate with a cell map: takes what is its own, and tells whose everything else is."""

import asyncio

import msgspec
import pytest
from cellkit import BEARER, address, cells_of, cluster, grown, minted, one_cell
from gatekit import Minter

from commands.homes import Homes
from commands.quarantine import ROOM
from commands.quarantine_entries import EntryState
from commands.quarantine_replay import Fix
from domain.cells import Cell, CellMap, Epoch
from domain.ids import SHARDS
from domain.reasons import Reason

SERVER = {"authorization": f"Bearer {BEARER}"}
TWO = cells_of(2)
OURS, THEIRS = 5, 3_000
"""Shards of eu-1 and of eu-2 under the newest epoch of TWO; under the first both were eu-1's."""


async def post(http, body, *, cell="eu-1", media_type="application/json", headers=SERVER):
    content = body if isinstance(body, bytes) else msgspec.json.encode(body)
    headers = {"content-type": media_type, **headers}
    return await http.post(f"{address(cell)}/v1/impressions", content=content, headers=headers)


def run(test, cells=TWO, **kept):
    async def main():
        async with cluster(cells, **kept) as (gates, http):
            await test(gates, Minter(), http)

    asyncio.run(main())


def refused(answer):
    return answer["status"], answer["reason"], answer.get("cell"), answer.get("address")


ELSEWHERE = ("refused", "REGION_MISDIRECTED", "eu-2", address("eu-2"))


def test_each_of_a_mixed_batch_is_told_its_own():
    async def test(gates, clients, http):
        events = [clients.render(minted(clients, TWO, shard)) for shard in (OURS, THEIRS, OURS, THEIRS)]
        response = await post(http, [*events, {"broken": True}])
        assert response.status_code == 200
        answers = response.json()
        assert [answer["event_id"] for answer in answers[:4]] == [event["event_id"] for event in events]
        assert [answer["status"] for answer in answers] == ["decided", "refused", "decided", "refused", "quarantined"]
        assert refused(answers[1]) == refused(answers[3]) == ELSEWHERE
        assert "cell" not in answers[0]

    run(test)


def test_views_that_there_is_no_room_for_are_told_so_one_by_one():
    async def test(_, clients, http):
        token = minted(clients, TWO, OURS)
        await post(http, [clients.view(token) for _ in range(ROOM.impression_views)])
        response = await post(http, [clients.view(token), clients.view(token)])
        assert (response.status_code, [one["status"] for one in response.json()]) == (200, ["deferred", "deferred"])
        assert (await post(http, clients.view(token))).status_code == 503

    run(test)


def test_what_is_refused_touches_no_stream_and_counts_at_home():
    async def test(gates, clients, http):
        token = minted(clients, TWO, THEIRS)
        event = clients.render(token)
        assert (await post(http, event)).status_code == 421
        assert await gates["eu-1"].events(token.impression) == []
        answer = (await post(http, event, cell="eu-2")).json()
        assert (answer["status"], answer["verdict"]) == ("decided", "valid")
        assert len(await gates["eu-2"].events(token.impression)) == 3

    run(test)


def test_a_single_render_of_another_cell_is_421_with_the_address():
    async def test(_, clients, http):
        response = await post(http, clients.render(minted(clients, TWO, THEIRS)))
        document = response.json()
        assert response.status_code == document["status"] == 421
        assert response.headers["content-type"] == "application/problem+json"
        assert (document["cell"], document["address"]) == ("eu-2", address("eu-2"))
        assert refused(document["outcome"]) == ELSEWHERE
        assert document["request_id"] == response.headers["x-request-id"]

    run(test)


@pytest.mark.parametrize("media_type", ["application/json", "application/x-ndjson"])
def test_a_batch_that_is_all_another_cells_is_421_with_the_address(media_type):
    async def test(_, clients, http):
        events = [clients.render(minted(clients, TWO, THEIRS)) for _ in range(3)]
        lines = b"\n".join(map(msgspec.json.encode, events))
        response = await post(http, events if media_type == "application/json" else lines, media_type=media_type)
        document = response.json()
        assert response.status_code == 421
        assert (document["cell"], document["address"]) == ("eu-2", address("eu-2"))
        assert [outcome["event_id"] for outcome in document["outcomes"]] == [event["event_id"] for event in events]
        assert all(refused(outcome) == ELSEWHERE for outcome in document["outcomes"])

    run(test)


def test_a_batch_of_several_other_cells_names_each_with_its_render():
    three = cells_of(3)
    shards = [three.epochs("eu")[-1].owners.index(name) for name in ("eu-2", "eu-3")]

    async def test(_, clients, http):
        response = await post(http, [clients.render(minted(clients, three, shard)) for shard in shards])
        document = response.json()
        assert response.status_code == 421
        assert "cell" not in document
        assert [outcome["cell"] for outcome in document["outcomes"]] == ["eu-2", "eu-3"]

    run(test, three)


def test_another_region_is_told_its_cell_where_the_map_knows_it():
    us = Cell("us-1", "us", address("us-1"))
    both = CellMap({**TWO.cells, "us-1": us}, {"eu": TWO.epochs("eu"), "us": [Epoch("us", 1, 0, ("us-1",) * SHARDS)]})

    async def test(_, clients, http):
        told = (await post(http, clients.render(minted(clients, both, OURS, epoch=1, region="us")))).json()
        assert (told["cell"], told["address"]) == ("us-1", address("us-1"))
        told = (await post(http, clients.render(minted(clients, both, OURS, region="mars")))).json()
        assert (told["status"], told["cell"], told["address"]) == (421, None, None)

    run(test, both, only=["eu-1"])


def test_an_epoch_that_the_map_does_not_know_yet_is_nobodys():
    async def test(gates, clients, http):
        token = minted(clients, TWO, OURS, epoch=3)
        document = (await post(http, clients.render(token))).json()
        assert (document["status"], document["cell"]) == (421, None)
        assert "newest map" in document["detail"]
        assert await gates["eu-1"].events(token.impression) == []

    run(test)


def test_old_ids_stay_where_their_epoch_put_them():
    async def test(_, clients, http):
        old = clients.render(minted(clients, TWO, THEIRS, epoch=1))
        assert (await post(http, old)).json()["status"] == "decided"
        assert (await post(http, old, cell="eu-2")).status_code == 421

    run(test)


def test_a_forged_token_is_told_nothing_of_cells():
    async def test(_, clients, http):
        event = clients.render(minted(clients, TWO, THEIRS))
        document = (await post(http, {**event, "token": event["token"][:-4] + "0000"})).json()
        assert document["status"] == 403
        assert "cell" not in document
        assert "cell" not in document["outcome"]

    run(test)


def test_sdks_without_a_key_are_told_the_address_too():
    async def test(_, clients, http):
        events = [clients.render(minted(clients, TWO, shard)) for shard in (OURS, THEIRS)]
        ours, theirs = (await post(http, events, headers={})).json()
        assert (ours["status"], ours["verdict"]) == ("accepted", None)
        assert refused(theirs) == ELSEWHERE

    run(test)


def test_an_empty_batch_is_nobodys_fault():
    async def test(_, __, http):
        response = await post(http, [])
        assert (response.status_code, response.json()) == (200, [])

    run(test)


def test_the_map_is_handed_out_to_those_who_send(tmp_path):
    async def test(gates, _, http):
        url = f"{address('eu-1')}/v1/cells"
        response = await http.get(url, headers=SERVER)
        assert response.headers["content-type"].startswith("application/toml")
        assert response.text == gates["eu-1"].map_path.read_text()
        assert (await http.get(url)).status_code == 403
        assert (await http.get(url, headers={"authorization": "Bearer wrong"})).status_code == 401

    run(test, tmp_path=tmp_path)


def test_a_cell_that_grows_gives_up_new_ids_and_keeps_old_ones():
    clients, one = Minter(), one_cell()
    homes, two = Homes(one, "eu-1"), grown(one, "eu-2")
    old, new = minted(clients, one, THEIRS), minted(clients, two, THEIRS)
    assert (homes.owns(old), homes.owns(new)) == (True, False)
    homes.swap(two)
    assert (homes.owns(old), homes.owns(new)) == (True, False)
    assert (homes.home_of(old).name, homes.home_of(new).name) == ("eu-1", "eu-2")
    assert homes.owns(minted(clients, two, OURS))


def test_an_operator_who_mends_a_render_of_another_cell_is_told_whose_it_is():
    async def test(gates, clients, http):
        broken = clients.render(minted(clients, TWO, THEIRS), client_at=-5)
        assert (await post(http, broken)).status_code == 422
        [name] = gates["eu-1"].holding_store.entries
        done = await gates["eu-1"].quarantine.replay(name, Fix({"client_at": None}))
        assert (done.answer.reason, done.answer.cell, done.answer.address) == (
            Reason.REGION_MISDIRECTED,
            "eu-2",
            address("eu-2"),
        )
        assert done.entry.state is EntryState.WAITING

    run(test)
