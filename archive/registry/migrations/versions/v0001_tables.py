"""All tables, their indexes, and the triggers that write the outbox."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
SORTED = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

NOW = {
    "sqlite": "(strftime('%Y-%m-%dT%H:%M:%f000', 'now'))",
    "postgresql": "to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US')",
}

FRAME = """json_object('id', NEW.id, 'class', NEW.class, 'telescope', NEW.telescope, 'camera', NEW.camera,
    'instrument', NEW.instrument, 'filter', NEW.filter, 'object', NEW.object, 'obsdate', NEW.obsdate,
    'night', NEW.night)"""
PRODUCT = """json_object('id', NEW.id, 'job', NEW.job_key, 'category', NEW.category, 'path', NEW.path,
    'telescope', NEW.telescope, 'camera', NEW.camera, 'object', NEW.object, 'night', NEW.night)"""
SET = """json_object('id', NEW.id, 'step', NEW.step, 'action', NEW.action, 'telescope', NEW.telescope,
    'camera', NEW.camera, 'instrument', NEW.instrument, 'first', NEW.first_obsdate,
    'last', NEW.last_obsdate)"""

MADE = "NEW.state = 'done'"
CLOSED = "NEW.status = 'closed'"

# Name, table, when, condition, kind of event, payload. INSERT has no OLD to compare with.
TRIGGERS = (
    ("frame_registered", "frame", "INSERT", "NEW.status = 'registered'", "frame.registered", FRAME),
    ("product_inserted", "product", "INSERT", MADE, "product.made", PRODUCT),
    ("product_made", "product", "UPDATE", f"{MADE} AND OLD.state <> 'done'", "product.made", PRODUCT),
    ("set_inserted", "frame_set", "INSERT", CLOSED, "set.closed", SET),
    ("set_closed", "frame_set", "UPDATE", f"{CLOSED} AND OLD.status <> 'closed'", "set.closed", SET),
)


def upgrade() -> None:
    now = sa.text(NOW[op.get_bind().dialect.name])
    _frames(now)
    _sets()
    _jobs(now)
    _products(now)
    _events(now)
    for trigger in TRIGGERS:
        _trigger(*trigger)


def downgrade() -> None:
    raise RuntimeError(
        f"revision {revision} is the first, wanted one to go back to; delete the database instead"
    )


def _frames(now: Any) -> None:
    op.create_table(
        "frame",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("path", SORTED, nullable=True),
        sa.Column("sha256", SORTED, nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("changed_ns", sa.BigInteger(), nullable=True),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("class", sa.Text(), server_default="unclassified", nullable=False),
        sa.Column("telescope", sa.Text(), server_default="", nullable=False),
        sa.Column("camera", sa.Text(), server_default="", nullable=False),
        sa.Column("instrument", sa.Text(), server_default="", nullable=False),
        sa.Column("filter", sa.Text(), server_default="", nullable=False),
        sa.Column("object", sa.Text(), server_default="", nullable=False),
        sa.Column("exptime", sa.Double(), nullable=True),
        sa.Column("obsdate", SORTED, server_default="", nullable=False),
        sa.Column("iobs", sa.Integer(), nullable=True),
        sa.Column("nobs", sa.Integer(), nullable=True),
        sa.Column("night", SORTED, server_default="", nullable=False),
        sa.Column("status", sa.Text(), server_default="registered", nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("duplicate_of", BIG, nullable=True),
        sa.Column("superseded_by", BIG, nullable=True),
        sa.Column("ungrouped", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("registered_at", SORTED, server_default=now, nullable=False),
        sa.CheckConstraint(
            "status IN ('registered', 'duplicate', 'superseded', 'refused')", name="ck_frame_status"
        ),
        sa.ForeignKeyConstraint(
            ["duplicate_of"],
            ["frame.id"],
        ),
        sa.ForeignKeyConstraint(
            ["superseded_by"],
            ["frame.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_frame_class_night", "frame", ["class", "night"])
    op.create_index("ix_frame_duplicate_of", "frame", ["duplicate_of"])
    op.create_index("ix_frame_night", "frame", ["night"])
    op.create_index("ix_frame_obsdate", "frame", ["obsdate"])
    op.create_index(
        "ix_frame_ungrouped",
        "frame",
        [
            "telescope",
            "camera",
            "instrument",
            "obsdate",
            sa.text("(CASE WHEN iobs BETWEEN 1 AND nobs THEN iobs ELSE 0 END)"),
            sa.text("coalesce(sha256, '')"),
            "id",
        ],
        sqlite_where=sa.text("ungrouped"),
        postgresql_where=sa.text("ungrouped"),
    )
    op.create_index(
        "ix_frame_stream",
        "frame",
        [
            "telescope",
            "camera",
            "instrument",
            "obsdate",
            sa.text("(CASE WHEN iobs BETWEEN 1 AND nobs THEN iobs ELSE 0 END)"),
            sa.text("coalesce(sha256, '')"),
            "id",
        ],
    )
    op.create_index(
        "uq_frame_catalogue",
        "frame",
        ["telescope", "camera", "instrument", "obsdate", sa.text("coalesce(iobs, 0)")],
        unique=True,
        sqlite_where=sa.text("path IS NULL"),
        postgresql_where=sa.text("path IS NULL"),
    )
    op.create_index(
        "uq_frame_content",
        "frame",
        ["sha256"],
        unique=True,
        sqlite_where=sa.text("sha256 IS NOT NULL AND status IN ('registered', 'refused')"),
        postgresql_where=sa.text("sha256 IS NOT NULL AND status IN ('registered', 'refused')"),
    )
    op.create_index(
        "uq_frame_path",
        "frame",
        ["path"],
        unique=True,
        sqlite_where=sa.text("path IS NOT NULL AND status <> 'superseded'"),
        postgresql_where=sa.text("path IS NOT NULL AND status <> 'superseded'"),
    )
    op.create_table(
        "frame_keyword",
        sa.Column("frame_id", BIG, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("number", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["frame_id"], ["frame.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("frame_id", "name"),
    )
    op.create_index("ix_frame_keyword_name", "frame_keyword", ["name", "value"])
    op.create_table(
        "frame_stage",
        sa.Column("frame_id", BIG, nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("updated", SORTED, server_default=now, nullable=False),
        sa.CheckConstraint(
            "state IN ('waiting', 'running', 'done', 'passed', 'failed', 'refused')",
            name="ck_frame_stage_state",
        ),
        sa.ForeignKeyConstraint(["frame_id"], ["frame.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("frame_id", "stage"),
    )
    op.create_index("ix_frame_stage_state", "frame_stage", ["stage", "state"])


def _sets() -> None:
    op.create_table(
        "frame_set",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("telescope", sa.Text(), server_default="", nullable=False),
        sa.Column("camera", sa.Text(), server_default="", nullable=False),
        sa.Column("instrument", sa.Text(), server_default="", nullable=False),
        sa.Column("action", sa.Text(), server_default="stack", nullable=False),
        sa.Column("status", sa.Text(), server_default="open", nullable=False),
        sa.Column("ready", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("sequence_start", SORTED, server_default="", nullable=False),
        sa.Column("first_obsdate", SORTED, server_default="", nullable=False),
        sa.Column("last_obsdate", SORTED, server_default="", nullable=False),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("superseded_by", BIG, nullable=True),
        sa.Column("product_id", BIG, nullable=True),
        sa.CheckConstraint("action IN ('stack', 'pass')", name="ck_frame_set_action"),
        sa.CheckConstraint("status IN ('open', 'closed', 'superseded')", name="ck_frame_set_status"),
        sa.ForeignKeyConstraint(
            ["superseded_by"],
            ["frame_set.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_frame_set_status", "frame_set", ["step", "status", "ready"])
    op.create_index(
        "ix_frame_set_stream", "frame_set", ["telescope", "camera", "instrument", "step", "sequence_start"]
    )
    op.create_table(
        "set_member",
        sa.Column("set_id", BIG, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("frame_id", BIG, nullable=False),
        sa.ForeignKeyConstraint(
            ["frame_id"],
            ["frame.id"],
        ),
        sa.ForeignKeyConstraint(["set_id"], ["frame_set.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("set_id", "position"),
        sa.UniqueConstraint("set_id", "frame_id", name="uq_set_member_frame"),
    )
    op.create_index("ix_set_member_frame", "set_member", ["frame_id"])
    op.create_table(
        "stream_state",
        sa.Column("telescope", sa.Text(), nullable=False),
        sa.Column("camera", sa.Text(), nullable=False),
        sa.Column("instrument", sa.Text(), nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("rules", sa.Text(), nullable=False),
        sa.Column("state", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("telescope", "camera", "instrument", "step"),
    )


def _jobs(now: Any) -> None:
    op.create_table(
        "job",
        sa.Column("key", SORTED, nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("recipe", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="planned", nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("night", SORTED, server_default="", nullable=False),
        sa.Column("telescope", sa.Text(), server_default="", nullable=False),
        sa.Column("camera", sa.Text(), server_default="", nullable=False),
        sa.Column("instrument", sa.Text(), server_default="", nullable=False),
        sa.Column("filter", sa.Text(), server_default="", nullable=False),
        sa.Column("object", sa.Text(), server_default="", nullable=False),
        sa.Column("parameters", sa.JSON(), nullable=False),
        sa.Column("set_id", BIG, nullable=True),
        sa.Column("level", sa.Integer(), server_default="0", nullable=False),
        sa.Column("owner", sa.Text(), server_default="", nullable=False),
        sa.Column("heartbeat", sa.Double(), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("planned_at", SORTED, server_default=now, nullable=False),
        sa.Column("started_at", SORTED, server_default="", nullable=False),
        sa.Column("finished_at", SORTED, server_default="", nullable=False),
        sa.CheckConstraint(
            "state IN ('planned', 'running', 'done', 'failed', 'incomplete', 'refused')", name="ck_job_state"
        ),
        sa.ForeignKeyConstraint(
            ["set_id"],
            ["frame_set.id"],
        ),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_index("ix_job_night", "job", ["night"])
    op.create_index("ix_job_set", "job", ["set_id"])
    op.create_index("ix_job_state", "job", ["state", "step"])
    op.create_table(
        "job_input",
        sa.Column("job_key", SORTED, nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("frame_id", BIG, nullable=True),
        sa.Column("parent_job_key", SORTED, nullable=True),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("level", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["frame_id"],
            ["frame.id"],
        ),
        sa.ForeignKeyConstraint(["job_key"], ["job.key"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_key", "role", "position"),
    )
    op.create_index("ix_job_input_frame", "job_input", ["frame_id"])
    op.create_index("ix_job_input_parent", "job_input", ["parent_job_key"])


def _products(now: Any) -> None:
    op.create_table(
        "product",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("job_key", SORTED, nullable=False),
        sa.Column("category", sa.Text(), nullable=False),
        sa.Column("path", SORTED, nullable=False),
        sa.Column("sha256", sa.Text(), nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("changed_ns", sa.BigInteger(), nullable=True),
        sa.Column("state", sa.Text(), server_default="planned", nullable=False),
        sa.Column("night", SORTED, server_default="", nullable=False),
        sa.Column("telescope", sa.Text(), server_default="", nullable=False),
        sa.Column("camera", sa.Text(), server_default="", nullable=False),
        sa.Column("instrument", sa.Text(), server_default="", nullable=False),
        sa.Column("filter", sa.Text(), server_default="", nullable=False),
        sa.Column("object", sa.Text(), server_default="", nullable=False),
        sa.Column("exptime", sa.Double(), nullable=True),
        sa.Column("obsdate", SORTED, server_default="", nullable=False),
        sa.Column("cards", sa.JSON(), nullable=True),
        sa.CheckConstraint("state IN ('planned', 'done', 'missing')", name="ck_product_state"),
        sa.ForeignKeyConstraint(
            ["job_key"],
            ["job.key"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("job_key", "category", name="uq_product_job_category"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_product_category_night", "product", ["category", "night"])
    op.create_index("ix_product_path", "product", ["path"])
    op.create_table(
        "product_quality",
        sa.Column("product_id", BIG, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["product_id"], ["product.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("product_id", "name"),
    )
    op.create_index("ix_product_quality_name", "product_quality", ["name", "value"])
    op.create_table(
        "collection",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created", SORTED, server_default=now, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "collection_member",
        sa.Column("collection_id", BIG, nullable=False),
        sa.Column("product_id", BIG, nullable=False),
        sa.ForeignKeyConstraint(["collection_id"], ["collection.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["product_id"],
            ["product.id"],
        ),
        sa.PrimaryKeyConstraint("collection_id", "product_id"),
    )
    op.create_index("ix_collection_member_product", "collection_member", ["product_id"])


def _events(now: Any) -> None:
    op.create_table(
        "instrument_event",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("telescope", sa.Text(), server_default="", nullable=False),
        sa.Column("camera", sa.Text(), server_default="", nullable=False),
        sa.Column("instrument", sa.Text(), server_default="", nullable=False),
        sa.Column("happened", SORTED, server_default="", nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_instrument_event_happened", "instrument_event", ["happened"])
    op.create_table(
        "event",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("created", SORTED, server_default=now, nullable=False),
        sa.Column("delivered", SORTED, nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_event_undelivered",
        "event",
        ["id"],
        sqlite_where=sa.text("delivered IS NULL"),
        postgresql_where=sa.text("delivered IS NULL"),
    )


def _trigger(name: str, table: str, when: str, condition: str, kind: str, payload: str) -> None:
    subject = f"'{table.removeprefix('frame_')}/' || NEW.id"
    insert = f"INSERT INTO event (kind, subject, payload) VALUES ('{kind}', {subject}, {payload});"
    if op.get_bind().dialect.name == "sqlite":
        op.execute(f"CREATE TRIGGER {name} AFTER {when} ON {table} WHEN {condition} BEGIN {insert} END")
        return
    insert = insert.replace("json_object", "json_build_object")
    op.execute(
        f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {insert} RETURN NULL; END $$"
    )
    each = f"FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION {name}()"
    op.execute(f"CREATE TRIGGER {name} AFTER {when} ON {table} {each}")
