"""Campaigns as the ledger's streams tell them, and the leases of their budgets."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_PLANS = "set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off"
"""An account is looked up by its key, whatever is believed of the tables' sizes when a plan is made."""

_EXCHANGE = """
create function budget_exchange(
    a_holder text, a_seq bigint, a_reported bigint, a_after bigint, a_ttl_ms bigint,
    a_orphan text, a_orphan_after bigint,
    a_campaigns text[], a_days integer[], a_versions integer[], a_limits bigint[], a_dailies bigint[],
    a_spents bigint[], a_keeps bigint[], a_needs bigint[], a_aheads bigint[], a_stales bigint[]
) returns table (status text, at_campaign text, at_day integer, granted bigint, free bigint)
language plpgsql {plans} as $$
declare
    now_ms bigint := extract(epoch from clock_timestamp()) * 1000;
    known  budget_holders%rowtype;
    news   boolean;
begin
    insert into budget_holders (holder, after, expires_at) values (a_holder, a_after, 0) on conflict do nothing;
    select * into known from budget_holders where holder = a_holder for update;
    if known.is_void then
        update budget_holders set is_buried = false, after = booked_through, expires_at = now_ms + a_ttl_ms
        where holder = a_holder and is_buried;
        return query select 'void', null::text, null::integer, null::bigint, null::bigint;
        return;
    end if;
    if a_seq <= known.seq then
        return query select 'late', null::text, null::integer, null::bigint, null::bigint;
        return;
    end if;
    news := a_reported > known.reported;
    update budget_holders set seq = a_seq, reported = a_reported, after = a_after, expires_at = now_ms + a_ttl_ms
    where holder = a_holder;

    perform budget_lock(a_campaigns, a_days);

    update budget_accounts b set limit_micros = v.limit_micros, version = v.version
    from (
        select distinct on (c, d) c, d, limit_micros, version from (
            select c, 0, n, l from unnest(a_campaigns, a_versions, a_limits) as a(c, n, l)
            union all
            select c, d, n, l from unnest(a_campaigns, a_days, a_versions, a_dailies) as a(c, d, n, l) where d > 0
        ) told(c, d, version, limit_micros)
        order by c, d, version desc
    ) v
    where b.campaign = v.c and b.day = v.d and b.version < v.version;

    if news and a_orphan <> '' then
        insert into budget_holders (holder, after, expires_at) values (a_orphan, a_orphan_after, now_ms + a_ttl_ms);
        insert into budget_holdings (campaign, day, holder, micros)
        select c, d, a_orphan, m from unnest(a_campaigns, a_days, a_spents) as a(c, d, m) where m > 0;
    elsif news then
        perform budget_book(a_campaigns, a_days, a_spents);
    end if;

    insert into budget_holdings as h (campaign, day, holder, micros, stale_micros)
    select c, d, a_holder, k, s from unnest(a_campaigns, a_days, a_keeps, a_stales) as a(c, d, k, s)
    on conflict (campaign, day, holder) do update set micros = excluded.micros, stale_micros = excluded.stale_micros;

    return query
    with asked as (
        select c, d, need, ahead,
               coalesce(sum(need + ahead) over (
                   partition by c order by d rows between unbounded preceding and 1 preceding), 0) as earlier
        from unnest(a_campaigns, a_days, a_needs, a_aheads, a_keeps) as a(c, d, need, ahead, keep)
        where need + ahead + keep > 0
    ), freed as (
        select a.c, a.d, a.need, a.ahead, least(
            coalesce(w.limit_micros, 0) - w.spent_micros - a.earlier - held.whole,
            o.limit_micros - o.spent_micros - held.of_day
        )::bigint as money
        from asked a
        join budget_accounts w on w.campaign = a.c and w.day = 0
        left join budget_accounts o on o.campaign = a.c and o.day = a.d and a.d > 0
        cross join lateral (
            select coalesce(sum(h.micros), 0) as whole,
                   coalesce(sum(h.micros) filter (where h.day = a.d), 0) as of_day
            from budget_holdings h where h.campaign = a.c
        ) held
    ), lent as (
        select f.c, f.d, f.money, (least(f.need, greatest(f.money, 0))
            + case when f.money - f.need >= f.ahead then least(f.ahead, (f.money - f.need) / 8) else 0 end
        )::bigint as micros
        from freed f
    ), moved as (
        update budget_holdings h set micros = h.micros + l.micros from lent l
        where h.campaign = l.c and h.day = l.d and h.holder = a_holder and l.micros > 0
    )
    select 'ok', l.c, l.d, l.micros, l.money - l.micros from lent l;

    delete from budget_holdings h using unnest(a_campaigns, a_days) as a(c, d)
    where h.campaign = a.c and h.day = a.d and h.holder = a_holder and h.micros = 0 and h.stale_micros = 0;
end
$$
"""

