"""Gate, work and scheduler as processes on real engines: killed in the middle, without a broker, with torn streams."""

import json
import random
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
from helpers_processes import alive, eventually, family, kill
from test_cli import _ready, environment, impledger

from domain.events import ImpressionLabelled
from domain.feedback import label_id
from domain.token import check_token
from ledger.codec import decode
from ledger.compact import Compact
from service.clock import now_ms
from service.embedded_valkey import ValkeyServer
from service.keyfiles import load_or_make_keys
from service.load import bodies
from service.machine import children, ports
from service.settings import Settings
from service.stage import on_free_ports
from service.supervisor import Supervisor
from service.wiring import database_url

pytestmark = pytest.mark.slow

RENDERS = 3_000


class System:
    """Everything but the desk, over a broker that comes and goes."""

    def __init__(self, settings, supervisor, broker):
        self.settings, self.supervisor, self.broker = settings, supervisor, broker
        self.url = f"http://{settings.host}:{settings.gate_port}"
        self.keys = load_or_make_keys(settings.data_dir)
        self.http = httpx.Client(headers={"authorization": f"Bearer {self.keys.operator}"}, timeout=30)

    def get(self, path, **parameters):
        answer = self.http.get(self.url + path, params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def rendered(self, count, seed):
        """Impressions that have rendered."""
        found = []
        for body in bodies(random.Random(seed), self.keys, self.settings.region, renders=count, batch=500):
            answer = self.http.post(
                f"{self.url}/v1/impressions", content=body, headers={"content-type": "application/json"}
            )
            found += [one["impression_id"] for one in answer.json() if one["status"] == "decided"]
        return list(dict.fromkeys(found))

    def feed(self, impressions, kind="third_party"):
        """Send feedback about each; return its id by impression."""
        sent = {one: str(uuid4()) for one in impressions}
        documents = [
            {"id": id_, "type": kind, "impression_id": one, "observed_at": now_ms()} for one, id_ in sent.items()
        ]
        for start in range(0, len(documents), 250):
            answer = self.http.post(f"{self.url}/v1/feedback", json=documents[start : start + 250])
            assert {one["status"] for one in answer.json()} == {"accepted"}
        return sent

    def books(self):
        return self.get("/v1/feedback/books")

    def eventually(self, done, within_s=60):
        eventually(lambda: [self.supervisor.poll(), done()][1], within_s)

    def is_done(self):
        return self.books()["waiting"] == 0

    def pid(self, name):
        return next(child.pid for child in self.supervisor.states() if child.name == name)

    def labels(self):
        """How often each label stands in the ledger, by its cause."""
        with psycopg.connect(database_url(self.settings)) as connection:
            rows = connection.execute("select data from impression_commits where version > 0").fetchall()
        events = [event for [data] in rows for event in decode(Compact().expand(data))]
        return Counter(event.cause for event in events if isinstance(event, ImpressionLabelled))

    def each_has_one(self, sent):
        labels = self.labels()
        assert [labels[label_id(UUID(id_), UUID(one))] for one, id_ in sent.items()] == [1] * len(sent)
        assert set(labels.values()) == {1}


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    broker = ValkeyServer(tmp_path_factory.mktemp("broker"))
    settings = replace(
        on_free_ports(Settings()), data_dir=tmp_path_factory.mktemp("data"), broker_url=broker.url, log_json="yes"
    )
    wanted = [child for child in children(settings) if child.name != "desk"]
    with Supervisor(settings.data_dir, wanted, host=settings.host, ports=ports(settings)) as supervisor:
        running_system = System(settings, supervisor, broker)
        yield running_system
        running_system.http.close()


@pytest.fixture
def broker(system):
    system.broker.start()
    yield
    system.broker.stop()


def test_while_the_broker_is_away_feedback_is_taken_and_applied_when_it_is_back(system):
    impressions = system.rendered(300, seed=1)
    sent = system.feed(impressions)
    port = system.settings.scheduler_port
    system.eventually(lambda: not _ready(system.settings.host, port))
    assert "broker" in system.http.get(f"http://{system.settings.host}:{port}/readyz").text
    assert system.books()["waiting"] == len(sent)
    assert system.books()["oldest_at"] is not None
    system.broker.start()
    system.eventually(system.is_done)
    system.eventually(lambda: _ready(system.settings.host, port))
    system.eventually(lambda: _ready(system.settings.host, system.settings.work_port))
    system.broker.stop()
    system.each_has_one(sent)


def test_processes_killed_in_the_middle_leave_one_label_each(system, broker):
    impressions = system.rendered(RENDERS, seed=2)
    before = system.books()
    sent = system.feed(impressions)
    for sixths in (1, 3, 5):
        then = before["applied"] + len(sent) * sixths // 6
        system.eventually(lambda then=then: system.books()["applied"] >= then)
        for name in ("work", "scheduler"):
            kill(system.pid(name))
        system.eventually(lambda: all(child.state == "ready" for child in system.supervisor.states()))
    system.eventually(system.is_done, within_s=90)
    system.each_has_one(sent)
    after = system.books()
    assert after["applied"] - before["applied"] == len(sent)
    assert after["unaccounted"] == 0


@contextmanager
def running(name, settings):
    """A process of ours that nobody supervises, until the context ends."""
    process = subprocess.Popen([sys.executable, "-m", "service.cli", name], env=environment(settings))
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=30)


