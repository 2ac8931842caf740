"""The generator: reproducible, as fast as the plan says, made of what real people and bots say of themselves."""

import time
from collections import Counter, defaultdict
from itertools import pairwise

import msgspec
import pytest

from domain.ids import minted_at, shard, shard_of_person
from domain.render import Kind, Render, millis
from domain.token import TokenInvalid, TokenKey, check_token
from domain.vocabulary import AgentClass, NetworkClass
from ml.lists.packaged import packaged
from ml.lists.screen_lists import Lists
from ml.traffic.deeds import DEEDS
from ml.traffic.events import Truth, TruthFile
from ml.traffic.generator import Plan, Traffic
from ml.traffic.market import SDKS
from ml.traffic.people import ACTORS
from ml.traffic.shot import Minter

pytestmark = pytest.mark.slow

START = 1_790_000_000_000
KEY = TokenKey(b"s" * 32, b"p" * 32)
MINTER = Minter("k1", KEY, b"h" * 32, "eu")
PLAN = Plan(seed=7, rate=400, seconds=40)


class Run:
    """One whole run, with what is true of it."""

    def __init__(self, plan=PLAN, start=START):
        self.truth = []
        self.traffic = Traffic(plan, MINTER, self.truth.append)
        self.sendings = list(self.traffic.sendings(start))
        self.by_deed = defaultdict(list)
        for truth in self.truth:
            self.by_deed[truth.deed].append(truth)

    def fields(self, sending):
        return msgspec.json.decode(sending.event.body(sending.at_ms, sending.attempt))

    def of(self, deed):
        """What was sent for *deed*, per shot, in order of time."""
        sent = defaultdict(list)
        for sending in self.sendings:
            sent[sending.event.event_id].append(sending)
        shots = defaultdict(list)
        for truth in self.by_deed[deed]:
            shots[truth.impression_id].append((truth, self.fields(sent[truth.event_id][0])))
        return list(shots.values())


@pytest.fixture(scope="module")
def run():
    return Run()


def test_the_same_plan_gives_the_same_bytes():
    plan = Plan(seed=3, rate=300, seconds=4)
    one, other = Run(plan), Run(plan)
    assert [s.event.body(1, 0) for s in one.sendings] == [s.event.body(1, 0) for s in other.sendings]
    assert one.truth == other.truth
    assert Run(Plan(seed=4, rate=300, seconds=4)).truth != one.truth


def test_events_come_in_order_and_at_the_rate_of_the_plan(run):
    times = [sending.at_ms for sending in run.sendings]
    assert all(earlier <= later for earlier, later in pairwise(times))
    assert times[0] >= START
    assert times[-1] < START + PLAN.seconds * 1_000
    assert len(times) == pytest.approx(PLAN.rate * PLAN.seconds, rel=0.03)


def test_the_day_curve_thins_the_night():
    night = START - START % 86_400_000 + 3 * 3_600_000
    evening = night + 17 * 3_600_000
    plan = Plan(seed=1, rate=300, seconds=8, day_curve=True)
    assert len(Run(plan, night).sendings) * 4 < len(Run(plan, evening).sendings)


def test_every_event_is_a_render_by_the_schema_unless_it_is_meant_to_be_none(run):
    decoder, unreadable = msgspec.json.Decoder(Render), set()
    for sending in run.sendings:
        try:
            decoder.decode(sending.event.body(sending.at_ms, sending.attempt))
        except msgspec.ValidationError:
            unreadable.add(sending.event.event_id)
    assert unreadable == {truth.event_id for truth in run.by_deed["malformed"]}
    assert unreadable


def test_every_token_was_minted_by_delivery_unless_it_is_meant_to_be_forged(run):
    forged = {truth.event_id for truth in run.by_deed["forged"]}
    malformed = {truth.event_id for truth in run.by_deed["malformed"]}
    replayed = {truth.event_id for truth in run.truth if truth.actor == "replayer"}
    for sending in run.sendings:
        if sending.event.event_id in malformed:
            continue
        fields = run.fields(sending)
        if sending.event.event_id in forged:
            with pytest.raises(TokenInvalid):
                check_token(fields["token"], {"k1": KEY})
        else:
            token = check_token(fields["token"], {"k1": KEY})
            assert token.impression == sending.event.impression_id
            if sending.event.event_id in replayed:
                continue
            person = fields.get("user") or fields.get("device") or fields["network"]
            if "device" in fields or sending.event.kind is Kind.VIEW:
                assert shard(token.impression) == shard_of_person(person, MINTER.shard_key)
    assert forged


