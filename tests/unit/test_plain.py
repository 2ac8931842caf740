"""A plain commit gives no cause to look again, and says of its render what the whole event says."""

import pytest
from lookkit import TIMES, a_first
from msgspec.structs import replace

from domain.events import ImpressionScored
from domain.reasons import Reason, Verdict
from domain.reevaluation import looks_of
from domain.vocabulary import Rung
from ledger.codec import encode
from ledger.following import Page, Plain, Seen
from ledger.plain import plain_render
from ledger.store import Commit
from ml.context.facts import facts_of

ORDINARY = a_first(1)


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


def with_score(**changes):
    events = [replace(one, **changes) if isinstance(one, ImpressionScored) else one for one in ORDINARY.events]
    return replace(ORDINARY, events=tuple(events))


APPENDS = {
    "ordinary": ORDINARY,
    "nobody": a_first(1, person=""),
    "not begun": a_first(1, begun=False),
    "sampled": with_score(propensity=0.003),
    **{f"of {reason}": a_first(1, also=(reason,)) for reason in Reason},
    **{f"on {rung}": with_score(rung=rung) for rung in Rung},
    **{f"beside {rung}": with_score(rungs=(rung,)) for rung in Rung},
}


@pytest.mark.parametrize("append", APPENDS.values(), ids=APPENDS)
def test_whatever_is_looked_at_again_is_not_plain_and_what_is_plain_adds_the_same_facts(append):
    commit = a_commit(append)
    render = plain_render(commit)
    if render is None:
        is_certain = append.events[-1].verdict in {Verdict.VALID, Verdict.DROPPED}
        assert looks_of(append.events, TIMES) or not is_certain
        return
    assert looks_of(append.events, TIMES) == ()
    whole = Page(after=0, through=1, at=0, seen=[Seen(commit, append.events)])
    assert facts_of(Page(after=0, through=1, at=0, plain=[Plain(commit, render)]), {}) == facts_of(whole, {})


def test_most_of_the_ledger_is_plain():
    plain = {name for name, append in APPENDS.items() if plain_render(a_commit(append)) is not None}
    assert {"ordinary", "nobody", "on full", "beside no_async", f"of {Reason.AGENT_DECLARED_BOT}"} <= plain
    assert not {"sampled", "on shed", "beside shed", f"of {Reason.RISK_GREY}", f"of {Reason.DOUBLE_FIRE}"} & plain


@pytest.mark.parametrize("data", [b"", b"[2,", b"[99,{}]", encode(ORDINARY.events)[:-1], b"[2,1,2,3]"])
def test_bytes_that_cannot_be_read_are_not_plain(data):
    assert plain_render(replace(a_commit(ORDINARY), data=data)) is None
