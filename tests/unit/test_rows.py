"""From commits to increments."""

import re
from collections import Counter
from importlib.resources import files

import pytest
from builders import (
    HOUR,
    IMPRESSION,
    MINTED,
    PRICE,
    SECOND,
    a_correction,
    a_label,
    a_render,
    a_token,
    a_view,
    admit,
    admit_omid,
    cause,
)
from deskkit import a_commit, commits_of
from histories import populations
from hypothesis import given
from msgspec.structs import replace

from domain.aggregates import AnswersCounted
from domain.events import Cut
from domain.impression import Decided, fold
from domain.reasons import Reason, ReasonClass, Verdict
from domain.standing import Uncertain, in_gross
from domain.vocabulary import (
    Authority,
    BillingEvent,
    CountingMethod,
    DataSet,
    Evidence,
    Format,
    OmidType,
    Surface,
)
from ledger.codec import SCHEMA_VERSION, UnreadableCommit, decode
from projections.rows import Answered, Fact, answers, rows, spell

SUMMED = ("gross", "duplicate_renders", "billable_micros", "reserved_micros")


def facts_of(*commands):
    return [fact for commit in commits_of(list(commands)) for fact in rows(commit)]


def total(facts):
    """Sums by where an impression stands, without what cancels out."""
    sums = Counter()
    for fact in facts:
        stands = (fact.campaign, fact.verdict, fact.reason, fact.reason_class, fact.viewability, fact.expired)
        sums[(*stands, "impressions")] += fact.sign
        for name in SUMMED:
            sums[(*stands, name)] += getattr(fact, name)
    return {key: value for key, value in sums.items() if value}


def test_a_first_decision_adds_one_impression_with_its_whole_cut():
    [fact] = facts_of(admit(render=a_render(sdk="12.3", country="DE", auto_refresh=True)))
    assert fact == Fact(
        position=1,
        ordinal=2,
        impression_id=IMPRESSION,
        kind="deduped",
        sign=1,
        event_at=MINTED + SECOND,
        campaign="campaign-1",
        advertiser="advertiser-1",
        creative="creative-1",
        placement="placement-1",
        publisher="publisher-1",
        surface="feed",
        format="display",
        region="eu",
        currency="EUR",
        billing_event="impression",
        counting_method="on_screen",
        evidence="on_screen_at",
        sdk="12.3",
        country="DE",
        auto_refresh=True,
        data_set="live",
        verdict="valid",
        reason="",
        reason_class="",
        viewability="",
        expired=False,
        gross=1,
        duplicate_renders=0,
        billable_micros=PRICE,
        reserved_micros=0,
        decided_at=MINTED + SECOND,
        price_micros=PRICE,
    )


def test_every_dimension_of_the_cut_stands_in_the_fact_in_the_same_order():
    first = Fact._fields.index("event_at")
    assert Fact._fields[first : first + len(Cut.__struct_fields__)] == Cut.__struct_fields__


@pytest.mark.parametrize(
    ("reason", "gross", "reserved"),
    [
        (Reason.RATE_ABUSIVE, 1, 0),
        (Reason.STACKED, 1, 0),
        (Reason.RISK_GREY, 1, PRICE),
        (Reason.DOUBLE_FIRE, 0, 0),
        (Reason.BUDGET_EXHAUSTED, 0, 0),
    ],
)
def test_an_impression_is_gross_by_the_class_of_its_reason(reason, gross, reserved):
    [fact] = facts_of(admit(also=(reason,)))
    assert (fact.reason, fact.gross, fact.billable_micros, fact.reserved_micros) == (reason.value, gross, 0, reserved)


def test_a_repeat_adds_duplicate_renders_and_nothing_else():
    first, again = admit(), admit()
    [_, fact] = facts_of(first, again)
    assert (fact.sign, fact.gross, fact.duplicate_renders) == (0, 0, 1)
    assert (fact.billable_micros, fact.reserved_micros) == (0, 0)


def test_evidence_of_many_repeats_counts_them_all():
    [_, repeat] = commits_of([admit(), admit()])
    [event] = decode(repeat.data)
    [fact] = rows(a_commit([replace(event, renders=16)], version=3))
    assert fact.duplicate_renders == 16


def test_a_correction_takes_away_where_the_impression_stood_and_adds_where_it_stands():
    _, minus, plus = facts_of(admit(), a_correction(Reason.RISK_HIGH))
    assert (minus.sign, minus.reason, minus.gross, minus.billable_micros) == (-1, "", -1, -PRICE)
    assert (plus.sign, plus.reason, plus.gross, plus.billable_micros) == (1, "RISK_HIGH", 1, 0)
    assert minus.kind == plus.kind == "reconciled"


def test_a_correction_that_is_refused_adds_nothing():
    strong = a_correction(Reason.RISK_HIGH, Authority.REVIEW)
    weak = a_correction(Reason.AGENT_DECLARED_BOT, Authority.MODEL)
    assert len(facts_of(admit(), strong, weak)) == 3


