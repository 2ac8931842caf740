"""The one table from what went wrong to HTTP: RFC 9457 problem documents."""

from collections.abc import Mapping

import msgspec
from msgspec import Struct

from commands.batcher import Overloaded
from commands.dead_letters import NoSuchLetter
from commands.items import Status
from commands.ladder import DrillRefused
from commands.quarantine_entries import BodyGone, FixRefused, NotInQuarantine, NotReplayable, QuarantineError
from commands.serves import TooManyCounts
from commands.shelter_trust import OrderRefused
from domain.feedback import FeedbackRefusal
from domain.reasons import Reason
from domain.serves import ServeRefusal
from ledger.codec import UnreadableCommit
from ledger.spool import SpoolRefused
from ledger.store import LedgerUnavailable
from projections.errors import (
    CheckpointsUnavailable,
    ProjectionError,
    QueryRefused,
    QuestionTooLarge,
    TablesUnavailable,
)

MEDIA_TYPE = "application/problem+json"


class RequestError(Exception):
    """A request cannot be served as it is; the text says why, without repeating what it holds."""


class BodyTooLarge(RequestError):
    pass


class TooManyRenders(RequestError):
    pass


class TooManyReports(RequestError):
    pass


class UnsupportedMedia(RequestError):
    pass


class EncodedBody(RequestError):
    pass


class BadDocument(RequestError):
    pass


class BadParameter(RequestError):
    pass


class UnknownKey(RequestError):
    pass


class ScopeMissing(RequestError):
    pass


class NoSuchThing(RequestError):
    pass


class MethodNotAllowed(RequestError):
    """`allowed` are those that are, as the header `Allow` names them."""

    def __init__(self, what: str, allowed: str = "") -> None:
        super().__init__(what)
        self.allowed = allowed


class CampaignConflict(RequestError):
    pass


class CampaignVersionMissing(RequestError):
    pass


class CampaignVersionChanged(RequestError):
    pass


class UnusableCampaign(RequestError):
    pass


class TooManyEnvelopes(RequestError):
    pass


class ModelConflict(RequestError):
    pass


class UnusableModel(RequestError):
    pass


class TooMuchFeedback(RequestError):
    pass


class Problem(Struct, frozen=True):
    status: int
    title: str


PROBLEMS: Mapping[type[Exception], Problem] = {
    BodyTooLarge: Problem(413, "The body is too large"),
    TooManyRenders: Problem(413, "The request has too many renders"),
    TooManyReports: Problem(413, "The request has too many reports"),
    TooManyEnvelopes: Problem(413, "The request has too many envelopes"),
    TooMuchFeedback: Problem(413, "The request has too much feedback"),
    TooManyCounts: Problem(413, "The reports of the request have too many counts"),
    UnsupportedMedia: Problem(415, "The content type is not one of application/json and application/x-ndjson"),
    EncodedBody: Problem(415, "The body is in a content encoding that is not read"),
    BadDocument: Problem(400, "The document cannot be read"),
    BadParameter: Problem(400, "A parameter cannot be used"),
    UnknownKey: Problem(401, "The bearer token is not known"),
    ScopeMissing: Problem(403, "The bearer token lacks a scope"),
    NoSuchThing: Problem(404, "There is nothing here"),
    MethodNotAllowed: Problem(405, "The method is not allowed here"),
    CampaignConflict: Problem(409, "The campaign or the request's id is taken"),
    CampaignVersionMissing: Problem(428, "The change does not say which version it is for"),
    CampaignVersionChanged: Problem(412, "The campaign has changed since"),
    UnusableCampaign: Problem(422, "The campaign cannot be as it is asked for"),
    ModelConflict: Problem(409, "Models are in force otherwise, or the request's id is taken"),
    UnusableModel: Problem(422, "The model cannot be used or placed so"),
    Overloaded: Problem(503, "Too busy; send the same events again"),
    NoSuchLetter: Problem(404, "There is no such dead letter"),
    NotInQuarantine: Problem(404, "There is no such entry in quarantine"),
    NotReplayable: Problem(409, "The entry cannot be replayed"),
    BodyGone: Problem(410, "The body in quarantine is gone"),
    FixRefused: Problem(422, "The fix does not do"),
    DrillRefused: Problem(422, "The drill cannot be done"),
    LedgerUnavailable: Problem(503, "The ledger does not answer; ask or send the same again"),
    SpoolRefused: Problem(503, "Neither the ledger nor the spool takes it; send the same events again"),
    OrderRefused: Problem(422, "The shelter order cannot be taken"),
    QueryRefused: Problem(400, "The question cannot be asked so"),
    QuestionTooLarge: Problem(422, "The answer takes more than one question may"),
    TablesUnavailable: Problem(503, "The tables do not answer; ask again"),
    CheckpointsUnavailable: Problem(503, "The checkpoints do not answer; ask again"),
    ProjectionError: Problem(503, "The read side cannot answer now; ask again"),
    UnreadableCommit: Problem(500, "The stream was written by a newer program, or is damaged"),
}
"""Every error that a request can end in. What is not here is a broken invariant: 500."""

