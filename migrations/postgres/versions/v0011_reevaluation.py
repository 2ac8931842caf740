"""What is to be looked at again, what was found, and what is known of persons and publishers after a decision."""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_NOTE = """
create function note_reevaluations(impressions uuid[], whys text[], dues bigint[], now_ms bigint) returns void
language sql as $$
    insert into reevaluations (impression, why, wanted_at, due_at, noted_at)
    select i, w, min(d), min(d), now_ms from unnest(impressions, whys, dues) as v(i, w, d) group by i, w order by i, w
    on conflict (impression, why) do update set
        wanted_at = least(reevaluations.wanted_at, excluded.wanted_at),
        due_at = least(reevaluations.due_at, excluded.due_at),
        notes = reevaluations.notes + 1
$$
"""

# The follower's row is locked first: of two that take the same page one finds that it does not begin there any more.
_STEP = """
    update ledger_followers set position = page_through, at = greatest(at, page_at)
    where name = '{name}' and position = page_after;
    if not found then
        return false;
    end if;
"""
_CHOOSE = f"""
create function choose_reevaluations(
    page_after bigint, page_through bigint, page_at bigint,
    impressions uuid[], whys text[], dues bigint[], now_ms bigint
) returns boolean language plpgsql as $$
begin
{_STEP.format(name="reevaluations")}
    perform note_reevaluations(impressions, whys, dues, now_ms);
    return true;
end
$$
"""

# Days are made as they come: a render's day is that of its recording, and nobody knows which a replay will bring.
_TAKE = f"""
create function take_later_facts(
    page_after bigint, page_through bigint, page_at bigint,
    persons bigint[], recorded bigint[], positions bigint[], events bigint[], impressions uuid[],
    labels jsonb, hours jsonb
) returns boolean language plpgsql as $$
declare
    day bigint;
begin
{_STEP.format(name="later")}
    for day in select distinct v.r / 86400000 from unnest(recorded) as v(r) loop
        if to_regclass('person_renders_' || day) is null then
            execute format(
                'create table if not exists %I partition of person_renders for values from (%s) to (%s)',
                'person_renders_' || day, day * 86400000, (day + 1) * 86400000
            );
        end if;
    end loop;
    insert into person_renders (person, recorded_at, position, event_at, impression)
    select * from unnest(persons, recorded, positions, events, impressions);
    insert into person_labels (person, arrived_at, impression, label, trust)
    select * from jsonb_to_recordset(labels)
        as l(person bigint, arrived_at bigint, impression uuid, label text, trust double precision);
    insert into publisher_hours as known (hour, publisher, surface, renders, clicks, repeats, measured, invisible)
    select * from jsonb_to_recordset(hours) as h(
        hour bigint, publisher text, surface text, renders bigint, clicks bigint, repeats bigint, measured bigint,
        invisible bigint
    )
    on conflict (hour, publisher, surface) do update set
        renders = known.renders + excluded.renders, clicks = known.clicks + excluded.clicks,
        repeats = known.repeats + excluded.repeats, measured = known.measured + excluded.measured,
        invisible = known.invisible + excluded.invisible;
    return true;
end
$$
"""  # noqa: S608 (made of a constant)
_FORGET = """
create function forget_later_facts(renders_before bigint, labels_before bigint, hours_before bigint) returns bigint
language plpgsql as $$
declare
    old text;
    gone bigint := 0;
    rows bigint;
begin
    for old in
        select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
        where i.inhparent = 'person_renders'::regclass
            and (replace(c.relname, 'person_renders_', '')::bigint + 1) * 86400000 <= renders_before
        order by c.relname
    loop
        execute format('drop table %I', old);
        gone := gone + 1;
    end loop;
    delete from person_labels where ctid = any(array(
        select ctid from person_labels where arrived_at < labels_before limit 10000
    ));
    get diagnostics rows = row_count;
    gone := gone + rows;
    delete from publisher_hours where ctid = any(array(
        select ctid from publisher_hours where hour < hours_before limit 10000
    ));
    get diagnostics rows = row_count;
    return gone + rows;
end
$$
"""


def upgrade() -> None:
    op.execute("""
        create table ledger_followers (
            name     text primary key,
            position bigint not null,
            at       bigint not null
        )
        """)
    op.execute("insert into ledger_followers values ('reevaluations', 0, 0), ('later', 0, 0)")
    op.execute("""
        alter table reevaluations
            add column wanted_at bigint,
            add column notes integer not null default 1,
            add column tries integer not null default 0,
            add column error text not null default ''
        """)
    op.execute("update reevaluations set wanted_at = due_at")
    op.execute("alter table reevaluations alter column wanted_at set not null")
    op.execute("create index reevaluations_wanted on reevaluations (wanted_at)")
    op.execute("create index reevaluations_finalise on reevaluations (impression) where why = 'finalise'")
    op.execute(_NOTE)
    op.execute(_CHOOSE)
    op.execute("""
        create table reevaluated (
            impression   uuid primary key,
            version      integer not null,
            known_at     bigint not null,
            looked_at    bigint not null,
            why          text not null,
            model        text not null,
            risk         double precision not null,
            from_verdict text not null,
            from_reason  text not null,
            to_verdict   text not null,
            to_reason    text not null,
            changes      boolean not null,
            allowed      boolean not null,
            pair         text[] not null,
            masked_risk  double precision,
            micros       bigint not null,
            currency     text not null,
            campaign     text not null,
            event_at     bigint not null
        )
        """)
    op.execute("create index reevaluated_listed on reevaluated (looked_at, impression)")
    op.execute("create index reevaluated_changes on reevaluated (looked_at, impression) where changes")
    op.execute("""
        create table reevaluation_runs (
            name        text primary key,
            since       bigint not null,
            until       bigint not null,
            campaign    text not null,
            position    bigint not null,
            expected    bigint not null,
            noted       bigint not null,
            next_at     bigint not null,
            next_until  bigint not null,
            next_after  uuid,
            started_at  bigint not null,
            finished_at bigint
        )
        """)
    op.execute("""
        create table person_renders (
            person      bigint not null,
            recorded_at bigint not null,
            position    bigint not null,
            event_at    bigint not null,
            impression  uuid not null
        ) partition by range (recorded_at)
        """)
    op.execute("create index person_renders_person on person_renders (person, recorded_at, position)")
    op.execute("""
        create table person_labels (
            person     bigint not null,
            arrived_at bigint not null,
            impression uuid not null,
            label      text not null,
            trust      double precision not null
        )
        """)
    op.execute("create index person_labels_person on person_labels (person, arrived_at)")
    op.execute("create index person_labels_impression on person_labels (impression)")
    op.execute("create index person_labels_arrived on person_labels (arrived_at)")
    op.execute("""
        create table publisher_hours (
            hour      bigint not null,
            publisher text not null,
            surface   text not null,
            renders   bigint not null,
            clicks    bigint not null,
            repeats   bigint not null,
            measured  bigint not null,
            invisible bigint not null,
            primary key (hour, publisher, surface)
        )
        """)
    op.execute(_TAKE)
    op.execute(_FORGET)


def downgrade() -> None:
    op.execute("drop function forget_later_facts, take_later_facts, choose_reevaluations, note_reevaluations")
    for table in ("publisher_hours", "person_labels", "person_renders", "reevaluation_runs", "reevaluated"):
        op.execute(f"drop table {table}")
    for index in ("reevaluations_finalise", "reevaluations_wanted"):
        op.execute(f"drop index {index}")
    for column in ("wanted_at", "notes", "tries", "error"):
        op.execute(f"alter table reevaluations drop column {column}")
    op.execute("drop table ledger_followers")