def test_a_label_adds_nothing():
    assert len(facts_of(admit(), a_label())) == 1


def test_a_view_moves_viewability_and_what_waits_for_it():
    _, minus, plus = facts_of(admit(token=a_token(billing_event=BillingEvent.VIEWABLE)), a_view())
    assert (minus.viewability, minus.reserved_micros) == ("", -PRICE)
    assert (plus.viewability, plus.billable_micros, plus.reserved_micros) == (" groupm- mrc+ mrc_half+ ", PRICE, 0)
    assert (minus.kind, plus.kind) == ("viewed", "viewed")


def test_evidence_that_a_render_brings_is_counted_from_its_last_event():
    _, minus, plus = facts_of(admit_omid(OmidType.UNSPECIFIED), admit_omid())
    assert (minus.verdict, plus.verdict, minus.ordinal, plus.ordinal) == ("uncertain", "valid", 2, 2)


def test_viewability_is_spelled_alike_whatever_the_order_of_packs():
    assert spell({"b": "viewable", "a": "not_viewable"}) == spell({"a": "not_viewable", "b": "viewable"}) == " a- b+ "


@given(population=populations)
def test_sums_in_any_order_are_where_the_impressions_stand(population):
    commits = commits_of(*population)
    expected = Counter()
    for stream in {commit.stream for commit in commits}:
        events = [event for commit in commits if commit.stream == stream for event in decode(commit.data)]
        state = fold(events)
        assert isinstance(state, Decided)
        standing = state.standing
        reason = "" if standing.reason is None else standing.reason.value
        cls = "" if standing.reason_class is None else standing.reason_class.value
        expired = isinstance(standing, Uncertain) and standing.expired
        stands = (state.cut.campaign, standing.verdict.value, reason, cls, spell(standing.viewability), expired)
        expected[(*stands, "impressions")] += 1
        expected[(*stands, "gross")] += in_gross(standing)
        expected[(*stands, "billable_micros")] += standing.billable_micros
        expected[(*stands, "reserved_micros")] += standing.reserved_micros
    facts = [fact for commit in reversed(commits) for fact in rows(commit)]
    found = {key: value for key, value in total(facts).items() if key[-1] != "duplicate_renders"}
    assert found == {key: value for key, value in expected.items() if value}


@given(population=populations)
def test_every_repeat_is_counted_once(population):
    commits = commits_of(*population)
    repeats = 0
    for stream in {commit.stream for commit in commits}:
        state = fold(event for commit in commits if commit.stream == stream for event in decode(commit.data))
        repeats += state.repeats
    assert sum(fact.duplicate_renders for commit in commits for fact in rows(commit)) == repeats


def test_a_damaged_commit_is_not_passed_over():
    [commit] = commits_of([admit()])
    with pytest.raises(UnreadableCommit, match="position 1"):
        rows(replace(commit, data=commit.data[:-40]))


def test_a_commit_of_a_newer_program_is_not_passed_over():
    [commit] = commits_of([admit()])
    with pytest.raises(UnreadableCommit, match="newer program"):
        rows(replace(commit, data=b"[999," + commit.data[3:]))


def test_spaces_in_stored_bytes_change_nothing():
    [commit] = commits_of([admit()])
    assert rows(replace(commit, data=b"[ %d , " % SCHEMA_VERSION + commit.data.partition(b",")[2])) == rows(commit)


def test_refused_renders_are_counted_per_reason_and_unmoved_views_apart():
    refused = {Reason.TOKEN_INVALID: 3, Reason.EVENT_ID_REUSED: 1}
    event = AnswersCounted(cause=cause(), digest="d", refused=refused, unmoved=2, counted_at=MINTED + HOUR)
    commit = a_commit([event], position=9, stream="rejects-eu-1")
    assert answers(commit) == [
        Answered(9, 0, MINTED + HOUR, "TOKEN_INVALID", 3, 0),
        Answered(9, 0, MINTED + HOUR, "EVENT_ID_REUSED", 1, 0),
        Answered(9, 0, MINTED + HOUR, "", 0, 2),
    ]
    assert rows(commit) == []


def test_an_impression_counts_no_answers():
    assert [answers(commit) for commit in commits_of([admit()])] == [[]]


@pytest.mark.parametrize(
    ("column", "members"),
    [
        ("surface", Surface),
        ("format", Format),
        ("billing_event", BillingEvent),
        ("counting_method", CountingMethod),
        ("evidence", Evidence),
        ("data_set", DataSet),
        ("verdict", Verdict),
        ("reason", ["", *Reason]),
        ("reason_class", ["", *ReasonClass]),
    ],
)
def test_the_tables_know_every_member_of_the_closed_lists(column, members):
    text = (files("migrations") / "clickhouse" / "0001_facts.sql").read_text()
    found = re.findall(rf"^    {column} Enum8\((.*?)\)[,\n]", text, re.MULTILINE | re.DOTALL)
    assert len(found) >= 2
    for listed in found:
        assert re.findall(r"'(\w*)' = \d+", listed) == [str(member) for member in members]
