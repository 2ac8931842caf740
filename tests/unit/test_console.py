"""What clients call themselves stands on the operator's screen as they said it, and does nothing there."""

import json
import re
import sys
from pathlib import Path

import pytest
import typer
from screenkit import answering, impledger

import service
from service.capacity_figures import load_book
from service.cli import app, main
from service.console import PROSE_WIDTH, Grid, err, out, shown
from service.keyfiles import load_or_make_keys

OBEYED = "\x1b[31mRED\x1b[2J\x00\r\x9b1m\u202e"
MARKUP = ("[/b]x", "[bold]", "[link=http://a.example]", ":smile:", "[/]")
KNOWN = {"time": "2026-09-21T14:13:20.000Z", "position": 7}


def report(sdk):
    columns = ["sdk", "gross"]
    rows = [{"sdk": sdk, "gross": 2_453}]
    more = {"split_by": [], "definitions": {}, "truncated": False, "known_through": KNOWN, "lag_s": 0.5}
    return {"columns": columns, "rows": rows, **more}


def completeness(sdk):
    counts = {"reports": 1, "sources": 1, "reports_missing": 0, "truncated": False}
    return {"columns": ["sdk", "lost"], "rows": [{"sdk": sdk, "lost": 1}], "known_through": KNOWN, **counts}


def monitors(sdk):
    cell = {"check": "lost", "surface": "feed", "subject": sdk}
    figures = {"trials": 100, "value": 0.5, "expected": 0.1, "p_value": 0.001, "q_value": 0.001}
    finding = {**cell, **figures, "says": f"look at {sdk}", "untested": ""}
    return {"alarms": [{**cell, "since": KNOWN["time"]}], "findings": [finding], "looks": []}


def quarantine(sdk):
    entry = dict.fromkeys(("name", "received_at", "state", "code", "path", "outcome", "detail"), "x")
    return {"entries": [{**entry, "sdk": sdk, "detail": sdk, "times": 1}], "after": ""}


def letters(sdk):
    letter = dict.fromkeys(("name", "state", "last_at", "actor"), "x")
    return {"letters": [{**letter, "error": f"ValueError: {sdk}", "times": 1}], "after": ""}


def pacing(name):
    window = {"since": KNOWN["time"], "until": KNOWN["time"]}
    return {"campaign": name, "currencies": [], "known_through": KNOWN, "lag_s": None, **window}


COMMANDS = (
    (("report", "--by", "sdk"), report),
    (("completeness", "--by", "sdk"), completeness),
    (("monitors",), monitors),
    (("quarantine", "list"), quarantine),
    (("dead-letters", "list"), letters),
    (("pacing", "c"), pacing),
    (("show", "i"), lambda sdk: {"sdk": sdk}),
    (("campaigns", "show", "c"), lambda sdk: {"campaign": sdk}),
    (("models", "show", "m"), lambda sdk: {"card": sdk}),
)


@pytest.mark.parametrize("said", MARKUP)
@pytest.mark.parametrize(("words", "answer"), COMMANDS)
def test_what_looks_like_markup_is_shown_as_it_was_said(words, answer, said, tmp_path):
    with answering(answer(said)) as (port, _):
        result = impledger(*words, port=port, data_dir=tmp_path)
    assert (result.exit_code, said in result.stdout) == (0, True), (result.exception, result.stdout)


@pytest.mark.parametrize(("words", "answer"), COMMANDS)
def test_nothing_that_a_terminal_would_obey_reaches_it(words, answer, tmp_path):
    with answering(answer(f"a{OBEYED}b")) as (port, _):
        result = impledger(*words, port=port, data_dir=tmp_path)
    said = [line for line in result.stdout.split("\n") if "RED" in line]
    assert all(line.isprintable() for line in result.stdout.split("\n")), result.stdout
    assert said
    assert all(r"a\u001b[31mRED\u001b[2J\u0000\r\u009b1m\u202eb" in line for line in said), said


@pytest.mark.parametrize(("words", "answer"), COMMANDS)
def test_no_client_begins_a_line_of_its_own(words, answer, tmp_path):
    with answering(answer("a\nFORGED")) as (port, _):
        result = impledger(*words, port=port, data_dir=tmp_path)
    assert result.exit_code == 0
    assert not any(line.startswith("FORGED") for line in result.stdout.splitlines())


@pytest.mark.parametrize(("words", "answer"), COMMANDS)
def test_json_has_what_was_said_to_the_character(words, answer, tmp_path):
    facts = answer(f"a{OBEYED}b")
    with answering(facts) as (port, _):
        result = impledger(*words, "--json", port=port, data_dir=tmp_path)
    assert json.loads(result.stdout) == facts


@pytest.mark.parametrize("words", [("show", "[/b]"), ("campaigns", "show", "[/b]"), ("pacing", "[/b]")])
def test_what_is_refused_is_told_in_the_words_of_who_asked(words, tmp_path, monkeypatch, capsys):
    with answering({"title": "No such thing", "detail": "nothing is called [/b]\x1b[2J"}, 404) as (port, _):
        load_or_make_keys(tmp_path)
        for name, value in (("DATA_DIR", tmp_path), ("DESK_PORT", port), ("GATE_PORT", port)):
            monkeypatch.setenv(f"IMPLEDGER_{name}", str(value))
        monkeypatch.setattr(sys, "argv", ["impledger", *words])
        with pytest.raises(SystemExit):
            main()
    assert r"No such thing: nothing is called [/b]\u001b[2J" in capsys.readouterr().err


