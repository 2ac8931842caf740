"""Keys of one cell, in files that only its owner can read: root key, token keys, shard key, API keys."""

import os
import secrets
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import msgspec
from msgspec import Struct

from domain.token import TokenKey

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


def load_or_make_keys(data_dir: Path) -> Keys:
    """Return the cell's keys from *data_dir*, made at the first call. The file is readable by its owner alone."""
    path = data_dir / "keys" / _FILE
    if not path.exists():
        write_once(path, msgspec.json.encode(_make()))
    return msgspec.json.decode(path.read_bytes(), type=Keys)


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
    """Of two processes that start at once, one makes the file; it is never seen half written."""
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
