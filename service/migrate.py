"""Brings PostgreSQL's tables to this program's version."""

from importlib.resources import files

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError

from ledger.store import LedgerUnavailable
from service.processes import LauncherError

_LOCK = 7_022_028
"""Advisory lock of the session, so that two processes that start at once migrate one after the other."""


_CONNECTING_S = 5
_OPTIONS = "-c lock_timeout=60s"
"""So that a server that hangs, or another process that does in the middle of it, is not waited for without end."""


class NewerTables(LauncherError):
    """The tables were made by a newer program."""

    next_step = "Run that one; nothing was changed."


def migrate_postgres(url: str) -> str:
    """
    Run the missing versions on *url* (libpq); return the version now in place.

    Raises:
        LedgerUnavailable: No server answers, or it went away.
        NewerTables: They are not of a version that this program knows.
    """
    config = _config()
    engine = create_engine(
        make_url(url).set(drivername="postgresql+psycopg"),
        connect_args={"connect_timeout": _CONNECTING_S, "options": _OPTIONS},
    )
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql(f"select pg_advisory_lock({_LOCK})")
            connection.commit()
            _refuse_newer(connection, config)
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()
            return str(connection.exec_driver_sql("select version_num from alembic_version").scalar_one())
    except OperationalError as error:
        why = str(error.orig).partition("\n")[0]
        raise LedgerUnavailable(f"PostgreSQL did not answer, so its tables are as they were: {why}") from error
    finally:
        engine.dispose()


def version_wanted() -> str:
    """Return the version of PostgreSQL's tables that this program works with; versions are in order as texts."""
    return str(ScriptDirectory.from_config(_config()).get_current_head())


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(files("migrations") / "postgres"))
    config.set_main_option("path_separator", "os")
    return config


def _refuse_newer(connection: Connection, config: Config) -> None:
    if connection.exec_driver_sql("select to_regclass('alembic_version')").scalar_one() is not None:
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        found = connection.exec_driver_sql("select version_num from alembic_version").scalar()
        if found is not None and found not in known:
            raise NewerTables(f"PostgreSQL's tables are at version {found}, which is of a newer program than this.")
    connection.commit()
