"""A broken rule pack stops whatever needs it, with a sentence and no traceback."""

import os
import subprocess
import sys
from dataclasses import replace
from importlib.resources import files

import pytest

from service.settings import Settings
from service.stage import on_free_ports

pytestmark = pytest.mark.slow

TEXT = (files("domain") / "packs" / "base-1.toml").read_text()


def impledger(settings, *words):
    return subprocess.run(
        [sys.executable, "-m", "service.cli", *words],
        env={**os.environ, **settings.environment(), "IMPLEDGER_LOG_JSON": "yes"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("version = 1", "version = ", "not TOML: Invalid value (at line 6, column 11)"),
        ("late_after_ms", "late_afterwards", "late_afterwards"),
        ("late_after_ms = 86_400_000", "late_after_ms = 'a day'", "Expected `int`, got `str` - at `$.late_after_ms`"),
        ("area_below_px = 242_500\n", "", "view_rule: mrc display: areas from 242500 px on stand in two rules"),
    ],
)
@pytest.mark.parametrize("words", [["gate"], ["up"], ["demo", "--seconds", "1"]], ids=lambda words: words[0])
def test_a_broken_pack_is_refused_at_start_with_file_key_and_reason(tmp_path, words, old, new, says):
    pack = tmp_path / "broken.toml"
    pack.write_text(TEXT.replace(old, new, 1))
    settings = replace(on_free_ports(Settings(starter="no")), data_dir=tmp_path / "data", rule_pack=str(pack))
    done = impledger(settings, *words)
    assert done.returncode == 1
    assert f"{pack}: " in done.stderr
    assert says in done.stderr
    assert "IMPLEDGER_RULE_PACK" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_a_check_of_a_broken_pack_says_what_is_wrong(tmp_path):
    pack = tmp_path / "broken.toml"
    pack.write_text(TEXT.replace('loaded = "not_begun"\n', "", 1))
    done = impledger(Settings(), "packs", "check", str(pack))
    assert (done.returncode, done.stderr.splitlines()[0]) == (1, f"{pack}: omid: says nothing of loaded")
