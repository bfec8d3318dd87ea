"""Rows that other programs insert: found by an index, told when they change; PostgreSQL notifies who listens."""

import sqlalchemy as sa
from alembic import op

from ccdflow.archive.registry.migrations.versions.v0001_tables import FRAME

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

PENDING = "path IS NOT NULL AND sha256 IS NULL AND status = 'registered'"
CHANGED = "sha256, status, class, telescope, camera, instrument, obsdate"
INSERT = f"INSERT INTO event (kind, subject, payload) VALUES ('frame.changed', 'frame/' || NEW.id, {FRAME});"
DIFFERS = " OR ".join(
    f"OLD.{name} IS DISTINCT FROM NEW.{name}" for name in (one.strip() for one in CHANGED.split(","))
)


def upgrade() -> None:
    where = sa.text(PENDING)
    op.create_index("ix_frame_pending", "frame", ["id"], sqlite_where=where, postgresql_where=where)
    if op.get_bind().dialect.name == "sqlite":
        differs = DIFFERS.replace("IS DISTINCT FROM", "IS NOT")
        op.execute(
            f"CREATE TRIGGER frame_changed AFTER UPDATE OF {CHANGED} ON frame "
            f"WHEN NEW.status = 'registered' AND ({differs}) BEGIN {INSERT} END"
        )
        return
    body = INSERT.replace("json_object", "json_build_object")
    op.execute(
        f"CREATE FUNCTION frame_changed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN NULL; END $$"
    )
    op.execute(
        f"CREATE TRIGGER frame_changed AFTER UPDATE OF {CHANGED} ON frame FOR EACH ROW "
        f"WHEN (NEW.status = 'registered' AND ({DIFFERS})) EXECUTE FUNCTION frame_changed()"
    )
    op.execute(
        "CREATE FUNCTION event_notify() RETURNS trigger LANGUAGE plpgsql AS $$ "
        "BEGIN PERFORM pg_notify('ccdflow', ''); RETURN NULL; END $$"
    )
    op.execute(
        "CREATE TRIGGER event_notify AFTER INSERT ON event FOR EACH STATEMENT EXECUTE FUNCTION event_notify()"
    )


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TRIGGER frame_changed")
    else:
        for name, table in (("event_notify", "event"), ("frame_changed", "frame")):
            op.execute(f"DROP TRIGGER {name} ON {table}")
            op.execute(f"DROP FUNCTION {name}()")
    op.drop_index("ix_frame_pending", "frame")
