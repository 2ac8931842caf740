"""Where commands print for a person. Much of it are words of clients: no markup, and nothing that moves a terminal."""

import json
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.style import StyleType
from rich.table import Table
from rich.text import Text

_WIDTH_MAX = 4_000
"""Characters of a line, for a terminal may fold it but nothing may be cut."""

PROSE_WIDTH = 60
"""Where a column of sentences is folded; figures, times and names never are."""


def shown(text: str) -> str:
    """Return *text* in one line, with what cannot be printed as JSON would escape it."""
    return text if text.isprintable() else "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in text)


class Screen(Console):
    """Prints strings as they are, line by line, except for what a terminal would obey."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False, soft_wrap=True)

    def render_str(self, text: str, **how: Any) -> Text:
        return super().render_str("\n".join(map(shown, text.split("\n"))), **how)


class Grid(Table):
    """A table as wide as its cells; only a column with a `max_width` is folded."""

    def add_row(self, *cells: RenderableType | None, style: StyleType | None = None, end_section: bool = False) -> None:
        one_line = (shown(cell) if isinstance(cell, str) else cell for cell in cells)
        super().add_row(*one_line, style=style, end_section=end_section)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for column in self.columns:
            column.no_wrap, column.overflow = column.max_width is None, "fold"
        return super().__rich_console__(console, options.update(max_width=_WIDTH_MAX))


out = Screen()
err = Screen(stderr=True)
