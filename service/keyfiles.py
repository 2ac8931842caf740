"""Keys of one cell, in files that only its owner can read: root key, token keys, shard key, API keys."""

import os
import secrets
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from domain.token import TokenKey
from service.folders import make_data_dir, not_writable
from service.processes import LauncherError

T = TypeVar("T")

_FILE = "keys.json"
KEY_BYTES = 32


class StoredTokenKey(Struct, frozen=True):
    signing: bytes
    price: bytes


class Keys(Struct, frozen=True, kw_only=True):
    """
    `root` wraps every other stored key; `tokens` are delivery's by key id, `mint_with` the one to mint with; `shard`
    keys the shard of a person. `api` maps the SHA-256 of a bearer token to its scopes; `operator` is the token that
    this machine's own commands use.
    """

    root: bytes
    shard: bytes
    mint_with: str
    tokens: dict[str, StoredTokenKey]
    api: dict[str, list[str]]
    operator: str

    def token_keys(self) -> Mapping[str, TokenKey]:
        return {key_id: TokenKey(key.signing, key.price) for key_id, key in self.tokens.items()}


class NoKeys(LauncherError):
    """Nothing has made a cell's keys in the data folder."""


def load_or_make_keys(data_dir: Path) -> Keys:
    """
    Return the cell's keys from *data_dir*, made at the first call. The file is readable by its owner alone.

    Raises:
        LauncherError: The file cannot be made or read, or is damaged.
    """
    path = keys_file(data_dir)
    if not is_there(path):
        make_data_dir(data_dir)
        write_once(path, msgspec.json.encode(_make()))
    return read_keys(path, Keys)


def load_keys(data_dir: Path) -> Keys:
    """
    Return the cell's keys from *data_dir*, for whoever asks what runs on it.

    Raises:
        NoKeys: There are none.
        LauncherError: The file cannot be read, or is damaged.
    """
    if not is_there(keys_file(data_dir)):
        raise NoKeys(
            f"no keys in {data_dir.resolve()}; set IMPLEDGER_DATA_DIR to the folder that the desk and the gate run on. "
            "If nothing runs yet, `impledger up` starts it."
        )
    return read_keys(keys_file(data_dir), Keys)


def keys_file(data_dir: Path) -> Path:
    return data_dir / "keys" / _FILE


def is_there(path: Path) -> bool:
    """Say whether *path* is there, also if this user may not look."""
    try:
        return path.exists()
    except PermissionError:
        return True


def read_keys(path: Path, kind: type[T]) -> T:
    """
    Return the keys in the file at *path*.

    Raises:
        LauncherError: It cannot be read, or is damaged.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise LauncherError(
            f"{path} cannot be read by user id {os.geteuid()}: {error.strerror}. "
            "Start as the user who made it, or choose another folder with IMPLEDGER_DATA_DIR."
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise LauncherError(
            f"{path} is damaged: {error}. Put it back from a copy. Without one move it away, and the next start makes "
            "new keys; tokens and bodies under the old ones can then no longer be read."
        ) from error


def _make() -> Keys:
    operator = secrets.token_urlsafe(KEY_BYTES)
    scopes = ["ingest", "decide", "feedback", "report", "audit", "replay", "admin"]
    return Keys(
        root=secrets.token_bytes(KEY_BYTES),
        shard=secrets.token_bytes(KEY_BYTES),
        mint_with="k1",
        tokens={"k1": StoredTokenKey(secrets.token_bytes(KEY_BYTES), secrets.token_bytes(KEY_BYTES))},
        api={sha256(operator.encode()).hexdigest(): scopes},
        operator=operator,
    )


def write_once(path: Path, data: bytes) -> None:
    """
    Of two processes that start at once, one makes the file; it is never seen half written.

    Raises:
        LauncherError: It cannot be made.
    """
    try:
        _write_once(path, data)
    except OSError as error:
        raise not_writable(path.parent, error) from error


def _write_once(path: Path, data: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
