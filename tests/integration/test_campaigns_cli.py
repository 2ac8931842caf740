"""`impledger campaigns` as a user runs it, against a running machine."""

import asyncio
import json
from dataclasses import replace

import pytest
from budgetkit import NOW, a_decision, a_token, an_id, appending
from test_cli import Up, impledger

from domain.funding import Funding
from domain.ids import day_of
from domain.vocabulary import DataSet
from ledger.postgres import PostgresStore
from ledger.store import Appended
from service.settings import Settings
from service.stage import on_free_ports

pytestmark = pytest.mark.slow

OPENING = (
    *("--advertiser", "advertiser-1", "--account", "account-1", "--currency", "EUR", "--time-zone", "Europe/Berlin"),
    *("--flight-start", "2020-01-01T00:00:00Z", "--flight-end", "4000000000000", "--budget-micros", "5000000"),
)


def test_campaigns_are_opened_changed_listed_and_verified(tmp_path):
    settings = replace(on_free_ports(Settings(starter="no")), data_dir=tmp_path / "data", campaigns="registry")

    def campaigns(*words):
        done = impledger(settings, "campaigns", *words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    alone = impledger(settings, "campaigns", "list")
    assert alone.returncode == 1
    assert "`impledger up` starts it" in alone.stderr
    with Up(settings):
        opened = campaigns("open", "c-1", *OPENING)
        assert (opened["status"], opened["version"], opened["daily_budget_micros"]) == ("running", 1, None)
        changed = campaigns("set", "c-1", "--daily-budget-micros", "700", "--flight-end", "2030-01-01T00:00:00Z")
        assert (changed["daily_budget_micros"], changed["flight_end"]) == (700, "2030-01-01T00:00:00.000Z")
        assert campaigns("set", "c-1", "--no-daily-budget")["daily_budget_micros"] is None
        assert campaigns("pause", "c-1")["status"] == "paused"
        assert campaigns("resume", "c-1")["status"] == "running"
        assert campaigns("show", "c-1")["version"] == 6
        assert [one["campaign"] for one in campaigns("list")["campaigns"]] == ["c-1"]
        checked = campaigns("verify")
        assert (checked["unlike"], checked["budgets"]["differences"]) == ([], [])
        table = impledger(settings, "campaigns", "list").stdout
        assert "5.00" in table
        twice = impledger(settings, "campaigns", "open", "c-1", *OPENING)
        assert twice.returncode == 1
        assert "ALREADY_OPEN" in twice.stderr
        nothing = impledger(settings, "campaigns", "set", "c-1")
        assert nothing.returncode == 2
        unknown = impledger(settings, "campaigns", "show", "nobody")
        assert "There is nothing here" in unknown.stderr


@pytest.mark.parametrize(("campaigns", "code"), [("token", 0), ("registry", 1)])
def test_budgets_are_compared_only_where_they_are_kept(tmp_path, postgres_url, campaigns, code):
    async def spend():
        store = PostgresStore(postgres_url)
        await store.prepare_days(day_of(NOW), day_of(NOW), DataSet.LIVE)
        spent = appending(a_decision(a_token(), [], Funding()), an_id())
        assert await store.append([spent], NOW) == [Appended()]
        await store.close()

    asyncio.run(spend())
    settings = Settings(
        data_dir=tmp_path / "data", ledger_url=postgres_url, database_url=postgres_url, campaigns=campaigns
    )
    told = impledger(settings, "campaigns", "verify")
    assert told.returncode == code, told.stderr
    assert ("budgets are not kept: IMPLEDGER_CAMPAIGNS=token" in told.stdout) is (campaigns == "token")
    assert ("booked 0 micros" in told.stdout) is (campaigns == "registry")
    checked = json.loads(impledger(settings, "campaigns", "verify", "--json").stdout)
    assert (checked["budgets"] is None) is (campaigns == "token")
