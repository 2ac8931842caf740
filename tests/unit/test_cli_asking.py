"""What commands ask of desk and gate, and what they refuse by themselves."""

import pytest
from screenkit import answering, impledger

BY_ID = (
    (("show",), "/v1/impressions/"),
    (("pacing",), "/v1/campaigns/"),
    (("campaigns", "show"), "/v1/campaigns/"),
    (("models", "show"), "/v1/models/"),
    (("feedback", "show"), "/v1/feedback/"),
    (("reevaluations", "show"), "/v1/reevaluations/"),
)
IDS = (
    ("../campaigns/c-1/pacing", "..%2Fcampaigns%2Fc-1%2Fpacing"),
    ("a/b", "a%2Fb"),
    ("a?b#c", "a%3Fb%23c"),
    ("..", "%2E%2E"),
    ("a.b", "a.b"),
    ("%2e", "%252e"),
)


@pytest.mark.parametrize(("id_", "quoted"), IDS)
@pytest.mark.parametrize(("words", "path"), BY_ID)
def test_an_id_is_one_segment_of_the_path_whatever_is_in_it(words, path, id_, quoted, tmp_path):
    with answering({}) as (port, paths):
        impledger(*words, id_, "--json", port=port, data_dir=tmp_path)
    assert paths == [path + quoted + ("/pacing" if words == ("pacing",) else "")]


def test_a_daily_budget_is_not_set_and_taken_away_at_once(tmp_path):
    with answering({"version": 1}) as (port, paths):
        words = ("campaigns", "set", "c", "--no-daily-budget", "--daily-budget-micros", "5")
        refused = impledger(*words, port=port, data_dir=tmp_path, columns=200)
    assert (refused.exit_code, paths) == (2, [])
    assert "exclude each other" in refused.stderr


@pytest.mark.parametrize("words", [("report",), ("models", "list")])
@pytest.mark.parametrize(("status", "where"), [(404, "--help"), (422, "--help"), (500, "doctor")])
def test_whoever_asks_for_what_cannot_be_had_is_not_sent_to_look_at_the_machine(words, status, where, tmp_path):
    with answering({"title": "No"}, status) as (port, _):
        refused = impledger(*words, port=port, data_dir=tmp_path).exception
    assert str(refused) == "No"
    assert where in refused.next_step


@pytest.mark.parametrize(
    ("since", "until", "says"),
    [
        ("2026-03-02T00:00:00Z", "2026-03-01T00:00:00Z", "--since must be before --until"),
        ("2026-03-01T00:00:00Z", "2999-03-01T00:00:00Z", "--until must be past"),
        ("yesterday", "2026-03-01T00:00:00Z", "--since: 'yesterday' is no time of RFC 3339"),
        ("2026-03-01", "2026-03-01T00:00:00Z", "--since: '2026-03-01' must say its offset"),
    ],
)
def test_only_a_period_that_is_past_can_be_looked_at_again(since, until, says, tmp_path):
    words = ("reevaluate", "--since", since, "--until", until)
    refused = impledger(*words, port=1, data_dir=tmp_path, columns=200)
    assert refused.exit_code == 2
    assert says in refused.stderr
