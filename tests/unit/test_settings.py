from pathlib import Path

import pytest

from service.settings import PREFIX, Settings, SettingsError

DOCUMENT = Path(__file__).parents[2] / "docs" / "settings.md"


def test_the_environment_is_read_into_their_types():
    settings = Settings.from_env({"IMPLEDGER_GATE_PORT": "9000", "IMPLEDGER_DATA_DIR": "/srv/x", "PATH": "/bin"})
    assert (settings.gate_port, settings.data_dir) == (9_000, Path("/srv/x"))


def test_all_errors_are_told_at_once():
    with pytest.raises(SettingsError) as caught:
        Settings.from_env(
            {
                "IMPLEDGER_GATE_PORT": "eighty",
                "IMPLEDGER_BATCH_MAX": "0",
                "IMPLEDGER_LEDGER_URL": "mysql://x",
                "IMPLEDGER_TYPO": "1",
                "IMPLEDGER_DESK_PORT": "70000",
                "IMPLEDGER_DATA_DIR": "",
            }
        )
    told = "\n".join(caught.value.problems)
    for variable in ("GATE_PORT", "BATCH_MAX", "LEDGER_URL", "TYPO", "DESK_PORT", "DATA_DIR"):
        assert PREFIX + variable in told
    assert len(caught.value.problems) == 6


def test_what_is_right_can_be_used_beside_what_is_wrong():
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({"IMPLEDGER_GATE_PORT": "eighty", "IMPLEDGER_BATCH_MAX": "0", "IMPLEDGER_DATA_DIR": "/srv/x"})
    assert caught.value.usable == Settings(data_dir=Path("/srv/x"))


@pytest.mark.parametrize("name", ["LEDGER_URL", "DATABASE_URL", "CLICKHOUSE_DSN", "BROKER_URL"])
@pytest.mark.parametrize(
    "address", ["mysql://u:topsecret@h/x", "mysql://u:top/secret@secret@h", "mysql://h/x?user=u&Password=topsecret"]
)
def test_an_address_that_cannot_be_used_is_told_without_its_password(name, address):
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({PREFIX + name: address})
    [problem] = caught.value.problems
    assert problem.startswith(f"{PREFIX}{name}='mysql://")
    assert "***" in problem
    assert "secret" not in problem


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("LEDGER_URL", "postgresql"),
        ("LEDGER_URL", "esdb://[h"),
        ("DATABASE_URL", "postgresql://[::1/x"),
        ("CLICKHOUSE_DSN", "http://h:99999"),
        ("CLICKHOUSE_DSN", "memory"),
        ("BROKER_URL", "redis"),
        ("BROKER_URL", "redis://h:six/0"),
    ],
)
def test_what_is_no_address_is_told_and_never_tried(name, address):
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({PREFIX + name: address})
    [problem] = caught.value.problems
    assert problem.startswith(f"{PREFIX}{name}='{address}' must be ")


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("LEDGER_URL", "memory"),
        ("LEDGER_URL", "esdb://a:2113,b:2113?tls=false"),
        ("DATABASE_URL", "postgresql:///x?host=/tmp/a,b"),
        ("DATABASE_URL", "postgresql://u:p@a:5432,b:5432/x"),
        ("CLICKHOUSE_DSN", "chdb:///data"),
        ("BROKER_URL", "unix:///run/valkey.sock?db=1"),
        ("BROKER_URL", "rediss://:p@[::1]:6380/0"),
    ],
)
def test_addresses_may_name_several_hosts_or_none(name, address):
    assert Settings.from_env({PREFIX + name: address}).environment()[PREFIX + name] == address


@pytest.mark.parametrize("host", ["", "a b", "\udcff"])
def test_a_host_that_nobody_can_listen_on_is_told(host):
    with pytest.raises(SettingsError, match="IMPLEDGER_HOST"):
        Settings.from_env({"IMPLEDGER_HOST": host})


def test_the_defaults_have_no_problem():
    assert Settings().problems() == []


def test_another_process_reads_the_same_settings_from_the_environment_they_make():
    settings = Settings(gate_port=9_000, region="us", data_dir=Path("/srv/x"))
    assert Settings.from_env(settings.environment()) == settings


@pytest.mark.parametrize("name", Settings.__dataclass_fields__)
def test_every_setting_is_documented_with_its_default(name):
    field = Settings.__dataclass_fields__[name]
    row = f"| `{PREFIX}{name.upper()}` | `{field.default}` | {field.metadata['doc']} |"
    assert row in DOCUMENT.read_text()
