"""The gate's activity port on the counters: what stands out, what a restart recalls."""

from builders import MINTED, SECOND, a_render, a_token, admit, cause
from counterskit import RATE_RULES
from msgspec.structs import replace

from domain.decide import decide
from domain.impression import Unseen
from ml.counters.counters import Counters
from ml.counters.tables import HOUR_MS, MINUTE_MS, Capacities
from service.activity import CLOCKS_APART_MAX_MS, CountedActivity

SMALL = Capacities(*[1_024] * 8)


def an_activity(since=MINTED - 24 * HOUR_MS) -> CountedActivity:
    return CountedActivity(Counters(SMALL, since), RATE_RULES)


def a_commit(number, at):
    """The claim of one render at *at*, and the events of its commit."""
    command = admit(render=a_render(event_id=cause(1_000 + number)), token=a_token())
    claim = replace(command.rendered, event_at=at, received_at=at, device="d" * 24, user="a" * 24, network="b" * 24)
    return claim, decide(Unseen(), replace(command, rendered=claim, decided_at=at))


def commits(count, gap_ms):
    return [a_commit(number, MINTED + number * gap_ms) for number in range(count)]


def test_most_renders_have_nothing_that_stands_out():
    assert an_activity().look([claim for claim, _ in commits(16, 60_000)]) == {}


def test_a_burst_stands_out_from_the_render_on_that_is_one_too_many():
    limits = RATE_RULES.abusive.per_10s
    found = an_activity().look([claim for claim, _ in commits(limits + 2, 1)])
    assert [place for place, conduct in found.items() if conduct.abusive] == [limits, limits + 1]
    assert [signal.name for signal in found[RATE_RULES.unusual.per_10s].signals] == [
        "person_10s",
        "person_gap_variation",
    ]


def test_only_what_was_counted_is_remembered():
    activity = an_activity()
    claims = [claim for claim, _ in commits(RATE_RULES.abusive.per_10s, 1)]
    activity.look(claims)
    assert activity.look(claims[:1]) == {}
    activity.count(claims)
    assert activity.look(claims[:1])[0].abusive


def test_after_a_restart_everything_stands_out_as_it_would_have():
    history = [a_commit(0, MINTED - 25 * HOUR_MS), *commits(80, 700)]
    for cut in (1, 2, 50, 79):
        lived, restarted = an_activity(), an_activity(since=MINTED + HOUR_MS)
        lived.count([claim for claim, _ in history[:cut]])
        for claim, events in history[:cut]:
            restarted.recall(claim.cause, events)
        rest = [claim for claim, _ in history[cut:]]
        assert lived.look(rest) == restarted.look(rest) != {}


def test_windows_are_whole_again_from_the_first_recalled_commit_on():
    counters = Counters(SMALL, MINTED + HOUR_MS)
    activity = CountedActivity(counters, RATE_RULES)
    for claim, events in commits(3, SECOND):
        activity.recall(claim.cause, events)
    activity.look([])
    assert counters.watched_since == MINTED + CLOCKS_APART_MAX_MS
    assert counters.use()["devices"].rows == 1


def test_nothing_is_recalled_where_the_ledger_is_empty():
    counters = Counters(SMALL, MINTED)
    activity = CountedActivity(counters, RATE_RULES)
    claim, _ = a_commit(0, MINTED + MINUTE_MS)
    activity.count([claim])
    assert counters.watched_since == MINTED
