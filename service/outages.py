"""Says that a store is away when it begins and then once in a while, not each time that somebody finds it away."""

import time
from collections.abc import Callable

import structlog

AGAIN_AFTER_S = 60.0
_TEXTS_MAX = 64
_NEXT_STEP = (
    "Is it running? `impledger up` starts everything on this machine; `impledger doctor` says what is in the way."
)

log = structlog.get_logger(__name__)


class OutageLog:
    """Belongs to one process; what several works say of one store is one outage."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told: dict[str, float] = {}
        self._untold = 0

    def tell(self, work: str, error: Exception) -> None:
        """Log that *work* met *error*, unless the same was said within AGAIN_AFTER_S."""
        said, now = str(error), self._clock()
        if now - self._told.get(said, -AGAIN_AFTER_S) < AGAIN_AFTER_S:
            self._untold += 1
            return
        if len(self._told) >= _TEXTS_MAX:
            self._told.clear()
        self._told[said] = now
        log.warning("ledger unavailable", work=work, error=said, untold=self._untold, next=_NEXT_STEP)
        self._untold = 0
