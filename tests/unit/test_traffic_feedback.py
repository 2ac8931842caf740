"""Labels: from the truth, but late, few and sometimes wrong; none of what training must not see."""

from collections import Counter, defaultdict
from uuid import UUID

import msgspec
import pytest

from domain.feedback import SOURCES, Feedback
from domain.render import Kind
from domain.token import TokenKey
from domain.vocabulary import Label, LabelSource
from ml.traffic.events import Truth
from ml.traffic.families import HELD_OUT, TRAINABLE
from ml.traffic.feedback import BANNED, DELAYS, REMEMBERED_MAX, REVIEWED, Labels
from ml.traffic.generator import Plan, Traffic
from ml.traffic.shot import Minter

pytestmark = pytest.mark.slow

START = 1_790_000_000_000
MINTER = Minter("k1", TokenKey(b"s" * 32, b"p" * 32), b"h" * 32, "eu")
POSITIVE = set(LabelSource) - {LabelSource.HUMAN_REVIEW, LabelSource.HUMAN_SIGNAL, LabelSource.VIEW}


def truth(number=1, **changes):
    made = {
        "event_id": UUID(int=number),
        "impression_id": UUID(int=number),
        "at_ms": START + number,
        "kind": Kind.RENDER,
        "actor": "person",
        "deed": "plain",
        "family": "person",
        "human": True,
        "counts": True,
        "who": number,
        "campaign": f"campaign-{number // 10 % 40}",
        "publisher": "facebook",
    }
    return Truth(**{**made, **changes})


def bot(number=1, family="device_farm", **changes):
    return truth(number, actor=family, family=family, human=False, counts=False, invalid=True, **changes)


def of(truths, seed=1, **options):
    return list(Labels(seed, **options).of(truths))


@pytest.fixture(scope="module")
def truths():
    told = []
    plan = Plan(seed=5, rate=250, seconds=60, families=TRAINABLE + HELD_OUT)
    assert sum(1 for _ in Traffic(plan, MINTER, told.append).sendings(START))
    return told


def test_the_same_truths_and_seed_give_the_same_labels(truths):
    assert of(truths) == of(truths)
    assert of(truths) != of(truths, seed=2)


def test_what_a_held_out_family_is_in_has_no_labels_unless_evaluation_asks(truths):
    held_out = {one.impression_id for one in truths if one.held_out}
    assert not any(label.impression_id in held_out for label in of(truths))
    assert any(label.impression_id in held_out for label in of(truths, held_out=True))


def test_nothing_is_told_before_it_was_seen_nor_seen_before_it_happened(truths):
    happened = {one.impression_id: one.at_ms for one in reversed(truths)}
    for label in of(truths):
        assert happened[label.impression_id] <= label.observed_at <= label.received_at


