"""Traffic straight through the gate's own path, in memory."""

from collections import Counter

import pytest
from modelkit import a_mixed_model

from domain.events import ImpressionDeduped, ImpressionRendered, ImpressionScored, ImpressionViewed
from domain.reasons import Reason, Verdict
from domain.render import Kind
from ledger.codec import decode
from ml.features.logged import unpack
from ml.traffic.adversary import Adversary
from ml.traffic.families import HELD_OUT, TRAINABLE
from ml.traffic.generator import Plan, Traffic
from service.offline import UNDER_WAY_MS, OfflineGate, World, run_offline, scored
from service.scoring import Line, ModelHolder
from service.wiring import ScreenLists, load_pack

pytestmark = pytest.mark.slow

START = 1_790_000_000_000
PLAN = Plan(seed=2, rate=300, seconds=9)
PACK = load_pack("base-1")
LISTS = ScreenLists()


def world(seed=2, seconds=9, line=None):
    activity = scored(PACK, ModelHolder(line), seed)
    return World(seed=seed, start_ms=START, seconds=seconds, pack=PACK, lists=LISTS, activity=activity)


def passed(plan=PLAN, seed=2):
    chunks = list(run_offline(plan, world(seed, plan.seconds)))
    return [commit for chunk in chunks for commit in chunk.commits], [one for chunk in chunks for one in chunk.truths]


@pytest.fixture(scope="module")
def run():
    return passed()


def test_the_same_plan_and_seed_give_the_same_commits_byte_for_byte(run):
    assert passed() == run


def test_another_seed_of_the_keys_gives_other_pseudonyms(run):
    short = Plan(seed=2, rate=100, seconds=2)
    assert passed(short, seed=3)[0] != passed(short)[0]


def test_commits_come_in_order_and_every_event_that_can_be_read_is_in_them(run):
    commits, truths = run
    assert [commit.position for commit in commits] == list(range(1, len(commits) + 1))
    causes = {event.cause for commit in commits for event in decode(commit.data) if hasattr(event, "cause")}
    plain = [truth for truth in truths if truth.deed == "plain" and truth.kind is Kind.RENDER]
    assert sum(truth.event_id in causes for truth in plain) > 0.99 * len(plain)


def test_what_is_decided_is_what_the_gate_decides(run):
    commits, truths = run
    family = {truth.impression_id: truth.family for truth in truths}
    seen = {"ImpressionRendered": 0, "ImpressionViewed": 0}
    verdicts = Counter()
    for commit in commits:
        for event in decode(commit.data):
            if isinstance(event, ImpressionDeduped) and event.before is None:
                verdicts[family[commit.stream], event.verdict, event.reason] += 1
            if isinstance(event, ImpressionRendered | ImpressionViewed):
                seen[type(event).__name__] += 1
    assert min(seen.values()) > 200
    assert verdicts["person", Verdict.VALID, None] > 500
    assert verdicts["declared_crawler", Verdict.DROPPED, Reason.AGENT_DECLARED_BOT] > 5
    assert verdicts["prefetch", Verdict.DROPPED, Reason.PREFETCHED] > 5


def test_renders_carry_what_is_known_of_their_devices(run):
    rendered = [event for commit in run[0] for event in decode(commit.data) if isinstance(event, ImpressionRendered)]
    for name in ("agent_age_days", "sdk_age_days", "fingerprint_inconsistencies"):
        known = [getattr(event, name) for event in rendered if getattr(event, name) is not None]
        assert len(known) > 0.6 * len(rendered), name
        assert len(set(known)) > 2, name


def test_every_event_is_received_on_its_own_shortly_after_it_was_sent(run):
    sent = {truth.event_id: truth.at_ms for truth in run[1]}
    rendered = [event for commit in run[0] for event in decode(commit.data) if isinstance(event, ImpressionRendered)]
    under_way = [event.received_at - sent[event.cause] for event in rendered]
    assert 0 < min(under_way) < max(under_way) <= UNDER_WAY_MS
    assert len({event.received_at for event in rendered}) > len(rendered) / 4


def test_every_render_is_scored_as_a_gate_scores_it(run):
    scored = [event for commit in run[0] for event in decode(commit.data) if isinstance(event, ImpressionScored)]
    assert len(unpack([(event.features, event.feature_status) for event in scored]).values) == len(scored) > 1_000
    with OfflineGate(world(line=Line(champion=a_mixed_model()))) as gate:
        gate.decide(list(Traffic(PLAN, gate.minter, lambda _: None).sendings(START))[:800])
        scored = [e for commit in gate.take() for e in decode(commit.data) if isinstance(e, ImpressionScored)]
    assert {event.versions.model for event in scored} == {"s2-mixed"}
    assert all(event.risk is not None for event in scored)


def test_an_ad_server_gets_an_answer_to_each_event_in_order():
    told = []
    with OfflineGate(world()) as gate:
        sendings = list(Traffic(PLAN, gate.minter, told.append).sendings(START))[:800]
        answers = gate.decide(sendings)
    assert len(answers) == len(sendings)
    by_event = {sending.event.event_id for sending in sendings}
    assert {answer.event_id for answer in answers if answer.event_id} <= by_event
    assert all(answer.verdict for answer in answers if answer.status == "decided")


@pytest.mark.slow
def test_views_that_overtake_their_render_are_applied_when_it_has_come():
    plan = Plan(seed=4, rate=60, seconds=240)
    commits, truths = passed(plan)
    viewed = {e.cause for commit in commits for e in decode(commit.data) if isinstance(e, ImpressionViewed)}
    first = {}
    for truth in truths:
        first.setdefault(truth.impression_id, truth)
    early = [truth for truth in first.values() if truth.kind is Kind.VIEW and truth.deed == "plain"]
    assert len(early) > 10
    assert sum(truth.event_id in viewed for truth in early) > 0.3 * len(early)


@pytest.mark.slow
def test_some_family_is_faster_than_any_person_and_is_dropped_for_it():
    commits, truths = passed(Plan(seed=3, rate=60, seconds=300, families=("device_farm",)))
    family = {truth.impression_id: truth.family for truth in truths}
    dropped = Counter()
    for commit in commits:
        for event in decode(commit.data):
            if isinstance(event, ImpressionDeduped) and event.reason is Reason.RATE_ABUSIVE:
                dropped[family[commit.stream]] += 1
    assert dropped.keys() == {"device_farm"}


@pytest.mark.slow
def test_an_adversary_that_sees_verdicts_ends_up_earning_more():
    with OfflineGate(world(seconds=40 * 3_600)) as gate:
        market = Traffic(Plan(seed=1, rate=1, seconds=1, families=TRAINABLE + HELD_OUT), gate.minter, print).market
        adversary, at, earned = Adversary(2, gate.minter, market, lambda _: None), START, []
        for _ in range(8):
            played = adversary.round(gate.decide, at)
            at = played.ends_ms + 3_700_000
            earned.append(sum(played.earned))
    assert sum(earned[-2:]) > 1.3 * sum(earned[:2])
