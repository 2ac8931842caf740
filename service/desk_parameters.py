"""From the query string of the read API to questions. Times are epoch ms or RFC 3339 in, RFC 3339 UTC out."""

from starlette.datastructures import QueryParams

from domain.vocabulary import DataSet, Format
from projections.errors import QueryRefused
from projections.queries import MINUTE_MS, Pacing
from projections.reports import DAY_MS, HOUR_MS, ROWS_DEFAULT, Report
from projections.vocabulary import USUAL, Dimension, Granularity, Metric
from service.parameters import member_of, members_of, number_of, only_known, time_of
from service.problems import BadParameter

_REPORT = frozenset(
    {"dimensions", "metrics", "granularity", "since", "until", "as_of", "as_of_position", "pack", "limit"}
)
_PACING = frozenset({"since", "until", "minutes", "data_set"})
_OUTPUTS = ("json", "csv")


def output_of(parameters: QueryParams, accept: str) -> str:
    """
    Return `json` or `csv`, whichever is asked for by `format=` or by an `Accept` header.

    `format` is also a dimension; the values of the two are none of each other's.
    """
    named = [value for value in parameters.getlist("format") if value in _OUTPUTS]
    return named[-1] if named else "csv" if "text/csv" in accept else "json"


def report_of(parameters: QueryParams, now: int) -> tuple[Report, int | None]:
    """
    Return the report that *parameters* ask for, and the time as of which; by default the day up to the current hour.

    Filters are named as their dimensions and may be repeated.

    Raises:
        BadParameter, QueryRefused: naming the one that is wrong.
    """
    only_known(parameters, _REPORT | set(Dimension))
    values = {dimension: parameters.getlist(dimension.value) for dimension in Dimension if dimension in parameters}
    if Dimension.FORMAT in values:
        values[Dimension.FORMAT] = [value for value in values[Dimension.FORMAT] if value not in _OUTPUTS]
        if not set(values[Dimension.FORMAT]) <= set(Format):
            raise QueryRefused("format", f"must be one of {', '.join([*Format, *_OUTPUTS])}")
    until = time_of(parameters, "until")
    until = now - now % HOUR_MS + HOUR_MS if until is None else until
    since = time_of(parameters, "since")
    as_of = time_of(parameters, "as_of")
    position = number_of(parameters, "as_of_position")
    if as_of is not None and position is not None:
        raise BadParameter("as_of: name a time or a position, not both")
    report = Report(
        dimensions=members_of(parameters, "dimensions", Dimension),
        granularity=member_of("granularity", parameters.get("granularity", Granularity.NONE.value), Granularity),
        filters={dimension: tuple(named) for dimension, named in values.items() if named},
        since=until - DAY_MS if since is None else since,
        until=until,
        packs=tuple(pack for text in parameters.getlist("pack") for pack in text.split(",") if pack),
        position=position,
        rows_max=number_of(parameters, "limit", ROWS_DEFAULT) or 0,
        metrics=members_of(parameters, "metrics", Metric) or USUAL,
    )
    return report, as_of


def pacing_of(campaign: str, parameters: QueryParams, now: int) -> Pacing:
    """
    Return the pacing that *parameters* ask for; by default of the last 30 days with the last 60 minutes.

    Raises:
        BadParameter: naming the one that is wrong.
    """
    only_known(parameters, _PACING)
    until = time_of(parameters, "until")
    until = now - now % MINUTE_MS + MINUTE_MS if until is None else until
    since = time_of(parameters, "since")
    return Pacing(
        campaign=campaign,
        since=until - 30 * DAY_MS if since is None else since,
        until=until,
        minutes=number_of(parameters, "minutes", 60) or 0,
        data_set=member_of("data_set", parameters.get("data_set", DataSet.LIVE.value), DataSet),
    )
