"""The quarantine has a limit, of bodies and of their bytes; what they add up to is kept with every change of them."""

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_COUNT = """
create function count_quarantine() returns trigger language plpgsql as $$
declare
    more_bodies bigint := 0;
    more_bytes bigint := 0;
begin
    if tg_op <> 'DELETE' then
        select count(sealed), coalesce(sum(length(sealed)), 0) into more_bodies, more_bytes from after_it;
    end if;
    if tg_op <> 'INSERT' then
        select more_bodies - count(sealed), more_bytes - coalesce(sum(length(sealed)), 0)
        into more_bodies, more_bytes from before_it;
    end if;
    if more_bodies <> 0 or more_bytes <> 0 then
        update quarantine_room set bodies = bodies + more_bodies, bytes = bytes + more_bytes;
    end if;
    return null;
end
$$
"""
_TABLES = {
    "insert": "new table as after_it",
    "update": "old table as before_it new table as after_it",
    "delete": "old table as before_it",
}


def upgrade() -> None:
    op.execute("create table quarantine_room (bodies bigint not null, bytes bigint not null)")
    op.execute(_COUNT)
    for event, tables in _TABLES.items():
        op.execute(f"""
            create trigger quarantine_{event} after {event} on quarantine
            referencing {tables} for each statement execute function count_quarantine()
            """)
    op.execute("insert into quarantine_room select count(sealed), coalesce(sum(length(sealed)), 0) from quarantine")


def downgrade() -> None:
    for event in _TABLES:
        op.execute(f"drop trigger quarantine_{event} on quarantine")
    op.execute("drop function count_quarantine")
    op.execute("drop table quarantine_room")
