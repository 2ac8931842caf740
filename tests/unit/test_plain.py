"""A plain commit gives no cause to look again, and says of its render what the whole event says."""

import pytest
from lookkit import TIMES, a_first

from domain.reasons import Reason
from domain.reevaluation import looks_of
from ledger.codec import encode
from ledger.plain import plain_render
from ledger.store import Commit


def a_commit(append):
    return Commit(
        position=1,
        stream=append.stream,
        version=append.expected,
        count=len(append.events),
        cause=append.cause,
        digest=append.digest,
        recorded_at=0,
        data=encode(append.events),
    )


@pytest.mark.parametrize("also", [(), (Reason.AGENT_DECLARED_BOT,)])
def test_a_first_decision_that_is_certain_is_plain_and_is_not_looked_at_again(also):
    append = a_first(1, also=also)
    render, whole = plain_render(a_commit(append)), append.events[0]
    assert looks_of(append.events, TIMES) == ()
    for name in render.__struct_fields__:
        assert getattr(render, name) == getattr(whole, name)


@pytest.mark.parametrize(
    "append",
    [a_first(1, shed=True), a_first(1, propensity=0.003), a_first(1, also=(Reason.RISK_GREY,))],
    ids=["shed", "sampled", "uncertain"],
)
def test_what_is_looked_at_again_is_not_plain(append):
    assert looks_of(append.events, TIMES)
    assert plain_render(a_commit(append)) is None


def test_bytes_that_cannot_be_read_are_not_plain():
    commit = a_commit(a_first(1))
    for data in (b"", b"[2,", b"[99,{}]", commit.data[:-1], b"[2,1,2,3]"):
        assert (
            plain_render(Commit(**{name: getattr(commit, name) for name in commit.__struct_fields__} | {"data": data}))
            is None
        )
