"""What is due is counted reason by reason, so that one with very much hides no other."""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("drop index reevaluations_wanted")
    op.execute("create index reevaluations_wanted on reevaluations (why, wanted_at)")


def downgrade() -> None:
    op.execute("drop index reevaluations_wanted")
    op.execute("create index reevaluations_wanted on reevaluations (wanted_at)")
