"""Asks the running gate and desk over HTTP, for the command line."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Self, TypeAlias

import httpx

from service.keyfiles import load_keys
from service.processes import LauncherError
from service.settings import Settings

Parameters: TypeAlias = Mapping[str, str | Sequence[str]]

_ANSWER_MAX_S = 30.0
_ERROR, _UNKNOWN_KEY, _FAULT, _BUSY = 400, 401, 500, 503
_TRIES_MAX = 10


class AskedInVain(LauncherError):
    """Gate or desk does not run, or does not answer."""


class Refused(AskedInVain):
    """Gate or desk answered, and will not; `status` is that of HTTP."""

    def __init__(self, status: int, what: str) -> None:
        super().__init__(what)
        self.status = status
        if status < _FAULT:
            self.next_step = "The command's --help says what it takes."


def ask(settings: Settings, path: str, parameters: Parameters) -> Any:
    """
    Return the desk's answer to *path*; empty parameters are left out, lists are joined by commas.

    Raises:
        Refused: with the desk's own words.
        AskedInVain: it does not answer.
    """
    return _ask_desk(settings, path, parameters, "application/json").json()


class Csv(NamedTuple):
    """Comma-separated values. `truncated`: there are more rows than the question allowed."""

    text: str
    truncated: bool


def ask_csv(settings: Settings, path: str, parameters: Parameters) -> Csv:
    """Return the desk's answer to *path* as comma-separated values; see `ask`."""
    response = _ask_desk(settings, path, parameters, "text/csv")
    return Csv(response.text, response.headers.get("x-truncated") == "true")


class GateClient:
    """
    One connection to the gate of *settings*, with the operator's key; use it as a context.

    What it is told must be safe to repeat: while the gate is busy it is told again. Every method raises `Refused`, with
    the gate's own words, or `AskedInVain` where it does not answer.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._url = f"http://{settings.host}:{settings.gate_port}"
        self._http = httpx.Client(headers=_key(settings), timeout=_ANSWER_MAX_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, path: str, parameters: Parameters | None = None) -> Any:
        """Return the gate's answer; empty parameters are left out, lists are repeated."""
        return self._ask("GET", path, params={name: value for name, value in (parameters or {}).items() if value})

    def post(self, path: str, document: object) -> Any:
        """Return the gate's answer to *document*, which is sent as JSON, or as it is if it is bytes."""
        if isinstance(document, bytes):
            return self._ask("POST", path, content=document, headers={"content-type": "application/octet-stream"})
        return self._ask("POST", path, json=document)

    def patch(self, path: str, document: object, version: int) -> Any:
        """Return the gate's answer to the changes of *document* to what is at *version*."""
        return self._ask("PATCH", path, json=document, headers={"if-match": f'"{version}"'})

    def _ask(self, method: str, path: str, **sent: Any) -> Any:
        url, tries = self._url + path, 1
        send = partial(self._http.request, method, url, **sent)
        while True:
            response = _answer("gate", url, send)
            if response.status_code != _BUSY or tries == _TRIES_MAX:
                return _accepted(self._settings, response).json()
            time.sleep(float(response.headers.get("retry-after", "1")))
            tries += 1


def said_of(settings: Settings, status: int, problem: Mapping[str, Any]) -> str:
    """Return what the *problem* document of a desk or a gate says, and what to do where it does not know our key."""
    said = ": ".join(str(problem[part]) for part in ("title", "detail") if problem.get(part))
    if status == _UNKNOWN_KEY:
        where = f"It does not run on {settings.data_dir.resolve()}"
        return f"{said}. {where}; set IMPLEDGER_DATA_DIR to the folder that it runs on."
    return said or f"status {status}"


def _ask_desk(settings: Settings, path: str, parameters: Parameters, media_type: str) -> httpx.Response:
    asked = {name: value if isinstance(value, str) else ",".join(value) for name, value in parameters.items() if value}
    url = f"http://{settings.host}:{settings.desk_port}{path}"
    headers = {**_key(settings), "accept": media_type}
    send = partial(httpx.get, url, params=asked, headers=headers, timeout=_ANSWER_MAX_S)
    return _accepted(settings, _answer("desk", url, send))


def _key(settings: Settings) -> dict[str, str]:
    return {"authorization": f"Bearer {load_keys(settings.data_dir).operator}"}


def _answer(who: str, url: str, send: Callable[[], httpx.Response]) -> httpx.Response:
    """Return what *who* says, which is JSON or, where that was asked for, CSV."""
    try:
        response = send()
        if not response.headers.get("content-type", "").startswith("text/csv"):
            response.json()
    except (httpx.HTTPError, ValueError) as error:
        raise AskedInVain(f"the {who} does not answer at {url}: {error}. `impledger up` starts it.") from error
    return response


def _accepted(settings: Settings, response: httpx.Response) -> httpx.Response:
    if response.status_code >= _ERROR:
        raise Refused(response.status_code, said_of(settings, response.status_code, response.json()))
    return response
