"""Products are found by night: a drain looks at those of the last ones only."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_product_night", "product", ["night"])


def downgrade() -> None:
    op.drop_index("ix_product_night", "product")
