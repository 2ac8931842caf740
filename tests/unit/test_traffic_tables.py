"""What the generator draws from: no rule's threshold among its numbers, no cloud among its homes."""

import tomllib
from collections import Counter
from importlib import import_module
from importlib.resources import files
from itertools import count
from random import Random

import msgspec
import pytest

from domain.vocabulary import LabelSource, Surface
from ml.lists.devices import inconsistencies
from ml.lists.packaged import cloud_cidrs, packaged
from ml.lists.ranges import block_of
from ml.lists.screen_lists import Lists
from ml.traffic import addresses, habits, market, people
from ml.traffic.addresses import CARRIERS, COUNTRIES, HOMES, UTC_OFFSET_H, Addresses
from ml.traffic.bots import TRADES, member, schemes_of, wait_for_turn
from ml.traffic.browsers import AGENT_CHROME_MIN, load_browsers, moved
from ml.traffic.deeds import DEEDS, PLAYS
from ml.traffic.draw import Span, Weighted, pick
from ml.traffic.families import BY_NAME, FAMILIES, HELD_OUT, OF_DEED, TRAINABLE, Of, known
from ml.traffic.feedback import DELAYS
from ml.traffic.fingerprints import Screen
from ml.traffic.market import CHEATING_PUBLISHERS, PERFECT_MS, SDKS

NOW = 1_790_000_000_000
PLAIN = ("", 0.0, 0.0, False, False)
MODULES = [
    import_module(f"ml.traffic.{name}")
    for name in (
        *("addresses", "adversary", "bots", "browsers", "deeds", "drills", "families", "feedback", "fingerprints"),
        *("generator", "habits", "looks", "market", "people", "shot", "visitors"),
    )
]


def numbers_in(value):
    match value:
        case bool() | str() | None:
            return
        case int() | float():
            yield value
        case Screen(width, height):
            yield width * height
        case Span():
            yield from (value.low, value.high)
        case dict():
            for inner in value.values():
                yield from numbers_in(inner)
        case list() | tuple():
            for inner in value:
                yield from numbers_in(inner)
        case msgspec.Struct():
            yield from numbers_in([getattr(value, name) for name in value.__struct_fields__])


def thresholds():
    """Every number of the shipped rule packs that a rule compares with; 0, 1 and 2 are nobody's secret."""
    found = set()
    for pack in (files("domain") / "packs").iterdir():
        if pack.name.endswith(".toml") and not pack.name.endswith(".vectors.toml"):
            rules = tomllib.loads(pack.read_text())
            for key in ("repeats_kept_max", "repeats_idle_ms", "version"):  # say what is kept, not what counts
                del rules[key]
            found |= {float(number) for number in numbers_in(rules)}
    return found - {0.0, 1.0, 2.0}


def test_no_number_of_the_generator_is_a_threshold_of_a_rule():
    tables = [value for module in MODULES for name, value in vars(module).items() if name.upper() == name]
    ours = {float(number) for number in numbers_in(tables)}
    assert {
        PERFECT_MS.low,
        TRADES[2].gap.low,
        DELAYS[LabelSource.DISPUTE].told.high,
        SDKS[Surface.FEED][0].weight,
    } < ours
    assert len(ours) > 280
    assert len(thresholds()) > 8
    assert ours & thresholds() == set()


def test_no_home_and_no_carrier_is_in_a_cloud():
    clouds = sorted({block_of(cidr) for cidr in cloud_cidrs() if ":" not in cidr})
    clouds_v6 = sorted({block_of(cidr) for cidr in cloud_cidrs() if ":" in cidr})
    for access in (*HOMES, *CARRIERS):
        home = block_of(access.cidr)
        overlapping = [
            cloud
            for cloud in (clouds_v6 if ":" in access.cidr else clouds)
            if cloud.first <= home.last and home.first <= cloud.last
        ]
        assert overlapping == [], access


def test_every_country_of_a_region_has_homes_and_an_hour():
    countries = {country for shares in COUNTRIES.values() for country in shares}
    assert countries <= {access.country for access in HOMES}
    assert countries <= set(UTC_OFFSET_H)
    assert all(sum(shares.values()) == pytest.approx(1) for shares in COUNTRIES.values())


