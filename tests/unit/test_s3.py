"""The model that looks again: what it reads of a stream, and what it would have of an impression."""

import numpy as np
import pytest
from builders import DAY, HOUR, MINTED, SECOND, a_view, admit
from learnkit import a_label
from modelkit import BAND, FACTS, PLATT, trees
from msgspec.structs import replace

from domain.decide import AttachLabel, Reconcile, decide
from domain.events import CorrectionKind, Versions
from domain.impression import Unseen, fold
from domain.placement_events import Stage
from domain.reasons import Reason, Verdict
from domain.signals import Family, Signal
from domain.vocabulary import Authority, Label, LabelSource
from ml.features.later import LATER_NAMES, LATER_SCHEMA, LATER_SCHEMA_ID, Context, columns, later_of
from ml.features.matrix import FRESH, MISSING, Vectors
from ml.features.publishers import PublisherHistory
from ml.features.schema import SCHEMA, SCHEMA_ID, Group, columns_of
from ml.models.artifact import Calibration, ModelArtifact, dump, model_id
from ml.models.masks import MASKS
from ml.models.s3 import MODEL, Belief, LaterScorer, NotDecided, load_s3, reevaluate

LATER_PLACE = {feature.name: at for at, feature in enumerate(LATER_SCHEMA)}
RATE = Signal(Family.RATE, "rate_unusual", 9.0, 5.0)
NOW = MINTED + DAY


def a_model(*stumps, **changes):
    """A model of stumps by name of the feature: (name, threshold, NaN goes left, margin to the left, to the right)."""
    given = {
        "stage": Stage.S3,
        "trees": trees(*[(LATER_PLACE[name], *rest) for name, *rest in stumps]),
        "calibrations": dict.fromkeys(MASKS, PLATT),
        "bands": dict.fromkeys(MASKS, BAND),
        "card": FACTS,
        "schema_id": LATER_SCHEMA_ID,
    }
    return LaterScorer(ModelArtifact(**{**given, **changes}))


def saying(margin):
    """A model that says the same of everything."""
    return a_model(("age_ms", 0.0, True, margin, margin))


RISKY, CLEAR, GREY = saying(4.0), saying(-4.0), saying(0.0)


def a_stream(*also, signals=(), later=()):
    """A decided render against which *also* holds, and what came *later*."""
    command = admit(also=also)
    command = replace(command, scored=replace(command.scored, signals=signals))
    events = list(decide(Unseen(), command))
    for one in later:
        events += decide(fold(events), one)
    return tuple(events)


def told(source, label=Label.INVALID, at=MINTED + HOUR):
    one = a_label(source, label, at)
    given = {name: getattr(one, name) for name in ("cause", "digest", "source", "label", "weight")}
    return AttachLabel(**given, observed_at=at, received_at=at)


def looked(events, model, **context):
    return reevaluate(events, Context(at=NOW, **context), model)


def stands(found):
    return found.verdict, found.reason, found.changes


# What it would have


@pytest.mark.parametrize("reason", [Reason.RISK_GREY, Reason.EVIDENCE_INCOMPLETE])
def test_what_is_open_for_its_sake_is_valid_once_it_finds_nothing(reason):
    assert stands(looked(a_stream(reason), CLEAR)) == (Verdict.VALID, None, True)


@pytest.mark.parametrize("reason", [Reason.OMID_UNPROVEN, Reason.REGISTRY_BEHIND, Reason.CLOCK_SKEWED, Reason.DEGRADED])
def test_what_is_open_for_other_reasons_stays_open(reason):
    assert stands(looked(a_stream(reason), CLEAR)) == (Verdict.UNCERTAIN, reason, False)


@pytest.mark.parametrize(("served", "verdict"), [(False, Verdict.UNCERTAIN), (True, Verdict.VALID)])
def test_what_is_late_needs_a_notice_of_delivery_too(served, verdict):
    assert looked(a_stream(Reason.LATE), CLEAR, is_served=served).verdict is verdict


def test_what_is_grey_stays_open():
    assert stands(looked(a_stream(Reason.RISK_GREY), GREY)) == (Verdict.UNCERTAIN, Reason.RISK_GREY, False)


