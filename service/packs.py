"""Where rule packs come from: those that ship with the program, by id, and any other by the path of its file."""

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from domain.pack import Pack, PackError, parse_pack
from service.pack_vectors import Vectors, parse_vectors

SUFFIX, VECTORS_SUFFIX = ".toml", ".vectors.toml"
FILE_MAX_BYTES = 4_194_304
_SHIPPED = files("domain") / "packs"


def shipped() -> list[str]:
    """Return the ids of the rule packs that ship with the program."""
    names = (file.name for file in _SHIPPED.iterdir())
    return sorted(
        name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX) and not name.endswith(VECTORS_SUFFIX)
    )


def text_of(name: str) -> str:
    """
    Return the text of the rule pack *name*: an id that ships, or a path, which has a `/` or ends with `.toml`.

    Raises:
        PackError: there is none.
    """
    if is_path(name):
        return _read(Path(name))
    if name not in shipped():
        raise PackError(f"no rule pack {name!r}: {', '.join(shipped())} ship with the program, others need a path")
    return (_SHIPPED / f"{name}{SUFFIX}").read_text(encoding="utf-8")


def load(name: str) -> Pack:
    """
    Return the rule pack *name*.

    Raises:
        PackError: there is none, it has an error, or its id is that of another one.
    """
    pack = parse_pack(text_of(name), name if is_path(name) else f"{name}{SUFFIX}")
    if not is_path(name):
        if pack.id != name:
            raise PackError(f"{name}{SUFFIX}: name and version: they say {pack.id!r}")
    elif pack.id in shipped() and pack != load(pack.id):
        raise PackError(f"{name}: name and version: {pack.id!r} ships with the program and says something else")
    return pack


def vectors_of(name: str, path: Path | None = None) -> Vectors | None:
    """
    Return the boundary vectors in *path*, or else those beside the rule pack *name*; None if there are none.

    Raises:
        PackError: they cannot be read.
    """
    if path is not None:
        return parse_vectors(_read(path), str(path))
    if is_path(name):
        beside = Path(name.removesuffix(SUFFIX) + VECTORS_SUFFIX)
        return parse_vectors(_read(beside), str(beside)) if beside.is_file() else None
    file = _SHIPPED / f"{name}{VECTORS_SUFFIX}"
    return parse_vectors(file.read_text(encoding="utf-8"), file.name) if file.is_file() else None


def is_path(name: str) -> bool:
    """Tell whether *name* is a path and not the id of a rule pack that ships."""
    return "/" in name or "\\" in name or name.endswith(SUFFIX)


def summaries() -> Iterator[dict[str, object]]:
    """Yield what there is to say of every rule pack that ships."""
    for name in shipped():
        pack, vectors = load(name), vectors_of(name)
        yield {
            "id": name,
            "viewability_packs": sorted({rule.name for rule in pack.view_rule}),
            "count_points": len(pack.count_point),
            "vectors": 0 if vectors is None else sum(1 for _ in vectors.all()),
        }


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > FILE_MAX_BYTES:
            raise PackError(f"{path}: larger than {FILE_MAX_BYTES} bytes")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise PackError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise PackError(f"{path}: not UTF-8 from byte {error.start} on") from error
