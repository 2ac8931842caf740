"""What the generator draws from: no rule's threshold among its numbers, no cloud among its homes."""

import tomllib
from importlib import import_module
from importlib.resources import files
from random import Random

import pytest

from ml.lists.packaged import cloud_cidrs
from ml.lists.ranges import block_of
from ml.traffic import addresses, habits, market, people
from ml.traffic.addresses import CARRIERS, COUNTRIES, HOMES, UTC_OFFSET_H, Addresses
from ml.traffic.browsers import Screen, load_browsers
from ml.traffic.deeds import DEEDS, PLAYS
from ml.traffic.draw import Span, Weighted, pick
from ml.traffic.people import ACTORS

MODULES = [
    import_module(f"ml.traffic.{name}")
    for name in ("addresses", "browsers", "deeds", "generator", "habits", "market", "people", "shot")
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
    shares = [entry.share for entry in (*DEEDS, *ACTORS)]
    ours = {float(number) for number in numbers_in([*tables, *shares])}
    assert len(ours) > 100
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
    sold = market.Market(Random(5), 30, [(deed.name, deed.share) for deed in DEEDS])
    campaigns = [campaign for by_surface in sold.campaigns.values() for campaign in by_surface.values]
    assert len(campaigns) == 30
    assert len({campaign.habits for campaign in campaigns}) == 30
    assert {campaign.currency for campaign in campaigns} == set(market.CURRENCIES)
    assert len({campaign.billing_event for campaign in campaigns}) == 2
    assert any(campaign.flight_to_ms < 0 for campaign in campaigns)
    assert all(campaign.flight_from_ms < campaign.flight_to_ms for campaign in campaigns)


def test_offices_share_an_address_and_private_people_have_no_user():
    rng = Random(6)
    scenery = people.Scenery(rng, load_browsers(), Addresses(rng), {})
    workers = [people.in_office(scenery, "DE") for _ in range(300)]
    assert len({worker.networks[0] for worker in workers}) <= people.OFFICE_ADDRESSES
    assert len({worker.user for worker in workers}) == 300
    hidden = people.private(scenery, "FR")
    assert hidden.user is None
    assert len(set(hidden.devices)) == len(hidden.devices) > 1
    assert people.crawler(scenery, "FR").gap == habits.GAP_CRAWLER_MS
