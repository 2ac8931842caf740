"""Reports over embedded ClickHouse: rates at their edges, nothing mixed, refused renders beside, nothing too large."""

import asyncio
from threading import Event

import pytest
from builders import HOUR, MINTED, PRICE, a_correction, a_render, a_token, a_view, admit, an_expiry, cause
from deskkit import a_commit, an_engine, commits_of
from msgspec.structs import replace
from reportworld import FIRST, World

from domain.aggregates import AnswersCounted
from domain.reasons import Reason
from domain.vocabulary import Authority, Format
from projections.engine import READING, WAITING_MAX, WRITING, Clients
from projections.errors import QueryRefused, QuestionTooLarge, TablesUnavailable
from projections.metrics import columns_of
from projections.queries import MINUTE_MS, Pacing, Queries
from projections.reports import PACKS_MAX, Report
from projections.vocabulary import IDENTITY, RATES, VIEW_METRICS, Dimension, Granularity, Metric

pytestmark = pytest.mark.slow

COUNTED = (
    *IDENTITY,
    Metric.EXPIRED,
    Metric.GIVT_BY_REASON,
    Metric.SIVT_BY_REASON,
    Metric.UNDECIDED_BY_REASON,
    Metric.DUPLICATES,
    Metric.NOT_COUNTED,
    Metric.NOT_COUNTED_BY_REASON,
    Metric.POLICY,
    Metric.POLICY_BY_REASON,
)
"""All that is counted of impressions without splitting anything."""
COLUMNS = [name for metric in COUNTED for name, _ in columns_of(metric, ())]
VIEW_METRICS_IN_ORDER = tuple(metric for metric in Metric if metric in VIEW_METRICS)
VIEW_RATES = tuple(metric for metric in Metric if metric in RATES & VIEW_METRICS)
OVERALL_RATES = tuple(metric for metric in Metric if metric in RATES - VIEW_METRICS)
MONEY = (Metric.BILLABLE_MICROS, Metric.RESERVED_MICROS)
USED = (*IDENTITY, Metric.EXPIRED, Metric.SIVT_BY_REASON, Metric.POLICY, Metric.DECISION_RATE, Metric.INVALID_RATE)
NAMES = [name for metric in USED for name, _ in columns_of(metric, ())]


@pytest.fixture(scope="module")
def world():
    with an_engine() as engine:
        world = World(engine)
        yield world
        world.close()


def test_a_report_of_nothing_has_counts_of_zero_and_no_rates(world):
    world.hold(commits_of([admit()]))
    [row] = world.rows(metrics=(*COUNTED, *OVERALL_RATES), filters={Dimension.CAMPAIGN: ("nobody",)})
    assert {row[name] for name in COLUMNS} == {0}
    assert {row[rate] for rate in OVERALL_RATES} == {None}


def test_rates_of_what_is_all_undecided_are_zero_and_viewability_has_none(world):
    world.hold(commits_of([admit(also=(Reason.RISK_GREY,))], [admit(also=(Reason.DEGRADED,))]))
    [row] = world.rows(metrics=(*IDENTITY, *OVERALL_RATES, *VIEW_RATES), packs=("mrc",))
    assert (row["gross"], row["net"], row["undecided"]) == (2, 0, 2)
    assert {row[rate] for rate in OVERALL_RATES} == {0.0}
    assert {row[f"{rate}.mrc"] for rate in VIEW_RATES} == {None}


def test_a_correction_moves_the_rates_and_leaves_nothing_negative(world):
    placed = world.hold(
        commits_of(
            [admit(), a_correction(Reason.RISK_HIGH)],
            [admit(also=(Reason.RATE_ABUSIVE,)), a_correction(None, Authority.REVIEW)],
            [admit(), a_correction(Reason.BUDGET_EXHAUSTED)],
            [admit(also=(Reason.RISK_GREY,)), an_expiry(MINTED + 96 * HOUR)],
        )
    )
    before, after = (world.rows(metrics=USED, position=commit.position) for commit in (placed[0], placed[-1]))
    assert before == [{**dict.fromkeys(NAMES, 0), "gross": 1, "net": 1, "decision_rate": 1, "invalid_rate": 0}]
    assert after == [
        {
            **dict.fromkeys(NAMES, 0),
            "gross": 3,
            "net": 1,
            "sivt": 1,
            "sivt.RISK_HIGH": 1,
            "undecided": 1,
            "expired": 1,
            "policy": 1,
            "decision_rate": 2 / 3,
            "invalid_rate": 1 / 3,
        }
    ]


@pytest.mark.parametrize("merged", [False, True])
def test_a_cut_that_everything_was_corrected_out_of_has_no_row(world, merged):
    [_, last] = world.hold(commits_of([admit(), a_correction(Reason.RISK_HIGH)]))
    if merged:
        client = world.engine.connect(WRITING)
        client.command(f"OPTIMIZE TABLE report_hour_{world.generation} FINAL")
        client.close()
    for position in (None, last.position):
        rows = world.rows(dimensions=(Dimension.REASON,), metrics=IDENTITY, position=position)
        assert [(row["reason"], row["gross"]) for row in rows] == [("RISK_HIGH", 1)]


