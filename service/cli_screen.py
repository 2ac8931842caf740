"""What a command prints: one JSON object, or lines for a person."""

from typing import Annotated

import msgspec
import typer

from service.console import out, shown

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
SEED_MAX = (1 << 32) - 1
"""The largest seed that scikit-learn takes."""


def tell(facts: object, as_json: bool, lines: list[str]) -> None:
    if as_json:
        print(msgspec.json.encode(facts).decode())
    else:
        for line in lines:
            out.print(shown(line))
