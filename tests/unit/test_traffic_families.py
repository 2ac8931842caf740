"""What each family does, that it is told as such, and what becomes of a day that is not like others."""

from collections import Counter, defaultdict
from itertools import pairwise
from statistics import mean, pstdev

import msgspec
import pytest

from domain.ids import minted_at
from domain.render import Kind
from domain.token import TokenKey, check_token
from domain.vocabulary import NetworkClass, Surface
from ml.lists.devices import read_agent
from ml.lists.packaged import packaged
from ml.lists.screen_lists import Lists
from ml.traffic.addresses import UTC_OFFSET_H
from ml.traffic.drills import Drill
from ml.traffic.families import BY_NAME, HELD_OUT, TRAINABLE
from ml.traffic.generator import Plan, Traffic
from ml.traffic.shot import Minter

pytestmark = pytest.mark.slow

START = 1_790_000_000_000
KEY = TokenKey(b"s" * 32, b"p" * 32)
MINTER = Minter("k1", KEY, b"h" * 32, "eu")
EVERYTHING = TRAINABLE + HELD_OUT
NO_FAMILY_OF_THEIRS = {"malformed", "forged", "misdirected"}


class Shown:
    """One event, with its truth, and what it says."""

    def __init__(self, sending, truth):
        self.at, self.truth, self.body = sending.at_ms, truth, sending.event.body(sending.at_ms, 0)
        self.skew_ms = sending.event.skew_ms
        self._fields = None

    @property
    def fields(self):
        if self._fields is None:
            self._fields = msgspec.json.decode(self.body)
        return self._fields

    @property
    def is_render(self):
        return self.truth.kind is Kind.RENDER

    @property
    def token(self):
        return check_token(self.fields["token"], {"k1": KEY})

    @property
    def device(self):
        return self.fields.get("device")


class Run:
    def __init__(self, plan):
        truths = {}
        self.traffic = Traffic(plan, MINTER, lambda truth: truths.setdefault(truth.event_id, truth))
        sent = [sending for sending in self.traffic.sendings(START) if not sending.attempt]
        self.events = [Shown(sending, truths[sending.event.event_id]) for sending in sent]

    def of(self, family, *, renders=False):
        found = [event for event in self.events if event.truth.family == family]
        found = [event for event in found if event.truth.deed not in NO_FAMILY_OF_THEIRS]
        assert found, family
        return [event for event in found if event.is_render] if renders else found


def by(key, events):
    groups = defaultdict(list)
    for event in events:
        groups[key(event)].append(event)
    return list(groups.values())


@pytest.fixture(scope="module")
def run():
    return Run(Plan(seed=2, rate=300, seconds=80, families=EVERYTHING))


def test_held_out_families_are_there_only_if_they_are_named(run):
    ordinary = Run(Plan(seed=6, rate=200, seconds=20))
    assert not any(event.truth.held_out for event in ordinary.events)
    assert not {event.truth.family for event in ordinary.events} & set(HELD_OUT)
    seen = Counter(event.truth.family for event in run.events)
    assert set(EVERYTHING) <= seen.keys()


def test_what_a_held_out_family_has_a_part_in_is_held_out_whatever_else_it_is(run):
    assert all(event.truth.held_out for event in run.events if event.truth.family in HELD_OUT)
    other = {event.truth.family for event in run.events if event.truth.held_out} - set(HELD_OUT)
    assert other, "a bot at a publisher that falsifies views is a bot, and held out"


def test_only_families_without_families_are_left_where_none_is_named():
    plain = Run(Plan(seed=6, rate=200, seconds=20, families=()))
    assert not {event.truth.family for event in plain.events} & BY_NAME.keys()
    assert not any(event.truth.invalid for event in plain.events)
    assert all(event.truth.human for event in plain.events)


@pytest.mark.slow
def test_about_a_tenth_of_all_impressions_is_invalid():
    invalid = {}
    for seed in range(3):
        told = []
        for _ in Traffic(Plan(seed=seed, rate=150, seconds=90), MINTER, told.append).sendings(START):
            pass
        for truth in told:
            if truth.kind is Kind.RENDER:
                invalid.setdefault((seed, truth.impression_id), truth.invalid)
    assert 0.07 < sum(invalid.values()) / len(invalid) < 0.13


def test_what_is_invalid_never_counts_and_what_counts_was_seen_by_a_person(run):
    assert not any(event.truth.invalid and event.truth.counts for event in run.events)
    assert all(event.truth.human for event in run.events if event.truth.counts)
    for family in BY_NAME.values():
        if not family.invalid:
            assert not any(event.truth.invalid for event in run.of(family.name))