def test_each_source_has_its_own_pace(truths):
    happened = {one.impression_id: one.at_ms for one in reversed(truths)}
    waits = defaultdict(list)
    for label in of(truths):
        waits[label.source].append((label.received_at - happened[label.impression_id]) / 3_600_000)
    hours = {source: sorted(found)[len(found) // 2] for source, found in waits.items()}
    assert hours[LabelSource.DECLARED_BOT] * 3_600 < 60
    assert hours[LabelSource.HUMAN_SIGNAL] < 5
    assert 0.3 < hours[LabelSource.THIRD_PARTY] < 44
    assert 2 < hours[LabelSource.HUMAN_REVIEW] < 90
    assert hours[LabelSource.DISPUTE] > 48


def test_only_reviews_and_human_signals_speak_for_people(truths):
    said = Counter((label.source, label.label) for label in of(truths))
    assert {source for source, label in said if label is Label.INVALID} <= POSITIVE | {LabelSource.HUMAN_REVIEW}
    assert {source for source, label in said if label is Label.HUMAN} == set(LabelSource) - POSITIVE - {
        LabelSource.VIEW
    }
    assert LabelSource.VIEW not in {source for source, _ in said}


def test_each_label_is_one_that_its_source_may_say_and_can_be_posted(truths):
    posted = [label.posted() for label in of(truths)]
    assert {one.type for one in posted} == SOURCES.keys()
    read = msgspec.json.decode(msgspec.json.encode(posted), type=list[Feedback])
    assert [one.impression_id for one in read] == [one.impression_id for one in posted]


@pytest.fixture(scope="module")
def of_a_tenth_bots():
    """Labels of impressions of which every tenth is a bot's."""
    families = ("cloud_bot", "device_farm", "declared_crawler")
    mixed = [bot(n, families[n % 3]) if n % 10 == 0 else truth(n) for n in range(1, 40_000)]
    return of(mixed, seed=3)


@pytest.mark.parametrize(
    ("source", "least", "most"),
    [
        (LabelSource.THIRD_PARTY, 0.03, 0.14),
        (LabelSource.HUMAN_REVIEW, 0.0, 0.2),
        (LabelSource.HUMAN_SIGNAL, 0.001, 0.1),
        (LabelSource.DECLARED_BOT, 0.0, 0.0),
        (LabelSource.HONEYPOT, 0.0, 0.06),
    ],
)
def test_each_source_errs_as_often_as_it_does(of_a_tenth_bots, source, least, most):
    labels = [label for label in of_a_tenth_bots if label.source is source]
    wrong = sum((label.label is Label.INVALID) is (label.impression_id.int % 10 != 0) for label in labels)
    assert len(labels) > 100
    assert least <= wrong / len(labels) <= most


def test_reviews_see_a_random_sample_of_everything(of_a_tenth_bots):
    reviewed = [one.impression_id.int for one in of_a_tenth_bots if one.source is LabelSource.HUMAN_REVIEW]
    assert len(reviewed) / 40_000 == pytest.approx(REVIEWED, rel=0.2)
    assert sum(number % 10 == 0 for number in reviewed) / len(reviewed) == pytest.approx(0.1, abs=0.05)


def test_an_account_that_is_taken_down_takes_all_it_did_along():
    mixed = [bot(n, who=n % 40) for n in range(1, 4_000)]
    by_account = defaultdict(set)
    for label in of(mixed):
        if label.source is LabelSource.ACCOUNT_ACTION:
            by_account[label.impression_id.int % 40].add(label.impression_id)
    assert 5 < len(by_account) < 30
    assert all(len(labelled) > 95 for labelled in by_account.values())


def test_a_banned_publisher_takes_its_people_along_from_the_first_time_it_cheats_and_ours_are_never_banned():
    assert BANNED < 1
    honest = [truth(n, publisher="app-1") for n in range(1, 50)]
    cheats = [truth(n, family="hidden", invalid=True, counts=False, publisher="app-1") for n in range(50, 60)]
    after = [truth(n, publisher="app-1") for n in range(60, 200)]
    ours = [truth(n, publisher="facebook") for n in range(200, 600)]
    seeds = range(20)
    banned = [
        [
            label.impression_id.int
            for label in of([*honest, *cheats, *after, *ours], seed)
            if label.source == "publisher_ban"
        ]
        for seed in seeds
    ]
    assert sorted(set(map(tuple, banned)), key=len) == [(), tuple(range(50, 200))]


def test_a_confirmed_bug_labels_second_fires_at_once_and_few_first_ones():
    fired = {"deed": "double_fire", "family": "double_fire_sdk"}
    fires = []
    for n in range(2, 2_000, 2):
        fires.append(truth(n, **fired))
        fires.append(truth(n + 1, **fired, counts=False, invalid=True, duplicate_of=UUID(int=n)))
    bugs = [label for label in of(fires) if label.source is LabelSource.SDK_BUG]
    assert len({label.observed_at for label in bugs}) == 1
    second = sum(label.impression_id.int % 2 for label in bugs)
    assert second > 900
    assert 0 < len(bugs) - second < 60


@pytest.mark.parametrize(
    "unheard",
    [
        truth(kind=Kind.VIEW),
        truth(deed="malformed"),
        truth(deed="forged"),
        truth(counts=False, family="prefetch"),
    ],
)
def test_what_nobody_counts_or_could_find_is_not_spoken_of(unheard):
    assert not any(of([unheard], seed) for seed in range(400))


def test_an_impression_is_spoken_of_once_however_often_it_is_told():
    repeats = [bot(7, event_id=UUID(int=n)) for n in range(1, 5_000)]
    assert len(of(repeats)) <= len(DELAYS)
    assert REMEMBERED_MAX > 10_000
