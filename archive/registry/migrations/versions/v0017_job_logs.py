"""What the program or function of a job has written is kept with it."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_SORTED = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "job_log",
        sa.Column("job_key", _SORTED, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("written", _SORTED, server_default="", nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["job_key"], ["job.key"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_key"),
    )


def downgrade() -> None:
    op.drop_table("job_log")
