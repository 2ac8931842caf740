"""
Thousands of crawler patterns matched in one pass over an agent, in time that grows with its length alone.

Python tries the branches of an alternation one after the other at every position, so the published patterns cost 0.3 ms
(crawler-user-agents) and 2 ms (crawlerdetect) for an ordinary agent and 18 ms for a hostile one of 1,000 characters:
too much for a screen that meets agents nobody has seen. Nearly all patterns begin with plain text, so they are kept
under its first three characters; only the few that do not are left to an alternation.
"""

import re
from collections.abc import Iterable

_KEY_CHARS = 3
_META = frozenset(".^$*+?{}[]()|")
_OPTIONAL = frozenset("*?{")
_LEADING_ANY = re.compile(r"^\[[^\]]*\]\*")
_WHOLE_GROUP = re.compile(r"^\(([^()?]+)\)$")


class Patterns:
    """Tells whether any of some regular expressions is found in a text. Texts and expressions are ASCII."""

    def __init__(self, expressions: Iterable[str], *, ignore_case: bool = False) -> None:
        self._flags = re.IGNORECASE if ignore_case else re.NOFLAG
        self._by_key: dict[str, list[re.Pattern[str]]] = {}
        scattered: list[str] = []
        for expression in expressions:
            for branch in _branches(expression):
                prefix = _plain_prefix(branch)
                if len(prefix) < _KEY_CHARS:
                    scattered.append(branch)
                else:
                    key = prefix[:_KEY_CHARS].lower()
                    self._by_key.setdefault(key, []).append(re.compile(branch, self._flags))
        self._scattered = re.compile("|".join(scattered), self._flags) if scattered else None

    def find(self, text: str) -> str | None:
        """Return the branch that is found in *text*, or None; one of those without plain text is named as its match."""
        lower = text.lower()
        by_key = self._by_key
        for start in range(len(lower) - _KEY_CHARS + 1):
            for pattern in by_key.get(lower[start : start + _KEY_CHARS], ()):
                if pattern.match(text, start):
                    return pattern.pattern
        found = None if self._scattered is None else self._scattered.search(text)
        return None if found is None else found[0]

    def found_in(self, text: str) -> bool:
        return self.find(text) is not None


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
    return [*branches, expression[start:]]


def _plain_prefix(branch: str) -> str:
    """Return the text that every match of *branch* begins with."""
    prefix: list[str] = []
    at = 1 if branch.startswith("^") else 0
    while at < len(branch):
        char = branch[at]
        if char == "\\" and at + 1 < len(branch) and not branch[at + 1].isalnum():
            at += 1
            char = branch[at]
        elif char == "\\" or char in _META:
            if char in _OPTIONAL:
                prefix = prefix[:-1]
            break
        prefix.append(char)
        at += 1
    return "".join(prefix)
