"""What the gate keeps beside the ledger: wrapped day keys, quarantined bodies, views that wait for their render."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("create table day_keys (day integer primary key, wrapped bytea, destroy_at bigint not null)")
    op.execute("create index day_keys_due on day_keys (destroy_at) where wrapped is not null")
    op.execute("""
        create table quarantine (
            name        text primary key,
            event_id    uuid,
            code        text not null,
            detail      text not null,
            path        text not null,
            size        integer not null,
            received_at bigint not null,
            expires_at  bigint not null,
            key_day     integer not null,
            sealed      bytea not null
        )""")
    op.execute("create index quarantine_expiry on quarantine (expires_at)")
    op.execute("""
        create table parked_views (
            event_id    uuid primary key,
            impression  uuid not null,
            digest      text not null,
            received_at bigint not null,
            sealed      bytea not null
        )""")
    op.execute("create index parked_views_age on parked_views (received_at)")


def downgrade() -> None:
    for table in ("parked_views", "quarantine", "day_keys"):
        op.execute(f"drop table {table}")