def test_nothing_that_a_client_sends_tells_the_truth(run):
    told = {name for sending in run.sendings[:2_000] for name in run.fields(sending)}
    assert told <= set(Render.__struct_fields__) | {"impression"}


def test_every_event_has_its_truth_once_and_at_most_one_counts_per_impression(run):
    events = Counter(truth.event_id for truth in run.truth)
    reused = {truth.event_id for truth in run.by_deed["reused_id"]}
    assert {event for event, times in events.items() if times > 1} <= reused
    assert set(events) == {sending.event.event_id for sending in run.sendings}
    counted = Counter(truth.impression_id for truth in run.truth if truth.counts)
    assert set(counted.values()) == {1}
    assert all(truth.human and truth.kind is Kind.RENDER for truth in run.truth if truth.counts)


def test_every_deed_and_every_actor_of_the_tables_occurs(run):
    assert {deed.name for deed in DEEDS} <= set(run.by_deed)
    bots = {"declared_crawler", "cloud_bot", "device_farm", "replayer"}
    assert {actor.name for actor in ACTORS} | bots == {truth.actor for truth in run.truth}
    assert {"plain", "double_fire"} <= set(run.by_deed)
    assert {"hidden", "outside_flight"} <= {truth.family for truth in run.truth}


def test_bots_are_caught_by_the_lists_and_people_are_not(run):
    lists = Lists(packaged())
    malformed = {truth.event_id for truth in run.by_deed["malformed"]}
    actors = {truth.event_id: truth.actor for truth in run.truth}
    for sending in run.sendings:
        if sending.event.event_id in malformed:
            continue
        fields, actor = run.fields(sending), actors[sending.event.event_id]
        agent, network = lists.agent(fields.get("agent")), lists.network(fields["network"])
        match actor:
            case "declared_crawler":
                assert agent in {AgentClass.DECLARED_BOT, AgentClass.NOT_A_BROWSER, AgentClass.ABSENT}
            case "cloud_bot" | "replayer":
                assert agent is not AgentClass.DECLARED_BOT
                assert network is NetworkClass.DATA_CENTRE
            case _:
                assert agent in {AgentClass.BROWSER, AgentClass.ABSENT}
                assert network in {NetworkClass.EYEBALL, NetworkClass.RELAY}, fields["network"]


def test_a_double_fire_is_another_instance_of_the_same_slot_within_a_second(run):
    buggy = {sdk.name for sdks in SDKS.values() for sdk in sdks if sdk.fires_twice}
    shots = run.of("double_fire")
    firsts = {truth.event_id: fields for shot in shots for truth, fields in shot if truth.duplicate_of is None}
    seconds = [(truth, fields) for shot in shots for truth, fields in shot if truth.duplicate_of is not None]
    assert len(seconds) > 20
    for truth, fields in seconds:
        first = firsts[truth.duplicate_of]
        one, other = (check_token(render["token"], {"k1": KEY}) for render in (first, fields))
        assert one.impression != other.impression
        assert (one.placement, one.creative) == (other.placement, other.creative)
        assert first["device"] == fields["device"]
        assert 0 < fields["client_at"] - first["client_at"] < 1_000
        assert fields["sdk"] in buggy
        assert not truth.counts


def test_a_prefetched_ad_counts_only_once_it_is_shown(run):
    shown = 0
    for shot in run.of("prefetched"):
        fetched, *later = [(truth, fields) for truth, fields in shot if truth.kind is Kind.RENDER]
        if fetched[1].get("prefetched"):
            assert not fetched[0].counts
            assert "on_screen_at" not in fetched[1]
        for _, fields in later:
            shown += 1
            assert not fields.get("prefetched")
    assert shown > 20


