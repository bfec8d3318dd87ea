"""Frames with files that grouping has not seen, and rows without, each by an index of their own."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

KEY: tuple[str | sa.TextClause, ...] = (
    "telescope",
    "camera",
    "instrument",
    "obsdate",
    sa.text("(CASE WHEN iobs BETWEEN 1 AND nobs THEN iobs ELSE 0 END)"),
    sa.text("coalesce(sha256, '')"),
    "id",
)


def upgrade() -> None:
    op.drop_index("ix_frame_ungrouped", "frame")
    _partial("ix_frame_ungrouped", KEY, "ungrouped AND path IS NOT NULL")
    _partial("ix_frame_ungrouped_row", ("id",), "ungrouped AND path IS NULL")


def downgrade() -> None:
    op.drop_index("ix_frame_ungrouped_row", "frame")
    op.drop_index("ix_frame_ungrouped", "frame")
    _partial("ix_frame_ungrouped", KEY, "ungrouped")


def _partial(name: str, columns: Sequence[str | sa.TextClause], condition: str) -> None:
    where = sa.text(condition)
    op.create_index(name, "frame", list(columns), sqlite_where=where, postgresql_where=where)
