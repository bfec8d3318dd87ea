"""Frames that another program has finished are registered, and used by nothing: the status ``processed``."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

OLD = "status IN ('registered', 'duplicate', 'superseded', 'refused')"
NEW = "status IN ('registered', 'duplicate', 'superseded', 'refused', 'processed')"


def upgrade() -> None:
    _check(OLD, NEW)
    _content("sha256 IS NOT NULL AND status IN ('registered', 'refused', 'processed')")


def downgrade() -> None:
    op.execute("UPDATE frame SET status = 'refused' WHERE status = 'processed'")
    _content("sha256 IS NOT NULL AND status IN ('registered', 'refused')")
    _check(NEW, OLD)


def _content(condition: str) -> None:
    op.drop_index("uq_frame_content", "frame")
    where = sa.text(condition)
    op.create_index(
        "uq_frame_content", "frame", ["sha256"], unique=True, sqlite_where=where, postgresql_where=where
    )


def _check(before: str, after: str) -> None:
    connection = op.get_bind()
    if connection.dialect.name != "sqlite":
        op.execute("ALTER TABLE frame DROP CONSTRAINT ck_frame_status")
        op.execute(f"ALTER TABLE frame ADD CONSTRAINT ck_frame_status CHECK ({after})")
        return
    # SQLite changes no constraint of a table. Copying it would take minutes in a registry of years, and lose triggers;
    # where what is stored stays as it is, its manual has the text of the table changed (ALTER TABLE, section 7).
    version = connection.execute(sa.text("PRAGMA schema_version")).scalar_one()
    connection.execute(sa.text("PRAGMA writable_schema = ON"))
    text = sa.text(
        "UPDATE sqlite_master SET sql = replace(sql, :before, :after) WHERE type = 'table' AND name = 'frame'"
    )
    connection.execute(text, {"before": before, "after": after})
    connection.execute(sa.text(f"PRAGMA schema_version = {version + 1}"))
    connection.execute(sa.text("PRAGMA writable_schema = OFF"))
