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
            }
        )
    told = "\n".join(caught.value.problems)
    for variable in ("GATE_PORT", "BATCH_MAX", "LEDGER_URL", "TYPO", "DESK_PORT"):
        assert PREFIX + variable in told
    assert len(caught.value.problems) == 5


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
