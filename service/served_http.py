"""Read API of what was served: completeness."""

from collections.abc import Callable

from starlette.datastructures import QueryParams
from starlette.requests import Request

from domain.serves import MINUTE_MS
from projections.completeness import Completeness, CompletenessQueries, ServedDimension
from projections.reports import HOUR_MS, ROWS_DEFAULT
from projections.vocabulary import Granularity
from service.desk_http import Extra
from service.endpoints import json_reply
from service.parameters import member_of, members_of, number_of, only_known, rfc3339, time_of
from service.problems import Reply
from service.report_replies import fresh_of

_DAY_MS = 24 * HOUR_MS
_COMPLETENESS = frozenset({"dimensions", "granularity", "since", "until", "limit"})


def served_routes(queries: CompletenessQueries, now: Callable[[], int]) -> tuple[Extra, ...]:
    """Return what the desk serves besides its own."""

    async def completeness(request: Request) -> Reply:
        answer = await queries.completeness(completeness_of(request.query_params, now()))
        at = answer.columns[:1] == ("time",)
        rows = [(rfc3339(row[0]), *row[1:]) for row in answer.rows] if at else answer.rows
        body = {
            **fresh_of(answer),
            "columns": answer.columns,
            "rows": [dict(zip(answer.columns, row, strict=True)) for row in rows],
            "truncated": answer.truncated,
            "reports": answer.reports,
            "sources": answer.sources,
            "reports_missing": answer.reports_missing,
        }
        return json_reply(body)

    return (Extra("/v1/completeness", "report", completeness),)


def completeness_of(parameters: QueryParams, now: int) -> Completeness:
    """
    Return the question that *parameters* ask, by default of the last 24 hours; filters are named as their dimensions.

    Raises:
        BadParameter: naming the one that is wrong.
    """
    only_known(parameters, _COMPLETENESS | set(ServedDimension))
    until = time_of(parameters, "until")
    until = now - now % MINUTE_MS + MINUTE_MS if until is None else until
    since = time_of(parameters, "since")
    since = until - _DAY_MS if since is None else since
    return Completeness(
        dimensions=members_of(parameters, "dimensions", ServedDimension),
        granularity=member_of("granularity", parameters.get("granularity", Granularity.NONE.value), Granularity),
        filters={one: tuple(parameters.getlist(one.value)) for one in ServedDimension if one.value in parameters},
        since=since - since % MINUTE_MS,
        until=until + -until % MINUTE_MS,
        rows_max=number_of(parameters, "limit", ROWS_DEFAULT) or 0,
    )
