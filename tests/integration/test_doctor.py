import json
import os
import socket
import subprocess
import sys
import time

import pytest
from helpers_processes import NAMELESS, SLEEPER, needs_root, python_child

from service.doctor import Check, _binary, checks
from service.embedded_postgres import PostgresServer
from service.embedded_valkey import ValkeyServer
from service.keyfiles import keys_file, load_or_make_keys
from service.processes import LauncherError
from service.settings import PORTS, Settings
from service.supervisor import Supervisor

ALL = {"settings", "python", "postgres binary", "initdb binary", "valkey binary", "chdb", "data folder", "disk"} | {
    "keys", "rule pack"
} | {
    "sockets", "lists", "lock", "gate port", "desk port", "clickhouse port", "work port", "scheduler port", "postgres"
} | {
    "valkey", "memory", "clock"
}  # fmt: skip


@pytest.fixture
def settings(tmp_path):
    def make(**changed):
        ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
        return Settings(**{"data_dir": tmp_path / "data", **ports, **changed})

    return make


def free_ports(count):
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def found(settings):
    return {check.name: check for check in checks(settings)}


def failed(settings):
    return {check.name: check for check in checks(settings) if not check.ok}


def test_finds_nothing_wrong_before_the_first_start_and_makes_nothing(settings):
    given = settings()
    seen = found(given)
    assert seen.keys() == ALL
    assert not [check for check in seen.values() if not check.ok or check.fix]
    assert seen["postgres"].says == "not made yet; the first `impledger up` makes it"
    assert "18." in seen["postgres binary"].says
    assert not given.data_dir.exists()


@pytest.mark.slow
def test_sees_what_runs(settings):
    given = settings()
    listen = f"import socket, time; s = socket.create_server(('127.0.0.1', {given.gate_port})); time.sleep(600)"
    gate = python_child(listen, name="gate", ready=lambda: "held by our gate" in found(given)["gate port"].says)
    engines = [PostgresServer(given.data_dir).child(), ValkeyServer(given.data_dir).child()]
    with Supervisor(given.data_dir, [*engines, gate]):
        seen = found(given)
    assert not [check for check in seen.values() if not check.ok]
    assert seen["lock"].says.startswith(f"process {os.getpid()} runs on it since")
    assert seen["postgres"].says.startswith("version 18.")
    assert seen["valkey"].says.startswith("version 9.")
    assert found(given)["postgres"].says == "stopped"


def test_names_an_engine_that_does_not_answer_and_its_log(settings):
    given = settings()
    with Supervisor(given.data_dir, [python_child(SLEEPER)]):
        seen = failed(given)
    assert seen.keys() == {"postgres", "valkey"}
    assert seen["postgres"].fix == f"Read {given.data_dir / 'logs' / 'postgres.log'}."
    assert seen["valkey"].fix == f"Read {given.data_dir / 'logs' / 'valkey.log'}."


def test_names_the_owner_of_a_taken_port(settings):
    given = settings()
    with socket.create_server(("127.0.0.1", given.desk_port)):
        seen = failed(given)
    assert seen.keys() == {"desk port"}
    assert f"process {os.getpid()} (" in seen["desk port"].says
    assert seen["desk port"].fix.endswith("or set IMPLEDGER_DESK_PORT to another port.")


def test_lists_each_setting_that_cannot_be_used(settings):
    seen = [check for check in checks(settings(batch_max=0, region="EU")) if not check.ok]
    assert [check.name for check in seen] == ["settings", "settings"]
    assert "IMPLEDGER_BATCH_MAX=0" in seen[0].says


