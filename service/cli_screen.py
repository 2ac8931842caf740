"""What a command prints: one JSON object, or lines for a person."""

from typing import Annotated
from urllib.parse import quote

import msgspec
import typer

from service.console import out, shown

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
SEED_MAX = (1 << 32) - 1
"""The largest seed that scikit-learn takes."""


def in_path(name: str) -> str:
    """Return *name* as one segment of a path, whatever is in it."""
    quoted = quote(name, safe="")
    return quoted if quoted.strip(".") else quoted.replace(".", "%2E")  # or the client would go up a level


def tell(facts: object, as_json: bool, lines: list[str]) -> None:
    if as_json:
        print(msgspec.json.encode(facts).decode())
    else:
        for line in lines:
            out.print(shown(line))