def test_a_carrier_puts_many_phones_behind_few_addresses():
    rng = Random(1)
    drawn = Addresses(rng)
    assert len({drawn.carrier("DE", rng) for _ in range(2_000)}) <= addresses._POOL.high
    assert len({drawn.home("DE", rng) for _ in range(2_000)}) > 1_990


def test_agents_have_the_shares_that_were_measured():
    browsers, rng = load_browsers(), Random(2)
    phones = [browsers.phone(rng) for _ in range(4_000)]
    assert 0.6 < sum(phone.system == "ios" for phone in phones) / len(phones) < 0.9
    desktops = [browsers.desktop(rng).agent for _ in range(4_000)]
    assert 0.5 < sum("Windows" in agent for agent in desktops) / len(desktops) < 0.8
    assert all(phone.screen.width > 200 for phone in phones)


def test_every_deed_is_played_under_its_name_and_leaves_room_for_the_ordinary():
    assert {deed.name for deed in DEEDS} | {"plain", "double_fire"} == set(PLAYS)
    assert sum(deed.share.high for deed in DEEDS) < 0.25


def test_spans_are_drawn_from_end_to_end():
    rng = Random(3)
    for span in (Span(2, 9), Span(2, 9_000, by_size=True)):
        drawn = [span.draw(rng) for _ in range(2_000)]
        assert span.low <= min(drawn)
        assert max(drawn) <= span.high
        assert max(drawn) > 0.9 * span.high
    assert 100 < sorted(Span(10, 10_000, by_size=True).draw(rng) for _ in range(999))[500] < 1_000


def test_weights_are_kept_and_nothing_cannot_be_drawn():
    rng = Random(4)
    coin = Weighted([("often", 3.0), ("seldom", 1.0), ("never", 0.0)])
    drawn = [coin.draw(rng) for _ in range(4_000)]
    assert 0.7 < drawn.count("often") / len(drawn) < 0.8
    assert "never" not in drawn
    with pytest.raises(ValueError, match="nothing to draw"):
        Weighted([("never", 0.0)])
    assert {pick((1, 2, 3), rng) for _ in range(50)} == {1, 2, 3}


def test_campaigns_differ_in_everything_that_is_drawn_for_them():
    sold = market.Market(Random(5), 30, [(deed.name, deed.share) for deed in DEEDS], TRAINABLE)
    campaigns = [campaign for by_surface in sold.campaigns.values() for campaign in by_surface.values]
    assert len(campaigns) == 30
    assert len({campaign.habits for campaign in campaigns}) == 30
    assert {campaign.currency for campaign in campaigns} == set(market.CURRENCIES)
    assert len({campaign.billing_event for campaign in campaigns}) == 2
    assert any(campaign.flight_to_ms < 0 for campaign in campaigns)
    assert all(campaign.flight_from_ms < campaign.flight_to_ms for campaign in campaigns)


def scenery(rng):
    return people.Scenery(rng, load_browsers(), Addresses(rng), {}, {}, count(1))


def test_offices_share_an_address_and_private_people_have_no_user():
    scene = scenery(Random(6))
    workers = [people.in_office(scene, "DE") for _ in range(300)]
    assert len({worker.networks[0] for worker in workers}) <= people.OFFICE_ADDRESSES
    assert len({worker.users[0] for worker in workers}) == len({worker.who for worker in workers}) == 300
    hidden = people.private(scene, "FR")
    assert hidden.users == [None]
    assert len(set(hidden.devices)) == len(hidden.devices) > 1


def test_odd_people_are_odd_in_what_they_are_named_for():
    scene = scenery(Random(7))
    fast, old, private, tester = (
        [make(scene, "DE") for _ in range(200)]
        for make in (people.fast_scroller, people.on_old_phone, people.private, people.tester)
    )
    assert all(one.gap.high < habits.GAP_MS.high for one in fast)
    lists = Lists(packaged())
    ages = [lists.traits(one.browser.agent, None, None, NOW).agent_age_days for one in old]
    assert min(age for age in ages if age is not None) > 1_000
    assert all(len(one.users) > len(one.devices) > 1 for one in tester)
    for odd in (private, tester):
        contradict = sum(inconsistencies(one.browser.agent, one.fingerprint) > 0 for one in odd)
        assert 0.1 < contradict / len(odd) < 0.6


