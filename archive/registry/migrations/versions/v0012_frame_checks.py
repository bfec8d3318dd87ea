"""Raw files are looked at again, each in its turn."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "frame_check",
        sa.Column("frame_id", ID, sa.ForeignKey("frame.id", ondelete="CASCADE"), nullable=False),
        sa.Column("checked_at", sa.Text(), server_default="", nullable=False),
        sa.Column("changed_ns", sa.BigInteger(), nullable=True),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("frame_id"),
    )


def downgrade() -> None:
    op.drop_table("frame_check")
