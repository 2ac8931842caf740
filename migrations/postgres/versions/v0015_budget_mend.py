"""What is mended waits its turn as all that is booked does, so that nobody waits for each other."""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        create function budget_mend(a_campaigns text[], a_days integer[], a_micros bigint[]) returns void
        language plpgsql as $$
        begin
            perform budget_lock(a_campaigns, a_days);
            update budget_accounts b set spent_micros = b.spent_micros + a.m
            from unnest(a_campaigns, a_days, a_micros) as a(c, d, m) where b.campaign = a.c and b.day = a.d;
        end
        $$""")


def downgrade() -> None:
    op.execute("drop function budget_mend")
