"""An index of the open sets, which are few, whatever the number of sets."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    where = sa.text("status = 'open'")
    columns = ["telescope", "camera", "instrument", "step"]
    op.create_index("ix_frame_set_open", "frame_set", columns, sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    op.drop_index("ix_frame_set_open", "frame_set")