def test_people_live_together_and_contradict_themselves_no_more_than_real_ones_do():
    scene = scenery(Random(8))
    crowd = [people.someone(scene, "GB") for _ in range(3_000)]
    homes = Counter(one.networks[0] for one in crowd)
    assert 1.2 < len(crowd) / len(homes) < 2
    assert sum(inconsistencies(one.browser.agent, one.fingerprint) > 0 for one in crowd) / len(crowd) < 0.01


def test_a_browser_can_be_moved_by_versions_and_stays_true_to_itself():
    rng, moved_on = Random(9), 0
    for _ in range(400):
        browser = load_browsers().desktop(rng)
        newer, older = moved(browser, 1), moved(browser, -400)
        assert inconsistencies(newer.agent, newer.fingerprint) == inconsistencies(browser.agent, browser.fingerprint)
        moved_on += newer.agent != browser.agent
        assert older.agent == browser.agent or f"Chrome/{AGENT_CHROME_MIN}." in older.agent
    assert moved_on > 200


def test_each_family_has_one_place_where_it_is_made():
    made_by = {
        Of.ACTOR: {trade.name for trade in TRADES},
        Of.PLACE: set(CHEATING_PUBLISHERS),
        Of.CLIENT: {sdk.fault for sdks in SDKS.values() for sdk in sdks} - {"", "incomplete_logs"},
        Of.SENDING: {*OF_DEED.values(), "late_flood"},
    }
    assert {of: {family.name for family in FAMILIES if family.of is of} for of in Of} == made_by
    assert set(TRAINABLE) | set(HELD_OUT) == BY_NAME.keys()
    assert not set(TRAINABLE) & set(HELD_OUT)
    assert set(OF_DEED) <= {deed.name for deed in DEEDS}


def test_a_family_that_there_is_not_is_refused_by_name():
    with pytest.raises(ValueError, match="no family is called unicorns; there are declared_crawler, cloud_bot"):
        known(("hidden", "unicorns"))


def test_without_their_families_no_publisher_cheats_and_no_version_has_a_bug():
    honest = market.Market(Random(5), 30, [], frozenset())
    assert not any(slot.cheats for visited in honest.visited.values() for slots in visited for slot in slots)
    sdks = [sdk for drawn in honest.sdks.values() for sdk in drawn.values]
    assert not any((sdk.fault, sdk.fires_twice, sdk.loses, sdk.local_time, sdk.in_seconds) != PLAIN for sdk in sdks)


@pytest.mark.parametrize("seed", range(8))
def test_with_its_family_at_least_one_publisher_cheats_each_way_and_most_do_not(seed):
    sold = market.Market(Random(seed), 30, [], TRAINABLE + HELD_OUT)
    apps = sold.visited[Surface.AUDIENCE_NETWORK]
    assert {slot.cheats for slots in apps for slot in slots} == {"", *CHEATING_PUBLISHERS}
    assert sum(any(slot.cheats for slot in slots) for slots in apps) < len(apps) / 3


@pytest.mark.parametrize("trade", TRADES, ids=lambda trade: trade.name)
def test_schemes_of_a_trade_differ_in_all_that_is_drawn_for_them(trade):
    rng = Random(10)
    sold = market.Market(rng, 40, [], TRAINABLE)
    schemes = [scheme for _ in range(12) for scheme in schemes_of(sold, {trade.name}, rng)]
    assert len({scheme.gap for scheme in schemes}) == len(schemes) > 12
    assert len({scheme.gaze for scheme in schemes}) == len(schemes)
    aims = {tuple(one.name for one in scheme.campaigns[Surface.FEED].values) for scheme in schemes}
    assert len(aims) > len(schemes) / 2
    made = [member(schemes[0], scenery(rng), "DE") for _ in range(40)]
    assert {one.actor for one in made} == {trade.name}
    assert not any(one.human for one in made)
    assert len({one.who for one in made}) < len(made), "its devices come back"


def test_a_scheme_is_due_when_it_has_less_than_its_share():
    rng = Random(11)
    [scheme, *_] = schemes_of(market.Market(rng, 40, [], TRAINABLE), {"device_farm"}, rng)
    shown = 0
    for _ in range(200_000):
        if scheme.is_due(shown):
            wait_for_turn(scheme, 200, rng)
            shown += 200
        shown += 1
    assert scheme.given / shown == pytest.approx(scheme.share, rel=0.1)
