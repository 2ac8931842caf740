"""Talks to the running gate over HTTP, for the command line."""

from collections.abc import Mapping
from typing import Any

import httpx

from service.asking import said_of
from service.keyfiles import load_keys
from service.processes import LauncherError
from service.settings import Settings

_ANSWER_MAX_S = 30.0
_ERROR = 400


class ToldInVain(LauncherError):
    """The gate does not run, or refuses what it is told."""


def tell(  # noqa: PLR0913 (a request has this much)
    settings: Settings,
    method: str,
    path: str,
    *,
    parameters: Mapping[str, str] | None = None,
    document: object = None,
    version: int | None = None,
    content: bytes | None = None,
) -> Any:
    """
    Send a request to the gate and return its answer; *version* is the one of what is to be changed.

    The body is *document* as JSON, or *content* as it is.

    Raises:
        ToldInVain: with the gate's own words, or what to start.
    """
    url = f"http://{settings.host}:{settings.gate_port}{path}"
    headers = {"authorization": f"Bearer {load_keys(settings.data_dir).operator}"}
    if version is not None:
        headers["if-match"] = f'"{version}"'
    if content is not None:
        headers["content-type"] = "application/octet-stream"
    asked = {name: value for name, value in (parameters or {}).items() if value}
    try:
        response = httpx.request(
            method, url, params=asked, json=document, content=content, headers=headers, timeout=_ANSWER_MAX_S
        )
        answer = response.json()
    except (httpx.HTTPError, ValueError) as error:
        raise ToldInVain(f"the gate does not answer at {url}: {error}. `impledger up` starts it.") from error
    if response.status_code >= _ERROR:
        raise ToldInVain(said_of(settings, response.status_code, answer))
    return answer
