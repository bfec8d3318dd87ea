"""Jobs tell by which versions of programs they were done."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("job", sa.Column("software", sa.Text(), server_default="", nullable=False))


def downgrade() -> None:
    # They name the column; each upgrade makes them anew.
    for name in ("v_lineage", "v_products", "v_frames"):
        op.execute(f"DROP VIEW IF EXISTS {name}")
    op.drop_column("job", "software")
