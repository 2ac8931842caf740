"""What is known of publishers at a moment, for the gates."""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        create table publisher_histories (
            computed_at     bigint not null,
            publisher       text collate "C" not null,
            duplicate_rate  double precision not null,
            invisible_share double precision not null,
            click_z         double precision not null,
            primary key (computed_at, publisher)
        )
        """)


def downgrade() -> None:
    op.execute("drop table publisher_histories")