def test_lines_of_ours_stay_lines(capsys):
    out.print("a\nb")
    err.print("c\nd", style="red")
    assert capsys.readouterr() == ("a\nb\n", "c\nd\n")


def test_a_cell_is_one_line_whatever_it_holds(capsys):
    grid = Grid("a", box=None)
    grid.add_row("b\nc")
    out.print(grid)
    assert [line.strip() for line in capsys.readouterr().out.splitlines()] == ["a", r"b\nc"]


@pytest.mark.parametrize("text", ["plain", "Ähre 漢字", "[/b]", "\\n"])
def test_what_can_be_printed_is_shown_as_it_is(text):
    assert shown(text) == text


def test_every_screen_is_made_in_one_place():
    makers = [
        file.name
        for file in Path(service.__file__).parent.glob("*.py")
        if any(word in file.read_text() for word in (" Console(", "from_markup", "rich.markup", "markup=True"))
    ]
    assert makers == []


REASONS = ("frequency_cap_exceeded", "token_expired")
PARTS = ("gross", "net", "givt", "sivt", "undecided", "viewable.mrc", "billable_micros")
AT = "2026-09-21T14:13:20.000Z"
NAME = "0123456789abcdef0123456789abcdef"
ENTRY = {"name": NAME, "received_at": AT, "state": "waiting", "code": "unsupported_version", "path": "$.client_at"}
GROUP = {"code": "unsupported_version", "path": "$.client_at", "sdk": "ios/12.2", "entries": 1_234_567, "times": 2}
RATES = ("served", "rendered", "lost", "loss_rate", "loss_low", "loss_high")
AT_80_COLUMNS = (
    (
        ("report", "--by", "reason"),
        {
            **report(""),
            "columns": ["reason", *PARTS],
            "rows": [{"reason": one, **dict.fromkeys(PARTS, 12_345_678)} for one in REASONS],
        },
        (*REASONS, "undecided", "viewable.mrc", "12,345,678", "12.345678"),
    ),
    (
        ("completeness", "--by", "campaign,surface,format,sdk"),
        {
            **completeness(""),
            "columns": ["campaign", "surface", *RATES],
            "rows": [{"campaign": NAME, "surface": "audience_network", **dict.fromkeys(RATES, 0.123)}],
        },
        (NAME, "audience_network", *RATES, "12.30%"),
    ),
    (
        ("quarantine", "list"),
        {"entries": [{**ENTRY, "sdk": "ios/12.2", "times": 1, "outcome": "", "detail": "what " * 30}], "after": ""},
        (*ENTRY.values(), "received_at", "ios/12.2"),
    ),
    (
        ("quarantine", "list", "--summary"),
        {"groups": [{**GROUP, "first_at": AT, "last_at": AT, "example": NAME}]},
        ("unsupported_version", "$.client_at", "1,234,567", AT, NAME),
    ),
    (("monitors",), monitors("a-rather-long-sdk-name/12.2.1"), ("a-rather-long-sdk-name/12.2.1", "50.00%", AT)),
)


@pytest.mark.parametrize(("words", "answer", "whole"), AT_80_COLUMNS)
def test_no_figure_time_or_name_of_a_table_is_cut_or_folded_at_80_columns(words, answer, whole, tmp_path):
    with answering(answer) as (port, _):
        result = impledger(*words, port=port, data_dir=tmp_path)
    assert [one for one in whole if one not in result.stdout] == [], result.stdout
    assert "…" not in result.stdout


def test_a_column_of_sentences_is_folded_and_not_cut(capsys):
    grid = Grid(box=None)
    grid.add_column("said", max_width=PROSE_WIDTH)
    grid.add_row("word " * 40 + "x" * 100)
    out.print(grid)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= PROSE_WIDTH + 2
    assert [sum(line.count(what) for line in lines) for what in ("word", "x")] == [40, 100]


def test_figures_of_capacity_are_whole_at_80_columns(tmp_path):
    shown_ = impledger("capacity", "--figures", port=1, data_dir=tmp_path).stdout
    assert all(key in shown_ for key in load_book())
    assert "…" not in shown_


@pytest.mark.parametrize(
    "words", [("doctor",), ("capacity",), ("capacity", "--figures"), ("capacity", "--sensitivity")]
)
def test_json_of_a_command_is_one_object(words, tmp_path):
    result = impledger(*words, "--json", port=1, data_dir=tmp_path)
    assert isinstance(json.loads(result.stdout), dict)


def test_every_command_has_json_but_for_those_that_the_readme_names():
    readme = (Path(service.__file__).parent.parent / "README.md").read_text()
    [excepted] = re.findall(r"Every command has `--json`, except for [^(]*\(([^)]*)\)", readme)
    without = {name for name, command in commands() if not any("--json" in one.opts for one in command.params)}
    assert without == set(re.findall(r"`(\w+)`", excepted))


def commands(of=None, name=""):
    of = of or typer.main.get_command(app)
    if hasattr(of, "commands"):
        for name_, command in of.commands.items():
            yield from commands(command, f"{name} {name_}".strip())
    elif not of.hidden:
        yield name, of
