"""Parked views have a limit, of one impression and in all; what they add up to is kept with every change of them."""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

# The row of `parked_views_room` is locked first, so that two gates never fill the same room, and what the statement
# after it sees is what is there. Whoever deletes has locked its rows before it waits for that row, and none of those is
# waited for here: what is being deleted still counts as parked.
_PARK = """
create function park_views(
    ids uuid[], impressions uuid[], digests text[], times bigint[], bodies bytea[],
    impression_max bigint, total_max bigint
) returns table (parking text) language plpgsql as $$
declare
    room bigint;
begin
    select total_max - r.parked into room from parked_views_room r for update;
    return query
    with sent as (
        select * from unnest(ids, impressions, digests, times, bodies) with ordinality as v(i, m, g, t, b, n)
    ),
    news as (
        select distinct on (s.i) s.* from sent s
        where not exists (select from parked_views p where p.event_id = s.i) order by s.i, s.n
    ),
    numbered as (
        select w.*, row_number() over (partition by m order by n)
            + (select count(*) from parked_views p where p.impression = w.m) as nth
        from news w
    ),
    wanted as (
        select w.*, row_number() over (order by n) as place from numbered w where nth <= impression_max
    ),
    written as (
        insert into parked_views (event_id, impression, digest, received_at, sealed)
        select i, m, g, t, b from wanted where place <= room
        on conflict (event_id) do nothing returning event_id, digest
    )
    select case
        when coalesce(w.digest, p.digest) is null then 'full'
        when coalesce(w.digest, p.digest) = s.g then 'kept'
        else 'reused'
    end
    from sent s left join written w on w.event_id = s.i left join parked_views p on p.event_id = s.i order by s.n;
end
$$
"""
_COUNT = """
create function count_parked_views() returns trigger language plpgsql as $$
begin
    update parked_views_room
    set parked = parked + (select case tg_op when 'INSERT' then count(*) else -count(*) end from changed);
    return null;
end
$$
"""


def upgrade() -> None:
    op.execute("create index parked_views_impression on parked_views (impression)")
    op.execute("create table parked_views_room (parked bigint not null)")
    op.execute(_COUNT)
    for event, table in (("insert", "new"), ("delete", "old")):
        op.execute(f"""
            create trigger parked_views_{event} after {event} on parked_views
            referencing {table} table as changed for each statement execute function count_parked_views()
            """)
    op.execute("insert into parked_views_room select count(*) from parked_views")
    op.execute(_PARK)


def downgrade() -> None:
    op.execute("drop function park_views")
    for event in ("insert", "delete"):
        op.execute(f"drop trigger parked_views_{event} on parked_views")
    op.execute("drop function count_parked_views")
    op.execute("drop table parked_views_room")
    op.execute("drop index parked_views_impression")
