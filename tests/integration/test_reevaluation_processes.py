"""Everything as processes on real engines: labels, a model that looks again, processes killed in the middle."""

import json
import random
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from uuid import uuid4

import httpx
import psycopg
import pytest
from helpers_processes import eventually, kill
from lookkit import a_later_artifact
from test_cli import impledger

from ml.models.artifact import dump
from service.clock import now_ms
from service.keyfiles import load_or_make_keys
from service.load import bodies
from service.machine import children, ports
from service.parameters import rfc3339
from service.settings import Settings
from service.spooling import is_drained
from service.stage import on_free_ports
from service.supervisor import Supervisor
from service.wiring import database_url

pytestmark = pytest.mark.slow

RENDERS = 1_500
HOUR = 3_600_000


class System:
    def __init__(self, settings, supervisor):
        self.settings, self.supervisor = settings, supervisor
        self.url = f"http://{settings.host}:{settings.gate_port}"
        self.keys = load_or_make_keys(settings.data_dir)
        self.http = httpx.Client(headers={"authorization": f"Bearer {self.keys.operator}"}, timeout=30)

    def get(self, path, **parameters):
        answer = self.http.get(self.url + path, params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def rendered(self, seed):
        found = []
        for body in bodies(random.Random(seed), self.keys, self.settings.region, renders=RENDERS, batch=500):
            headers = {"content-type": "application/json"}
            answer = self.http.post(f"{self.url}/v1/impressions", content=body, headers=headers).json()
            found += [one["impression_id"] for one in answer if one["status"] == "decided"]
        # what a busy machine had the gate spool is decided again once it is in the ledger
        self.eventually(lambda: is_drained(self.settings))
        return sorted(set(found))

    def feed(self, impressions):
        at = now_ms()
        documents = [
            {"id": str(uuid4()), "type": "third_party", "impression_id": one, "observed_at": at} for one in impressions
        ]
        for start in range(0, len(documents), 250):
            self.http.post(f"{self.url}/v1/feedback", json=documents[start : start + 250]).raise_for_status()

    def eventually(self, done, within_s=60):
        eventually(lambda: [self.supervisor.poll(), done()][1], within_s)

    def pid(self, name):
        return next(child.pid for child in self.supervisor.states() if child.name == name)

    def query(self, statement):
        with psycopg.connect(database_url(self.settings), autocommit=True) as connection:
            return connection.execute(statement).fetchall()

    def ledger(self):
        """Return how many commits there are, and what they consist of."""
        [row] = self.query("select count(*), sum(hashtext(encode(data, 'base64'))) from impression_commits")
        return row

    def found(self):
        return self.query("select count(*) from reevaluated")[0][0]

    def found_in_a_hurry(self):
        """Whatever a worker without a model has put off meanwhile is due now."""
        late = "select impression, why from reevaluations where due_at > 0 for update skip locked"
        self.query(f"update reevaluations set due_at = 0 where (impression, why) in ({late}) returning 1")
        return self.found()

    def due(self):
        return self.query("select count(*) from reevaluations where why = 'label' or why = 'finalise'")[0][0]


@pytest.fixture
def system(tmp_path):
    settings = replace(on_free_ports(Settings()), data_dir=tmp_path / "data", log_json="yes")
    with Supervisor(settings.data_dir, children(settings), host=settings.host, ports=ports(settings)) as supervisor:
        found = System(settings, supervisor)
        yield found
        found.http.close()


def add_model(system, folder):
    file = folder / "model"
    file.write_bytes(dump(a_later_artifact(4.0)))
    added = impledger(system.settings, "models", "add", str(file), "--json")
    assert added.returncode == 0, added.stderr


def test_labels_wait_for_a_model_and_are_looked_at_once_it_is_there_whatever_is_killed(system, tmp_path):
    labelled = system.rendered(seed=1)[:1_200]
    system.feed(labelled)
    system.eventually(lambda: system.get("/v1/feedback/books")["applied"] == len(labelled))
    system.eventually(lambda: system.due() == len(labelled))
    metrics = f"http://{system.settings.host}:{system.settings.work_port}/metrics"
    system.eventually(lambda: 'impledger_reevaluated_total{outcome="without_model"}' in httpx.get(metrics).text)
    assert system.found() == 0
    before = system.ledger()
    add_model(system, tmp_path)
    for name in ("work", "scheduler", "work"):
        then = system.found() + 200
        system.eventually(lambda then=then: system.found_in_a_hurry() >= min(then, len(labelled)))
        kill(system.pid(name))
        system.eventually(lambda: all(child.state == "ready" for child in system.supervisor.states()))
    system.eventually(lambda: system.found_in_a_hurry() >= len(labelled) and system.due() == 0)
    assert system.query("select impression::text from reevaluated order by impression") == [(one,) for one in labelled]
    assert system.ledger() == before
    assert "valid -> dropped RISK_HIGH" in impledger(system.settings, "reevaluations").stdout
    summary = system.get("/v1/reevaluations/summary")
    groups = Counter({(one["from_verdict"], one["to_verdict"]): one["impressions"] for one in summary["groups"]})
    assert groups == {("valid", "dropped"): len(labelled)}
    [row] = system.get("/v1/reevaluations", limit=1)["reevaluations"]
    assert system.get(f"/v1/reevaluations/{row['impression']}") == row
    assert row["micros"] < 0


def test_a_period_is_planned_then_looked_at_and_goes_on_where_it_was_stopped(system, tmp_path):
    add_model(system, tmp_path)
    system.rendered(seed=2)
    now, before = now_ms(), system.ledger()
    period = ["--since", rfc3339(now - HOUR), "--until", rfc3339(now)]
    planned = json.loads(impledger(system.settings, "reevaluate", *period, "--json").stdout)
    counted = sum(one["impressions"] for one in planned["counted"])
    assert (planned["noted"], planned["is_finished"]) == (0, False)
    assert counted >= RENDERS
    done = impledger(system.settings, "reevaluate", *period, "--go", "--json")
    assert json.loads(done.stdout) == {"noted": counted, "waiting": 0, "is_done": True}, done.stderr
    again = json.loads(impledger(system.settings, "reevaluate", *period, "--json").stdout)
    assert (again["noted"], again["is_finished"]) == (counted, True)
    [[looked]] = system.query("select count(*) from reevaluated where why = 'finalise'")
    assert looked == counted
    told = impledger(system.settings, "reevaluations")
    assert "1500  finalise   stays valid" in told.stdout
    for words, found in (((), 3), (("--changes",), 0)):  # nobody accuses them: a model alone drops nothing
        listed = impledger(system.settings, "reevaluations", "list", *words, "--limit", "3", "--json")
        assert len(json.loads(listed.stdout)["reevaluations"]) == found
    assert system.ledger() == before


def test_work_does_without_what_only_training_needs():
    probe = (
        "import sys, service.work, service.scheduler\n"
        "assert not {'sklearn', 'polars', 'river', 'pandas', 'chdb'} & sys.modules.keys()"  # numba loads scipy's BLAS
    )
    assert subprocess.run([sys.executable, "-c", probe], check=False).returncode == 0
