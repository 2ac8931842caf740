"""What commits take from budgets, and whose report they belong to."""

import pytest
from budgetkit import PRICE, VERSIONS, a_correction_of, a_decision, a_token, an_id
from deskkit import a_commit
from gatekit import NOW
from msgspec.structs import replace

from commands.budget_store import Holder
from commands.spend import Spend, belongs_to, spends
from domain.campaign_events import CampaignPaused
from domain.events import CorrectionKind, ImpressionRendered, ImpressionScored
from domain.funding import Funding
from domain.reasons import Reason
from domain.vocabulary import BillingEvent, DataSet
from ledger.codec import UnreadableCommit
from ledger.store import Commit

HOUR = 3_600_000
SOLD = (
    *("ad", "creative", "campaign", "advertiser", "placement", "publisher", "surface", "format", "region"),
    *("currency", "price_micros", "billing_event", "viewability_pack", "flight_start", "flight_end"),
)
FUNDING = Funding(registry_version=3, lease="gate1.7", lease_left_micros=500)


def a_render(token, event, event_at):
    """What *event* decides: claimed of *token*, and thought of it."""
    rendered = ImpressionRendered(
        cause=event.cause,
        digest=event.digest,
        **{name: getattr(token, name) for name in SOLD},
        served_at=NOW,
        received_at=event_at,
        event_at=event_at,
    )
    return rendered, ImpressionScored(versions=VERSIONS)


def of(*events, stream=None):
    return list(spends(a_commit(events, stream=stream or an_id())))


@pytest.mark.parametrize("billing", list(BillingEvent))
@pytest.mark.parametrize("reason", [None, Reason.LATE])
def test_a_decision_takes_what_is_billed_awaits_a_view_or_is_uncertain(billing, reason):
    event = a_decision(a_token(billing_event=billing), (reason,) if reason else (), FUNDING)
    assert of(event) == [Spend("c-1", NOW, PRICE, True, "gate1.7", 3)]


@pytest.mark.parametrize("reason", [Reason.BUDGET_EXHAUSTED, Reason.AGENT_DECLARED_BOT, Reason.DOUBLE_FIRE])
def test_what_is_dropped_takes_nothing(reason):
    assert of(a_decision(a_token(), (reason,), FUNDING)) == []


def test_a_correction_gives_back_or_takes_again():
    event = a_decision(a_token(), (), FUNDING)
    dropped = a_correction_of(event, Reason.STACKED)
    assert of(dropped) == [Spend("c-1", NOW, -PRICE, False, "", 0)]
    lifted = replace(dropped, before=dropped.after, after=event.after)
    assert of(lifted) == [Spend("c-1", NOW, PRICE, False, "", 0)]


def test_a_later_decision_takes_what_it_adds():
    event = a_decision(a_token(), (), FUNDING)
    late = replace(event, before=a_decision(a_token(), (Reason.PREFETCHED,), FUNDING).after)
    assert of(late) == [Spend("c-1", NOW, PRICE, True, "gate1.7", 3)]
    assert of(replace(event, before=event.after)) == []


def test_what_was_fetched_ahead_takes_its_money_when_it_is_shown():
    token = a_token()
    fetched = a_decision(token, (Reason.PREFETCHED,), FUNDING)
    shown = replace(a_decision(token, (), FUNDING), before=fetched.after)
    assert of(*a_render(token, shown, NOW + HOUR), shown) == [Spend("c-1", NOW + HOUR, PRICE, True, "gate1.7", 3)]


def test_what_a_proof_changes_in_the_commit_of_the_decision_belongs_to_that():
    token = a_token()
    unproven = a_decision(token, (Reason.EVIDENCE_INCOMPLETE,), FUNDING)
    repeat = replace(unproven, cause=an_id(), before=unproven.after, funding=None)
    proof = replace(a_correction_of(unproven, Reason.AGENT_DECLARED_BOT), kind=CorrectionKind.EVIDENCE)
    proved = *a_render(token, proof, NOW + HOUR), proof
    taken, given = of(*a_render(token, unproven, NOW), unproven, repeat, *proved)
    assert taken == Spend("c-1", NOW, PRICE, True, "gate1.7", 3)
    assert given == taken._replace(micros=-PRICE)
    assert of(*proved) == [Spend("c-1", NOW, -PRICE, False, "", 0)]


def test_a_decision_without_a_lease_is_a_decision_all_the_same():
    event = a_decision(a_token(), (), Funding())
    assert of(event) == [Spend("c-1", NOW, PRICE, True, "", 0)]


def test_replayed_history_takes_nothing():
    event = a_decision(a_token(), (), FUNDING)
    assert of(replace(event, cut=replace(event.cut, data_set=DataSet.REPLAY))) == []


def test_other_streams_take_nothing():
    event = CampaignPaused(cause=an_id(), digest="d", decided_at=NOW)
    assert of(event, stream="campaign-c-1") == []


def test_damaged_bytes_are_refused():
    commit = a_commit((a_decision(a_token(), (), FUNDING),), stream=an_id())
    with pytest.raises(UnreadableCommit):
        spends(replace(commit, data=commit.data[:-9]))
    assert isinstance(commit, Commit)


def test_a_text_that_is_damaged_is_refused():
    commit = a_commit((a_decision(a_token(), (), FUNDING),), stream=an_id())
    with pytest.raises(UnreadableCommit, match="position"):
        spends(replace(commit, data=commit.data.replace(b'"campaign":"c-1"', b'"campaign":"\xff"')))


@pytest.mark.parametrize(
    ("lease", "holder", "belongs"),
    [
        ("gate1.8", "gate1", True),
        ("gate1.7", "gate1", False),
        ("gate1.7", "gate1.7", True),
        ("gate1.70", "gate1.7", False),
        ("gate10.8", "gate1", False),
        ("gate1.x", "gate1", False),
        ("", "gate1", False),
    ],
)
def test_a_label_belongs_to_the_holder_that_has_not_reported_it(lease, holder, belongs):
    reported = 0 if "." in holder else 7
    assert belongs_to(lease, Holder(name=holder, seq=1, reported=reported, after=0)) is belongs
