import contextlib
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest
from helpers_processes import SLEEPER, alive, eventually, family, kill, needs_root, program, python_child

from service import launch
from service.children import ChildFailed, Patience, State, Watched
from service.embedded_postgres import PostgresServer
from service.folders import AlreadyRunning, lock_holder
from service.processes import LauncherError, born, port_holder
from service.supervisor import Interrupted, PortsTaken, Supervisor, running_states

HASTY = Patience(deaths_max=3, pause_s=0.01)

UP = """
import sys
from pathlib import Path
from service.children import Child
from service.embedded_postgres import PostgresServer
from service.embedded_valkey import ValkeyServer
from service.supervisor import Supervisor

folder = Path(sys.argv[1])
source = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', sys.argv[1]]); time.sleep(600)"
grandchild = '''
import os, time
from service.launch import die_with_parent
die_with_parent(os.getppid())
open(%r, "w").close()
time.sleep(600)
''' % str(folder / "grandchild")
python = Child(
    name="gate",
    argv=(sys.executable, "-c", source, grandchild),
    ready=(folder / "grandchild").exists,
    needs=("postgres", "valkey"),
)
children = [python, PostgresServer(folder).child(), ValkeyServer(folder).child()]
supervisor = Supervisor(folder, children, watch=lambda states: None)
print(supervisor.run().name)
"""

STUBBORN = """
import sys
from pathlib import Path
from service.children import Child
from service.supervisor import Supervisor

folder = Path(sys.argv[1])
source = '''
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: open(sys.argv[1] + "/asked", "w").close())
open(sys.argv[1] + "/deaf", "w").close()
time.sleep(60)
'''
argv = (sys.executable, "-c", source, str(folder))
child = Child(name="deaf", argv=argv, ready=(folder / "deaf").exists, stop_grace_s=600)
print(Supervisor(folder, [child]).run().name)
"""

SAY_AND_WAIT = """
import signal, sys, time
name, file = sys.argv[1:3] if len(sys.argv) > 2 else (NAME, FILE)
def stop(*_):
    with open(file, "a") as out: out.write("stop " + name + "\\n")
    sys.exit()
signal.signal(signal.SIGTERM, stop)
with open(file, "a") as out: out.write("start " + name + "\\n")
while True: time.sleep(600)
"""


def diarist(name, diary, **kept):
    """A child that writes its start and its stop into *diary*."""
    source = f"NAME, FILE = {name!r}, {str(diary)!r}\n{SAY_AND_WAIT}"
    return python_child(source, name=name, ready=lambda: f"start {name}" in lines(diary), **kept)


def lines(file):
    return file.read_text().splitlines() if file.exists() else []


def up(source, folder, under=()):
    """A supervisor in a process of its own, once all its children are ready."""
    running = program(source, folder, under=under)
    eventually(lambda: running.poll() is not None or _all_ready(folder))
    assert running.poll() is None, running.communicate()[0]
    return running


def _all_ready(folder):
    states = running_states(folder)
    return bool(states) and all(child.state is State.READY for child in states)


def only(supervisor):
    (state,) = supervisor.states()
    return state


def test_starts_each_after_what_it_needs_and_stops_in_the_reverse_order(tmp_path):
    diary = tmp_path / "diary"
    last = diarist("last", diary, needs=("middle",))
    middle = diarist("middle", diary, needs=("first",))
    with Supervisor(tmp_path, [last, middle, diarist("first", diary)]) as supervisor:
        assert [state.state for state in supervisor.states()] == [State.READY] * 3
        assert lines(diary) == ["start first", "start middle", "start last"]
    assert lines(diary)[3:] == ["stop last", "stop middle", "stop first"]


def test_starts_again_what_dies(tmp_path):
    with Supervisor(tmp_path, [python_child(SLEEPER)], patience=HASTY) as supervisor:
        first = only(supervisor)
        kill(first.pid)
        eventually(lambda: supervisor.poll() and only(supervisor).pid != first.pid)
        assert only(supervisor).restarts == 1
        assert only(supervisor).says == "started again: it ended by SIGKILL"


