"""The index of a ledger in segments: which of the commits proposed in EventStoreDB are real, and in which order."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_LOCK = 7_022_027
"""Advisory lock that makes the order of positions the order of claims."""

# Widest columns first: nothing is lost to alignment.
_TABLE = """
create table {table} (
    stream   {key} not null,
    cause    uuid not null,
    digest   uuid not null,
    position bigint not null,
    version  integer not null,
    count    integer not null,
    primary key (stream, version)
) {suffix}
"""

_BATCHES = """
create table segment_batches (
    last     bigint primary key,
    first    bigint not null,
    revision bigint not null,
    size     integer not null,
    segment  text collate "C" not null,
    lost     integer[]
)
"""

_INSERT = """
    insert into {table} (stream, cause, digest, position, version, count)
    select a.s, a.c, a.g, base + {offset} + a.o - 1, a.v, a.n
    from unnest({streams}, {p}versions, {p}counts, {p}causes, {p}digests) with ordinality as a(s, v, n, c, g, o)
    where a.v = 0
    on conflict (stream, version) do nothing;
    get diagnostics wrote = row_count;
    won := won + wrote;
    if 0 < any({p}versions) then
        insert into {table} (stream, cause, digest, position, version, count)
        select a.s, a.c, a.g, base + {offset} + a.o - 1, a.v, a.n
        from unnest({streams}, {p}versions, {p}counts, {p}causes, {p}digests) with ordinality as a(s, v, n, c, g, o)
        cross join lateral (
            select t.version + t.count as next from {table} t where t.stream = a.s order by t.version desc limit 1
        ) tip
        left join lateral (
            select true as known from {table} t where t.stream = a.s and t.cause = a.c limit 1
        ) absorbed on true
        where a.v > 0 and tip.next = a.v and absorbed.known is null
        on conflict (stream, version) do nothing;
        get diagnostics wrote = row_count;
        won := won + wrote;
    end if;
"""

_LOST = """
        select ({offset} + a.o - 1)::integer as at, coalesce(tip.next, 0) as next, known.digest, known.position
        from unnest({streams}, {p}versions, {p}causes) with ordinality as a(s, v, c, o)
        left join {table} own on own.stream = a.s and own.version = a.v and own.position = base + {offset} + a.o - 1
        left join lateral (
            select t.version + t.count as next from {table} t where t.stream = a.s order by t.version desc limit 1
        ) tip on true
        left join lateral (
            select t.digest, t.position from {table} t where t.stream = a.s and t.cause = a.c limit 1
        ) known on true
        where own.stream is null
"""

# The event in EventStoreDB is only a proposal; what this function inserts is what happened. Position = where the batch
# begins + place in the batch, so that neither has to stand in a row, and a position finds its batch.
_CLAIM = """
create function claim_segment(
    in_segment text, in_revision bigint,
    streams uuid[], versions integer[], counts integer[], causes uuid[], digests uuid[],
    names text[], n_versions integer[], n_counts integer[], n_causes uuid[], n_digests uuid[]
) returns table (at integer, current integer, known_digest uuid, known_position bigint) language plpgsql as $$
#variable_conflict use_column
declare
    ahead integer := cardinality(streams);
    total integer := cardinality(streams) + cardinality(names);
    base  bigint;
    wrote bigint;
    won   bigint := 0;
    lost_ats integer[];
begin
    perform pg_advisory_xact_lock({lock});
    select b.first + b.size into base from segment_batches b order by b.last desc limit 1;
    base := coalesce(base, 1);
    {insert_impressions}
    {insert_names}
    if won = total then
        insert into segment_batches (last, first, revision, size, segment)
        values (base + total - 1, base, in_revision, total, in_segment);
        return;
    end if;
    return query {lost};
    if won > 0 then
        select array_agg(l.at order by l.at) into lost_ats from ({lost}) l;
        insert into segment_batches (last, first, revision, size, segment, lost)
        select base + max(a), base, in_revision, total, in_segment, lost_ats
        from generate_series(0, total - 1) a where a <> all(lost_ats);
    end if;
end
$$
"""

_KINDS = (
    {"table": "segment_impressions", "streams": "streams", "p": "", "offset": "0"},
    {"table": "segment_names", "streams": "names", "p": "n_", "offset": "ahead"},
)


def upgrade() -> None:
    op.execute("create table segment_days (day date primary key, data_set text not null)")
    op.execute(
        "create table segment_ledger "
        "(only_one boolean primary key default true check (only_one), namespace text not null)"
    )
    op.execute(_BATCHES)
    op.execute(_TABLE.format(table="segment_impressions", key="uuid", suffix="partition by range (stream)"))
    op.execute(_TABLE.format(table="segment_names", key='text collate "C"', suffix=""))
    # Whoever follows campaigns or corrections passes over everything else.
    op.execute("create index segment_names_position on segment_names (position)")
    op.execute("create index segment_impressions_later on segment_impressions (position) where version > 0")
    lost = " union all ".join(_LOST.format(**kind) for kind in _KINDS)
    impressions, names = (_INSERT.format(**kind) for kind in _KINDS)
    op.execute(_CLAIM.format(lock=_LOCK, insert_impressions=impressions, insert_names=names, lost=lost))


def downgrade() -> None:
    op.execute("drop function claim_segment")
    for table in ("segment_names", "segment_impressions", "segment_batches", "segment_ledger", "segment_days"):
        op.execute(f"drop table {table}")