def test_phones_of_a_farm_come_together_and_are_tapped_by_one_clock(run):
    renders = [event for event in run.of("device_farm", renders=True) if event.truth.deed == "plain"]
    together = [
        {event.device for event in group} for group in by(lambda e: (e.fields["network"], e.at // 500), renders)
    ]
    assert max(len(devices) for devices in together) > 1
    evenness = []
    for session in by(lambda event: event.fields["session"], renders):
        times = sorted(event.fields["client_at"] for event in session)
        gaps = [later - earlier for earlier, later in pairwise(times)]
        usual = [gap for gap in gaps if gap < 1.5 * min(gaps)] if gaps else []
        if len(usual) > 16:
            evenness.append(pstdev(usual) / mean(usual))
    assert evenness
    assert max(evenness) < 0.05


def test_some_farm_is_faster_than_any_person(run):
    renders = run.of("device_farm", renders=True)
    most = max(len(group) for group in by(lambda e: (e.fields.get("user"), e.fields["client_at"] // 10_000), renders))
    assert most > 60


@pytest.mark.slow
def test_bursts_of_bots_keep_their_pace_where_little_else_comes():
    quiet = Run(Plan(seed=2, rate=5, seconds=3_600, families=("device_farm",)))
    times = [sorted(e.at for e in session) for session in by(lambda e: e.truth.who, quiet.of("device_farm"))]
    assert min(later - earlier for session in times for earlier, later in pairwise(session)) < 400


def test_ads_in_a_stack_begin_at_once_in_one_place_and_some_sdks_tell(run):
    renders = [event for event in run.of("ad_stacking", renders=True) if event.truth.deed == "plain"]
    stacks = by(lambda event: (event.fields["session"], event.fields["client_at"]), renders)
    assert mean(len(stack) for stack in stacks) > 1.5
    for stack in stacks:
        assert len({event.token.placement for event in stack}) == 1
        assert len({event.token.impression for event in stack}) == len(stack)
    depths = {event.fields.get("stack_depth") for event in renders}
    assert None in depths
    assert max(depth for depth in depths if depth) > 1
    assert not any(event.truth.counts for event in renders)


def test_a_hidden_ad_has_no_size_or_is_never_seen(run):
    for event in run.of("hidden"):
        area = event.fields["width"] * event.fields["height"]
        assert area <= 1 or event.fields.get("visible_ms", 0) == 0
    assert len({event.fields["width"] * event.fields["height"] <= 1 for event in run.of("hidden")}) == 2


def test_a_replay_repeats_an_impression_under_other_event_ids_from_another_device(run):
    shots = by(lambda event: event.truth.impression_id, run.of("replay_same_id"))
    shots = [shot for shot in shots if len(shot) > 1 and shot[0].truth.human]
    assert shots
    for first, *repeats in shots:
        assert not first.truth.invalid
        for event in repeats:
            assert (event.truth.actor, event.truth.duplicate_of) == ("replayer", first.truth.event_id)
            assert event.truth.invalid
            assert event.device != first.device
            assert event.fields["token"] == first.fields["token"]


def test_clocks_of_one_version_say_local_time_and_not_when_they_send(run):
    ahead = {}
    for event in run.of("clock_skewed_sdk", renders=True):
        assert "sent_at" not in event.fields
        ahead.setdefault(event.fields["country"], []).append(event.fields["client_at"] - event.at)
    for country, offsets in ahead.items():
        median_h = sorted(offsets)[len(offsets) // 2] / 3_600_000
        assert median_h == pytest.approx(UTC_OFFSET_H[country], abs=0.1)


def test_incomplete_logs_lack_their_proof_or_who_it_was(run):
    for event in run.of("incomplete_logs", renders=True):
        lacking = {"on_screen_at", "omid_type", "device", "agent"} - event.fields.keys()
        assert lacking or event.truth.counts


def test_bots_behind_homes_come_from_nowhere_suspicious_and_seldom_twice_from_one(run):
    lists = Lists(packaged())
    events = [event for event in run.of("residential_bot") if event.truth.actor == "residential_bot"]
    assert {lists.network(event.fields["network"]) for event in events} == {NetworkClass.EYEBALL}
    sessions = by(lambda event: event.fields["session"], [event for event in events if event.is_render])
    assert len({event.fields["network"] for event in events}) > 0.5 * len(sessions) > 2


def test_a_slow_farm_is_slower_than_people_and_uneven(run):
    renders = [event for event in run.of("slow_farm", renders=True) if event.truth.deed == "plain"]
    gaps = [
        later.fields["client_at"] - earlier.fields["client_at"]
        for session in by(lambda event: event.fields["session"], renders)
        for earlier, later in pairwise(session)
    ]
    assert mean(gaps) > 9_000
    assert pstdev(gaps) / mean(gaps) > 0.2


def test_a_falsifier_says_the_same_perfect_values_of_every_view(run):
    said = defaultdict(set)
    for event in run.of("falsified_view"):
        if "visible_ms" in event.fields:
            said[event.token.placement].add((event.fields["visible_ratio"], event.fields["visible_ms"]))
    assert said
    for values in said.values():
        [(ratio, visible_ms)] = values
        assert ratio == 1.0
        assert visible_ms > 1_000


def test_a_recording_is_played_again_as_somebody_else_for_new_ads(run):
    played = [event for event in run.of("replay_new_ids") if event.truth.deed == "plain"]
    renders = [event for event in played if event.is_render]
    assert len({event.truth.impression_id for event in renders}) == len(renders)
    rhythms = Counter()
    for session in by(lambda event: event.fields["session"], renders):
        times = sorted(event.fields["client_at"] for event in session)
        rhythms.update({later - earlier for earlier, later in pairwise(times)})
    assert sum(times for times in rhythms.values() if times > 1) > 0.1 * rhythms.total()


def test_mixed_bots_are_at_one_publisher_that_people_visit_too(run):
    publishers = Counter(event.truth.publisher for event in run.of("mixed_bot"))
    assert len(publishers) <= 4
    for publisher in publishers:
        assert any(event.truth.human for event in run.events if event.truth.publisher == publisher)


def test_the_other_double_firing_version_fires_later_and_on_another_surface(run):
    seconds = [event for event in run.of("double_fire_sdk_other") if event.truth.duplicate_of and event.is_render]
    firsts = {event.truth.event_id: event for event in run.of("double_fire_sdk_other")}
    after = [e.at - firsts[e.truth.duplicate_of].at for e in seconds if e.truth.duplicate_of in firsts]
    assert max(after) > 1_000
    assert {event.token.surface for event in seconds} == {Surface.REELS}
    assert all(event.truth.invalid for event in seconds)


def test_a_change_of_units_makes_seconds_of_milliseconds(run):
    seen = [e.fields["visible_ms"] for e in run.of("unit_change_sdk") if "visible_ms" in e.fields]
    assert seen
    assert max(seen) < 1_000
    assert all(event.truth.human for event in run.of("unit_change_sdk"))


def test_who_is_cut_off_sends_all_of_it_afterwards(run):
    flood = [event for event in run.of("late_flood", renders=True) if event.truth.deed == "plain"]
    first = min(event.at for event in flood)
    lateness = [event.at - minted_at(event.truth.impression_id) for event in flood]
    assert max(lateness) > 5_000
    [country] = {event.fields["country"] for event in flood}
    people = [event for event in run.events if event.truth.human and event.fields.get("country") == country]
    outage = range(first - int(max(lateness) * 0.7), first)
    assert sum(event.at in outage for event in people) < len(people) * 0.02


def test_on_the_day_of_a_release_more_and_more_browsers_are_new():
    day = Run(Plan(seed=3, rate=12, seconds=700, drills=(Drill.BROWSER_RELEASE,), families=()))
    newest = Counter()
    for half, events in enumerate((day.events[: len(day.events) // 2], day.events[len(day.events) // 2 :])):
        versions = [read_agent(event.fields.get("agent") or "") for event in events]
        chrome = [int(said.version) for said in versions if said.engine == "chrome"]
        newest[half] = sum(version >= 148 for version in chrome) / len(chrome)
    assert 0.02 < newest[0] < newest[1]
    assert newest[1] > 0.12


def test_a_holiday_has_twice_the_traffic_for_a_while():
    plan = Plan(seed=3, rate=60, seconds=60, families=())
    usual = len(Run(plan).events)
    holiday = Run(msgspec.structs.replace(plan, drills=(Drill.HOLIDAY,)))
    assert 1.2 < len(holiday.events) / usual < 2
    per_second = Counter((event.at - START) // 1_000 for event in holiday.events)
    assert per_second.most_common(1)[0][1] > 1.5 * 60


def test_a_flash_crowd_goes_to_one_place_and_leaves_again():
    crowd = Run(Plan(seed=4, rate=11, seconds=600, families=(), drills=(Drill.FLASH_CROWD,)))
    per_minute = Counter((event.at - START) // 60_000 for event in crowd.events)
    busiest = per_minute.most_common(1)[0][0]
    assert per_minute[busiest] > 2.5 * 11 * 60
    assert per_minute[9] < 1.5 * 11 * 60
    there = Counter(e.truth.publisher for e in crowd.events if (e.at - START) // 60_000 == busiest)
    assert there.most_common(1)[0][1] / there.total() > 0.5
    assert all(not event.truth.invalid for event in crowd.events)
