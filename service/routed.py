"""Lets our own load generator and `replay-log` send through a router instead of to one gate."""

import asyncio
from collections import Counter
from collections.abc import Callable
from random import Random

import msgspec

from commands.items import Answer
from ml.traffic.delivery import JSON, NDJSON, Patience, Unanswered
from ml.traffic.http1 import Response
from service.router import Failed, Outcome, Router

_OK = 200
_RAWS = msgspec.json.Decoder(list[msgspec.Raw])
_ENCODER = msgspec.json.Encoder()


class RoutedCourier:
    """
    Delivers over *router* until every render is answered; what failed is sent again by itself.

    What a cell refuses for good is the answer for the request as a whole. `resends` counts sendings after
    the first of a request, `http` each by 200 if all cells answered, else by the status of the first that did not.
    """

    def __init__(self, router: Router, *, patience: Patience | None = None, seed: int = 0) -> None:
        self._router = router
        self._patience = patience or Patience()
        self._rng = Random(seed)  # noqa: S311 (spreads retries, no secret)
        self._clock = asyncio.get_running_loop().time
        self.resends = 0
        self.http: Counter[int] = Counter()

    async def deliver(
        self, kind: str, body: Callable[[int], bytes], give_up_at: Callable[[], float], took: Callable[[float], None]
    ) -> Response:
        """
        Return what one gate would have answered to *body*; see `Postman.deliver`.

        Raises:
            Unanswered: the deadline passed before all cells had answered.
        """
        outcomes: dict[int, Outcome] = {}
        failures = 0
        while True:
            began = self._clock()
            renders, is_single = _split(body(failures), kind)
            missing = [at for at in range(len(renders)) if not isinstance(outcomes.get(at), Answer)]
            sent = await self._router.send([renders[at] for at in missing])
            outcomes.update(zip(missing, sent, strict=True))
            failed = [outcome for outcome in sent if isinstance(outcome, Failed)]
            self.http[failed[0].status if failed else _OK] += 1
            if for_good := [outcome.status for outcome in failed if not outcome.may_pass]:
                return Response(for_good[0], {}, b"")
            if not failed:
                took(self._clock() - began)
                return _joined([outcomes[at] for at in range(len(renders))], kind, is_single=is_single)
            wait_s = self._patience.wait_s(failures, 0.0, self._rng)
            if self._clock() + wait_s >= give_up_at():
                raise Unanswered
            await asyncio.sleep(wait_s)
            failures += 1
            self.resends += 1


def _split(body: bytes, kind: str) -> tuple[list[bytes], bool]:
    if kind == NDJSON:
        return body.split(b"\n"), False
    if not body.startswith(b"["):
        return [body], True
    return list(map(bytes, _RAWS.decode(body))), False


def _joined(outcomes: list[Outcome], kind: str, *, is_single: bool) -> Response:
    if is_single:
        return Response(_OK, {}, _ENCODER.encode(outcomes[0]))
    if kind == NDJSON:
        return Response(_OK, {}, b"".join(_ENCODER.encode(outcome) + b"\n" for outcome in outcomes))
    return Response(_OK, {"content-type": JSON}, _ENCODER.encode(outcomes))
