"""Other regions' renders, sealed, until their home takes them; what they add up to; and the orders to do so."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        create table sheltered (
            number      bigint generated always as identity,
            home        text not null,
            region      text not null,
            impression  uuid not null,
            event_id    uuid not null,
            received_at bigint not null,
            expires_at  bigint not null,
            next_at     bigint not null default 0,
            tries       integer not null default 0,
            size        integer not null,
            sealed      bytea,
            state       text not null check (state in ('waiting', 'moved', 'expired', 'arrived')),
            outcome     text not null default '',
            gone_at     bigint,
            primary key (home, impression, event_id),
            check ((sealed is null) = (gone_at is not null))
        )
        """)
    op.execute("create index sheltered_order on sheltered (home, number) where state = 'waiting'")
    op.execute("create index sheltered_gone on sheltered (gone_at) where gone_at is not null")
    op.execute("alter table sheltered alter column sealed set storage external")
    op.execute("create index sheltered_expiry on sheltered (expires_at) where state = 'waiting'")
    # One row: what the table above adds up to, kept with every change of it, so that nobody needs to count.
    op.execute("""
        create table shelter_room (
            waiting bigint not null,
            bytes   bigint not null,
            moved   bigint not null,
            expired bigint not null,
            arrived bigint not null
        )
        """)
    op.execute("insert into shelter_room values (0, 0, 0, 0, 0)")
    op.execute("""
        create table shelter_orders (
            order_id    uuid primary key,
            signed_by   text not null,
            payload     bytea not null,
            signature   bytea not null,
            valid_until bigint not null,
            revoked_at  bigint
        )
        """)


def downgrade() -> None:
    op.execute("drop table shelter_orders, shelter_room, sheltered")
