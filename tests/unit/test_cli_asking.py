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
