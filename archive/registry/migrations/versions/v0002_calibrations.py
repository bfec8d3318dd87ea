"""Indexes by which the nearest calibration is found."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

PLACE = ("telescope", "camera", "instrument")
CALIBRATION = "status = 'registered' AND class NOT IN ('science', 'unclassified')"
MADE = "state = 'done'"

# Name, table, condition, columns.
INDEXES = (
    ("ix_frame_calibration", "frame", CALIBRATION, ("class", *PLACE, "obsdate", "id")),
    ("ix_frame_calibration_filter", "frame", CALIBRATION, ("class", *PLACE, "filter", "obsdate", "id")),
    ("ix_frame_calibration_night", "frame", CALIBRATION, ("class", "night", *PLACE, "obsdate", "id")),
    ("ix_product_made", "product", MADE, ("category", *PLACE, "obsdate", "id")),
    ("ix_product_made_filter", "product", MADE, ("category", *PLACE, "filter", "obsdate", "id")),
    ("ix_product_made_night", "product", MADE, ("category", "night", *PLACE, "obsdate", "id")),
)


def upgrade() -> None:
    for name, table, condition, columns in INDEXES:
        where = sa.text(condition)
        op.create_index(name, table, list(columns), sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    for name, table, _, _ in INDEXES:
        op.drop_index(name, table)
