"""Versions of the stored shapes: Alembic for PostgreSQL, numbered SQL for ClickHouse. Imports no project code."""
