"""The ledger: one row per append, impressions partitioned by UUIDv7 day, other streams beside them."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_LOCK = 7_022_026
"""Advisory lock that makes the order of positions the order of commits."""

_TABLE = """
create table {table} (
    stream      {key} not null,
    version     integer not null,
    count       integer not null,
    cause       uuid not null,
    digest      text not null,
    recorded_at bigint not null,
    position    bigint not null,
    data        bytea not null,
    primary key (stream, version)
) {suffix}
"""

# Inserts first and asks later: only where fewer rows went in than came are the rows looked at again. A fresh snapshot
# per statement makes both races right: another writer's row is either seen or waited for, by the lock.
_APPEND = """
create function append_{table}(
    streams {key}[], versions integer[], counts integer[], causes uuid[], digests text[], datas bytea[], now_ms bigint
) returns table (
    at integer, current integer, stored_version integer, stored_count integer, stored_digest text,
    stored_at bigint, stored_position bigint, stored_data bytea
) language plpgsql as $$
declare
    before bigint;
    wrote  bigint;
    more   bigint := 0;
begin
    perform pg_advisory_xact_lock({lock});
    select case when is_called then last_value else 0 end into before from ledger_position;

    insert into {table} (stream, version, count, cause, digest, recorded_at, position, data)
    select a.s, a.v, a.n, a.c, a.g, now_ms, nextval('ledger_position'), a.d
    from unnest(streams, versions, counts, causes, digests, datas) as a(s, v, n, c, g, d)
    where a.v = 0
    on conflict (stream, version) do nothing;
    get diagnostics wrote = row_count;

    if 0 < any(versions) then
        insert into {table} (stream, version, count, cause, digest, recorded_at, position, data)
        select a.s, a.v, a.n, a.c, a.g, now_ms, nextval('ledger_position'), a.d
        from unnest(streams, versions, counts, causes, digests, datas) as a(s, v, n, c, g, d)
        cross join lateral (
            select p.version + p.count as next from {table} p where p.stream = a.s order by p.version desc limit 1
        ) tip
        left join lateral (
            select true as known from {table} p where p.stream = a.s and p.cause = a.c limit 1
        ) absorbed on true
        where a.v > 0 and tip.next = a.v and absorbed.known is null
        on conflict (stream, version) do nothing;
        get diagnostics more = row_count;
    end if;

    if wrote + more = cardinality(streams) then
        return;
    end if;

    return query
    select a.at::integer, coalesce(tip.next, 0), known.version, known.count, known.digest, known.recorded_at,
           known.position, known.data
    from unnest(streams, versions, causes) with ordinality as a(s, v, c, at)
    left join lateral (
        select p.version + p.count as next from {table} p where p.stream = a.s order by p.version desc limit 1
    ) tip on true
    left join lateral (
        select * from {table} p where p.stream = a.s and p.cause = a.c limit 1
    ) known on true
    where known.position is null or known.position <= before;
end
$$
"""


def upgrade() -> None:
    op.execute("create sequence ledger_position")
    op.execute("create table ledger_days (day date primary key, data_set text not null)")
    for table, key, suffix in (
        ("impression_commits", "uuid", "partition by range (stream)"),
        ("stream_commits", 'text collate "C"', "with (toast_tuple_target = 8160)"),
    ):
        op.execute(_TABLE.format(table=table, key=key, suffix=suffix))
        op.execute(f"create index {table}_position on {table} (position)")
        op.execute(f"alter table {table} alter column data set storage external")
        op.execute(_APPEND.format(table=table, key=key.split()[0], lock=_LOCK))


def downgrade() -> None:
    for table in ("impression_commits", "stream_commits"):
        op.execute(f"drop function append_{table}")
        op.execute(f"drop table {table}")
    op.execute("drop table ledger_days")
    op.execute("drop sequence ledger_position")
