"""Sessions of an access log are scored by what they do, never by what their agents say."""

import random
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from evaluationkit import ASKED

from domain.vocabulary import NetworkClass
from ml.evaluation.metrics import roc_auc
from ml.evaluation.real import IDLE_MS, by_session, log_vectors, read_log
from ml.evaluation.real_table import FITTED, real_table
from ml.features.schema import PLACE, Group, columns_of
from ml.lists.packaged import packaged
from ml.lists.screen_lists import Lists

BOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
BROWSER = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36"
)
LIBRARY = "python-requests/2.31.0"
BEGAN = 1_700_000_000
REAL = Path(__file__).parents[2] / ".." / "shared" / "data" / "access_combined.log"
"""Beside the checkout where there is one."""


@pytest.fixture(scope="module")
def lists():
    return Lists(packaged())


def line(at_s, host="198.51.100.7", agent=BROWSER, path="/a.png", status=200):
    at = datetime.fromtimestamp(BEGAN + at_s, UTC).strftime("%d/%b/%Y:%H:%M:%S +0000")
    return f'{host} - - [{at}] "GET {path} HTTP/1.1" {status} 12 "http://site.example/page" "{agent}"'


def a_log(tmp_path, *lines):
    path = tmp_path / "access.log"
    path.write_text("\n".join(lines) + "\n")
    return path


def a_site(tmp_path, seed=5, visitors=60):
    """Readers open a page with its images at once; robots take one page every few seconds, for hours."""
    rng = random.Random(seed)
    requests = []
    for number in range(visitors):
        at = rng.randrange(20_000)
        for _ in range(rng.randrange(2, 6)):
            images = rng.randrange(3, 7)
            requests += [(at, f"203.0.113.{number}", BROWSER, f"/{image}.png") for image in range(images)]
            at += rng.randrange(20, 200)
        at = rng.randrange(20_000)
        for page in range(rng.randrange(5, 30)):
            requests.append((at, f"192.0.2.{number}", BOT, f"/{page}.html"))
            at += rng.randrange(5, 9)
    return a_log(tmp_path, *[line(*request) for request in sorted(requests)])


def test_an_address_that_was_silent_for_half_an_hour_begins_another_session(tmp_path, lists):
    idle_s = IDLE_MS // 1_000
    at = (0, 10, 10 + idle_s, 11 + 2 * idle_s)
    log = read_log(a_log(tmp_path, *[line(one) for one in at], line(5, host="203.0.113.9")), lists)
    assert log.sessions == 3
    assert log.session.tolist() == [0, 1, 0, 0, 2]
    assert log.address.tolist() == [0, 1, 0]


def test_a_log_out_of_order_is_read_in_order_of_time_and_what_cannot_be_read_is_counted(tmp_path, lists):
    log = read_log(a_log(tmp_path, line(30), "nonsense", "", line(10)), lists)
    assert [claim.event_at for claim in log.claims] == [(BEGAN + 10) * 1_000, (BEGAN + 30) * 1_000]
    assert log.unread_lines == 1


def test_a_session_is_a_declared_bots_where_most_of_its_requests_say_so(tmp_path, lists):
    log = read_log(
        a_log(
            tmp_path,
            *[line(n, agent=agent) for n, agent in enumerate((BOT, BOT, BROWSER))],
            *[line(n, host="203.0.113.1", agent=agent) for n, agent in enumerate((BOT, BROWSER))],
            line(0, host="203.0.113.2", agent=LIBRARY),
            line(0, host="203.0.113.3", agent="-"),
        ),
        lists,
    )
    assert log.declared.tolist() == [True, False, False, False]
    assert log.browser.tolist() == [False, False, False, False]


def test_two_agents_at_one_address_are_one_visitor_and_what_they_say_is_in_no_vector(tmp_path, lists):
    def seen(agents):
        return log_vectors(read_log(a_log(tmp_path, *[line(n, agent=one) for n, one in enumerate(agents)]), lists))

    mixed, bots = seen([BROWSER, BOT, LIBRARY] * 3), seen([BOT] * 9)
    np.testing.assert_array_equal(mixed.values, bots.values)
    for group in (Group.AGENT, Group.FINGERPRINT):
        assert np.isnan(mixed.values[:, columns_of(group)]).all()
    assert mixed.values[:, PLACE["person_hour"]].tolist() == [*range(1, 10)]


def test_the_network_is_read_for_it_is_not_what_an_agent_says(tmp_path, lists):
    log = read_log(a_log(tmp_path, line(0, host="52.94.76.1"), line(1, host="93.114.45.13")), lists)
    assert [claim.network_class for claim in log.claims] == [NetworkClass.DATA_CENTRE, NetworkClass.EYEBALL]
    assert log_vectors(log).values[:, PLACE["network_class"]].tolist() == [3.0, 0.0]


def test_a_sessions_score_is_the_mean_of_its_requests_and_none_where_it_has_none():
    scores = by_session(np.array([0.1, 0.3, 0.9]), np.array([0, 0, 2]), 3)
    assert scores[[0, 2]].tolist() == [pytest.approx(0.2), 0.9]
    assert np.isnan(scores[1])


def test_the_table_ranks_sessions_against_the_label_and_says_how_weak_it_is_by_its_parts(tmp_path, lists):
    log = read_log(a_site(tmp_path), lists)
    seen = log_vectors(log)
    rhythm = -seen.values[:, PLACE["person_10s"]]
    table = real_table(log, {"model": rhythm, "rate": -rhythm}, seen, ASKED)
    everyone, clear, images = table.cuts
    assert (table.sessions, table.declared, table.neither) == (log.sessions, int(log.declared.sum()), 0)
    by_hand = roc_auc(log.declared.astype(float), by_session(rhythm, log.session, log.sessions), np.ones(log.sessions))
    assert by_hand > 0.9
    assert everyone.model.figures["roc_auc"].value == pytest.approx(by_hand)
    assert everyone.model.entities == table.addresses == 120
    baselines = {one.baseline.name: one for one in everyone.baselines}
    assert baselines["rate"].baseline.figures["roc_auc"].value == pytest.approx(1 - by_hand)
    assert baselines[FITTED].baseline.figures["roc_auc"].value > 0.95
    assert clear.model.rows == log.sessions
    assert images.model.invalid == 0
    assert images.model.figures["roc_auc"].value is None


def test_a_log_of_one_kind_alone_has_no_ranking(tmp_path, lists):
    log = read_log(a_log(tmp_path, *[line(n, host=f"203.0.113.{n}") for n in range(12)]), lists)
    seen = log_vectors(log)
    table = real_table(log, {"model": np.zeros(12)}, seen, ASKED)
    assert table.declared == 0
    assert table.cuts[0].model.figures["roc_auc"].value is None
    assert table.cuts[0].baselines == []


@pytest.mark.skipif(not REAL.exists(), reason="the real log is not part of the project")
def test_in_a_real_log_a_high_rate_speaks_for_readers_who_load_a_page_at_once(lists):
    log = read_log(REAL, lists)
    assert (len(log.claims), len(np.unique(log.address)), log.unread_lines) == (9_999, 1_753, 1)
    seen = log_vectors(log)
    by_rate = by_session(seen.values[:, PLACE["person_min"]], log.session, log.sessions)
    assert roc_auc(log.declared.astype(float), by_rate, np.ones(log.sessions)) < 0.5
