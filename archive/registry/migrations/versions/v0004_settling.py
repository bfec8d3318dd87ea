"""Frames whose sets have to be looked at, and how many sets there are, known without reading all of them."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

COUNT = """
INSERT INTO set_count (step, kind, number)
SELECT step, CASE status WHEN 'open' THEN 'open' ELSE action END AS found, count(*)
FROM frame_set WHERE status <> 'superseded' GROUP BY step, found
"""


def upgrade() -> None:
    op.add_column(
        "frame_stage", sa.Column("unsettled", sa.Boolean(), server_default=sa.true(), nullable=False)
    )
    where = sa.text("unsettled")
    columns = ["stage", "frame_id"]
    op.create_index(
        "ix_frame_stage_unsettled", "frame_stage", columns, sqlite_where=where, postgresql_where=where
    )
    op.create_table(
        "set_count",
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("step", "kind"),
    )
    op.execute(COUNT)


def downgrade() -> None:
    op.drop_table("set_count")
    op.drop_index("ix_frame_stage_unsettled", "frame_stage")
    op.drop_column("frame_stage", "unsettled")
