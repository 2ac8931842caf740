"""Beacons out of log lines: the same at every replay, and within what a token may hold."""

from itertools import pairwise

import msgspec
import pytest

from domain.ids import minted_at, shard
from domain.render import Render
from domain.token import TokenKey, check_token
from domain.vocabulary import Format, Surface
from ml.traffic.access_log import Request
from ml.traffic.beacons import Beacons
from ml.traffic.shot import Minter

KEY = TokenKey(b"s" * 32, b"p" * 32)
MINTER = Minter("k1", KEY, b"h" * 32, "eu")
AT = 1_431_857_103_000


def request(**changes):
    fields = {
        "host": "198.51.100.7",
        "at": AT,
        "method": "GET",
        "target": "/images/cats/a.png?v=3",
        "status": 200,
        "referrer": "http://example.com/page?q=1",
        "agent": "Mozilla/5.0 (X11; Linux x86_64)",
    }
    return Request(**(fields | changes))


def beacon(line=7, site="blog", **changes):
    return Beacons(MINTER, site).beacon(request(**changes), bytes([line]) * 32)


def token(**changes):
    return check_token(beacon(**changes).token, {"k1": KEY})


def test_a_beacon_says_what_the_line_says():
    claims = beacon()
    assert (claims.received_at, claims.agent, claims.network) == (AT, "Mozilla/5.0 (X11; Linux x86_64)", "198.51.100.7")
    assert claims.client_at is None
    minted = token()
    assert (minted.surface, minted.format) == (Surface.PIXEL, Format.DISPLAY)
    assert (minted.placement, minted.publisher) == ("example.com/page", "example.com")
    assert (minted.creative, minted.campaign, minted.advertiser) == ("/images/cats/a.png", "blog/images", "blog")
    assert minted_at(minted.impression) == AT
    assert minted.flight_start <= AT <= minted.flight_end


def test_the_same_line_gives_the_same_bytes_and_another_line_another_instance():
    assert msgspec.json.encode(beacon()) == msgspec.json.encode(beacon())
    assert beacon(line=8).event_id != beacon().event_id
    assert token(line=8).impression != token().impression


def test_another_site_makes_other_events_so_that_no_id_is_used_twice():
    assert beacon(site="shop").event_id != beacon().event_id


def test_one_person_is_one_address_with_one_agent():
    shards = {shard(token(line=n).impression) for n in range(20)}
    assert len(shards) == 1
    assert (
        shard(token(agent="other").impression) not in shards
        or shard(token(host="203.0.113.1").impression) not in shards
    )


def test_without_a_referrer_the_slot_is_direct_and_the_publisher_the_site():
    minted = token(referrer=None)
    assert (minted.placement, minted.publisher) == ("direct", "blog")


@pytest.mark.parametrize(
    ("target", "campaign"),
    [("/images/a.png", "blog/images"), ("/a.png", "blog/root"), ("a.png", "blog/root"), ("//x//a.png", "blog/x")],
)
def test_campaigns_are_the_sections_of_the_site(target, campaign):
    assert token(target=target).campaign == campaign


def test_long_names_are_cut_to_what_a_token_holds_and_stay_distinct():
    names = [f"/images/{'é' * 900}/{n}.png" for n in range(3)]
    referrers = [f"http://{'sub.' * 60}example.com/{'x' * 3_000}{n}" for n in range(3)]
    minted = [token(target=name, referrer=referrer) for name, referrer in zip(names, referrers, strict=True)]
    for one, other in pairwise(minted):
        assert one.creative != other.creative
        assert one.placement != other.placement
    for name, referrer in zip(names, referrers, strict=True):
        encoded = msgspec.json.encode(beacon(target=name, referrer=referrer, agent="x" * 5_000, host="h" * 300))
        assert msgspec.json.decode(encoded, type=Render).network is None


def test_a_line_without_agent_has_none():
    assert beacon(agent=None).agent is None


def test_flights_cover_the_first_and_the_last_moment_of_a_year():
    new_year = 1_451_606_400_000
    for at in (new_year - 1, new_year):
        minted = token(at=at)
        assert minted.flight_start <= at <= minted.flight_end
    assert token(at=new_year - 1).flight_end == new_year - 1