def test_repeats_stay_counted_where_no_impression_is_left(world):
    world.hold(commits_of([admit(), admit(), a_correction(Reason.RISK_HIGH)]))
    rows = world.rows(dimensions=(Dimension.VERDICT,), metrics=(Metric.GROSS, Metric.DUPLICATE_RENDERS))
    assert rows == [
        {"verdict": "valid", "gross": 0, "duplicate_renders": 1},
        {"verdict": "dropped", "gross": 1, "duplicate_renders": 0},
    ]


def some_views():
    """Display: one viewable, one not, one never measured, one viewable but invalid. Video: one viewable."""
    video = a_token(format=Format.VIDEO)
    return commits_of(
        [admit(), a_view()],
        [admit(), a_view(visible_ratio=0.1)],
        [admit()],
        [admit(also=(Reason.STACKED,)), a_view()],
        [admit(token=video), a_view(format=Format.VIDEO, visible_ratio=1.0, visible_ms=2_000)],
    )


def test_viewability_is_of_net_and_display_and_video_are_apart(world):
    world.hold(some_views())
    display, video = world.rows(metrics=(Metric.NET, *VIEW_METRICS_IN_ORDER), packs=("mrc",))
    assert display == {
        "format": "display",
        "net": 3,
        "measured.mrc": 2,
        "viewable.mrc": 1,
        "not_viewable.mrc": 1,
        "undetermined.mrc": 1,
        "measured_rate.mrc": 2 / 3,
        "viewable_rate.mrc": 0.5,
        "viewable_share.mrc": 1 / 3,
    }
    assert (video["format"], video["viewable.mrc"], video["viewable_rate.mrc"]) == ("video", 1, 1.0)


def test_viewability_packs_are_those_that_the_rows_name(world):
    world.hold(some_views())
    answer = world.ask(metrics=(Metric.VIEWABLE,))
    assert answer.packs == ("groupm", "mrc", "mrc_cross_media", "mrc_half")
    assert answer.columns == ("format", *(f"viewable.{pack}" for pack in answer.packs))
    never = world.ask(metrics=(Metric.MEASURED_RATE,), filters={Dimension.SDK: ("other",)})
    assert (never.packs, never.rows) == (answer.packs, [])


DISPLAY_PACKS = ("groupm", "mrc", "mrc_half")


def test_a_pack_that_no_row_names_yet_shows_once_one_does(world):
    before, after = commits_of([admit(), a_view()])
    placed = world.hold([before, after])
    assert world.ask(metrics=(Metric.VIEWABLE,), position=placed[0].position).packs == ()
    assert world.ask(metrics=(Metric.VIEWABLE,), position=placed[1].position).packs == DISPLAY_PACKS


def test_without_any_pack_there_are_no_columns_of_viewability(world):
    world.hold(commits_of([admit()]))
    only_views = world.ask(metrics=(Metric.VIEWABLE,), filters={Dimension.FORMAT: ("display",)})
    assert (only_views.columns, only_views.rows) == ((), [])


def test_more_packs_than_a_report_may_show_must_be_chosen_from(world):
    [commit] = commits_of([admit(render=a_render(visible_ratio=1.0, visible_ms=1_500))])
    many = b",".join(b'"p%02d":"viewable"' % number for number in range(PACKS_MAX + 1))
    world.hold([replace(commit, data=commit.data.replace(b'"mrc":"viewable"', many))])
    with pytest.raises(QueryRefused, match="more than 16") as caught:
        world.ask(metrics=(Metric.VIEWABLE,))
    assert caught.value.field == "pack"
    assert world.rows(metrics=(Metric.VIEWABLE,), packs=("p16",)) == [{"format": "display", "viewable.p16": 1}]


def test_currencies_never_mix(world):
    dollars = a_token(currency="USD")
    world.hold(commits_of([admit()], [admit(token=dollars)], [admit(token=dollars, also=(Reason.RISK_GREY,))]))
    assert world.rows(metrics=(Metric.GROSS, *MONEY)) == [
        {"currency": "EUR", "gross": 1, "billable_micros": PRICE, "reserved_micros": 0},
        {"currency": "USD", "gross": 2, "billable_micros": PRICE, "reserved_micros": PRICE},
    ]


def refusals(at, **refused):
    counts = {Reason(name): number for name, number in refused.items()}
    event = AnswersCounted(cause=cause(), digest="d", refused=counts, unmoved=2, counted_at=at)
    return a_commit([event], stream=f"rejects-eu-{at}")


