"""`impledger migrate` where no server runs."""

import os
import subprocess
import sys

import pytest

from ledger.store import LedgerUnavailable
from service.migrate import migrate_postgres

NOWHERE = "postgresql://someone:sesame@127.0.0.1:1/ledger"


def test_a_server_that_does_not_run_is_told_in_one_line_without_a_password():
    with pytest.raises(LedgerUnavailable, match="PostgreSQL did not answer") as caught:
        migrate_postgres(NOWHERE)
    assert "\n" not in str(caught.value)
    assert "sesame" not in str(caught.value)


def test_the_command_says_what_to_start_and_prints_no_traceback(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "service.cli", "migrate"],
        env={**os.environ, "IMPLEDGER_DATA_DIR": str(tmp_path / "data")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("PostgreSQL did not answer")
    assert done.stderr.endswith("Is it running? `impledger up` starts everything on this machine.\n")
    assert "Traceback" not in done.stderr
