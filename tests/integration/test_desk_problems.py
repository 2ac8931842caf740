"""What each wrong question is told, and that nothing of the inside is told."""

import asyncio
from hashlib import sha256
from uuid import uuid4

import httpx
import pytest
from builders import MINTED
from prometheus_client import CollectorRegistry

from ledger.codec import UnreadableCommit
from ledger.store import LedgerUnavailable
from projections.errors import (
    CheckpointsUnavailable,
    LeaseLost,
    ProjectionError,
    QueryRefused,
    QuestionTooLarge,
    SchemaChanged,
    TablesUnavailable,
)
from service.access import Access
from service.desk_http import Desk, desk_app
from service.problems import PROBLEMS, RequestError, UnknownKey, problem_of

SCOPES = {"reporter": ["report"], "auditor": ["audit"], "gate": ["ingest"]}
ACCESS = Access({sha256(name.encode()).hexdigest(): scopes for name, scopes in SCOPES.items()})


def get(error, path, token):
    """Ask a desk of which everything behind ends in *error*."""

    async def unready():
        return None

    behind = Failing(error)
    desk = Desk(behind, behind, behind, ACCESS, unready, CollectorRegistry(), lambda: MINTED)

    async def main():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(desk_app(desk)), base_url="http://desk") as http:
            return await http.get(path, headers={"authorization": f"Bearer {token}"} if token else {})

    return asyncio.run(main())


class Failing:
    """A port that does not answer."""

    def __init__(self, error):
        self._error = error

    def __getattr__(self, name):
        async def call(*_):
            raise self._error

        return call


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (TablesUnavailable("secret"), 503),
        (CheckpointsUnavailable("secret"), 503),
        (LedgerUnavailable("secret"), 503),
        (UnreadableCommit("secret"), 500),
        (RuntimeError("secret"), 500),
    ],
)
def test_what_fails_inside_is_a_problem_that_tells_nothing_of_the_inside(error, status):
    for path, token in (("/v1/reports", "reporter"), (f"/v1/impressions/{uuid4()}", "auditor")):
        answer = get(error, path, token)
        assert (answer.status_code, answer.json()["status"]) == (status, status)
        assert "secret" not in answer.text
        assert ("retry-after" in answer.headers) == (status == 503)


def test_a_question_whose_answer_takes_too_much_is_told_what_to_ask_instead():
    answer = get(QuestionTooLarge("ask for a shorter time"), "/v1/reports", "reporter")
    assert (answer.status_code, answer.json()["detail"]) == (422, "ask for a shorter time")
    assert "retry-after" not in answer.headers


def subclasses(cls):
    return {found for child in cls.__subclasses__() for found in {child, *subclasses(child)}}


def test_every_error_of_the_read_side_is_in_the_table():
    of_start = {SchemaChanged}
    assert {LeaseLost, QueryRefused} <= subclasses(ProjectionError)
    for cls in subclasses(ProjectionError) - of_start | {LedgerUnavailable, UnreadableCommit}:
        arguments = ("field", "why") if cls is QueryRefused else ("why",)
        assert problem_of(cls(*arguments)) in PROBLEMS.values()
    for cls in subclasses(RequestError):
        assert cls in PROBLEMS


def test_every_problem_has_a_title_and_a_status_of_an_error():
    assert all(400 <= problem.status < 600 and problem.title for problem in PROBLEMS.values())
    assert problem_of(UnknownKey("x")).status == 401


@pytest.mark.parametrize(
    ("token", "path", "status"),
    [
        ("stranger", "/v1/reports", 401),
        ("auditor", "/v1/reports", 403),
        ("", "/v1/reports", 403),
        ("gate", "/v1/campaigns/c/pacing", 403),
        ("reporter", "/v1/impressions/0198c0de-0000-7000-8000-00000000beef", 403),
    ],
)
def test_a_caller_without_the_scope_is_refused(token, path, status):
    answer = get(AssertionError("not asked"), path, token)
    assert (answer.status_code, answer.json()["status"]) == (status, status)
    assert answer.headers["content-type"] == "application/problem+json"
