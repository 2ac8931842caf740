"""What a process writes to standard error: its own lines and those of libraries, in one form."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

FULL = Path("/dev/full")
"""A file on a disk that is full (Linux)."""

LIBRARY = """
import logging, threading
import structlog
from service.logs import set_up_logs

def warn():
    try:
        raise ValueError("why")
    except ValueError:
        logging.getLogger("dramatiq.worker").warning("lost %s", "it", exc_info=True)

set_up_logs("work", {log_json!r})
structlog.get_logger().warning("ours")
thread = threading.Thread(target=warn)
thread.start()
thread.join()
logging.getLogger("quiet").info("nothing")
"""


def written(log_json):
    code = LIBRARY.format(log_json=log_json)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stderr.splitlines()


def test_every_line_is_json_if_asked_also_of_libraries_in_their_threads():
    ours, theirs = (json.loads(line) for line in written("yes"))
    assert (ours["event"], ours["process"], ours["level"]) == ("ours", "work", "warning")
    assert (theirs["event"], theirs["process"], theirs["level"]) == ("lost it", "work", "warning")
    assert theirs["logger"] == "dramatiq.worker"
    assert "ValueError: why" in theirs["exception"]
    assert theirs.keys() - {"logger", "exception"} == ours.keys()


def test_lines_for_people_name_the_library():
    lines = written("no")
    assert any("lost it" in line and "dramatiq.worker" in line for line in lines)


FAILING = """
import logging
import structlog
from service.logs import set_up_logs

def fail(token):
    raise ValueError("why")

set_up_logs("gate", {log_json!r})
for log in (structlog.get_logger(), logging.getLogger("library")):
    try:
        fail("a-" + "secret")
    except ValueError:
        log.exception("failed")
"""


@pytest.mark.parametrize("log_json", ["yes", "no"])
def test_a_traceback_says_where_and_not_what_the_variables_held(log_json):
    code = FAILING.format(log_json=log_json)
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr
    assert told.count("ValueError: why") == 2
    assert "a-secret" not in told


def test_what_is_no_http_leaves_no_line_for_anybody_could_fill_a_disk_with_them():
    code = "import logging; from service.logs import set_up_logs; set_up_logs('gate', 'yes')\n"
    code += "logging.getLogger('uvicorn.error').warning('Invalid HTTP request received.')"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr
    assert told == ""


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
@pytest.mark.parametrize("log_json", ["yes", "no"])
def test_whoever_logs_to_a_full_disk_goes_on(log_json):
    code = LIBRARY.format(log_json=log_json) + "structlog.get_logger().error('more')\nprint('went on')"
    with FULL.open("w") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=full, text=True, check=False)
    assert done.stdout == "went on\n"
