"""Brings PostgreSQL's tables to this program's version."""

from importlib.resources import files

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url


def migrate_postgres(url: str) -> str:
    """Run the missing versions on *url* (libpq); return the version now in place."""
    config = Config()
    config.set_main_option("script_location", str(files("migrations") / "postgres"))
    config.set_main_option("path_separator", "os")
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    try:
        with engine.connect() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()
            return str(connection.exec_driver_sql("select version_num from alembic_version").scalar_one())
    finally:
        engine.dispose()
