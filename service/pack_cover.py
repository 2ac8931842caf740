"""
Whether boundary vectors cover a rule pack: each of its values is changed a little, and some vector must then fail.

A value that may be changed without any vector noticing is not proved by them.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from domain.pack import Pack
from domain.pack_check import contradictions
from domain.pack_tables import EXPECTED, OmidProof
from domain.reasons import CLASS_OF, Reason, ReasonClass
from domain.vocabulary import CountingMethod, Evidence
from service.pack_run import failures
from service.pack_vectors import Vectors

RATIO_STEP = 0.001
"""By what a ratio or share is changed; a whole number is changed by one."""
_TABLES = ("view_rule", "lateness", "accusation")
_WORDS: dict[str, tuple[str, ...]] = {
    "method": tuple(CountingMethod),
    "evidence": (Evidence.ON_SCREEN_AT, Evidence.OMID, Evidence.REQUEST),
    "absent": (Reason.OMID_UNPROVEN, Reason.EVIDENCE_INCOMPLETE),
    "reason": tuple(reason for reason, cls in CLASS_OF.items() if cls is ReasonClass.SIVT),
}
Path = tuple[str | int, ...]


class Change(NamedTuple):
    """A pack with one value changed; `key` is where, in the manner of `view_rule[0].ratio`."""

    key: str
    became: str
    pack: Pack


def uncovered(pack: Pack, vectors: Vectors) -> list[str]:
    """Return the changes of single values of *pack* that none of *vectors* notices."""
    return [
        f"{change.key} = {change.became}"
        for change in changes(pack)
        if next(failures(vectors, change.pack), None) is None
    ]


def changes(pack: Pack) -> Iterator[Change]:
    """Yield *pack* with one value changed, for every value; words are not changed to what no pack may say."""
    for table in _TABLES:
        rows = getattr(pack, table)
        for index in range(len(rows)):
            fewer = replace(pack, **{table: (*rows[:index], *rows[index + 1 :])})
            yield Change(f"{table}[{index}]", "absent", fewer)
    for path, value in _leaves(pack, ()):
        for other in _others(path, value):
            changed = _with(pack, path, other)
            if not isinstance(value, str) or not any(contradictions(changed)):
                yield Change(_spell(path), str(other), changed)


def _leaves(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    """Walk down to single values; what a count point requires is one."""
    match value:
        case Struct():
            for name in value.__struct_fields__:
                yield from _leaves(getattr(value, name), (*path, name))
        case dict():
            for key, inner in value.items():
                yield from _leaves(inner, (*path, key))
        case tuple() if path[-1] != "required":
            for index, inner in enumerate(value):
                yield from _leaves(inner, (*path, index))
        case _:
            yield path, value


def _others(path: Path, value: Any) -> Iterator[Any]:
    match value:
        case bool():
            yield not value
        case int() if value and path != ("version",):
            yield from (value - 1, value + 1)
        case float() if value:
            yield from (round(value - RATIO_STEP, 6), round(value + RATIO_STEP, 6))
        case tuple():
            yield from (tuple(set(value) ^ {name}) for name in EXPECTED)
        case str() if path[0] == "omid":
            yield from (proof for proof in OmidProof if proof != value)
        case str():
            yield from (word for word in _WORDS.get(str(path[-1]), ()) if word != value)


def _with(value: Any, path: Path, other: Any) -> Any:
    """Return *value* with *other* at *path*; bounds are not checked: a ratio of 1.001 is one that nothing reaches."""
    if not path:
        return other
    key, rest = path[0], path[1:]
    if isinstance(value, Struct):
        return replace(value, **{str(key): _with(getattr(value, str(key)), rest, other)})
    if isinstance(value, dict):
        return {**value, key: _with(value[key], rest, other)}
    return (*value[:key], _with(value[key], rest, other), *value[int(key) + 1 :])


def _spell(path: Path) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
