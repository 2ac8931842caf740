"""The gate's activity port on the counters: what stands out, what a restart recalls."""

import pytest
from builders import MINTED, PACK, SECOND, a_correction, a_render, a_token, admit, cause
from counterskit import RATE_RULES, RULES_OF_ONE_WORKER
from msgspec.structs import replace

from commands.items import Ready, slots_of
from domain.decide import decide
from domain.events import Versions
from domain.impression import Unseen, fold
from domain.reasons import Reason
from domain.render import Kind
from domain.vocabulary import Authority, DataSet, Rung
from ml.counters.tables import HOUR_MS, Capacities
from service.activity import CountedActivity

SMALL = Capacities(*[1_024] * 8)
SHARED = {"devices", "networks", "network_devices"}
TOKEN = a_token()


def an_activity(since=MINTED - 24 * HOUR_MS) -> CountedActivity:
    return CountedActivity(RATE_RULES, since, SMALL)


def ready(claim, alias="") -> Ready:
    """The render of *claim*, as the gate has prepared it; *alias* is how the day before would name the person."""
    return Ready(
        impression=TOKEN.impression,
        kind=Kind.RENDER,
        claim=claim,
        reasons=(),
        slots=slots_of(DataSet.LIVE, claim.placement, claim.creative, claim.user or claim.device, alias),
        alias=alias,
        versions=Versions(pack=PACK.id, lists=""),
        raw=b"",
    )


def look(activity, claims):
    return activity.look([ready(claim) for claim in claims])


def a_commit(number, at):
    """The claim of one render at *at*, and the events of its commit."""
    command = admit(render=a_render(event_id=cause(1_000 + number)), token=a_token())
    claim = replace(command.rendered, event_at=at, received_at=at, device="d" * 24, user="a" * 24, network="b" * 24)
    return claim, decide(Unseen(), replace(command, rendered=claim, decided_at=at))


def commits(count, gap_ms):
    return [a_commit(number, MINTED + number * gap_ms) for number in range(count)]


def spooled(claim):
    """The events of a decision without the ledger, and of the one that was made again."""
    command = admit(also=[Reason.DEGRADED])
    first = decide(Unseen(), replace(command, scored=replace(command.scored, rung=Rung.SPOOLED)))
    return (claim, *first[1:]), decide(fold(first), a_correction(None, Authority.REDECISION))


def test_most_renders_have_nothing_that_stands_out():
    assert look(an_activity(), [claim for claim, _ in commits(16, 60_000)]) == {}


def test_a_burst_stands_out_from_the_render_on_that_is_one_too_many():
    limits = RATE_RULES.abusive.per_10s
    found = look(an_activity(), [claim for claim, _ in commits(limits + 2, 1)])
    assert [place for place, conduct in found.items() if conduct.abusive] == [limits, limits + 1]
    assert [signal.name for signal in found[RATE_RULES.unusual.per_10s].signals] == [
        "person_10s",
        "person_gap_variation",
    ]


def test_only_what_was_counted_is_remembered():
    activity = an_activity()
    claims = [claim for claim, _ in commits(RATE_RULES.abusive.per_10s, 1)]
    look(activity, claims)
    assert look(activity, claims[:1]) == {}
    activity.count(claims)
    assert look(activity, claims[:1])[0].abusive


def test_after_a_restart_everything_stands_out_as_it_would_have():
    history = [a_commit(80, MINTED - 25 * HOUR_MS), *commits(80, 700)]
    for cut in (1, 2, 50, 79):
        lived, restarted = an_activity(), an_activity(since=MINTED + HOUR_MS)
        lived.count([claim for claim, _ in history[:cut]])
        for claim, events in history[:cut]:
            restarted.recall(claim.cause, events)
        rest = [claim for claim, _ in history[cut:]]
        assert look(lived, rest) == look(restarted, rest) != {}


def test_what_is_recalled_twice_or_comes_again_from_a_spool_counts_once():
    activity = an_activity()
    history = commits(RATE_RULES.abusive.per_10s, 1)
    for claim, events in [*history[:-1], *history[:-1]]:
        activity.recall(claim.cause, events)
    activity.count([claim for claim, _ in history[:-1]])
    late = [commits(RATE_RULES.abusive.per_10s + 1, 1)[-1][0]]
    assert not look(activity, late)[0].abusive
    activity.count([claim for claim, _ in history[-1:]])
    assert look(activity, late)[0].abusive


def test_what_was_decided_without_the_ledger_is_recalled_when_it_is_decided_again():
    activity = an_activity()
    history = commits(RATE_RULES.abusive.per_10s, 1)
    both = [spooled(claim) for claim, _ in history]
    for number, (first, _) in enumerate(both):
        activity.recall(number, first)
    assert not look(activity, [history[0][0]])[0].abusive
    for number, (_, again) in enumerate(both):
        activity.recall(number, again)
    assert look(activity, [history[0][0]])[0].abusive


def test_windows_are_whole_again_from_the_first_recalled_commit_on():
    activity = an_activity(since=MINTED + HOUR_MS)
    rendered = commits(30, 10 * SECOND)
    even = [claim for claim, _ in rendered][-1:]
    for claim, events in rendered[:-1]:
        activity.recall(claim.cause, events)
    [conduct] = look(activity, even).values()
    assert [signal.name for signal in conduct.signals] == ["person_gap_variation"]


def test_what_a_person_did_under_yesterdays_name_counts_along():
    activity = an_activity()
    claims = [claim for claim, _ in commits(RATE_RULES.abusive.per_10s + 1, 1)]
    activity.count([replace(claim, user="e" * 24) for claim in claims[:-1]])
    assert look(activity, claims[-1:]) == {}
    [conduct] = activity.look([ready(claims[-1], "e" * 24)]).values()
    assert conduct.abusive


def test_a_device_that_names_no_user_is_a_person():
    activity = an_activity()
    claims = [replace(claim, user="") for claim, _ in commits(RATE_RULES.abusive.per_10s + 1, 1)]
    activity.count([replace(claim, device="e" * 24) for claim in claims[:-1]])
    [conduct] = activity.look([ready(claims[-1], "e" * 24)]).values()
    assert conduct.abusive


@pytest.mark.parametrize(("rules", "tables"), [(RATE_RULES, {"people"}), (RULES_OF_ONE_WORKER, SHARED | {"people"})])
def test_only_what_the_rules_read_is_counted(rules, tables):
    activity = CountedActivity(rules, MINTED, SMALL)
    activity.count([claim for claim, _ in commits(3, SECOND)])
    rows = next(iter(activity.collect())).samples
    assert {sample.labels["table"]: sample.value for sample in rows} == dict.fromkeys(tables, 1)
