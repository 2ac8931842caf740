"""What feedback may say, how far it is trusted, and what makes two pieces of it the same."""

from uuid import UUID

import msgspec
import pytest
from builders import MINTED
from feedbackkit import CLOCK_AHEAD_MS, NOW, SOURCES, TOKEN_AGE_MS, about_traffic, an_impression, raw, traffic, wire
from hypothesis import given
from hypothesis import strategies as st

from domain import feedback as rules
from domain.feedback import AHEAD_MAX_MS, ORPHAN_GRACE_MS, SPAN_MAX_MS, Feedback, FeedbackRefusal
from domain.ids import mint
from domain.reasons import Verdict
from domain.vocabulary import Label, LabelSource, Rung

WEIGHTS = {
    "honeypot": ("invalid", 1.0),
    "sdk_bug": ("instrumentation", 1.0),
    "declared_bot": ("invalid", 0.95),
    "account_action": ("invalid", 0.8),
    "third_party": ("invalid", 0.7),
    "human_signal": ("human", 0.7),
    "dispute": ("invalid", 0.6),
    "publisher_ban": ("invalid", 0.5),
}


def read(document):
    return msgspec.json.decode(*raw(document), type=Feedback)


def is_refused(document, says):
    with pytest.raises(msgspec.ValidationError, match=says):
        read(document)


def test_the_types_are_the_sources_of_labels_but_for_views():
    assert set(rules.SOURCES) == set(SOURCES) == set(LabelSource) - {LabelSource.VIEW}
    is_refused(wire(type="view", label="viewable"), "Expected `type` to be one of feedback")
    is_refused(wire(type="click"), "Invalid enum value")


def test_the_systems_own_verdict_is_no_source_whatever_it_is_called():
    own = {*Verdict, *Rung, "verdict", "model", "score", "prediction", "self", "s2", "s3", "RISK_HIGH", "expiry"}
    assert own.isdisjoint(source.value for source in LabelSource)
    for name in own:
        is_refused(wire(type=name), "Invalid enum value")


@pytest.mark.parametrize(("source", "label", "weight"), [(name, *trust) for name, trust in WEIGHTS.items()])
def test_a_type_that_says_one_thing_says_it_with_its_weight(source, label, weight):
    feedback = read(wire(type=source))
    assert rules.says(feedback) is Label(label)
    assert rules.SOURCES[feedback.type].weight == weight
    assert read(wire(type=source, label=label)) == feedback
    is_refused(wire(type=source, label="human" if label != "human" else "invalid"), "Expected `label`")


def test_a_review_goes_both_ways_and_must_say_which():
    assert rules.SOURCES[LabelSource.HUMAN_REVIEW].weight == 0.9
    for label in ("invalid", "human"):
        assert rules.says(read(wire(type="human_review", label=label))) is Label(label)
    is_refused(wire(type="human_review"), "Expected `label`")
    is_refused(wire(type="human_review", label="viewable"), "Expected `label`")


def test_a_sender_says_no_weight():
    is_refused(wire(weight=1.0), "unknown field `weight`")


def test_it_is_about_one_impression_or_about_traffic():
    assert read(wire()).impression_id == an_impression(1)
    assert read(about_traffic()).traffic.sdk == "ios/12.3"
    is_refused(wire(traffic=traffic(), type="sdk_bug"), "Expected either")
    is_refused(wire(impression=None), "Expected either")
    is_refused(wire(impression_id=str(UUID(int=7, version=4))), "UUIDv7")


@pytest.mark.parametrize(
    ("source", "by"),
    [
        ("third_party", {}),
        ("publisher_ban", {}),
        ("sdk_bug", {"surface": None}),
        ("sdk_bug", {"publisher": "p-1"}),
        ("sdk_bug", {"sdk": None, "surface": None, "publisher": "p-1"}),
        ("publisher_ban", {"sdk": None, "publisher": "p-1"}),
    ],
)
def test_only_a_bug_of_an_sdk_and_a_banned_publisher_speak_of_traffic_each_of_its_own(source, by):
    is_refused(about_traffic(type=source, traffic=traffic(**by)), "Expected `traffic`")


def test_a_publishers_ban_speaks_of_its_traffic():
    ban = about_traffic(type="publisher_ban", traffic=traffic(sdk=None, surface=None, publisher="p-1"))
    assert read(ban).traffic.publisher == "p-1"


@pytest.mark.parametrize("until", [NOW - 3_600_000, NOW - 3_600_001, NOW - 3_600_000 + SPAN_MAX_MS + 1])
def test_traffic_has_a_beginning_an_end_and_no_more_than_corrections_reach(until):
    is_refused(about_traffic(traffic=traffic(until=until)), "Expected `until` after `since`")


def test_one_time_has_one_spelling_and_a_range():
    told = read(wire(observed_at="2026-09-21T15:13:19.5Z"))
    assert told.observed_at == 1_790_003_599_500
    assert rules.digest(told) == rules.digest(read(wire(observed_at=told.observed_at)))
    spelled = traffic(since="2026-09-21T16:13:20+02:00", until="2026-09-21T15:13:20Z")
    assert read(about_traffic(traffic=spelled)).traffic.since == MINTED
    is_refused(wire(observed_at="0001-01-01T00:00:00Z"), "Expected `observed_at` from 1970")


@pytest.mark.parametrize(
    "change",
    [
        {"type": "account_action"},
        {"observed_at": NOW - 999},
        {"impression_id": str(an_impression(2))},
    ],
)
def test_another_word_is_another_content(change):
    assert rules.digest(read(wire(**change))) != rules.digest(read(wire()))


def test_the_same_under_another_id_is_the_same_content():
    assert rules.digest(read(wire(2))) == rules.digest(read(wire(1)))
    first, second = (read(about_traffic(n, traffic=traffic(sdk=f"ios/{n}"))) for n in (1, 2))
    assert rules.digest(first) != rules.digest(second)


def test_what_is_said_of_the_future_is_refused():
    def flaw(**changes):
        return rules.flaw_of(read(wire(**changes)), NOW, CLOCK_AHEAD_MS)

    assert flaw(observed_at=NOW + AHEAD_MAX_MS) is None
    assert flaw(observed_at=NOW + AHEAD_MAX_MS + 1) is FeedbackRefusal.OBSERVED_AHEAD
    assert flaw(impression_id=str(mint(NOW + CLOCK_AHEAD_MS, 1, 1))) is None
    assert flaw(impression_id=str(mint(NOW + CLOCK_AHEAD_MS + 1, 1, 1))) is FeedbackRefusal.IMPRESSION_AHEAD
    assert rules.flaw_of(read(about_traffic()), NOW, CLOCK_AHEAD_MS) is None


def test_no_render_is_to_be_expected_when_the_token_is_too_old_and_a_spool_has_had_time():
    token_ends = MINTED + TOKEN_AGE_MS
    assert rules.orphan_at(an_impression(1), NOW, TOKEN_AGE_MS) == token_ends + ORPHAN_GRACE_MS
    assert rules.orphan_at(an_impression(1), token_ends + 9, TOKEN_AGE_MS) == token_ends + 9 + ORPHAN_GRACE_MS


@given(st.uuids(), st.integers(0, 9), st.integers(0, 9))
def test_a_label_has_an_id_of_its_own_per_feedback_and_impression(feedback, one, other):
    ids = [rules.label_id(feedback, an_impression(number)) for number in (one, other)]
    assert (ids[0] == ids[1]) is (one == other)
    assert feedback not in ids