def test_what_cannot_be_started_again_for_now_is_waited_for_and_ends_nobody(tmp_path):
    away = tmp_path / "away"

    def check():
        if away.exists():
            raise OSError("nobody answers")

    children = [python_child(SLEEPER, name="gate"), python_child(SLEEPER, name="desk", before=check)]
    with Supervisor(tmp_path, children, patience=HASTY) as supervisor:
        gate, desk = (child.pid for child in supervisor.states())
        away.touch()
        kill(desk)
        for _ in range(20):
            supervisor.poll()
            time.sleep(0.01)
        states = {child.name: child for child in supervisor.states()}
        assert (states["gate"].pid, states["desk"].state) == (gate, State.PAUSED)
        assert "nobody answers" in states["desk"].says
        away.unlink()
        eventually(supervisor.poll)


def test_what_cannot_be_started_the_first_time_ends_everything(tmp_path):
    def check():
        raise LauncherError("nobody answers")

    with pytest.raises(LauncherError, match="nobody answers"):
        Supervisor(tmp_path, [python_child(SLEEPER, before=check)]).__enter__()


def test_kills_what_a_dead_child_left_of_its_group(tmp_path):
    source = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SLEEPER!r}])"
    with Supervisor(tmp_path, [python_child(source)], patience=HASTY) as supervisor:
        eventually(lambda: family(only(supervisor).pid))
        left = family(only(supervisor).pid)
        kill(only(supervisor).pid)
        eventually(lambda: supervisor.poll() and only(supervisor).restarts == 1)
        eventually(lambda: not alive(left))


def test_gives_up_on_a_child_that_dies_again_and_again_and_shows_the_end_of_its_log(tmp_path):
    child = python_child("import sys; sys.exit('no such table')", name="gate", ready=lambda: False)
    with pytest.raises(ChildFailed) as failed, Supervisor(tmp_path, [child], patience=HASTY):
        pass
    log = tmp_path / "logs" / "gate.log"
    assert failed.value.log == log
    assert str(failed.value).startswith(
        f"gate was given up: it ended 3 times in a row; the last time it ended with exit code 1. Its log is {log}"
    )
    assert str(failed.value).endswith("no such table")


def test_waits_longer_after_each_death_up_to_a_limit():
    patience = Patience(pause_s=0.2, pause_max_s=1)
    assert [patience.pause(deaths) for deaths in range(1, 6)] == [0.2, 0.4, 0.8, 1, 1]


def test_waits_no_shorter_after_thousands_of_deaths():
    assert Patience().pause(5_000) == Patience().pause_max_s


@pytest.mark.parametrize(("stable_s", "says"), [(0, "ended by SIGKILL"), (60, "ended by SIGKILL, 4 times in a row")])
def test_starts_what_was_ready_once_again_however_often_it_ends_and_says_how_often(tmp_path, stable_s, says):
    children = [python_child(SLEEPER), python_child(SLEEPER, name="other")]
    patience = Patience(deaths_max=2, pause_s=0.01, stable_s=stable_s)
    with Supervisor(tmp_path, children, patience=patience) as supervisor:
        other = supervisor.states()[1].pid
        for deaths in range(4):
            supervisor.poll()
            kill(supervisor.states()[0].pid)
            eventually(lambda expected=deaths + 1: supervisor.poll() and supervisor.states()[0].restarts == expected)
        assert supervisor.states()[0].says.endswith(says)
        assert supervisor.states()[1].pid == other


def test_names_the_log_of_a_child_that_is_never_ready_and_stops_the_others(tmp_path):
    slow = python_child(SLEEPER, name="slow", ready=lambda: False, ready_timeout_s=0.3)
    supervisor = Supervisor(tmp_path, [python_child(SLEEPER, name="fine"), slow])
    with pytest.raises(ChildFailed) as failed, supervisor:
        pass
    assert str(failed.value) == f"slow was not ready within 0.3 s. Its log is {tmp_path / 'logs' / 'slow.log'} (empty)"
    assert {(state.state, state.pid) for state in supervisor.states()} == {(State.STOPPED, None)}


