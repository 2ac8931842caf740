"""A store that is away is told of at once and then once a minute, with what to do."""

import pytest
from structlog.testing import capture_logs

from ledger.store import LedgerUnavailable
from service.outages import AGAIN_AFTER_S, OutageLog


@pytest.fixture
def at():
    return [0.0]


def test_an_outage_is_told_once_however_many_find_it_and_then_again_after_a_while(at):
    outages = OutageLog(lambda: at[0])
    with capture_logs() as logs:
        for second in range(int(2 * AGAIN_AFTER_S) + 1):
            at[0] = float(second)
            for work in ("follow", "tidy"):
                outages.tell(work, LedgerUnavailable("PostgreSQL did not answer"))
    assert [(one["work"], one["untold"]) for one in logs] == [("follow", 0), ("follow", 119), ("follow", 119)]
    assert {one["log_level"] for one in logs} == {"warning"}
    assert "`impledger up` starts everything" in logs[0]["next"]


def test_another_failure_is_told_beside(at):
    outages = OutageLog(lambda: at[0])
    with capture_logs() as logs:
        outages.tell("follow", LedgerUnavailable("PostgreSQL did not answer"))
        outages.tell("follow", LedgerUnavailable("the disk is full"))
    assert [one["error"] for one in logs] == ["PostgreSQL did not answer", "the disk is full"]


def test_failures_that_are_never_the_same_are_not_kept(at):
    outages = OutageLog(lambda: at[0])
    with capture_logs():
        for number in range(1_000):
            outages.tell("follow", LedgerUnavailable(f"{number}"))
    assert len(outages._told) <= 64
