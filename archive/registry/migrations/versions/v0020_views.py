"""The views for people: nothing changes in the tables, but from here on each upgrade makes them."""

from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # `Database.upgrade` makes the views behind the last migration, whichever that is.
    pass


def downgrade() -> None:
    for name in ("v_lineage", "v_products", "v_frames"):
        op.execute(f"DROP VIEW IF EXISTS {name}")
