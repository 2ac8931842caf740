"""What commands share: the settings, the running gate, and how they print one JSON object, or lines for a person."""

import os
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

import msgspec
import typer
from rich.console import RenderableType

from service.console import out, shown
from service.settings import Settings

if TYPE_CHECKING:
    from service.asking import GateClient

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
SEED_MAX = (1 << 32) - 1
"""The largest seed that scikit-learn takes."""


def read_settings() -> Settings:
    return Settings.from_env(os.environ)


def gate_client() -> "GateClient":
    from service.asking import GateClient  # noqa: PLC0415 (each command loads what it needs)

    return GateClient(read_settings())


def in_path(name: str) -> str:
    """Return *name* as one segment of a path, whatever is in it."""
    quoted = quote(name, safe="")
    return quoted if quoted.strip(".") else quoted.replace(".", "%2E")  # or the client would go up a level


def epoch_ms(text: str, option: str) -> int:
    """Return the time that *option* says in RFC 3339."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"{option}: {text!r} is no time of RFC 3339, such as 2026-03-01T00:00:00Z") from error
    if moment.tzinfo is None:
        raise typer.BadParameter(f"{option}: {text!r} must say its offset from UTC, such as Z")
    return int(moment.timestamp() * 1_000)


def tell(facts: object, as_json: bool, lines: list[str]) -> None:
    if as_json:
        print_json(facts)
    else:
        for line in lines:
            out.print(shown(line))


def print_answer(facts: object, as_json: bool, screen: Callable[[], RenderableType]) -> None:
    """Print *facts* as one JSON object, or what *screen* makes for a person."""
    if as_json:
        print_json(facts)
    else:
        out.print(screen())


def print_json(facts: object) -> None:
    print(msgspec.json.encode(facts).decode())


def indented(facts: object) -> str:
    """Return *facts* as JSON for a person."""
    return msgspec.json.format(msgspec.json.encode(facts)).decode()