@pytest.mark.parametrize("also", [(), (Reason.RISK_GREY,)])
def test_risky_alone_drops_nothing(also):
    assert not looked(a_stream(*also), RISKY).changes


@pytest.mark.parametrize("also", [(), (Reason.RISK_GREY,), (Reason.OMID_UNPROVEN,)])
def test_risky_and_another_signal_is_invalid(also):
    found = looked(a_stream(*also, signals=(RATE,)), RISKY)
    assert stands(found) == (Verdict.DROPPED, Reason.RISK_HIGH, True)
    assert found.pair == (RATE.name, MODEL)
    assert found.masked_risk == pytest.approx(found.risk)


def test_the_model_does_not_corroborate_what_it_knows_from_there_alone():
    by_rate = a_model(("person_min", -np.inf, False, 0.0, 0.0), ("person_min", np.inf, False, 4.0, -4.0))
    events = a_stream(signals=(RATE,))
    vector = np.zeros(len(SCHEMA), "<f4")
    scored = replace(
        events[1],
        features=vector.tobytes(),
        feature_status="f" * len(SCHEMA),
        versions=replace(events[1].versions, features=SCHEMA_ID),
    )
    found = looked((events[0], scored, events[2]), by_rate)
    assert found.risk > BAND.risky_from
    assert not found.changes


@pytest.mark.parametrize(
    ("family", "name"),
    [
        (Family.RATE, "next_hour"),
        (Family.SEQUENCE, "next_gap_ms"),
        (Family.GEOMETRY, "view_ms"),
        (Family.LABEL, "others_invalid"),
    ],
)
def test_the_model_does_not_corroborate_a_family_by_what_came_later_of_it(family, name):
    """Of one account action others have labels too: with the own one these are no two signals."""
    events = a_stream(
        signals=() if family is Family.LABEL else (Signal(family, "stands_out", 9.0, 5.0),),
        later=[
            a_view(received_at=MINTED + 8 * SECOND, visible_ratio=0.7, visible_ms=2_100),
            *([told(LabelSource.ACCOUNT_ACTION)] if family is Family.LABEL else []),
        ],
    )
    found = looked(events, a_model((name, 0.5, True, -4.0, 4.0)), next_gap_ms=700.0, next_hour=9.0, others_invalid=8.0)
    assert found.risk > BAND.risky_from
    assert not found.changes
    assert looked(events, RISKY).changes


def test_what_a_family_does_not_know_is_calibrated_as_where_it_is_missing():
    unsure = Calibration("platt", np.array([0.0, 2.0]), np.array([]))
    model = a_model(
        ("age_ms", 0.0, True, 0.0, 0.0), calibrations={**dict.fromkeys(MASKS, PLATT), "partial_client": unsure}
    )
    whole = Vectors(np.zeros((1, len(SCHEMA))), np.full((1, len(SCHEMA)), FRESH, np.uint8))
    lacking = Vectors(whole.values, whole.status.copy())
    lacking.status[:, columns_of(Group.GEOMETRY)] = MISSING
    later = np.zeros((1, len(LATER_NAMES)))
    asked = model.risk(whole, later, Belief(), Family.GEOMETRY).value
    assert model.risk(whole, later, Belief()).value == 0.5
    assert asked == model.risk(lacking, later, Belief()).value == pytest.approx(1 / (1 + np.exp(-2)))


def test_an_earlier_word_of_the_model_is_no_second_signal():
    model = Signal(Family.MODEL, "model", 0.9, 0.8)
    assert not looked(a_stream(Reason.RISK_GREY, signals=(model,)), RISKY).changes


def test_a_label_is_a_second_signal():
    events = a_stream(later=[told(LabelSource.THIRD_PARTY)])
    found = looked(events, RISKY)
    assert stands(found) == (Verdict.DROPPED, Reason.RISK_HIGH, True)
    assert found.masked_risk < found.risk


def test_a_label_alone_is_not_corroborated_by_a_model_that_finds_nothing():
    assert not looked(a_stream(later=[told(LabelSource.HONEYPOT)]), CLEAR).changes


