"""`/v1/feedback`: takes feedback (scope `feedback`), and tells what became of it (scope `admin`)."""

from typing import Any

import msgspec
from prometheus_client import CollectorRegistry, Counter
from starlette.requests import Request
from starlette.routing import Route

from commands.feedback import FeedbackAnswer, FeedbackInbox, FeedbackStatus
from commands.feedback_store import LISTED_MAX, FeedbackBooks, FeedbackState, FeedbackStore, Kept, Wanted
from domain.feedback import SOURCES, Traffic
from domain.render import millis
from service.access import Access
from service.endpoints import JSON, NDJSON, body_of, guarded, json_reply, media_type_of, request_id_of, split
from service.parameters import after_of, flag_of, members_of, only_known, page_limit, rfc3339, uuid_of
from service.problems import (
    FEEDBACK_DEFERRED,
    FEEDBACK_MALFORMED,
    FEEDBACK_REFUSALS,
    NoSuchThing,
    Reply,
    TooMuchFeedback,
    UnsupportedMedia,
    document,
)

SCOPE, ADMIN = "feedback", "admin"
BODY_MAX_BYTES = 1 << 20
FEEDBACK_MAX = 250
"""In one request: reading and keeping more at once would hold up decisions by milliseconds."""
_LIMIT = 100
_ASKED = frozenset({"state", "impression_id", "failing", "after", "limit"})

_ENCODER = msgspec.json.Encoder()


class FeedbackHttp:
    """The endpoints; *body_max_bytes* is the gate's limit, this one's own is lower."""

    def __init__(
        self,
        inbox: FeedbackInbox,
        store: FeedbackStore,
        access: Access,
        registry: CollectorRegistry,
        body_max_bytes: int,
    ) -> None:
        self._inbox = inbox
        self._store = store
        self._access = access
        self._body_max_bytes = min(body_max_bytes, BODY_MAX_BYTES)
        self._answers = Counter(
            "impledger_feedback_answers", "Feedback answered", ("status", "reason"), registry=registry
        )

    def routes(self) -> list[Route]:
        return [
            Route("/v1/feedback", guarded(self._access, SCOPE, self._take), methods=["POST"]),
            Route("/v1/feedback", guarded(self._access, ADMIN, self._entries)),
            Route("/v1/feedback/books", guarded(self._access, ADMIN, self._tell_books)),
            Route("/v1/feedback/{id}", guarded(self._access, ADMIN, self._find)),
        ]

    async def _take(self, request: Request) -> Reply:
        media_type = media_type_of(request.headers.get("content-type", ""))
        if media_type not in {JSON, NDJSON}:
            raise UnsupportedMedia(f"send {JSON} or {NDJSON}")
        raws, is_single = split(await body_of(request, self._body_max_bytes), media_type)
        if len(raws) > FEEDBACK_MAX:
            raise TooMuchFeedback(f"at most {FEEDBACK_MAX} pieces of feedback go in one request")
        answers = await self._inbox.take(raws, self._access.key_of(request.headers.get("authorization")))
        for answer in answers:
            self._answers.labels(answer.status.value, answer.reason.value if answer.reason else "").inc()
        if is_single:
            return _single(answers[0], request_id_of(request))
        if media_type == NDJSON:
            return Reply(200, b"".join(_ENCODER.encode(answer) + b"\n" for answer in answers), NDJSON)
        return json_reply(answers)

    async def _entries(self, request: Request) -> Reply:
        only_known(request.query_params, _ASKED)
        wanted = _wanted(request)
        found = await self._store.entries(wanted)
        is_full = bool(found) and len(found) == wanted.limit
        last = f"{found[-1].received_at}_{found[-1].feedback.id}" if is_full else None
        return json_reply({"feedback": [_told(one) for one in found], "after": last})

    async def _find(self, request: Request) -> Reply:
        found = await self._store.find(uuid_of(request.path_params["id"], "id"))
        if found is None:
            raise NoSuchThing("nobody sent feedback of that id, or it was settled and is forgotten")
        return json_reply(_told(found))

    async def _tell_books(self, request: Request) -> Reply:
        only_known(request.query_params, ())
        return json_reply(books_facts(await self._store.books()))


def books_facts(books: FeedbackBooks) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.to_builtins(books)
    oldest_at = None if books.oldest_at is None else rfc3339(books.oldest_at)
    return {**told, "oldest_at": oldest_at, "unaccounted": books.unaccounted}


def _single(answer: FeedbackAnswer, request_id: str) -> Reply:
    match answer.status:
        case FeedbackStatus.ACCEPTED | FeedbackStatus.HELD:
            return json_reply(answer)
        case FeedbackStatus.DEFERRED:
            return document(FEEDBACK_DEFERRED, request_id, headers=(("retry-after", "1"),), outcome=answer)
        case FeedbackStatus.MALFORMED:
            return document(FEEDBACK_MALFORMED, request_id, outcome=answer)
        case FeedbackStatus.REFUSED:
            assert answer.reason is not None
            return document(FEEDBACK_REFUSALS[answer.reason], request_id, outcome=answer)


def _wanted(request: Request) -> Wanted:
    parameters = request.query_params
    impression = parameters.get("impression_id")
    return Wanted(
        states=members_of(parameters, "state", FeedbackState),
        impression=None if impression is None else uuid_of(impression, "impression_id"),
        failing=flag_of(parameters, "failing"),
        after=after_of(parameters),
        limit=page_limit(parameters, _LIMIT, LISTED_MAX),
    )


def _told(one: Kept) -> dict[str, Any]:
    feedback = one.feedback
    return {
        "id": feedback.id,
        "type": feedback.type,
        "impression_id": feedback.impression_id,
        "traffic": None if feedback.traffic is None else _told_traffic(feedback.traffic),
        "label": feedback.label,
        "weight": SOURCES[feedback.type].weight,
        "observed_at": rfc3339(millis(feedback.observed_at)),
        "received_at": rfc3339(one.received_at),
        "sent_by": one.sent_by,
        "state": one.state,
        "due_at": None if one.due_at is None else rfc3339(one.due_at),
        "tries": one.tries,
        "error": one.error,
        "settled_at": None if one.settled_at is None else rfc3339(one.settled_at),
    }


def _told_traffic(traffic: Traffic) -> dict[str, Any]:
    told: dict[str, Any] = {name: value for name, value in msgspec.to_builtins(traffic).items() if value is not None}
    return {**told, "since": rfc3339(millis(traffic.since)), "until": rfc3339(millis(traffic.until))}
