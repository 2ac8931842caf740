"""Monitors find the SDK version that is at fault, and chance alone gives alarms no oftener than was agreed."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st
from msgspec.structs import replace
from scipy import stats

from ml.monitors.alarms import Alarms
from ml.monitors.checks import CLIENT_CHECKS, FALSE_DISCOVERY_RATE, TERMS, Check, Finding, Terms
from ml.monitors.checks import judge as judge_measured
from ml.monitors.clients import Series, versions_apart
from ml.monitors.proportions import INDEPENDENT, Dispersion, dispersion, excess_p_values, false_discovery
from ml.monitors.storms import STORM_FROM, gathered

pytestmark = pytest.mark.slow

SURFACES = ("feed", "instagram", "reels", "audience_network")
VERSIONS = ("1.0", "1.1", "2.0")
MINUTES = 20
WORLDS = 400
USUAL = {Check.LOST: 0.03, Check.MISSING_NUMBERS: 0.01, Check.DOUBLE_FIRES: 0.001, Check.DUPLICATE_RENDERS: 0.015}
ANY_EXCESS = dict.fromkeys(Check, Terms(0.0, 1))


def judge(world, rate=FALSE_DISCOVERY_RATE, terms=TERMS):
    return judge_measured(versions_apart(world, terms), rate, terms)


def a_series(check=Check.LOST, surface="feed", sdk="1.0", hits=(3,), trials=(100,)):
    return Series(check, surface, sdk, tuple(hits), tuple(trials))


def a_world(chance, per_minute=200, shares=None, cluster=1.0):
    """
    Counts of all versions by minute. *shares* are those that differ from the usual.

    With *cluster* k the trials of a minute share their fate to such a degree that counts scatter k times as much.
    """
    world = []
    for check, usual in USUAL.items():
        for surface in SURFACES:
            for version in VERSIONS:
                share = (shares or {}).get((check, surface, version), usual)
                trials = chance.poisson(per_minute * (0.2 + chance.random()), MINUTES) + 1
                world.append(a_series(check, surface, version, drawn(chance, trials, share, cluster), trials.tolist()))
    return world


def drawn(chance, trials, share, cluster):
    if cluster > 1:
        strength = (trials - 1) / (cluster - 1) - 1
        strength = np.maximum(strength, 0.5)
        share = chance.beta(share * strength, (1 - share) * strength)
    return chance.binomial(trials, share).tolist()


def found(findings):
    return {(finding.check, finding.surface, finding.subject) for finding in findings if finding.found}


def limit(expected_rate, worlds=WORLDS):
    """What chance stays under at three standard deviations."""
    return worlds * expected_rate + 3 * (worlds * expected_rate * (1 - expected_rate)) ** 0.5


@pytest.mark.parametrize("check", sorted(CLIENT_CHECKS))
@pytest.mark.parametrize("surface", SURFACES)
def test_a_version_at_fault_is_found_and_nothing_else_is(check, surface):
    fault = (check, surface, "1.1")
    chance = np.random.default_rng([list(USUAL).index(check), SURFACES.index(surface)])
    worlds = [a_world(chance, shares={fault: USUAL[check] + 3 * TERMS[check].excess_min}) for _ in range(10)]
    assert [found(judge(world)) for world in worlds] == [{fault}] * 10


@pytest.mark.parametrize(("cluster", "seed"), [(1.0, 11), (4.0, 12)])
def test_where_nothing_is_at_fault_false_alarms_stay_under_the_agreed_rate(cluster, seed):
    """Over many worlds, also where losses come in clusters; every excess would count, so only the tests protect."""
    chance = np.random.default_rng(seed)
    false = sum(bool(found(judge(a_world(chance, cluster=cluster), 0.05, ANY_EXCESS))) for _ in range(WORLDS))
    assert false <= limit(0.05)


def test_taking_clusters_for_independent_would_give_many_false_alarms():
    """So the measure of scatter in the test above is what protects."""
    chance = np.random.default_rng(12)
    false = 0
    for _ in range(60):
        world = [s for s in a_world(chance, cluster=4.0) if s.check is Check.LOST]
        sums = [(sum(s.hits), sum(s.trials)) for s in world]
        hits, trials = map(list, zip(*sums, strict=True))
        rest = ([sum(hits) - k for k in hits], [sum(trials) - n for n in trials])
        p_values = excess_p_values((hits, trials), rest, [INDEPENDENT] * len(hits))
        false += bool((false_discovery(p_values) <= 0.05).any())
    assert false > 2 * limit(0.05, 60)


def test_where_some_are_at_fault_false_ones_are_a_small_share_of_those_found():
    chance = np.random.default_rng(13)
    faults = {(check, surface, "2.0"): 2 * USUAL[check] + 0.01 for check in USUAL for surface in SURFACES[:2]}
    shares, all_found = [], 0
    for _ in range(100):
        got = found(judge(a_world(chance, shares=faults), 0.05, ANY_EXCESS))
        shares.append(len(got - faults.keys()) / max(1, len(got)))
        all_found += faults.keys() <= got
    assert np.mean(shares) <= 0.05
    assert all_found >= 95


def test_as_it_runs_nothing_at_fault_gives_hardly_ever_an_alarm():
    chance = np.random.default_rng(14)
    assert sum(bool(found(judge(a_world(chance, cluster=2.0)))) for _ in range(WORLDS)) <= limit(FALSE_DISCOVERY_RATE)


def test_a_difference_that_is_sure_and_too_small_to_matter_is_not_found():
    trials = [1_000_000] * MINUTES
    world = [
        a_series(sdk="1.0", hits=[30_000] * MINUTES, trials=trials),
        a_series(sdk="1.1", hits=[30_000] * MINUTES, trials=trials),
        a_series(sdk="2.0", hits=[40_000] * MINUTES, trials=trials),
    ]
    *_, small = judge(world)
    assert small.q_value < 1e-100
    assert small.excess == pytest.approx(0.01)
    assert (small.found, small.lasting) == (False, True)
    *_, large = judge([*world[:2], a_series(sdk="2.0", hits=[50_000] * MINUTES, trials=trials)])
    assert large.found


def test_a_version_is_compared_with_the_others_on_its_surface():
    world = [
        a_series(surface="feed", sdk="1.0", hits=[100] * 20, trials=[1_000] * 20),
        a_series(surface="feed", sdk="1.1", hits=[100] * 20, trials=[1_000] * 20),
        a_series(surface="reels", sdk="1.0", hits=[10] * 20, trials=[1_000] * 20),
    ]
    first, _, alone = judge(world)
    assert (first.expected, first.found) == (0.1, False)
    assert (alone.expected, alone.found) == (0.1, False)


def test_a_version_alone_on_its_surface_is_compared_with_all_others():
    world = [
        a_series(surface="feed", sdk="1.0", hits=[10] * 20, trials=[1_000] * 20),
        a_series(surface="reels", sdk="1.0", hits=[100] * 20, trials=[1_000] * 20),
    ]
    assert [finding.found for finding in judge(world)] == [False, True]


@pytest.mark.parametrize(("trials", "others"), [(199, 1_000), (1_000, 199), (0, 1_000)])
def test_too_little_to_look_at_is_said_and_not_tested(trials, others):
    world = [a_series(sdk="1.0", hits=[trials], trials=[trials]), a_series(sdk="1.1", hits=[0], trials=[others])]
    finding = judge(world)[0]
    assert (finding.found, finding.p_value, finding.q_value) == (False, None, None)
    assert finding.untested.startswith("fewer than 200")


def test_nothing_to_look_at_gives_nothing():
    assert judge([]) == []


def test_shares_of_one_and_of_nothing_are_no_trouble():
    world = [
        a_series(sdk="1.0", hits=[0] * 3, trials=[500] * 3),
        a_series(sdk="1.1", hits=[500] * 3, trials=[500] * 3),
        a_series(Check.DOUBLE_FIRES, sdk="1.0", hits=[0], trials=[500]),
        a_series(Check.DOUBLE_FIRES, sdk="1.1", hits=[0], trials=[500]),
    ]
    assert [finding.found for finding in judge(world)] == [False, True, False, False]


@for_all(k=st.integers(0, 30), n=st.integers(30, 60), k0=st.integers(0, 60), n0=st.integers(60, 300))
def test_the_exact_test_is_fishers(k, n, k0, n0):
    [p_value] = excess_p_values(([k], [n]), ([k0], [n0]), [INDEPENDENT])
    pooled = (k + k0) / (n + n0)
    expected = stats.fisher_exact([[k, n - k], [k0, n0 - k0]], alternative="greater").pvalue
    if min(n * pooled, n * (1 - pooled)) < 10:
        assert p_value == pytest.approx(expected)
    else:
        assert p_value == pytest.approx(expected, abs=0.15)


def test_the_normal_test_is_the_chi_squared_one():
    [p_value] = excess_p_values(([60], [1_000]), ([400], [10_000]), [INDEPENDENT])
    two_sided = stats.chi2_contingency([[60, 940], [400, 9_600]], correction=False).pvalue
    assert p_value == pytest.approx(two_sided / 2)


def test_counts_that_scatter_weigh_less():
    once, often = (
        excess_p_values(([550], [10_000]), ([4_500], [100_000]), [scatter])[0]
        for scatter in (INDEPENDENT, Dispersion(4.0, 100))
    )
    pooled = 5_050 / 110_000
    z = 0.01 / (pooled * (1 - pooled) * (1 / 10_000 + 1 / 100_000)) ** 0.5
    assert once == pytest.approx(stats.norm.sf(z))
    assert often == pytest.approx(stats.t.sf(z / 2, 100))


def test_scatter_is_measured_against_each_cells_own_share():
    chance = np.random.default_rng(15)
    trials = np.full(500, 400)
    even = [(chance.binomial(trials, share).tolist(), trials.tolist()) for share in (0.05, 0.2)]
    clustered = [(drawn(chance, trials, 0.1, 4.0), trials.tolist())]
    assert dispersion(even).factor == pytest.approx(1, abs=0.15)
    assert dispersion(clustered).factor == pytest.approx(4, abs=0.8)
    assert dispersion(even).freedom == 998


def test_where_there_is_one_minute_scatter_cannot_be_measured():
    assert dispersion([([5], [100]), ([0, 0], [10, 10]), ([], [])]) is INDEPENDENT


@for_all(p_values=st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_adjusted_p_values_are_those_of_benjamini_and_hochberg(p_values):
    order = sorted(range(len(p_values)), key=lambda at: p_values[at])
    adjusted, least = [0.0] * len(p_values), 1.0
    for rank in range(len(order), 0, -1):
        least = min(least, p_values[order[rank - 1]] * len(order) / rank)
        adjusted[order[rank - 1]] = least
    assert false_discovery(np.array(p_values)).tolist() == pytest.approx(adjusted)


def a_finding(*, found=True, lasting=None, sdk="1.0"):
    return Finding(
        check=Check.LOST,
        surface="feed",
        subject=sdk,
        trials=100,
        value=0.09,
        found=found,
        lasting=found if lasting is None else lasting,
    )


def looked(alarms, *findings):
    """The number of alarms that started, that ended, and that stand, look by look."""
    history = []
    for at, finding in enumerate(findings):
        changes = alarms.look([] if finding is None else [finding], at)
        history.append((len(changes.started), len(changes.ended), len(alarms.standing)))
    return history


YES, NO = a_finding(), a_finding(found=False)
HALF = a_finding(found=False, lasting=True)


def test_an_alarm_starts_when_it_was_found_twice_running():
    assert looked(Alarms(), YES, NO, YES, YES) == [(0, 0, 0), (0, 0, 0), (0, 0, 0), (1, 0, 1)]


def test_an_alarm_ends_after_three_looks_without_a_reason():
    assert looked(Alarms(), YES, YES, NO, NO, YES, NO, NO, NO)[2:] == [
        (0, 0, 1),
        (0, 0, 1),
        (0, 0, 1),
        (0, 0, 1),
        (0, 0, 1),
        (0, 1, 0),
    ]


def test_half_of_what_matters_keeps_an_alarm_and_starts_none():
    assert looked(Alarms(), HALF, HALF, HALF) == [(0, 0, 0)] * 3
    assert looked(Alarms(), YES, YES, HALF, HALF, HALF, HALF)[-1] == (0, 0, 1)


def test_an_alarm_of_a_version_that_nobody_has_any_more_ends():
    assert looked(Alarms(), YES, YES, None, None, None)[-1] == (0, 1, 0)


def test_an_alarm_keeps_when_it_began_and_tells_what_was_last_seen():
    alarms = Alarms()
    looked(alarms, YES, YES, replace(YES, trials=50))
    [alarm] = alarms.standing
    assert (alarm.since, alarm.finding.trials) == (1, 50)


def test_alarms_of_different_versions_do_not_mind_each_other():
    alarms = Alarms(start_after=1)
    alarms.look([a_finding(sdk="1.0"), a_finding(sdk="2.0")], 0)
    for at in range(1, 4):
        alarms.look([a_finding(sdk="2.0"), a_finding(sdk="1.0", found=False)], at)
    assert Counter(alarm.finding.subject for alarm in alarms.standing) == {"2.0": 1}


@for_all(looks=st.lists(st.sampled_from([YES, NO, HALF, None]), max_size=30))
def test_no_alarm_starts_or_ends_twice(looks):
    alarms, standing = Alarms(), 0
    for started, ended, now in looked(alarms, *looks):
        assert not (started and ended)
        standing += started - ended
        assert standing == now


def test_what_was_not_looked_at_keeps_its_alarm():
    alarms = Alarms()
    looked(alarms, YES, YES)
    for at in range(10):
        alarms.look([], at, [Check.SKEW])
    assert len(alarms.standing) == 1
    for at in range(3):
        alarms.look([], at, [Check.LOST])
    assert alarms.standing == []


def test_a_look_at_other_things_between_two_does_not_count_as_quiet():
    alarms = Alarms()
    alarms.look([YES], 0, [Check.LOST])
    alarms.look([], 1, [Check.SKEW])
    assert len(alarms.look([YES], 2, [Check.LOST]).started) == 1


def a_feature(number, *, found=True, check=Check.FEATURE_SHIFT, surface="feed"):
    return Finding(
        check=check,
        surface=surface,
        subject=f"feature-{number}",
        trials=1_000,
        value=number / 10,
        excess=number / 10,
        p_value=1e-9,
        q_value=1e-8,
        found=found,
        lasting=True,
    )


def test_many_features_that_move_at_once_are_one_finding_that_names_the_worst():
    findings = [a_feature(number) for number in range(STORM_FROM)]
    *members, storm = gathered([*findings, YES])
    assert (storm.check, storm.surface, storm.subject, storm.found) == (Check.FEATURE_SHIFT, "feed", "", True)
    assert storm.says == "8 features at once, most of all feature-7, feature-6, feature-5, feature-4, feature-3"
    assert storm.value == 0.7
    assert members == [*(replace(one, found=False, lasting=False) for one in findings), YES]


def test_a_few_features_stand_for_themselves_and_so_do_those_of_other_surfaces():
    few = [a_feature(number) for number in range(STORM_FROM // 2 - 1)]
    elsewhere = [a_feature(number, surface="reels") for number in range(STORM_FROM // 2 - 1)]
    assert gathered([*few, *elsewhere]) == [*few, *elsewhere]


def test_a_storm_that_abates_keeps_its_alarm_and_starts_none():
    findings = [a_feature(number, found=number < 2) for number in range(STORM_FROM // 2)]
    *members, storm = gathered(findings)
    assert members == findings
    assert (storm.found, storm.lasting) == (False, True)