def test_a_human_signal_makes_less_of_a_risk():
    plain, human = a_stream(), a_stream(later=[told(LabelSource.HUMAN_SIGNAL, Label.HUMAN)])
    assert looked(human, RISKY).risk == pytest.approx(0.3 * looked(plain, RISKY).risk)


@pytest.mark.parametrize(("late_ms", "risk"), [(0, 1.0), (1, 0.5)])
def test_a_label_that_arrives_later_is_not_known_yet(late_ms, risk):
    events = a_stream(later=[told(LabelSource.HONEYPOT, at=NOW + late_ms)])
    assert looked(events, GREY).risk == pytest.approx(risk)


def test_what_a_model_dropped_counts_again_once_it_finds_nothing():
    events = a_stream(Reason.RISK_HIGH)
    assert stands(looked(events, CLEAR)) == (Verdict.VALID, None, True)
    assert not looked(events, GREY).changes


@pytest.mark.parametrize(
    "reason", [Reason.RATE_ABUSIVE, Reason.VIEW_FALSIFIED, Reason.DOUBLE_FIRE, Reason.OUTSIDE_FLIGHT, Reason.PREFETCHED]
)
@pytest.mark.parametrize("model", [RISKY, CLEAR])
def test_what_is_decided_by_rule_is_none_of_its_business(reason, model):
    assert not looked(a_stream(reason, signals=(RATE,)), model).changes


def test_what_it_would_have_can_be_asked_for():
    events = a_stream(Reason.RISK_GREY, signals=(RATE,))
    found = looked(events, RISKY)
    asked = Reconcile(
        correction=events[0].cause.__class__(int=5),
        digest="",
        kind=CorrectionKind.VERDICT,
        authority=Authority.MODEL,
        asked=found.reason,
        observed_at=NOW,
        versions=Versions(pack="p", lists="l", model="s3"),
        decided_at=NOW,
    )
    (event,) = decide(fold(events), asked)
    assert (event.accepted, event.after.verdict) == (True, found.verdict)


def test_nothing_is_said_of_what_was_not_decided():
    with pytest.raises(NotDecided):
        looked((), CLEAR)


def test_a_model_of_the_decision_does_not_look_again():
    with pytest.raises(ValueError, match="s2"):
        a_model(("age_ms", 0.0, True, 0.0, 0.0), stage=Stage.S2)


def test_a_model_is_the_same_after_it_was_kept():
    artifact = RISKY._artifact
    data = dump(artifact)
    kept = LaterScorer(load_s3(data, model_id(data, Stage.S3)))
    assert looked(a_stream(signals=(RATE,)), kept) == looked(a_stream(signals=(RATE,)), RISKY)


# What it reads


def test_what_came_later_stands_behind_the_vector_of_the_decision():
    view = a_view(received_at=MINTED + 8 * SECOND, visible_ratio=0.7, visible_ms=2_100, clicked=True)
    events = a_stream(later=[view])
    context = Context(at=NOW, next_gap_ms=700.0, next_hour=3.0, publisher=PublisherHistory(0.1, 0.2, 4.0))
    row = columns([later_of(events[0], events[2].decided_at, events, context)])[0]
    found = dict(zip(LATER_NAMES, row.tolist(), strict=True))
    assert found["age_ms"] == NOW - events[2].decided_at
    assert found["view_wait_ms"] == MINTED + 8 * SECOND - events[0].event_at
    assert (found["view_ratio"], found["view_ms"], found["view_clicked"]) == (0.7, 2_100, 1)
    assert (found["next_gap_ms"], found["next_hour"]) == (700, 3)
    assert (found["later_duplicate_rate"], found["later_invisible_share"], found["later_click_z"]) == (0.1, 0.2, 4)


def test_what_nobody_knows_is_missing():
    events = a_stream()
    row = columns([later_of(events[0], MINTED, events, Context(at=NOW))])[0]
    known = {name for name, value in zip(LATER_NAMES, row, strict=True) if not np.isnan(value)}
    assert known == {"age_ms", "view_clicked"}
