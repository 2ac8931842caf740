"""Models by the hash of their bytes; which of them are in force, as the ledger tells; how two compare, by the hour."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        create table models (
            model    text collate "C" primary key,
            stage    text not null,
            sha256   text not null unique,
            features text not null,
            size     integer not null,
            added_by text not null,
            added_at bigint not null,
            card     bytea not null,
            data     bytea not null
        )""")
    op.execute("alter table models alter column data set storage external")
    op.execute("create index models_added on models (added_at, model)")
    op.execute("""
        create table model_placements (
            version    integer primary key,
            stage      text not null,
            role       text not null,
            model      text not null,
            share      double precision not null,
            placed_by  text not null,
            reason     text not null,
            decided_at bigint not null,
            data       jsonb not null
        )""")
    op.execute("""
        create table model_comparisons (
            hour               bigint not null,
            gate               text not null,
            role               text not null,
            champion           text not null,
            other              text not null,
            currency           text not null,
            rows               bigint not null,
            agreed             bigint not null,
            stricter           bigint not null,
            milder             bigint not null,
            difference_sum     double precision not null,
            difference_abs_sum double precision not null,
            difference_max     double precision not null,
            money_micros       bigint not null,
            primary key (hour, gate, role, champion, other, currency)
        )""")


def downgrade() -> None:
    for table in ("model_comparisons", "model_placements", "models"):
        op.execute(f"drop table {table}")
