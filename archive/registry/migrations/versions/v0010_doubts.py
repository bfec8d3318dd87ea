"""Doubts are kept with frames and products."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "frame_doubt",
        sa.Column("frame_id", ID, sa.ForeignKey("frame.id", ondelete="CASCADE"), nullable=False),
        sa.Column("source", sa.Text(), server_default="header", nullable=False),
        sa.Column("position", sa.Integer(), server_default="0", nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("frame_id", "source", "position"),
    )
    op.create_index("ix_frame_doubt_kind", "frame_doubt", ["kind", "frame_id"])
    op.create_table(
        "product_doubt",
        sa.Column("product_id", ID, sa.ForeignKey("product.id", ondelete="CASCADE"), nullable=False),
        sa.Column("position", sa.Integer(), server_default="0", nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("product_id", "position"),
    )
    op.create_index("ix_product_doubt_kind", "product_doubt", ["kind", "product_id"])


def downgrade() -> None:
    op.drop_table("product_doubt")
    op.drop_table("frame_doubt")
