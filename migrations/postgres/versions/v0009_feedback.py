"""Feedback until it is a label, what is to be scored again for it, and messages that nobody could process."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_STATES = "'waiting', 'parked', 'orphaned', 'applied', 'refused', 'held'"
_NOBODY = "00000000-0000-0000-0000-000000000000"

# The row of `feedback_room` is locked first, so that two gates never fill the same room, and what the statement after
# it sees is what is there: an id that another gate has just kept is known.
_KEEP = f"""
create function keep_feedback(
    ids uuid[], digests text[], impressions uuid[], bodies bytea[], orphans bigint[], by_key text, now_ms bigint,
    pending_max bigint, held_max bigint, impression_max bigint
) returns table (fate text, kept text) language plpgsql as $$
declare
    pending bigint;
    holding bigint;
begin
    select r.waiting + r.parked, r.held into pending, holding from feedback_room r for update;
    return query
    with sent as (
        select v.*, m = '{_NOBODY}' as to_hold from unnest(ids, digests, impressions, bodies, orphans) with ordinality
        as v(i, g, m, b, o, n)
    ),
    news as (
        select s.*, row_number() over (partition by m order by n)
            + (select count(*) from feedback f where f.impression = s.m) as nth
        from sent s where not exists (select from feedback f where f.id = s.i)
    ),
    wanted as (
        select w.*, row_number() over (partition by to_hold order by n)
            <= case when to_hold then held_max - holding else pending_max - pending end as fits
        from news w where to_hold or nth <= impression_max
    ),
    written as (
        insert into feedback (id, digest, impression, body, orphan_at, sent_by, received_at, state, due_at)
        select i, g, nullif(m, '{_NOBODY}'), b, nullif(o, -1), by_key, now_ms,
            case when to_hold then 'held' else 'waiting' end, case when to_hold then null else now_ms end
        from wanted where fits returning state
    ),
    counted as (
        update feedback_room r set
            accepted = r.accepted + s.waiting + s.held, waiting = r.waiting + s.waiting, held = r.held + s.held
        from (
            select count(*) filter (where state = 'waiting') as waiting, count(*) filter (where state = 'held') as held
            from written
        ) s where s.waiting + s.held > 0
    )
    select case
        when w.fits then 'kept'
        when not w.fits then 'full'
        when f.id is null then 'crowded'
        when f.digest = s.g then 'known'
        else 'reused'
    end, case when w.fits then s.g else coalesce(f.digest, '') end
    from sent s left join wanted w on w.n = s.n left join feedback f on f.id = s.i order by s.n;
end
$$
"""  # noqa: S608 (made of a constant)


def upgrade() -> None:
    op.execute(f"""
        create table feedback (
            id          uuid primary key,
            digest      text not null,
            impression  uuid,
            body        bytea not null,
            orphan_at   bigint,
            sent_by     text not null,
            received_at bigint not null,
            state       text not null check (state in ({_STATES})),
            due_at      bigint,
            tries       integer not null default 0,
            error       text not null default '',
            settled_at  bigint
        )
        """)
    op.execute("create index feedback_due on feedback (due_at) where due_at is not null")
    op.execute("create index feedback_impression on feedback (impression) where impression is not null")
    op.execute("create index feedback_listed on feedback (state, received_at, id)")
    op.execute("create index feedback_failing on feedback (received_at, id) where error <> ''")
    op.execute("create index feedback_settled on feedback (settled_at) where settled_at is not null")
    # One row: what the table adds up to, kept with every change of it, so that nobody needs to count.
    op.execute("""
        create table feedback_room (
            accepted bigint not null,
            waiting  bigint not null,
            parked   bigint not null,
            orphaned bigint not null,
            applied  bigint not null,
            refused  bigint not null,
            held     bigint not null
        )
        """)
    op.execute("insert into feedback_room values (0, 0, 0, 0, 0, 0, 0)")
    op.execute(_KEEP)
    op.execute("""
        create table reevaluations (
            impression uuid not null,
            why        text not null,
            due_at     bigint not null,
            noted_at   bigint not null,
            primary key (impression, why)
        )
        """)
    op.execute("create index reevaluations_due on reevaluations (due_at)")
    op.execute("create index reevaluations_noted on reevaluations (noted_at)")
    op.execute("""
        create table dead_letters (
            name     text primary key,
            queue    text not null,
            actor    text not null,
            args     bytea not null,
            error    text not null,
            times    integer not null default 1,
            first_at bigint not null,
            last_at  bigint not null,
            state    text not null check (state in ('dead', 'replaying', 'replayed'))
        )
        """)
    op.execute("create index dead_letters_listed on dead_letters (state, last_at, name)")


def downgrade() -> None:
    op.execute("drop table dead_letters")
    op.execute("drop table reevaluations")
    op.execute("drop function keep_feedback")
    op.execute("drop table feedback_room")
    op.execute("drop table feedback")
