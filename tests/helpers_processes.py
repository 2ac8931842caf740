"""Processes for tests: small children, programs in a process of their own, other users, and waiting with a limit."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from service import processes
from service.children import Child
from service.folders import passable

ROOT = Path(__file__).resolve().parents[1]
NAMELESS = 48_151  # a user id that no machine has a name for
WITHIN_S = 20.0

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, which only root may")

SLEEPER = "import time; time.sleep(600)"


def eventually(done, within_s=WITHIN_S):
    assert processes.wait_until(done, within_s), "waited in vain"


def python_child(source, *, name="child", **kept):
    """A child that runs *source*; it is ready at once unless told otherwise."""
    return Child(name=name, argv=(sys.executable, "-c", source), **kept)


def program(source, *argv, uid=None, under=(), packages=()):
    """Start *source* in a process of its own that can import the project; first from the folders *packages*."""
    interpreter, path = _interpreter(uid)
    path = os.pathsep.join([*map(str, packages), path])
    environment = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    identity = {} if uid is None else {"user": uid, "group": uid, "extra_groups": []}
    return subprocess.Popen(
        [*under, interpreter, "-W", "error", "-c", source, *map(str, argv)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd="/",
        **identity,
    )


def family(pid):
    """The processes that descend from *pid*."""
    return psutil.Process(pid).children(recursive=True)


def alive(found):
    return [process for process in found if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


def kill(pid):
    os.kill(pid, signal.SIGKILL)


def _interpreter(uid):
    """This interpreter or, where *uid* may not enter its folder, the system's of the same version."""
    packages = Path(psutil.__file__).parents[1]
    path = os.pathsep.join(map(str, (ROOT, packages)))
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    usable = [
        candidate
        for candidate in (Path(sys.executable), Path("/usr/bin") / version)
        if uid is None or (candidate.exists() and passable(candidate, uid, uid) and passable(packages, uid, uid))
    ]
    if not usable:
        pytest.skip(f"no {version} that user id {uid} may run")
    return str(usable[0]), path