@pytest.mark.parametrize("since", [FIRST, FIRST + 1])
def test_refused_renders_stand_beside_gross_by_time_and_reason(world, since):
    ordinary = commits_of([admit()], [admit(also=(Reason.RATE_ABUSIVE,))])
    refused = [
        refusals(MINTED, TOKEN_INVALID=3, TOKEN_EXPIRED=1),
        refusals(MINTED + HOUR, TOKEN_INVALID=2),
        refusals(FIRST - 1, TOKEN_INVALID=9),
    ]
    world.hold([replace(commit, position=number) for number, commit in enumerate([*ordinary, *refused], 1)])
    metrics = (Metric.GROSS, Metric.NET, Metric.GIVT, Metric.REFUSED)
    [total] = world.rows(since=since, metrics=(*metrics, Metric.REFUSED_BY_REASON))
    assert total == {
        "gross": 2,
        "net": 1,
        "givt": 1,
        "refused": 6,
        "refused.TOKEN_INVALID": 5,
        "refused.TOKEN_EXPIRED": 1,
        "refused.REGION_MISDIRECTED": 0,
        "refused.EVENT_ID_REUSED": 0,
    }
    by_hour = world.rows(since=since, metrics=metrics, granularity=Granularity.HOUR)
    assert [(row["time"] - FIRST, row["gross"], row["refused"]) for row in by_hour] == [(0, 2, 4), (HOUR, 0, 2)]
    by_reason = world.rows(since=since, metrics=metrics, dimensions=(Dimension.REASON_CLASS, Dimension.REASON))
    assert {(row["reason_class"], row["reason"]): (row["gross"], row["refused"]) for row in by_reason} == {
        ("", ""): (1, 0),
        ("givt", "RATE_ABUSIVE"): (1, 0),
        ("request", "TOKEN_INVALID"): (0, 5),
        ("request", "TOKEN_EXPIRED"): (0, 1),
    }
    only = {Dimension.REASON: ("TOKEN_EXPIRED",), Dimension.REASON_CLASS: ("request",)}
    assert [row["refused"] for row in world.rows(since=since, metrics=metrics, filters=only)] == [1]
    others = {Dimension.REASON_CLASS: ("givt",)}
    assert [(row["gross"], row["refused"]) for row in world.rows(since=since, metrics=metrics, filters=others)] == [
        (1, 0)
    ]


def test_refused_renders_are_as_known_then(world):
    commits = [*commits_of([admit()]), replace(refusals(MINTED, TOKEN_INVALID=3), position=2)]
    placed = world.hold(commits)
    for position, refused in ((placed[0].position, 0), (placed[1].position, 3)):
        assert world.rows(metrics=(Metric.GROSS, Metric.REFUSED), position=position) == [
            {"gross": 1, "refused": refused}
        ]


def test_an_answer_says_where_it_comes_from_and_what_its_words_mean(world):
    [placed] = world.hold(commits_of([admit()]))
    answer = world.ask(metrics=(Metric.GROSS, Metric.VIEWABLE_RATE), position=placed.position)
    assert (answer.generation, answer.position) == (world.generation, placed.position)
    assert answer.definitions == {
        Metric.GROSS: "net + givt + sivt + undecided",
        Metric.VIEWABLE_RATE: "viewable / measured",
    }
    assert answer.definitions == world.ask(metrics=(Metric.GROSS, Metric.VIEWABLE_RATE)).definitions


@pytest.mark.parametrize(("minutes", "shown"), [(1, 1), (2, 2), (5, 4)])
@pytest.mark.parametrize("later_ms", [1, MINUTE_MS])
def test_pacing_tells_of_as_many_minutes_as_were_asked_for(world, minutes, shown, later_ms):
    begun = [FIRST + number * MINUTE_MS for number in range(4)]
    world.hold(commits_of(*([admit(render=a_render(on_screen_at=at), received_at=at + 1)] for at in begun)))
    asked = Pacing(campaign=a_token().campaign, since=FIRST, until=begun[-1] + later_ms, minutes=minutes)
    answer = asyncio.run(world.queries.pacing(asked))
    assert [minute.at for minute in answer.minutes] == begun[-shown:]


def test_an_answer_that_takes_too_much_is_refused_as_such(world):
    world.hold(commits_of([admit()], [admit()]))
    readers = Clients(world.engine, {"max_rows_to_read": 1}, 1)
    queries = Queries(world.checkpoints, readers, world.clock)
    with pytest.raises(QuestionTooLarge, match="shorter time"):
        asyncio.run(queries.report(Report(since=FIRST, until=FIRST + HOUR, position=world.head)))
    readers.close()


def test_who_comes_when_too_many_wait_is_told_to_ask_again(world):
    async def main():
        done = Event()
        readers = Clients(world.engine, READING, 1)
        waiting = [asyncio.create_task(readers.run(lambda _: done.wait())) for _ in range(1 + WAITING_MAX)]
        await asyncio.sleep(0)
        with pytest.raises(TablesUnavailable, match="wait already"):
            await readers.run(lambda _: None)
        done.set()
        await asyncio.gather(*waiting)
        await readers.run(lambda _: None)
        readers.close()

    asyncio.run(main())
