"""
Real input: the sessions of an access log, scored without what their agents say, against what their agents say.

The label is weak: who declares to be a bot is one, who does not may be one all the same. And the log is of a web site
without ads: every request stands for an ad that was served and rendered in that moment, of whose client nothing is
known but address and time. So figures say whether rhythm and network alone tell robots from readers, and no more.
"""

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from uuid import UUID

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from domain.events import ImpressionRendered
from domain.vocabulary import AgentClass, BillingEvent, Format, NetworkClass, Surface
from ml.counters.counters import BATCH_MAX, Counters
from ml.counters.keys import KEY_CHARS
from ml.counters.observer import Observer
from ml.counters.tables import HOUR_MS, Capacities
from ml.evaluation.metrics import Floats, Places
from ml.features.matrix import Vectors, vectors
from ml.features.publishers import NO_HISTORY
from ml.features.schema import Group
from ml.lists.screen_lists import Lists
from ml.traffic.access_log import BLANK, LogUnreadable, Request, read_access_log, referrer_parts

IDLE_MS = 1_800_000
"""An address that was silent for so long begins another session."""
LINES_MAX = 1_000_000
UNREAD = frozenset({Group.AGENT, Group.FINGERPRINT})
"""What an agent says, and what is compared with it, is left out: it is the label."""
_PRICE_MICROS = 1_000


class LogTooLong(LogUnreadable):
    """The log has more lines than fit in memory at once."""


class Log(Struct, frozen=True, kw_only=True):
    """
    What an access log holds, in order of time: a row per request, and by session (number = place) who made it.

    `declared` and `browser` tell whether most of a session's requests came from an agent that declares to be a bot, or
    that is a browser by the lists; neither holds for libraries and for those without an agent.
    """

    claims: list[ImpressionRendered]
    image: NDArray[np.bool_]
    session: Places
    address: Places
    declared: NDArray[np.bool_]
    browser: NDArray[np.bool_]
    unread_lines: int

    @property
    def sessions(self) -> int:
        return len(self.declared)


def read_log(path: Path, lists: Lists) -> Log:
    """
    Return the requests of the combined access log at *path*, as ads.

    Raises:
        OSError: it cannot be read.
        LogTooLong: it has more than `LINES_MAX` lines.
    """
    lines = [line for line in islice(read_access_log(path), LINES_MAX + 1) if line is not BLANK]
    if len(lines) > LINES_MAX:
        raise LogTooLong(f"{path} has more than {LINES_MAX} lines; cut it into pieces")
    requests = sorted((line for line in lines if isinstance(line, Request)), key=lambda request: request.at)
    session, address = _sessions(requests)
    claims = [_claim(request, number, lists) for number, request in enumerate(requests)]
    agents = np.array([claim.agent_class.value for claim in claims], np.str_)
    return Log(
        claims=claims,
        image=np.array([request.is_image and request.is_delivered for request in requests], np.bool_),
        session=session,
        address=address,
        declared=_most(agents == AgentClass.DECLARED_BOT.value, session),
        browser=_most(agents == AgentClass.BROWSER.value, session),
        unread_lines=len(lines) - len(requests),
    )


def log_vectors(log: Log) -> Vectors:
    """Return what is known of each request without its agent, as a gate would have known it at the time."""
    if not log.claims:
        return vectors((), None, NO_HISTORY, UNREAD)
    counters = Counters(Capacities(), log.claims[0].event_at - HOUR_MS)
    observer = Observer(counters)
    parts = []
    for batch in _batches(log.claims):
        looked = observer.look(batch)
        parts.append(vectors(batch, looked.features, NO_HISTORY, UNREAD))
        observer.keep(batch)
    return Vectors(np.concatenate([part.values for part in parts]), np.concatenate([part.status for part in parts]))


def network_rules(log: Log) -> Floats:
    """Return 1.0 for requests that rules drop by their network; what else they drop here is for agents and rates."""
    return np.array([claim.network_class is NetworkClass.DATA_CENTRE for claim in log.claims], np.float64)


def by_session(scores: Floats, session: Places, sessions: int) -> Floats:
    """Return the mean of each session's *scores*; NaN for a session that has none."""
    found = np.full(sessions, np.nan)
    rows = np.bincount(session, minlength=sessions)
    np.divide(np.bincount(session, scores, sessions), rows, out=found, where=rows > 0)
    return found


def _claim(request: Request, number: int, lists: Lists) -> ImpressionRendered:
    """An address is all there is to tell visitors apart by, once the agent is not read: it is device and network."""
    host, page = referrer_parts(request.referrer)
    whose = blake2b(request.host.encode(), digest_size=KEY_CHARS // 2).hexdigest()
    return ImpressionRendered(
        cause=UUID(int=number),
        digest="",
        ad=request.path,
        creative=request.path,
        campaign="log",
        advertiser="log",
        placement=f"{host}{page}" or "direct",
        publisher=host or "direct",
        surface=Surface.PIXEL,
        format=Format.DISPLAY,
        region="log",
        currency="EUR",
        price_micros=_PRICE_MICROS,
        billing_event=BillingEvent.IMPRESSION,
        viewability_pack="mrc",
        flight_start=0,
        flight_end=request.at,
        served_at=request.at,
        received_at=request.at,
        event_at=request.at,
        device=whose,
        network=whose,
        agent_class=lists.agent(request.agent),
        network_class=lists.network(request.host),
    )


def _sessions(requests: Sequence[Request]) -> tuple[Places, Places]:
    """Return the session of each request, and the address (by number) of each session."""
    numbers: dict[str, int] = {}
    latest: dict[str, tuple[int, int]] = {}
    session: list[int] = []
    address: list[int] = []
    for request in requests:
        number, at = latest.get(request.host, (-1, -IDLE_MS))
        if number < 0 or request.at - at > IDLE_MS:
            number = len(address)
            address.append(numbers.setdefault(request.host, len(numbers)))
        latest[request.host] = number, request.at
        session.append(number)
    return np.array(session, np.int64), np.array(address, np.int64)


def _most(holds: NDArray[np.bool_], session: Places) -> NDArray[np.bool_]:
    most: NDArray[np.bool_] = 2 * np.bincount(session, holds) > np.bincount(session)
    return most


def _batches(claims: Sequence[ImpressionRendered]) -> Iterator[Sequence[ImpressionRendered]]:
    for at in range(0, len(claims), BATCH_MAX):
        yield claims[at : at + BATCH_MAX]
