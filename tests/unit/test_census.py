import pytest
from gatekit import run_gate

from domain.reasons import Reason
from domain.vocabulary import OmidType, Surface
from ledger.census import take_census
from ledger.store import Append


def test_counts_each_event_of_a_client_once_however_often_it_came():
    async def test(gate, clients):
        token = clients.token(surface=Surface.AUDIENCE_NETWORK)
        unproven = clients.render(token, omid_type=OmidType.OTHER)
        proven = clients.render(token, omid_type=OmidType.BEGIN_TO_RENDER)
        repeat = clients.render(token)
        view, same_view = clients.view(token), clients.view(token)
        forged = clients.render(token="v1.k1.x.y")
        for _ in range(2):
            await gate.send(unproven, proven, repeat, view, same_view, forged)
        census = await take_census(gate.store)
        assert (census.renders, census.views, census.unmoved) == (3, 1, 2)
        assert census.refused == {Reason.TOKEN_INVALID: 2}
        assert census.through == await gate.store.head()

    run_gate(test)


def test_a_cause_that_stands_there_twice_is_a_broken_promise():
    async def test(gate, clients):
        token, other = clients.token(), clients.token()
        await gate.send(clients.render(token))
        [commit] = await gate.store.read_all(0, 10)
        events = await gate.events(token.impression)
        copy = Append(
            stream=other.impression, expected=0, cause=commit.cause, digest=commit.digest, events=tuple(events)
        )
        await gate.store.append([copy], 0)
        with pytest.raises(RuntimeError, match="twice"):
            await take_census(gate.store)

    run_gate(test)
