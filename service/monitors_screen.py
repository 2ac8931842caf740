"""What the monitors say, as a table in a terminal."""

from collections.abc import Mapping
from typing import Any

from service.console import PROSE_WIDTH, Grid, shown

QUIET_MAX = 20
"""Most series without an alarm that are shown, those nearest to one; all are in the JSON."""
_SHARES = frozenset(
    {
        "lost",
        "missing_numbers",
        "double_fires",
        "duplicate_renders",
        "feature_missing",
        "feature_stale",
        "grey",
        "rules_only",
        "model_only",
        "skew",
    }
)


def monitors_table(answer: Mapping[str, Any]) -> Grid:
    """Return alarms, and the series that come nearest to one."""
    standing = {_cell(alarm): alarm["since"] for alarm in answer["alarms"]}
    alarms = f"{len(standing)} alarm{'s' if len(standing) > 1 else ''}" if standing else "no alarm"
    findings = answer["findings"]
    table = Grid(title=f"{alarms}; {len(findings):,} series", caption_justify="left")
    for name in ("check", "surface", "of"):
        table.add_column(name)
    for name in ("seen", "is", "expected", "q value"):
        table.add_column(name, justify="right")
    table.add_column("alarm since, or why untested", max_width=PROSE_WIDTH)
    loud = [one for one in findings if _cell(one) in standing]
    quiet = sorted((one for one in findings if _cell(one) not in standing), key=_rank)
    for finding in (*loud, *quiet[:QUIET_MAX]):
        since = standing.get(_cell(finding), "")
        table.add_row(*_row(finding, since), style="red" if since else "")
    table.caption = "\n".join([*map(_told, loud), *_looks(answer["looks"])])
    return table


def _row(finding: Mapping[str, Any], since: str) -> tuple[str, ...]:
    is_tested = finding["p_value"] is not None
    return (
        *_cell(finding),
        f"{finding['trials']:,}",
        _value(finding, "value") if finding["trials"] else "",
        _value(finding, "expected") if is_tested else "",
        f"{finding['q_value']:.2g}" if is_tested else "",
        since if is_tested else finding["untested"],
    )


def _told(finding: Mapping[str, Any]) -> str:
    return shown(f"{' '.join(filter(None, _cell(finding)))}: {finding['says'] or 'see docs/monitors.md'}")


def _looks(looks: list[Mapping[str, Any]]) -> list[str]:
    if not looks:
        return ["no look yet"]
    return [f"{one['inspection']} at {one['looked_at']}: {one['says']}" for one in looks]


def _rank(finding: Mapping[str, Any]) -> tuple[bool, float]:
    """Tested ones first, the surest of them before all."""
    q_value = finding["q_value"]
    return q_value is None, 0.0 if q_value is None else q_value


def _cell(finding: Mapping[str, Any]) -> tuple[str, str, str]:
    return finding["check"], finding["surface"], finding["subject"]


def _value(finding: Mapping[str, Any], field: str) -> str:
    value = finding[field]
    if value is None:
        return ""
    return f"{value:.2%}" if finding["check"] in _SHARES else f"{value:.3g}"