UNFORESEEN = Problem(500, "An error of ours")

REFUSALS: Mapping[Reason, Problem] = {
    Reason.TOKEN_INVALID: Problem(403, "The token is not one of delivery's"),
    Reason.TOKEN_EXPIRED: Problem(410, "The token has expired"),
    Reason.REGION_MISDIRECTED: Problem(421, "Another region or cell owns the impression"),
    Reason.EVENT_ID_REUSED: Problem(409, "The event id came before with another content"),
}
"""What a single refused render is answered with; in a batch it is an outcome among others."""

QUARANTINED = Problem(422, "The render cannot be read and is in quarantine")

DEFERRED = Problem(503, "The event cannot be taken now; send the same event again")

SHELTER_BUSY = Problem(503, "The shelter of another region has no room, or does not answer; send the same events again")

REPORT_REFUSALS: Mapping[ServeRefusal, Problem] = {
    ServeRefusal.SEQUENCE_REUSED: Problem(409, "A report of this source, minute and number said otherwise before"),
    ServeRefusal.REGION_MISDIRECTED: Problem(421, "Another region's cell counts these ads"),
    ServeRefusal.MINUTE_TOO_OLD: Problem(410, "The minute is too long ago"),
    ServeRefusal.MINUTE_AHEAD: Problem(422, "The minute has not begun"),
}
"""What a single refused report of serves is answered with; in a batch it is an outcome among others."""

FEEDBACK_REFUSALS: Mapping[FeedbackRefusal, Problem] = {
    FeedbackRefusal.FEEDBACK_ID_REUSED: Problem(409, "Feedback of this id said otherwise before"),
    FeedbackRefusal.OBSERVED_AHEAD: Problem(422, "It is said to be observed in the future"),
    FeedbackRefusal.IMPRESSION_AHEAD: Problem(422, "The impression is not minted yet"),
    FeedbackRefusal.TOO_MANY_FOR_IMPRESSION: Problem(422, "The impression has as much feedback as one may have"),
}
"""What a single refused piece of feedback is answered with; in a batch it is an outcome among others."""

FEEDBACK_MALFORMED = Problem(422, "The feedback cannot be read")
FEEDBACK_DEFERRED = Problem(503, "There is no room for more feedback; send the same again")
REPORT_MALFORMED = Problem(422, "The report cannot be read")
RETRY_AFTER_S = 1
_HEADERS: Mapping[int, tuple[tuple[str, str], ...]] = {
    401: (("www-authenticate", "Bearer"),),
    503: (("retry-after", str(RETRY_AFTER_S)),),
}
"""By status, as RFC 9110 wants them."""
_SHOWN = (RequestError, QuarantineError, DrillRefused, OrderRefused, QueryRefused, QuestionTooLarge)


class Reply(Struct, frozen=True):
    """What goes over the wire."""

    status: int
    body: bytes
    media_type: str = MEDIA_TYPE
    headers: tuple[tuple[str, str], ...] = ()


def problem_of(error: Exception) -> Problem:
    """Return what *error* is to a caller."""
    return next((PROBLEMS[cls] for cls in type(error).__mro__ if cls in PROBLEMS), UNFORESEEN)


def reply_for(error: Exception, request_id: str) -> Reply:
    """Return the problem document for *error*; only our own errors' texts are shown."""
    problem = problem_of(error)
    detail = str(error) if isinstance(error, _SHOWN) else ""
    headers = _HEADERS.get(problem.status, ())
    if isinstance(error, MethodNotAllowed) and error.allowed:
        headers = (("allow", error.allowed),)
    facts = {"field": error.field} if isinstance(error, QueryRefused) else {}
    return document(problem, request_id, detail=detail, headers=headers, **facts)


def document(
    problem: Problem, request_id: str, *, detail: str = "", headers: tuple[tuple[str, str], ...] = (), **facts: object
) -> Reply:
    """Return *problem* as a reply; *facts* are extension members."""
    body = {"type": "about:blank", "title": problem.title, "status": problem.status, "request_id": request_id}
    if detail:
        body["detail"] = detail
    return Reply(problem.status, msgspec.json.encode({**body, **facts}), headers=headers)


def problem_of_status(status: Status, reason: Reason | None) -> Problem | None:
    """Return the problem that a single render's outcome is, None if it was taken in."""
    if status is Status.QUARANTINED:
        return QUARANTINED
    if status is Status.DEFERRED:
        return DEFERRED
    return REFUSALS[reason] if status is Status.REFUSED and reason is not None else None
