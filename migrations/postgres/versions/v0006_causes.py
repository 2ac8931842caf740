"""Finds a cause in a long stream by an index: counts go on in one stream for as long as a gate runs."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("create index stream_commits_cause on stream_commits (stream, cause)")


def downgrade() -> None:
    op.execute("drop index stream_commits_cause")
