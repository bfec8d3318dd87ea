"""In what the inputs of a job are less than planned is kept with it, for its products' headers and doubts."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("job", sa.Column("compromises", sa.Text(), server_default="", nullable=False))


def downgrade() -> None:
    op.drop_column("job", "compromises")
