"""Asks the running gate over HTTP, for the operator's commands."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Self

import httpx

from service.asking import AskedInVain, said_of
from service.keyfiles import load_keys
from service.settings import Settings

_ANSWER_MAX_S = 30.0
_BUSY, _ERROR = 503, 400
_TRIES_MAX = 10


class Refused(AskedInVain):
    """The gate answered, and will not; `status` is that of HTTP."""

    def __init__(self, status: int, what: str) -> None:
        super().__init__(what)
        self.status = status


class GateClient:
    """One connection to the gate of *settings*, with the operator's key; use it as a context."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._url = f"http://{settings.host}:{settings.gate_port}"
        key = load_keys(settings.data_dir).operator
        self._http = httpx.Client(headers={"authorization": f"Bearer {key}"}, timeout=_ANSWER_MAX_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, path: str, parameters: Mapping[str, str | Sequence[str]]) -> Any:
        """
        Return the gate's answer; empty parameters are left out, lists are repeated.

        Raises:
            Refused: with the gate's own words.
            AskedInVain: it does not answer.
        """
        asked = {name: value for name, value in parameters.items() if value}
        return self._ask("GET", path, params=asked)

    def post(self, path: str, document: object) -> Any:
        """
        Return the gate's answer to *document*, which must be safe to repeat: while the gate is busy it is sent again.

        Raises:
            Refused: with the gate's own words.
            AskedInVain: it does not answer.
        """
        return self._ask("POST", path, json=document)

    def _ask(self, method: str, path: str, **sent: Any) -> Any:
        for is_last in (*[False] * (_TRIES_MAX - 1), True):
            try:
                response = self._http.request(method, self._url + path, **sent)
                answer = response.json()
            except (httpx.HTTPError, ValueError) as error:
                raise AskedInVain(
                    f"the gate does not answer at {self._url}{path}: {error}. `impledger up` starts it."
                ) from error
            if response.status_code == _BUSY and not is_last:
                time.sleep(float(response.headers.get("retry-after", "1")))
                continue
            if response.status_code >= _ERROR:
                raise Refused(response.status_code, said_of(self._settings, response.status_code, answer))
            return answer
        raise AssertionError("the last try returns or raises")