# Whoever changes what is spent or held of a campaign locks the row of the whole campaign first, in order of name.
_LOCK = """
create function budget_lock(a_campaigns text[], a_days integer[]) returns void
language plpgsql {plans} as $$
begin
    insert into budget_accounts (campaign, day)
    select distinct c, o from unnest(a_campaigns, a_days) as a(c, d), unnest(array[0, d]) as o order by c, o
    on conflict do nothing;
    perform 1 from budget_accounts b where b.day = 0 and b.campaign = any(a_campaigns)
    order by b.campaign for update;
end
$$
"""

_BOOK = """
create function budget_book(a_campaigns text[], a_days integer[], a_spents bigint[]) returns void
language plpgsql {plans} as $$
begin
    update budget_accounts b set spent_micros = b.spent_micros + s.micros
    from (
        select c, o as d, sum(m) as micros
        from unnest(a_campaigns, a_days, a_spents) as a(c, d, m),
             unnest(case when a.d = 0 then array[0] else array[0, a.d] end) as o
        group by c, o
    ) s
    where b.campaign = s.c and b.day = s.d and s.micros <> 0;
end
$$
"""

_BURY = """
create function budget_bury(
    a_holder text, a_seq bigint, a_booked_through bigint, a_through bigint,
    a_campaigns text[], a_days integer[], a_spents bigint[]
) returns boolean
language plpgsql {plans} as $$
declare
    now_ms bigint := extract(epoch from clock_timestamp()) * 1000;
    freed  text[];
begin
    perform 1 from budget_holders
    where holder = a_holder and seq = a_seq and booked_through = a_booked_through
        and not is_buried and expires_at <= now_ms for update;
    if not found then
        return false;
    end if;
    select coalesce(array_agg(distinct campaign), '{}') into freed from budget_holdings where holder = a_holder;
    perform budget_lock(
        a_campaigns || freed, a_days || array_fill(0, array[cardinality(freed)])
    );
    perform budget_book(a_campaigns, a_days, a_spents);
    delete from budget_holdings where holder = a_holder;
    if position('.' in a_holder) > 0 then
        delete from budget_holders where holder = a_holder;
    else
        update budget_holders set is_void = true, is_buried = true, booked_through = a_through where holder = a_holder;
    end if;
    return true;
end
$$
"""

_CORRECT = """
create function budget_correct(a_after bigint, a_through bigint, a_campaigns text[], a_spents bigint[])
returns boolean
language plpgsql {plans} as $$
begin
    update budget_corrections set position = a_through where position = a_after;
    if not found then
        return false;
    end if;
    perform budget_lock(a_campaigns, array_fill(0, array[cardinality(a_campaigns)]));
    perform budget_book(a_campaigns, array_fill(0, array[cardinality(a_campaigns)]), a_spents);
    return true;
end
$$
"""


def upgrade() -> None:
    op.execute("""
        create index campaign_commits_position on stream_commits (position)
        where stream >= 'campaign-' and stream < 'campaign.'""")
    op.execute("""
        create table campaigns (
            id         text collate "C" primary key,
            version    integer not null,
            advertiser text not null,
            data       bytea not null
        )""")
    op.execute("create index campaigns_advertiser on campaigns (advertiser, id)")
    op.execute("create table campaigns_through (position bigint not null)")
    op.execute("insert into campaigns_through values (0)")
    op.execute("""
        create table budget_accounts (
            campaign     text collate "C" not null,
            day          integer not null,
            limit_micros bigint,
            version      integer not null default -1,
            spent_micros bigint not null default 0,
            primary key (campaign, day)
        ) with (fillfactor = 70)""")
    op.execute("""
        create table budget_holders (
            holder         text primary key,
            seq            bigint not null default 0,
            reported       bigint not null default 0,
            after          bigint not null,
            booked_through bigint not null default 0,
            expires_at     bigint not null,
            is_void        boolean not null default false,
            is_buried      boolean not null default false
        )""")
    op.execute("""
        create table budget_holdings (
            campaign     text collate "C" not null,
            day          integer not null,
            holder       text not null,
            micros       bigint not null check (micros >= 0),
            stale_micros bigint not null default 0 check (stale_micros >= 0),
            primary key (campaign, day, holder)
        ) with (fillfactor = 70)""")
    op.execute("create index budget_holdings_holder on budget_holdings (holder)")
    op.execute("create table budget_corrections (position bigint not null)")
    op.execute("insert into budget_corrections values (0)")
    for function in (_LOCK, _BOOK, _EXCHANGE, _BURY, _CORRECT):
        op.execute(function.replace("{plans}", _PLANS))


def downgrade() -> None:
    for function in ("budget_correct", "budget_bury", "budget_exchange", "budget_book", "budget_lock"):
        op.execute(f"drop function {function}")
    for table in (
        *("budget_corrections", "budget_holdings", "budget_holders", "budget_accounts"),
        *("campaigns_through", "campaigns"),
    ):
        op.execute(f"drop table {table}")
    op.execute("drop index campaign_commits_position")