def test_says_in_the_log_why_a_program_cannot_be_started(tmp_path):
    child = python_child("")
    missing = type(child)(name="gate", argv=("/no/such/program",), ready=lambda: False)
    with pytest.raises(ChildFailed, match="cannot start /no/such/program: No such file or directory"):
        Supervisor(tmp_path, [missing], patience=HASTY).__enter__()


def test_kills_what_does_not_end_when_asked(tmp_path):
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True)\n" + SLEEPER
    log = tmp_path / "logs" / "child.log"
    child = python_child(deaf, ready=lambda: "deaf" in lines(log), stop_grace_s=0.2)
    with Supervisor(tmp_path, [child]) as supervisor:
        pass
    assert only(supervisor).says == "ended by SIGKILL: 0.2 s after it was asked to end it still ran"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("after_ms", range(0, 40, 4))
def test_what_is_asked_to_stop_before_it_has_become_its_program_ends_at_once_and_without_a_word(tmp_path, after_ms):
    log = tmp_path / "child.log"
    child = replace(python_child(SLEEPER, stop_signal=signal.SIGINT), argv=("sleep", "60"))
    watched = Watched(child, log, HASTY)
    began = time.monotonic()
    watched.step(began, needs_ready=True)
    eventually(lambda: time.monotonic() - began >= after_ms / 1_000)
    watched.ask_to_stop(time.monotonic())
    eventually(lambda: watched.step(time.monotonic(), needs_ready=True) or watched.state is State.STOPPED)
    assert watched.view().says == "ended by SIGINT"
    assert log.read_text() == ""


@pytest.mark.slow
def test_ctrl_c_stops_everything_in_order_and_leaves_nothing(tmp_path):
    running = up(UP, tmp_path)
    members = family(running.pid)
    assert len(members) > 8
    running.send_signal(signal.SIGINT)
    says, _ = running.communicate(timeout=90)
    assert running.returncode == 0, says
    assert says.splitlines()[-1] == "SIGINT"
    assert "SIGKILL" not in says
    stopped = [line.split("name=")[1].split()[0] for line in says.splitlines() if "state=stopped" in line]
    assert stopped[0] == "gate"
    assert not alive(members)
    assert lock_holder(tmp_path) is None
    assert "database system is shut down" in (tmp_path / "logs" / "postgres.log").read_text()


@pytest.mark.slow
def test_a_kill_of_the_supervisor_leaves_nothing_and_the_next_start_works(tmp_path):
    running = up(UP, tmp_path)
    members = family(running.pid)
    kill(running.pid)
    running.communicate()
    eventually(lambda: not alive(members), within_s=5)
    again = up(UP, tmp_path)
    again.terminate()
    says, _ = again.communicate(timeout=90)
    assert says.splitlines()[-1] == "SIGTERM"
    assert "SIGKILL" not in says


def test_a_second_ctrl_c_ends_the_patience(tmp_path):
    running = up(STUBBORN, tmp_path)
    members = family(running.pid)
    running.send_signal(signal.SIGINT)
    eventually((tmp_path / "asked").exists)
    running.send_signal(signal.SIGINT)
    says, _ = running.communicate(timeout=10)
    assert says.splitlines()[-1] == "SIGINT"
    assert not alive(members)


def test_goes_on_when_its_terminal_closes_if_started_with_nohup(tmp_path):
    running = up(STUBBORN, tmp_path, under=["nohup"])
    running.send_signal(signal.SIGHUP)
    kill(running_states(tmp_path)[0].pid)
    eventually(lambda: [state.restarts for state in running_states(tmp_path)] == [1])
    kill(running.pid)
    running.communicate()


