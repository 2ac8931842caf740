"""How far the projections are: a lease with a fence, the range being written, and what was known when."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        create table projections (
            name         text primary key,
            active       integer not null default 1,
            holder       text not null default '',
            fence        bigint not null default 0,
            leased_until timestamptz not null default '-infinity'
        )""")
    op.execute("""
        create table projection_generations (
            name            text not null references projections,
            generation      integer not null,
            done            bigint not null default 0,
            pending_after   bigint,
            pending_through bigint,
            known_at        bigint not null default 0,
            primary key (name, generation),
            check ((pending_after is null) = (pending_through is null)),
            check (pending_after is null or (pending_after = done and pending_through > done))
        )""")
    op.execute("""
        create table projection_heads (
            name       text not null references projections,
            handled_at bigint not null,
            position   bigint not null,
            primary key (name, handled_at)
        )""")


def downgrade() -> None:
    for table in ("projection_heads", "projection_generations", "projections"):
        op.execute(f"drop table {table}")