def test_a_retry_is_the_same_event_and_has_no_truth_of_its_own(run):
    retried = {sending.event.event_id: sending for sending in run.sendings if sending.attempt}
    assert len(retried) > 10
    assert set(retried) <= {truth.event_id for truth in run.by_deed["retry"]}
    for sending in retried.values():
        first = next(s for s in run.sendings if s.event is sending.event)
        assert first.attempt == 0
        assert first.at_ms < sending.at_ms


def test_lost_events_leave_gaps_in_the_sequence_numbers_of_their_session(run):
    numbers = defaultdict(list)
    for sending in run.sendings:
        fields = run.fields(sending)
        if "session" in fields and fields.get("sdk_seq"):
            numbers[fields["session"]].append(fields["sdk_seq"])
    gaps = sum(max(seen) - len(set(seen)) for seen in numbers.values())
    assert 0 < gaps < 0.2 * len(run.sendings)


def test_clocks_are_skewed_by_device_and_the_sending_time_says_so(run):
    skews = Counter()
    for sending in run.sendings:
        fields = run.fields(sending)
        if sending.event.skew_ms is None:
            assert "sent_at" not in fields
        else:
            assert fields["sent_at"] - sending.at_ms == sending.event.skew_ms
        skews[abs(sending.event.skew_ms or 0) > 60_000] += 1
    assert 0.002 < skews[True] / skews.total() < 0.08


def test_late_events_were_served_long_before_and_expired_ones_longer_than_a_token_lives(run):
    for deed, least_ms in (("late", 120_000), ("expired", 604_800_000)):
        ages = [truth.at_ms - minted_at(truth.impression_id) for truth in run.by_deed[deed]]
        assert ages
        assert min(ages) > least_ms


def test_no_client_time_is_before_its_ad_was_served_on_the_true_clock(run):
    malformed = {truth.event_id for truth in run.by_deed["malformed"]}
    for sending in run.sendings:
        if sending.event.skew_ms is None or sending.event.event_id in malformed:
            continue
        render = msgspec.json.decode(sending.event.body(sending.at_ms, 0), type=Render)
        assert millis(render.client_at) - sending.event.skew_ms > minted_at(sending.event.impression_id)


def test_truth_goes_to_its_own_file_a_line_an_event(tmp_path):
    path = tmp_path / "truth.jsonl"
    with TruthFile(path) as sink:
        sendings = list(Traffic(Plan(seed=2, rate=200, seconds=15), MINTER, sink).sendings(START))
    lines = msgspec.json.Decoder(Truth).decode_lines(path.read_bytes())
    assert {truth.event_id for truth in lines} == {sending.event.event_id for sending in sendings}


@pytest.mark.parametrize("took_ms", [0, 5_000])
def test_what_is_planned_ahead_begins_when_planning_is_done_however_long_that_took(took_ms):
    plan = Plan(seed=3, rate=300, seconds=4)
    times = iter([START, START + took_ms])
    planned = Traffic(plan, MINTER, lambda _: None).planned(lambda: next(times))
    assert START + took_ms <= planned[0].at_ms < START + took_ms + 500
    assert planned[-1].at_ms - planned[0].at_ms == pytest.approx(plan.seconds * 1_000, rel=0.05)
    assert len(planned) == len(Run(plan).sendings)


def test_a_region_without_a_list_of_countries_has_people_too():
    minter = Minter("k1", KEY, b"h" * 32, "mars")
    traffic = Traffic(Plan(seed=1, rate=100, seconds=2), minter, lambda _: None)
    assert len(list(traffic.sendings(START))) > 100


@pytest.mark.parametrize("wrong", [{"campaigns": 3}, {"rate": 0}, {"people": 0}])
def test_a_plan_that_cannot_be_is_refused(wrong):
    plan = Plan(**({"seed": 1, "rate": 10, "seconds": 1} | wrong))
    with pytest.raises(ValueError, match="a plan needs"):
        Traffic(plan, MINTER, lambda _: None)


def test_making_an_event_stays_cheap():
    traffic = Traffic(Plan(seed=1, rate=2_000, seconds=10), MINTER, lambda _: None)
    began = time.process_time()
    events = sum(1 for _ in traffic.sendings(START))
    assert (time.process_time() - began) / events < 150e-6  # 25 us on an idle machine; CI's is not
