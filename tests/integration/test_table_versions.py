"""What is said where PostgreSQL's tables are not those of this program, by `impledger doctor` and by a start."""

import psycopg
import pytest

from service.doctor import checks
from service.migrate import NewerTables, migrate_postgres, version_wanted
from service.settings import Settings


@pytest.fixture
def change(postgres_url):
    def run(statement):
        with psycopg.connect(postgres_url) as connection:
            connection.execute(statement)

    return run


def told(url, tmp_path):
    settings = Settings(data_dir=tmp_path / "data", ledger_url=url)
    [check] = [check for check in checks(settings) if check.name == "ledger url tables"]
    return check


def test_tables_of_this_program_are_well(postgres_url, tmp_path):
    check = told(postgres_url, tmp_path)
    assert (check.ok, check.says) == (True, f"at version {version_wanted()}")


def test_tables_that_are_missing_or_older_are_told_with_what_makes_them(postgres_url, change, tmp_path):
    change("update alembic_version set version_num = '0003'")
    older = told(postgres_url, tmp_path)
    change("drop table alembic_version")
    missing = told(postgres_url, tmp_path)
    assert (older.ok, missing.ok) == (False, False)
    assert older.says == f"at version 0003, and this program works with {version_wanted()}"
    assert missing.says == "not made yet"
    assert "`impledger migrate`" in older.fix
    assert "`impledger migrate`" in missing.fix


def test_tables_of_a_newer_program_are_told_and_left_as_they_are(postgres_url, change, tmp_path):
    change("update alembic_version set version_num = '9999'")
    assert told(postgres_url, tmp_path).fix == "Run the newer program."
    with pytest.raises(NewerTables, match="at version 9999, which is of a newer program"):
        migrate_postgres(postgres_url)
