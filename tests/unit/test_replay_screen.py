"""What a replayed log became, as the screen has it."""

from msgspec.structs import replace
from screenkit import printed

from service.replay import Replay
from service.replay_screen import replay_screen

HOLDS = {"I1": True, "I2": True, "I3": True, "I4": True}
REPLAYED = Replay(
    file="access.log",
    lines=1_004,
    blank=0,
    impressions=1_001,
    not_images=2,
    not_delivered=0,
    malformed=1,
    first_at=1_431_856_800_000,
    last_at=1_431_860_400_000,
    statuses={"decided": 1_001},
    verdicts={"dropped": 1, "valid": 1_000},
    reasons={"AGENT_DECLARED_BOT": 1},
    gross=1_001,
    net=1_000,
    givt=1,
    sivt=0,
    undecided=0,
    seconds=1.0,
    invariants=HOLDS,
    problems=[],
)


def test_a_replay_is_told_in_words_and_ends_with_the_report_of_its_days():
    shown = printed(replay_screen(REPLAYED))
    assert "1,004: 1,001 impressions, 2 of something else, 1 that cannot be read" in shown
    assert "valid 1,000, dropped 1" in shown
    assert "1,001 = 1,000 net + 1 givt + 0 sivt + 0 undecided" in shown
    assert "holds  I4" in shown
    days = "--since 2015-05-17T10:00:00.000Z --until 2015-05-17T11:00:01.000Z"
    assert f"next: impledger report --by reason --data-set replay {days}" in shown


def test_a_log_without_images_is_told_why_nothing_came_of_it():
    shown = printed(replay_screen(replace(REPLAYED, impressions=0, verdicts={}, first_at=None, last_at=None)))
    assert "The log has no image that was asked for by GET and delivered." in shown


def test_what_is_wrong_stands_under_what_fails():
    wrong = replace(REPLAYED, invariants=HOLDS | {"I4": False}, problems=["I4: facts differ"])
    shown = printed(replay_screen(wrong))
    assert "FAILS  I4" in shown
    assert "I4: facts differ" in shown
