"""TLS and credentials by the store's address."""

import asyncio
from base64 import b64decode
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from esdb_double import Node, Trust
from esdbkit import NOON, an_append, everything, trying

from ledger.eventstoredb import EventStoreDbStore
from ledger.eventstoredb_address import read_address
from ledger.store import Appended, LedgerUnavailable

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trust() -> Trust:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "double")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Trust(secret, certificate.public_bytes(pem), password="sesame")


@pytest.fixture
def run(trust, tmp_path):
    authority = tmp_path / "ca.pem"
    authority.write_bytes(trust.certificate)

    def on(test, *, password="sesame", ca=authority):
        async def main(node):
            named = f"&tlsCaFile={ca}" if ca else ""
            url = f"esdb://admin:{password}@{node.host}:{node.port}/secure?tls=true{named}"
            async with trying(node, url) as tried:
                await test(tried)

        with Node(trust=trust) as node:
            asyncio.run(main(node))

    return on


def test_a_certificate_of_the_named_authority_and_the_right_password_are_let_in(run):
    async def test(tried):
        store = await tried.store()
        assert await store.append([an_append() for _ in range(3)], NOON) == [Appended()] * 3
        assert len(await everything(store)) == 3

    run(test)


def test_a_wrong_password_is_refused_and_not_repeated_in_the_error(run):
    async def test(tried):
        with pytest.raises(LedgerUnavailable) as failed:
            await tried.store(deadline_s=0.5)
        assert "refused" in str(failed.value)
        assert "swordfish" not in str(failed.value)

    run(test, password="swordfish")


def test_a_certificate_of_nobody_known_is_not_talked_to(run):
    async def test(tried):
        with pytest.raises(LedgerUnavailable):
            await tried.store(deadline_s=0.5)
        assert tried.node.calls == 0

    run(test, ca=None)


@pytest.mark.parametrize(
    "url",
    [
        "http://admin:swordfish@host:2113",
        "esdb://admin:swordfish@",
        "esdb://host:2113",
        "esdb://admin:swordfish@host:2113?colour=red",
        "esdb://admin:swordfish@host:2113?tls=maybe",
        "esdb://admin:swordfish@host:2113?tls",
        "esdb://admin:swordfish@[host:2113",
        "esdb://admin:swordfish@host:2113/Upper-Case?tls=false",
    ],
)
def test_an_address_that_cannot_be_read_is_refused_without_its_password(url):
    with pytest.raises(ValueError, match=r"address|namespace") as failed:
        EventStoreDbStore(url)
    assert "swordfish" not in str(failed.value)


def test_an_address_names_hosts_namespace_and_files():
    address = read_address("esdb://me:s%40id@one,two:1113/eu_1?tlsCaFile=/ca.pem&UserKeyFile=/k&userCertFile=/c")
    assert (address.targets, address.discovers, address.namespace) == (("one:2113", "two:1113"), True, "eu_1")
    assert (address.ca_file, address.key_file, address.certificate_file) == (Path("/ca.pem"), Path("/k"), Path("/c"))
    assert b64decode(address.authorization.removeprefix("Basic ")) == b"me:s@id"
    plain = read_address("esdb://me:said@one?tls=false")
    assert (plain.discovers, plain.namespace, plain.authorization) == (False, "ledger", "")
    assert read_address("esdb+discover://me:said@cluster").discovers
