"""
Thousands of crawler patterns matched in one pass over an agent, in time that grows with its length alone.

Python tries the branches of an alternation one after the other at every position, so the published patterns cost 0.3 ms
(crawler-user-agents) and 2 ms (crawlerdetect) for an ordinary agent and 18 ms for a hostile one of 1,000 characters:
too much for a screen that meets agents nobody has seen. Nearly all patterns begin with plain text, so they are kept
under its first three characters; only the few that do not are left to an alternation.
"""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

_KEY_CHARS = 3
_META = frozenset(".^$*+?{}[]()|")
_OPTIONAL = frozenset("*?{")
_LEADING_ANY = re.compile(r"^\[[^\]]*\]\*")
_WHOLE_GROUP = re.compile(r"^\(([^()?]+)\)$")
_AT_WORD = "(^| )"
_AT_WORD_BEHIND = "(?<![^ ])"
"""Says the same as `_AT_WORD` and takes no character, so that what comes after it begins the match."""
_EITHER_CASE = re.compile(r"\[([a-z])([A-Z])\]|\[([A-Z])([a-z])\]")


class Found(NamedTuple):
    """The branch that was found, and the group that it belongs to."""

    group: int
    branch: str


class _Entry(NamedTuple):
    """A branch that begins with *prefix*, in lower case whatever the branch's own case."""

    prefix: str
    pattern: re.Pattern[str]
    group: int


class Patterns:
    """Tells which of some regular expressions, in groups, is found in a text. Texts and expressions are ASCII."""

    def __init__(self, groups: Sequence[Iterable[str]], *, ignore_case: bool = False) -> None:
        flags = re.IGNORECASE if ignore_case else re.NOFLAG
        self._by_key: dict[str, list[_Entry]] = {}
        self._scattered: list[tuple[int, re.Pattern[str]]] = []
        for group, expressions in enumerate(groups):
            scattered: list[str] = []
            for branch in (branch for expression in expressions for branch in _branches(expression)):
                prefix = _plain_prefix(branch)
                if len(prefix) < _KEY_CHARS:
                    scattered.append(branch)
                else:
                    entry = _Entry(prefix, re.compile(branch, flags), group)
                    self._by_key.setdefault(prefix[:_KEY_CHARS], []).append(entry)
            if scattered:
                self._scattered.append((group, re.compile("|".join(scattered), flags)))

    def find(self, text: str) -> Found | None:
        """Return a branch of the first group of which any is found in *text*; without plain text, it is its match."""
        lower = text.lower()
        best: Found | None = None
        candidates = self._by_key.get
        for start in range(len(lower) - _KEY_CHARS + 1):
            entries = candidates(lower[start : start + _KEY_CHARS])
            if entries is None:
                continue
            for prefix, pattern, group in entries:
                if (
                    (best is None or group < best.group)
                    and lower.startswith(prefix, start)
                    and pattern.match(text, start)
                ):
                    if group == 0:
                        return Found(group, pattern.pattern)
                    best = Found(group, pattern.pattern)
        for group, scattered in self._scattered:
            if best is not None and best.group <= group:
                break
            if match := scattered.search(text):
                return Found(group, match[0])
        return best


def _branches(expression: str) -> list[str]:
    """Split at the alternations of the top level. What may be empty in front changes nothing about being found."""
    expression = _LEADING_ANY.sub("", expression)
    if whole := _WHOLE_GROUP.match(expression):
        expression = whole[1]
    branches, depth, in_class, start, at = [], 0, False, 0, 0
    while at < len(expression):
        char = expression[at]
        if char == "\\":
            at += 1
        elif in_class:
            in_class = char != "]"
        elif char == "[":
            in_class = True
        elif char in "()":
            depth += 1 if char == "(" else -1
        elif char == "|" and depth == 0:
            branches.append(expression[start:at])
            start = at + 1
        at += 1
    branches.append(expression[start:])
    return [
        _AT_WORD_BEHIND + branch.removeprefix(_AT_WORD) if branch.startswith(_AT_WORD) else branch
        for branch in branches
    ]


def _plain_prefix(branch: str) -> str:
    """Return the text, in lower case, that every match of *branch* begins with."""
    branch = branch.removeprefix(_AT_WORD_BEHIND)
    prefix: list[str] = []
    at = 1 if branch.startswith("^") else 0
    while at < len(branch):
        char = branch[at]
        either = _EITHER_CASE.match(branch, at)
        if either and either[0].lower()[1] == either[0].lower()[2]:
            at += 3
            char = either[0][1]
        elif char == "\\" and at + 1 < len(branch) and not branch[at + 1].isalnum():
            at += 1
            char = branch[at]
        elif char == "\\" or char in _META:
            if char in _OPTIONAL:
                prefix = prefix[:-1]
            break
        prefix.append(char.lower())
        at += 1
    return "".join(prefix)
