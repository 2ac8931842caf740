"""Files of the shelter: this cell's own keys, secret; and whom all cells trust, the same file for all."""

import base64
import binascii
import os
import re
import secrets
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from hashlib import blake2b, sha256
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from commands.sealed_box import BoxKey, Sealer
from commands.shelter_trust import Signer, Trust, TrustedCell
from service.keyfiles import KEY_BYTES, Keys, is_there, keys_file, load_or_make_keys, read_keys, write_once
from service.processes import LauncherError
from service.settings import Settings

FORWARD = "forward"
"""The scope of other cells: they bring what they sheltered, and ask what this one has seen."""
TRUST_MAX_BYTES = 1 << 20
_FILE = "shelter.json"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class TrustFileError(LauncherError):
    """The file of trusted keys cannot be used; the text says where and why."""


class ShelterKeys(Struct, frozen=True, kw_only=True):
    """
    `signing` (Ed25519) signs testimonies and orders by probes. `sealing` (X25519) opens what others sheltered: others
    seal for the first, the rest still open. `peers` are the bearer tokens that other cells have given to this one.
    """

    signing: bytes
    sealing: list[bytes]
    peers: dict[str, str] = {}


class _Cell(Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    verify: str
    seal: str
    tokens: dict[str, str] = {}


class _Operator(Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    verify: str


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    cell: list[_Cell] = []
    operator: list[_Operator] = []


def load_or_make_shelter_keys(data_dir: Path) -> ShelterKeys:
    """Return the cell's keys from *data_dir*, made at the first call. The file is readable by its owner alone."""
    path = _path(data_dir)
    if not is_there(path):
        made = ShelterKeys(signing=secrets.token_bytes(KEY_BYTES), sealing=[secrets.token_bytes(KEY_BYTES)])
        write_once(path, msgspec.json.encode(made))
    return read_keys(path, ShelterKeys)


def keep_peer(data_dir: Path, cell: str, bearer: str) -> None:
    """Keep the *bearer* that the cell of that name has given to this one."""
    keys = load_or_make_shelter_keys(data_dir)
    _rewrite(_path(data_dir), msgspec.json.encode(replace(keys, peers={**keys.peers, cell: bearer})))


def admit_peer(data_dir: Path) -> str:
    """Make a bearer token with the scope `forward` for another cell, and return it; only its hash is kept here."""
    keys = load_or_make_keys(data_dir)
    bearer = secrets.token_urlsafe(KEY_BYTES)
    api = {**keys.api, sha256(bearer.encode()).hexdigest(): [FORWARD]}
    _rewrite(keys_file(data_dir), msgspec.json.encode(replace(keys, api=api)))
    return bearer


def entry_of(name: str, keys: ShelterKeys, own: Keys) -> str:
    """Return this cell's entry for the file of trusted keys."""
    prints = ", ".join(f'{key_id} = "{print_}"' for key_id, print_ in sorted(fingerprints(own).items()))
    lines = [
        "[[cell]]",
        f'name = "{name}"',
        f'verify = "{_text(Signer(name, keys.signing).public)}"',
        f'seal = "{_text(BoxKey(keys.sealing[0]).public)}"',
        f"tokens = {{ {prints} }}",
    ]
    return "\n".join(lines) + "\n"


def make_operator(name: str, path: Path) -> str:
    """Make an operator's key in a new file at *path*, and return the entry for the file of trusted keys."""
    if path.exists():
        raise TrustFileError(f"{path} is there already; name another file, or remove it")
    key = secrets.token_bytes(KEY_BYTES)
    write_once(path, msgspec.json.encode({"name": name, "signing": key}))
    return f'[[operator]]\nname = "{name}"\nverify = "{_text(Signer(name, key).public)}"\n'


def operator_of(path: Path) -> Signer:
    """Return who signs with the key in the file at *path*; raises `TrustFileError` if it holds none."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=dict[str, str])
        return Signer(found["name"], base64.b64decode(found["signing"], validate=True))
    except (OSError, msgspec.DecodeError, KeyError, ValueError) as error:
        raise TrustFileError(
            f"{path} holds no operator's key; `impledger shelter keys --operator` makes one"
        ) from error


def fingerprints(keys: Keys) -> Mapping[str, str]:
    """Return what tells token keys apart, by key id, and gives none away."""
    return {
        key_id: blake2b(key.signing, digest_size=16, person=b"shelter tokens").hexdigest()
        for key_id, key in keys.tokens.items()
    }


def trust_of(settings: Settings) -> Trust | None:
    """
    Return whom *settings* trust; None without such a file.

    Raises:
        TrustFileError: it cannot be used.
    """
    return load_trust(Path(settings.shelter_trust)) if settings.shelter_trust else None


def flaws_of(settings: Settings, trust: Trust, cells: Iterable[str]) -> list[str]:
    """Return what keeps this cell from sheltering, or others from it; *cells* are the map's. Changes nothing."""
    if not _path(settings.data_dir).exists():
        return ["this cell has no keys of its own yet; `impledger shelter keys` makes them"]
    own, name = load_or_make_shelter_keys(settings.data_dir), settings.cell
    keyless = [cell for cell in cells if cell not in trust.cells]
    flaws = [f"{cell} of the cell map has no keys in it; nothing is sheltered for it" for cell in keyless]
    entry = trust.cells.get(name)
    if entry is not None and entry.verify != Signer(name, own.signing).public:
        flaws.append(f"{name}.verify is not this cell's key: nobody will believe it")
    if entry is not None and entry.seal not in {BoxKey(key).public for key in own.sealing}:
        flaws.append(f"{name}.seal is not this cell's key: it could not open what is sheltered for it")
    return flaws


def load_trust(path: Path) -> Trust:
    """Return the trusted keys in the file at *path*; raises `TrustFileError`."""
    try:
        with path.open("rb") as file:
            data = file.read(TRUST_MAX_BYTES + 1)
    except OSError as error:
        raise TrustFileError(f"{path}: cannot be read: {error.strerror}") from error
    if len(data) > TRUST_MAX_BYTES:
        raise TrustFileError(f"{path}: is larger than {TRUST_MAX_BYTES} bytes")
    try:
        found = msgspec.convert(tomllib.loads(data.decode()), _File)
    except (ValueError, msgspec.ValidationError) as error:
        raise TrustFileError(f"{path}: {error}") from error
    for name, times in Counter([one.name for one in found.cell] + [one.name for one in found.operator]).items():
        if not _NAME.fullmatch(name):
            raise TrustFileError(f"{path}: {name[:64]!r} is no name; 1 to 63 of a-z, 0-9 and -")
        if times > 1:
            raise TrustFileError(f"{path}: {name} stands in it more than once; whose signature would it be?")
    return Trust(
        cells={
            one.name: TrustedCell(
                verify=_key(path, one.name, "verify", one.verify),
                seal=_seal_key(path, one),
                tokens=one.tokens,
            )
            for one in found.cell
        },
        operators={one.name: _key(path, one.name, "verify", one.verify) for one in found.operator},
    )


def _key(path: Path, name: str, field: str, text: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except binascii.Error:
        key = b""
    if len(key) != KEY_BYTES:
        raise TrustFileError(
            f"{path}: {name}.{field}: must be 32 bytes in base64, as `impledger shelter keys` has them"
        )
    return key


def _seal_key(path: Path, one: _Cell) -> bytes:
    key = _key(path, one.name, "seal", one.seal)
    try:
        Sealer(key, bytes(range(KEY_BYTES)))
    except ValueError as error:
        raise TrustFileError(f"{path}: {one.name}.seal: nothing can be sealed for this key") from error
    return key


def _text(key: bytes) -> str:
    return base64.b64encode(key).decode()


def _path(data_dir: Path) -> Path:
    return data_dir / "keys" / _FILE


def _rewrite(path: Path, data: bytes) -> None:
    """Change a file that only its owner can read; it is never seen half written."""
    draft = path.with_suffix(f".{os.getpid()}.{secrets.token_hex(4)}")
    write_once(draft, data)
    draft.replace(path)
