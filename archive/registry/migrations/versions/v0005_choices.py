"""What people pin and ban, products that gave way to others, and the worst association level of a data set."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "choice",
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column(
            "created",
            sa.Text().with_variant(sa.Text(collation="C"), "postgresql"),
            server_default="",
            nullable=False,
        ),
        sa.CheckConstraint("verdict IN ('pinned', 'banned')", name="ck_choice_verdict"),
        sa.PrimaryKeyConstraint("subject"),
    )
    op.add_column("job", sa.Column("worst_level", sa.Integer(), server_default="0", nullable=False))
    op.execute("UPDATE job SET worst_level = level")
    op.add_column(
        "product",
        sa.Column("superseded_by", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
    )


def downgrade() -> None:
    op.drop_column("product", "superseded_by")
    op.drop_column("job", "worst_level")
    op.drop_table("choice")
