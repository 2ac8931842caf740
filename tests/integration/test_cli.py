"""The commands as a user runs them, each a process of its own on real engines."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from helpers_processes import eventually

import migrations.postgres.versions
from service.machine import answers
from service.settings import Settings
from service.stage import on_free_ports

pytestmark = pytest.mark.slow

LOG = """\
9.9.9.9 - - [17/May/2015:10:05:03 +0000] "GET /images/a.png HTTP/1.1" 200 9 "http://x.example/p" "Mozilla/5.0 (X11; Linux) Firefox/29.0"
9.9.9.8 - - [17/May/2015:10:05:04 +0000] "GET /images/a.png HTTP/1.1" 200 9 "http://x.example/p" "Googlebot/2.1"
9.9.9.7 - - [17/May/2015:10:05:05 +0000] "GET /index.html HTTP/1.1" 200 9 "-" "curl/7.1"
not a line of a log
"""  # noqa: E501

MIGRATION = max(Path(migrations.postgres.versions.__file__).parent.glob("v*.py")).stem[1:5]


@pytest.fixture
def settings(tmp_path):
    return replace(on_free_ports(Settings(starter="no")), data_dir=tmp_path / "data")


def environment(settings):
    return {**os.environ, **settings.environment(), "IMPLEDGER_LOG_JSON": "yes"}


def impledger(settings, *words, timeout=120):
    return subprocess.run(
        [sys.executable, "-m", "service.cli", *words],
        env=environment(settings),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


class Up:
    """`impledger up` while the context lasts."""

    def __init__(self, settings):
        self.settings = settings

    def __enter__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "service.cli", "up"], env=environment(self.settings), stderr=subprocess.PIPE
        )
        for port in (self.settings.gate_port, self.settings.desk_port):
            eventually(lambda port=port: _ready(self.settings.host, port), within_s=60)
        self.family = psutil.Process(self.process.pid).children(recursive=True)
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=60)


def _ready(host, port):
    try:
        return answers(host, port)
    except OSError:
        return False


def test_a_log_is_replayed_twice_with_the_same_totals_and_can_be_asked_about(settings, tmp_path):
    log = tmp_path / "access.log"
    log.write_text(LOG)
    with Up(settings):
        first, second = (json.loads(impledger(settings, "replay-log", str(log), "--json").stdout) for _ in range(2))
        month = ("--data-set", "replay", "--since", "2015-05-01T00:00:00Z", "--until", "2015-06-01T00:00:00Z")
        report = impledger(settings, "report", "--by", "reason", *month, "--json")
        plain = impledger(settings, "report", "--metric", "gross", "--metric", "givt_by_reason", *month, "--csv")
        cut = impledger(settings, "report", "--by", "reason", "--limit", "1", *month, "--csv")
        screen = impledger(settings, "report", "--full", *month)
        refused = impledger(settings, "report", "--metric", "profit")
        nobody = impledger(settings, "show", "014d6156-4000-73cb-8001-2e9c7471007f")
        again = impledger(settings, "up")
        moved = impledger(settings, "migrate", "--json")
        complete = impledger(settings, "completeness", "--by", "sdk", "--json")
        watched = [impledger(settings, "monitors", *how) for how in (["--json"], [])]
    assert {**first, "seconds": 0} == {**second, "seconds": 0}
    assert (first["lines"], first["impressions"], first["not_images"], first["malformed"]) == (4, 2, 1, 1)
    assert first["verdicts"] == {"valid": 1, "dropped": 1}
    assert (first["gross"], first["net"], first["givt"]) == (2, 1, 1)
    assert all(first["invariants"].values())
    rows = json.loads(report.stdout)["rows"]
    assert sorted((row["reason"], row["gross"]) for row in rows) == [("", 1), ("AGENT_DECLARED_BOT", 1)]
    header, line = plain.stdout.splitlines()
    assert dict(zip(header.split(","), line.split(","), strict=True))["givt.AGENT_DECLARED_BOT"] == "1"
    assert (cut.returncode, len(cut.stdout.splitlines())) == (1, 2)
    assert "there are more rows than these" in cut.stderr
    assert screen.returncode == 0, screen.stderr
    assert "gross 2 = net 1 + givt 1 + sivt 0 + undecided 0" in screen.stdout
    assert (refused.returncode, "metrics: must be of" in refused.stderr) == (1, True)
    assert nobody.returncode == 1
    assert "There is nothing here" in nobody.stderr
    assert json.loads(complete.stdout)["rows"] == []
    assert json.loads(watched[0].stdout)["alarms"] == []
    assert "no alarm" in watched[1].stdout
    assert again.returncode == 1
    assert "is in use by process" in again.stderr
    assert json.loads(moved.stdout) == {"postgres": MIGRATION, "clickhouse": None}


def test_a_file_of_which_no_line_can_be_read_is_told_to_be_no_log(settings, tmp_path):
    file = tmp_path / "README.md"
    file.write_text("# A title\n\nand [words](of/it)\n")
    done = impledger(settings, "replay-log", str(file))
    assert done.returncode == 1
    assert f"no line of {file} is one of an access log in combined format" in done.stdout


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_nothing_outlives_up_however_it_ends(settings, how):
    with Up(settings) as running:
        running.process.send_signal(how)
        running.process.wait(60)
        assert len(running.family) >= 5
        eventually(lambda: not [one for one in running.family if one.is_running()], within_s=20)


def test_what_is_in_the_way_is_told_in_a_sentence(settings):
    wrong = impledger(replace(settings, rule_pack="base-0"), "gate")
    assert wrong.returncode == 1
    assert "no rule pack 'base-0'" in wrong.stderr
    typo = subprocess.run(
        [sys.executable, "-m", "service.cli", "doctor", "--json"],
        env={**environment(settings), "IMPLEDGER_GATE_PROT": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert typo.returncode == 1
    assert "IMPLEDGER_GATE_PROT is not a setting" in typo.stdout
    assert {check["name"] for check in json.loads(typo.stdout)["checks"]} >= {"python", "disk", "gate port"}


def test_the_gate_loads_nothing_that_only_others_need():
    code = (
        "import sys, service.gate, service.wiring; "
        "others = ('sklearn', 'scipy.sparse', 'scipy.stats', 'chdb', 'polars', 'pandas', 'clickhouse_connect', "
        "'river', 'treelite', 'matplotlib', 'joblib', 'dramatiq', 'redis'); "
        "print([name for name in others if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
