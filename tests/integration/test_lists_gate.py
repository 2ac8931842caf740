"""A running gate takes new lists and refuses broken ones without being started again."""

import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import replace

import pytest
from helpers_processes import eventually

from service.settings import Settings
from service.stage import on_free_ports

pytestmark = pytest.mark.slow


@pytest.fixture
def gate(tmp_path):
    """A gate without a database: it is never ready, and shows its lists all the same."""
    folder = tmp_path / "lists"
    folder.mkdir()
    nowhere = "postgresql://nobody@127.0.0.1:1/nothing"
    settings = replace(on_free_ports(Settings(starter="no")), data_dir=tmp_path / "data", lists_dir=str(folder))
    settings = replace(settings, ledger_url="memory", database_url=nowhere)
    with (tmp_path / "log").open("w") as log:  # a pipe that nobody reads stops whoever writes much
        process = subprocess.Popen(
            [sys.executable, "-m", "service.cli", "gate"],
            env={**os.environ, **settings.environment(), "IMPLEDGER_LOG_JSON": "yes"},
            stderr=log,
        )
        yield settings, folder, process
        process.terminate()
        process.wait(timeout=30)


def scraped(settings):
    try:
        with urllib.request.urlopen(f"http://{settings.host}:{settings.gate_port}/metrics", timeout=2) as answer:
            return answer.read().decode()
    except (urllib.error.URLError, OSError):
        return ""


def version(settings):
    found = re.search(r'impledger_lists_info\{version="([^"]+)"\} 1\.0', scraped(settings))
    return found and found[1]


def test_takes_a_new_list_and_refuses_a_broken_one_while_it_runs(gate):
    settings, folder, process = gate
    eventually(lambda: version(settings), within_s=30)
    first = version(settings)
    (folder / "hosting.txt").write_text("9.9.9.0/24\n")
    eventually(lambda: version(settings) not in {None, first}, within_s=60)
    second = version(settings)
    (folder / "hosting.txt").write_text("9.9.9.0/24\nbroken\n")
    eventually(lambda: "impledger_lists_refused 1.0" in scraped(settings), within_s=60)
    assert version(settings) == second
    assert {path.name for path in (settings.data_dir / "lists").iterdir()} >= {f"{first}.json.gz", f"{second}.json.gz"}
    process.terminate()
    process.wait(timeout=30)
    assert f'"file": "{folder}/hosting.txt", "line": 2' in (folder.parent / "log").read_text()
