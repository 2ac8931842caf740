"""What has become of a quarantined body: how often it came, whether it was replayed, with which fix and outcome."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        alter table quarantine
            alter column sealed drop not null,
            add column sender     bytea,
            add column sdk        text not null default '',
            add column times      integer not null default 1,
            add column last_at    bigint,
            add column state      text not null default 'waiting'
                check (state in ('waiting', 'replayed', 'superseded', 'expired')),
            add column outcome    text not null default '',
            add column fixed      text not null default '',
            add column settled_at bigint
        """)
    op.execute("update quarantine set last_at = received_at")
    op.execute("alter table quarantine alter column last_at set not null")
    op.execute("create index quarantine_order on quarantine (received_at, name)")
    op.execute("create index quarantine_waiting on quarantine (code) where state = 'waiting'")


def downgrade() -> None:
    op.execute("delete from quarantine where sealed is null")
    op.execute("drop index quarantine_waiting")
    op.execute("drop index quarantine_order")
    op.execute("""
        alter table quarantine
            alter column sealed set not null,
            drop column sender, drop column sdk, drop column times, drop column last_at,
            drop column state, drop column outcome, drop column fixed, drop column settled_at
        """)
