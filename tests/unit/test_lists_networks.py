"""What the lists say of addresses, compared with the package's own look-up and with the standard library."""

import ipaddress
import itertools
from bisect import bisect_right
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.vocabulary import NetworkClass
from ml.lists import screen_lists
from ml.lists.networks import NOBODY, SPEAKERS, NetworkLists
from ml.lists.packaged import cloud_cidrs, packaged, relay_cidrs
from ml.lists.ranges import FAMILIES, Block, block_of, merged, pack_address, ranges_of
from ml.lists.screen_lists import Lists
from ml.traffic.addresses import CARRIERS, HOMES

CLOUDS = [ipaddress.ip_network(cidr) for cidr in sorted(set(cloud_cidrs()))]


@pytest.fixture(scope="module")
def lists():
    return Lists(packaged())


@pytest.mark.parametrize("bits", FAMILIES)
def test_just_inside_and_just_outside_of_every_block_the_verdict_changes_as_the_lists_say(lists, bits):
    sources = packaged()
    ranked = [(speaker, getattr(sources, speaker.list)[bits]) for speaker in SPEAKERS]
    edges = {
        edge for _, blocks in ranked for block in blocks[::41] for edge in (*block, block.first - 1, block.last + 1)
    }
    last = (1 << bits) - 1
    for edge in edges:
        if not 0 <= edge <= last or (bits == 128 and edge < 1 << 34):
            continue
        owners = [speaker for speaker, blocks in ranked if _has(blocks, edge)]
        address = str(ipaddress.ip_address(edge.to_bytes(bits // 8)))
        assert lists.explain_network(address)[0] == (owners or [NOBODY])[0], address


def _has(blocks, number):
    at = bisect_right(blocks, (number, 1 << 128)) - 1
    return at >= 0 and number <= blocks[at].last


_small = st.lists(
    st.tuples(st.integers(0, 255), st.integers(24, 32)).map(lambda pair: f"203.0.114.{pair[0]}/{pair[1]}"), max_size=6
)


@given(_small, _small, _small, _small, st.integers(0, 255))
def test_the_first_list_that_has_an_address_speaks(relays, vpns, clouds, hosting, last):
    names = ("relays", "vpns", "clouds", "hosting")
    given_lists = dict(zip(names, (relays, vpns, clouds, hosting), strict=True))
    ranges = {name: ranges_of(cidrs) for name, cidrs in given_lists.items()}
    networks = NetworkLists(msgspec.structs.replace(packaged(), **ranges))
    address = ipaddress.ip_address(f"203.0.114.{last}")
    inside = [
        name
        for name, cidrs in given_lists.items()
        if any(address in ipaddress.ip_network(cidr, strict=False) for cidr in cidrs)
    ]
    assert networks.say(str(address)).list == (inside or [""])[0]


def test_first_and_last_address_of_a_cloud_range_are_a_data_centre(lists):
    people = [ipaddress.ip_network(cidr) for cidr in relay_cidrs()]
    for network in CLOUDS[::37]:
        if not any(network.version == relay.version and network.overlaps(relay) for relay in people):
            assert lists.network(str(network[0])) is NetworkClass.DATA_CENTRE, network
            assert lists.network(str(network[-1])) is NetworkClass.DATA_CENTRE, network


@pytest.mark.parametrize("access", [*HOMES, *CARRIERS], ids=lambda access: access.cidr)
def test_no_access_providers_range_is_on_any_list(lists, access):
    network, rng = ipaddress.ip_network(access.cidr), Random(access.cidr)
    drawn = [network[rng.randrange(network.num_addresses)] for _ in range(200)]
    assert {lists.network(str(address)) for address in (network[0], network[-1], *drawn)} == {NetworkClass.EYEBALL}


@pytest.mark.parametrize(
    "address",
    ["79.231.131.169", "73.12.34.56", "90.63.1.1", "2003:c1:1::1", "2601:646::1", "172.32.9.9", "83.149.9.216"],
)
def test_addresses_of_access_providers_are_eyeballs(lists, address):
    assert lists.network(address) is NetworkClass.EYEBALL


@pytest.mark.parametrize("address", ["52.94.76.1", "34.1.208.1", "20.64.0.9", "2600:1f18::1", "::ffff:52.94.76.1"])
def test_addresses_of_clouds_are_data_centres_also_in_ipv6_clothes(lists, address):
    assert lists.network(address) is NetworkClass.DATA_CENTRE


@pytest.mark.parametrize("address", ["5.9.0.1", "51.15.0.9", "2a01:4f8::1", "139.162.1.1", "::ffff:5.9.0.1"])
def test_addresses_of_hosters_outside_the_six_clouds_are_data_centres(lists, address):
    said, whose = lists.explain_network(address)
    assert (said.network_class, whose.name) == (NetworkClass.DATA_CENTRE, "hosting")


@pytest.mark.parametrize("cidr", relay_cidrs())
def test_relays_of_real_people_are_relays_to_their_ends(lists, cidr):
    network = ipaddress.ip_network(cidr)
    for address in (network[0], network[-1]):
        assert lists.network(str(address)) is NetworkClass.RELAY


def test_a_relay_ends_where_the_cloud_beside_it_begins(lists):
    assert lists.network("104.27.255.255") is NetworkClass.DATA_CENTRE
    assert lists.network("104.28.0.0") is lists.network("104.28.255.255") is NetworkClass.RELAY


def test_addresses_of_vpns_are_nobodys_data_centre(lists):
    assert lists.network("37.120.244.1") is NetworkClass.VPN
    assert lists.explain_network("37.120.244.1")[1].name == "vpns"


@pytest.mark.parametrize(
    "address",
    [
        *(None, "", "-", "localhost", "1.2.3", "1.2.3.4.5", "256.1.1.1", "1.2.3.4 ", "01.2.3.4", "1.2.3.4/8", "0x7f.1"),
        *("::1%eth0", "fe80::1", "::", "1" * 500, "\x00", "1.2.3.4\x00", "\uff12.2.2.2", ":::", "g::1"),
        *("127.0.0.1", "10.1.2.3", "172.20.0.1", "192.168.1.1", "100.64.0.1", "169.254.0.1", "0.0.0.0", "224.0.0.1"),
        *("203.0.113.9", "::1", "fd00::1", "2001:db8::1"),
    ],
)
def test_what_is_no_public_address_is_absent(lists, address):
    assert lists.network(address) is NetworkClass.ABSENT


@given(st.ip_addresses())
@settings(max_examples=300)
def test_any_address_is_packed_as_the_standard_library_packs_it(address):
    mapped = address.ipv4_mapped if address.version == 6 else None
    assert pack_address(str(address)) == (mapped or address).packed


@given(st.text(max_size=50))
def test_any_other_text_is_refused_or_packed_as_the_standard_library_packs_it(text):
    packed = pack_address(text)
    if packed is not None:
        assert packed == (getattr(ipaddress.ip_address(text), "ipv4_mapped", None) or ipaddress.ip_address(text)).packed


def test_a_range_is_the_addresses_that_share_its_prefix():
    assert block_of("10.1.2.3/24") == Block(0x0A010200, 0x0A0102FF)
    assert block_of("2001:db8::/127") == Block(0x20010DB8 << 96, (0x20010DB8 << 96) + 1)
    with pytest.raises(ValueError, match="'nowhere/8' is no range"):
        block_of("nowhere/8")


def test_the_memory_of_addresses_is_bounded_and_forgets_the_oldest(monkeypatch):
    monkeypatch.setattr(screen_lists, "NETWORKS_CACHED_MAX", 2)
    lists = Lists(packaged())
    for number in range(5):
        lists.network(f"8.8.8.{number}")
    lists.network("no address " * 9)
    assert list(lists.known_networks) == ["8.8.8.3", "8.8.8.4"]


@pytest.mark.parametrize(
    "text", ["1.2.3.4/33", "1.2.3.4/-1", "1.2.3.4/", "1.2.3.4/\u0663", "::1/129", "::ffff:1.2.3.4/95"]
)
def test_what_is_no_range_is_refused(text):
    with pytest.raises(ValueError, match="is no range"):
        block_of(text)


def test_a_range_of_ipv4_written_as_ipv6_is_the_ipv4_range():
    assert ranges_of(["::ffff:1.2.3.0/120"]) == ranges_of(["1.2.3.0/24"])


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 9)), max_size=12))
def test_merged_blocks_hold_the_same_addresses_and_never_touch(pairs):
    blocks = [Block(first, first + more) for first, more in pairs]
    joined = merged(blocks)
    assert {n for a, b in joined for n in range(a, b + 1)} == {n for a, b in blocks for n in range(a, b + 1)}
    assert all(one.last + 1 < other.first for one, other in itertools.pairwise(joined))