def test_fails_on_settings_that_cannot_be_read_and_looks_at_the_others(tmp_path):
    given = {"IMPLEDGER_GATE_PORT": "abc", "IMPLEDGER_BOGUS": "1", "IMPLEDGER_DATA_DIR": str(tmp_path / "data")}
    environment = {**os.environ, **given}
    done = subprocess.run(
        [sys.executable, "-m", "service.cli", "doctor", "--json"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    seen = json.loads(done.stdout)["checks"]
    says = [check["says"] for check in seen if check["name"] == "settings"]
    assert done.returncode == 1
    assert says == [
        "IMPLEDGER_GATE_PORT='abc' is not a whole number.",
        "IMPLEDGER_BOGUS is not a setting; see docs/settings.md for the list.",
    ]
    assert [check for check in seen if str(tmp_path / "data") in check["says"]]


def test_names_a_rule_pack_that_is_none(settings):
    assert failed(settings(rule_pack="nope")).keys() == {"rule pack"}


def test_names_keys_that_are_damaged(settings):
    given = settings()
    load_or_make_keys(given.data_dir)
    assert failed(given) == {}
    keys_file(given.data_dir).write_bytes(b"{")
    assert f"{keys_file(given.data_dir)} is damaged" in failed(given)["keys"].says


def test_names_servers_that_do_not_answer_and_no_password(settings):
    port = free_ports(1)[0]
    given = settings(
        ledger_url=f"postgresql://someone:sesame@127.0.0.1:{port}/ledger",
        broker_url=f"redis://:sesame@127.0.0.1:{port}",
        clickhouse_dsn=f"http://someone:sesame@127.0.0.1:{port}",
    )
    seen = failed(given)
    assert seen.keys() == {"ledger url", "valkey", "clickhouse"}
    assert "IMPLEDGER_LEDGER_URL" in seen["ledger url"].fix
    assert not [check for check in seen.values() if "sesame" in check.says + check.fix]


def test_an_eventstoredb_that_says_nothing_is_told_with_a_reason(settings):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"esdb://127.0.0.1:{silent.getsockname()[1]}?tls=false"
        says = failed(settings(ledger_url=url))["ledger url"].says
    assert says.startswith("does not answer: ")
    assert says != "does not answer: "


def test_names_data_of_another_version(settings):
    given = settings()
    cluster = given.data_dir / "postgres"
    cluster.mkdir(parents=True)
    (cluster / "PG_VERSION").write_text("17\n")
    assert "made by PostgreSQL 17" in failed(given)["postgres"].says


def test_notices_a_clock_that_went_back(settings):
    given = settings()
    given.data_dir.mkdir()
    (given.data_dir / "impledger.lock").touch()
    os.utime(given.data_dir / "impledger.lock", (time.time() + 86_400,) * 2)
    assert failed(given).keys() == {"clock"}


def test_says_where_the_sockets_are_if_not_in_the_data_folder(settings, tmp_path):
    seen = found(settings(data_dir=tmp_path / ("x" * 90)))["sockets"]
    assert seen.ok
    assert "too long a path" in seen.says


def test_names_a_binary_that_does_not_run(tmp_path):
    broken = tmp_path / "postgres"
    broken.write_text("not a program")
    seen = _binary("postgres binary", lambda: broken)
    assert not seen.ok
    assert f"{broken} does not run" in seen.says
    assert "noexec" in seen.fix


def test_names_a_binary_that_is_missing():
    def find():
        raise LauncherError("the wheel is missing")

    assert _binary("x", find) == Check("x", ok=False, says="the wheel is missing", fix="Run `make install`.")


def test_names_a_data_folder_that_cannot_be_made(settings, tmp_path):
    (tmp_path / "file").touch()
    seen = failed(settings(data_dir=tmp_path / "file" / "data"))
    assert seen["data folder"].says.endswith(f"is not there yet; {tmp_path / 'file'} is where it would be made")
    assert seen["data folder"].fix == "Change its owner, or choose another folder with IMPLEDGER_DATA_DIR."


@needs_root
def test_names_the_user_whose_runs_made_the_data(settings):
    given = settings()
    given.data_dir.mkdir()
    (given.data_dir / "impledger.lock").touch()
    os.chown(given.data_dir / "impledger.lock", NAMELESS, NAMELESS)
    assert f"was made by runs of user id {NAMELESS}" in failed(given)["data folder"].says


@needs_root
def test_looks_at_everything_although_the_data_belong_to_another_user(settings):
    given = settings()
    with Supervisor(given.data_dir, []):
        os.seteuid(NAMELESS)
        try:
            seen = {check.name: check for check in checks(given)}
        finally:
            os.seteuid(0)
    assert seen.keys() == ALL
    assert not seen["data folder"].ok
    assert all(bool(check.fix) is not check.ok for check in seen.values())