def test_a_second_worker_and_scheduler_do_no_harm(system, broker):
    others = on_free_ports(system.settings)
    own = replace(system.settings, work_port=others.work_port, scheduler_port=others.scheduler_port)
    with running("work", own) as work, running("scheduler", own) as scheduler:
        system.eventually(lambda: _ready(own.host, own.scheduler_port) and _ready(own.host, own.work_port))
        sent = system.feed(system.rendered(1_000, seed=4), kind="dispute")
        system.eventually(system.is_done)
        members = [*family(work.pid), *family(scheduler.pid)]
    system.each_has_one(sent)
    assert (work.returncode, scheduler.returncode) == (0, 0)
    assert not alive(members)


def test_what_cannot_be_applied_dies_alone_is_listed_and_replayed_once_it_is_mended(system, broker):
    torn, *others = system.rendered(200, seed=5)
    with psycopg.connect(database_url(system.settings), autocommit=True) as connection:
        [good] = connection.execute("select data from impression_commits where stream = %s", [torn]).fetchone()
        connection.execute("update impression_commits set data = '[1,{]' where stream = %s", [torn])
        sent = system.feed([torn, *others])
        system.eventually(lambda: system.books()["waiting"] == 1)
        system.eventually(lambda: system.get("/v1/dead-letters", state="dead")["letters"])
        [letter] = json.loads(impledger(system.settings, "dead-letters", "list", "--json").stdout)["letters"]
        assert letter["args"] == [[sent[torn]]]
        assert "UnreadableCommit" in letter["error"]
        [failing] = system.get("/v1/feedback", failing="true")["feedback"]
        assert (failing["id"], failing["state"]) == (sent[torn], "waiting")
        assert "CannotBeApplied" in impledger(system.settings, "dead-letters", "show", letter["name"]).stdout
        connection.execute("update impression_commits set data = %s where stream = %s", [good, torn])
    replayed = impledger(system.settings, "dead-letters", "replay", "--all", "--json")
    assert (replayed.returncode, json.loads(replayed.stdout)["failed"]) == (0, 0)
    system.eventually(system.is_done)
    system.each_has_one(sent)
    system.eventually(lambda: system.get(f"/v1/dead-letters/{letter['name']}")["state"] == "replayed")
    metrics = system.http.get(f"{system.url}/metrics").text
    assert "impledger_feedback_unaccounted 0.0" in metrics
    assert "impledger_outbox_oldest_seconds" in metrics


def test_what_precedes_its_render_is_parked_until_it_lands(system, broker):
    [body] = bodies(random.Random(6), system.keys, system.settings.region, renders=20, batch=20)
    events = json.loads(body)
    impressions = [str(check_token(event["token"], system.keys.token_keys()).impression) for event in events]
    parked = system.books()["parked"]
    sent = system.feed(impressions, kind="honeypot")
    system.eventually(lambda: system.books()["parked"] == parked + 20)
    listed = system.get("/v1/feedback", state="parked", impression_id=impressions[0])["feedback"]
    assert [one["id"] for one in listed] == [sent[impressions[0]]]
    system.http.post(f"{system.url}/v1/impressions", content=body, headers={"content-type": "application/json"})
    system.eventually(lambda: system.books()["parked"] == parked)
    system.each_has_one(sent)
    books = impledger(system.settings, "feedback", "books")
    assert books.returncode == 0
    assert books.stdout.startswith("accepted ")