def test_a_signal_inside_the_context_stops_everything_and_gives_the_signals_back(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    supervisor = Supervisor(tmp_path, [python_child(SLEEPER)])
    with pytest.raises(Interrupted) as interrupted, supervisor:
        signal.raise_signal(signal.SIGTERM)
    assert interrupted.value.signal is signal.SIGTERM
    assert only(supervisor).state is State.STOPPED
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_second_start_on_the_same_data_is_refused_and_names_the_first(tmp_path):
    running = up(STUBBORN, tmp_path)
    with pytest.raises(AlreadyRunning, match=f"in use by process {running.pid} since 20") as refused:
        Supervisor(tmp_path, [python_child(SLEEPER)]).__enter__()
    assert refused.value.holder.pid == running.pid
    assert running_states(tmp_path)[0].name == "deaf"
    kill(running.pid)
    running.communicate()


def test_a_lock_file_left_over_is_no_obstacle(tmp_path):
    (tmp_path / "impledger.lock").write_text(json.dumps({"pid": os.getpid(), "started_at": "2026-01-01T00:00:00Z"}))
    with Supervisor(tmp_path, []):
        assert lock_holder(tmp_path).pid == os.getpid()
    assert lock_holder(tmp_path) is None


@needs_root
def test_data_of_another_user_is_refused_and_names_the_user(tmp_path):
    (tmp_path / "impledger.lock").touch()
    os.chown(tmp_path / "impledger.lock", 1_000, 1_000)
    with pytest.raises(LauncherError, match="was made by runs of user id 1000, and this is user id 0"):
        Supervisor(tmp_path, []).__enter__()


def test_a_taken_port_is_named_with_its_owner(tmp_path):
    listen = "import socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); time.sleep(600)"
    port = free_port()
    owner = program(listen, port)
    eventually(lambda: port_holder(port))
    with pytest.raises(PortsTaken) as taken:
        Supervisor(tmp_path, [python_child(SLEEPER)], ports={"gate": port, "desk": free_port()}).__enter__()
    assert str(taken.value).startswith(f"gate cannot use port {port}: process {owner.pid} (")
    assert "socket.create_server" in str(taken.value)
    assert str(taken.value).endswith("has it. Stop that, or set IMPLEDGER_GATE_PORT.")
    assert lock_holder(tmp_path) is None
    kill(owner.pid)
    owner.communicate()


def test_an_address_that_is_not_ours_is_named(tmp_path):
    with pytest.raises(LauncherError, match=r"gate cannot listen on 192.0.2.1:\d+: Cannot assign"):
        Supervisor(tmp_path, [], host="192.0.2.1", ports={"gate": free_port()}).__enter__()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def test_another_process_sees_the_states_while_it_runs(tmp_path):
    assert running_states(tmp_path) == ()
    with Supervisor(tmp_path, [python_child(SLEEPER)]) as supervisor:
        assert running_states(tmp_path) == supervisor.states()
    assert running_states(tmp_path) == ()


def test_a_watcher_sees_each_state(tmp_path):
    seen = []
    with Supervisor(tmp_path, [python_child(SLEEPER)], watch=lambda states: seen.append(states[0].state)):
        pass
    assert list(dict.fromkeys(seen)) == [State.STARTING, State.READY, State.STOPPING, State.STOPPED]


def test_stops_everything_although_the_watcher_fails(tmp_path):
    def fail(states):
        if states[0].state is State.STOPPING:
            raise BrokenPipeError

    supervisor = Supervisor(tmp_path, [python_child(SLEEPER)], watch=fail)
    with pytest.raises(BrokenPipeError), supervisor:
        pass
    assert only(supervisor).state is State.STOPPED
    assert lock_holder(tmp_path) is None


@contextlib.contextmanager
def left_over(folder, **changed):
    """A process that an earlier supervisor is said to have started, as where no parent-death signal ended it."""
    left = subprocess.Popen([sys.executable, "-c", SLEEPER])
    state = {"name": "gate", "state": "ready", "pid": left.pid, "born": born(left.pid), "restarts": 0, "since": 0}
    children = [{**state, "says": "", "stop_signal": 15, **changed}]
    by = {"pid": os.getpid(), "started_at": "2026-01-01T00:00:00Z"}
    (folder / "state.json").write_text(json.dumps({"by": by, "children": children}))
    yield left
    left.kill()
    left.wait()


def test_ends_what_an_earlier_run_left(tmp_path):
    with left_over(tmp_path) as left, Supervisor(tmp_path, []):
        assert left.wait() == -signal.SIGTERM


def test_the_record_of_an_earlier_run_is_not_taken_for_the_states_of_this_one(tmp_path):
    seen = []
    child = python_child(SLEEPER, before=lambda: seen.append(running_states(tmp_path)))
    with left_over(tmp_path, born=1.0), Supervisor(tmp_path, [child]):
        assert [state.name for state in running_states(tmp_path)] == ["child"]
    assert seen == [()]


def test_leaves_a_process_alone_that_has_got_the_id_of_an_earlier_one(tmp_path):
    with left_over(tmp_path, born=1.0) as left, Supervisor(tmp_path, []):
        assert left.poll() is None


def test_a_record_that_cannot_be_read_is_no_obstacle(tmp_path):
    (tmp_path / "state.json").write_text('[{"name": "from the fut')
    with Supervisor(tmp_path, [python_child(SLEEPER)]):
        pass


@pytest.mark.parametrize("needs", [{"a": ("b",), "b": ("a",)}, {"a": ("missing",)}], ids=["circle", "missing"])
def test_refuses_needs_that_cannot_be_met(tmp_path, needs):
    with pytest.raises(ValueError, match="need each other in a circle"):
        Supervisor(tmp_path, [python_child("", name=name, needs=need) for name, need in needs.items()])


def test_goes_on_though_what_it_tells_cannot_be_written(tmp_path):
    def on_a_full_disk(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with Supervisor(tmp_path, [python_child(SLEEPER)], watch=on_a_full_disk, patience=HASTY) as supervisor:
        os.kill(supervisor.states()[0].pid, signal.SIGKILL)
        eventually(lambda: supervisor.poll() and supervisor.states()[0].restarts == 1)


def test_puts_a_big_log_aside_at_a_start(tmp_path):
    logs = tmp_path / "logs"
    logs.mkdir()
    with (logs / "child.log").open("wb") as log:
        log.truncate(20_000_000)
    with Supervisor(tmp_path, [python_child(SLEEPER)]):
        assert (logs / "child.log").stat().st_size == 0
    assert (logs / "child.log.1").stat().st_size == 20_000_000


CHATTERBOX = """
import time
while True:
    print("x" * 1_000_000, flush=True)
    time.sleep(0.01)
"""


def test_puts_a_big_log_aside_while_its_child_writes_on(tmp_path):
    log = tmp_path / "logs" / "child.log"
    with Supervisor(tmp_path, [python_child(CHATTERBOX)]) as supervisor:

        def is_put_aside_and_written_again():
            supervisor.poll()
            return log.with_suffix(".log.1").exists() and 0 < log.stat().st_size < 10_000_000

        eventually(is_put_aside_and_written_again)
        assert [state.restarts for state in supervisor.states()] == [0]
    assert log.with_suffix(".log.1").stat().st_size > 10_000_000


def test_lets_children_write_where_the_caller_does_if_asked(tmp_path, capfd):
    child = python_child("print('hello', flush=True)\n" + SLEEPER)
    heard = []
    with Supervisor(tmp_path, [child], inherit_output=True):
        eventually(lambda: heard.append(capfd.readouterr().out) or "hello" in "".join(heard))
    assert not (tmp_path / "logs").exists()


def test_refuses_to_start_children_from_a_thread_with_which_they_would_die(tmp_path):
    raised = []

    def start():
        try:
            Supervisor(tmp_path, [python_child(SLEEPER)]).__enter__()
        except (RuntimeError, ValueError) as error:
            raised.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert "main thread" in str(raised[0])
    assert lock_holder(tmp_path) is None


def test_a_process_whose_starter_is_gone_already_ends_at_once():
    argv = launch.command((sys.executable, "-c", SLEEPER), signal.SIGTERM)
    argv[argv.index(str(os.getpid()))] = "1"
    assert subprocess.run(argv, check=False, timeout=10).returncode == -signal.SIGTERM


@pytest.mark.slow
def test_an_engine_starts_and_stops_alone(tmp_path):
    server = PostgresServer(tmp_path)
    server.start()
    assert server.ready()
    server.stop()
    assert not server.ready()
    server.stop()
