"""What is to be cleared away is found however much stands cleared already."""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("create index quarantine_sealed on quarantine (expires_at) where sealed is not null")


def downgrade() -> None:
    op.execute("drop index quarantine_sealed")
