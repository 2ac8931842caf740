"""Asks the running desk over HTTP, for the command line."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import httpx

from service.keyfiles import load_keys
from service.processes import LauncherError
from service.settings import Settings

Parameters: TypeAlias = Mapping[str, str | Sequence[str]]

_ANSWER_MAX_S = 30.0
_ERROR, _UNKNOWN_KEY = 400, 401


class AskedInVain(LauncherError):
    """The desk does not run, or does not answer the question."""


def ask(settings: Settings, path: str, parameters: Parameters) -> Any:
    """
    Return the desk's answer to *path*; empty parameters are left out, lists are joined by commas.

    Raises:
        AskedInVain: with the desk's own words, or what to start.
    """
    return _asked(settings, path, parameters, "application/json").json()


class Csv(NamedTuple):
    """Comma-separated values. `truncated`: there are more rows than the question allowed."""

    text: str
    truncated: bool


def ask_csv(settings: Settings, path: str, parameters: Parameters) -> Csv:
    """Return the desk's answer to *path* as comma-separated values; see `ask`."""
    response = _asked(settings, path, parameters, "text/csv")
    return Csv(response.text, response.headers.get("x-truncated") == "true")


def _asked(settings: Settings, path: str, parameters: Parameters, media_type: str) -> httpx.Response:
    asked = {name: value if isinstance(value, str) else ",".join(value) for name, value in parameters.items() if value}
    url = f"http://{settings.host}:{settings.desk_port}{path}"
    headers = {"authorization": f"Bearer {load_keys(settings.data_dir).operator}", "accept": media_type}
    try:
        response = httpx.get(url, params=asked, headers=headers, timeout=_ANSWER_MAX_S)
        refused = response.json() if response.status_code >= _ERROR or media_type.endswith("json") else {}
    except (httpx.HTTPError, ValueError) as error:
        raise AskedInVain(f"the desk does not answer at {url}: {error}. `impledger up` starts it.") from error
    if response.status_code >= _ERROR:
        raise AskedInVain(said_of(settings, response.status_code, refused))
    return response


def said_of(settings: Settings, status: int, problem: Mapping[str, Any]) -> str:
    """Return what the *problem* document of a desk or a gate says, and what to do where it does not know our key."""
    said = ": ".join(str(problem[part]) for part in ("title", "detail") if problem.get(part))
    if status == _UNKNOWN_KEY:
        where = f"It does not run on {settings.data_dir.resolve()}"
        return f"{said}. {where}; set IMPLEDGER_DATA_DIR to the folder that it runs on."
    return said or f"status {status}"
