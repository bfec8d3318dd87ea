"""One exposure is one frame, whatever file holds it; what people correct is kept apart from what headers say.

Others write to these tables with plain SQL, and so do we: `revision` of frames, which only we count up, tells both
apart. Of keywords we never update a row, but delete it and insert another: what is updated, others have corrected.
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

from ccdflow.archive.registry.migrations.versions.v0001_tables import FRAME, NOW

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
SORTED = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

PLACE = ("telescope", "camera", "instrument", "obsdate")
SAME_PIXELS = "pixels <> '' AND status IN ('registered', 'refused', 'processed')"
FRAME_TEXTS = ("class", "telescope", "camera", "instrument", "filter", "object", "obsdate", "night")
FRAME_NUMBERS = ("exptime", "iobs", "nobs")
DESCRIBED = (*FRAME_TEXTS, *FRAME_NUMBERS)
EVENT_BEFORE = ("sha256", "status", "class", "telescope", "camera", "instrument", "obsdate")

BY_SQL = "'SQL', 'changed in the database'"
# What nobody has read yet can't be corrected: such a row only says what its program knows beforehand.
READ = "(NEW.path IS NULL OR NEW.sha256 IS NOT NULL) AND NEW.status IN ('registered', 'refused', 'processed')"
FOREIGN = "NEW.revision = OLD.revision"


def upgrade() -> None:
    now = NOW[op.get_bind().dialect.name]
    op.add_column("frame", sa.Column("pixels", sa.Text(), nullable=True))
    op.add_column("frame", sa.Column("revision", sa.Integer(), server_default="0", nullable=False))
    op.add_column("frame_set", sa.Column("lost", sa.Boolean(), server_default=sa.false(), nullable=False))
    _partial("ix_frame_pixels", "frame", ["pixels"], SAME_PIXELS)
    _partial("ix_frame_superseded_by", "frame", ["superseded_by"], "superseded_by IS NOT NULL")
    _partial("ix_frame_set_lost", "frame_set", ["id"], "lost")
    op.drop_index("uq_frame_catalogue", "frame")
    _catalogue_index("filter", "object", "class")
    op.create_table(
        "amendment",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("frame_id", BIG, sa.ForeignKey("frame.id", ondelete="CASCADE"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), server_default="", nullable=False),
        sa.Column("number", sa.Double(), nullable=True),
        sa.Column("said", sa.Text(), nullable=True),
        sa.Column("said_number", sa.Double(), nullable=True),
        sa.Column("who", sa.Text(), server_default="", nullable=False),
        sa.Column("why", sa.Text(), server_default="", nullable=False),
        sa.Column("made", SORTED, server_default=sa.text(now), nullable=False),
        sa.Column("undone", SORTED, server_default="", nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_amendment_frame", "amendment", ["frame_id", "name"])
    _partial("ix_amendment_holds", "amendment", ["frame_id"], "undone = ''")
    drop("frame_changed", "frame")
    trigger(
        "frame_changed",
        "UPDATE",
        "frame",
        ("sha256", "status", *DESCRIBED),
        _event(),
        "NEW.status = 'registered'",
    )
    trigger("frame_touched", "UPDATE", "frame", ("status", *DESCRIBED), _REGROUP, FOREIGN)
    trigger("frame_amended", "UPDATE", "frame", DESCRIBED, _amend_frame(now), f"{FOREIGN} AND {READ}")
    trigger("keyword_amended", "UPDATE", "frame_keyword", ("value", "number"), amend_keyword(now), "")
    # PostgreSQL fires triggers in the order of their names, and its own, which refuse to delete what others point to,
    # are called RI_...: this one has to come before them.
    trigger("A_frame_deleted", "DELETE", "frame", (), FORGET, "")


def downgrade() -> None:
    # The older index has one row for each time. The trigger, which is still there, takes what belongs to the others.
    twins = " AND ".join(f"first.{name} = frame.{name}" for name in PLACE)
    op.execute(
        "DELETE FROM frame WHERE path IS NULL AND EXISTS ("
        f"SELECT 1 FROM frame first WHERE first.path IS NULL AND {twins} "
        "AND coalesce(first.iobs, 0) = coalesce(frame.iobs, 0) AND first.id < frame.id)"
    )
    for name, table in (
        ("A_frame_deleted", "frame"),
        ("keyword_amended", "frame_keyword"),
        ("frame_amended", "frame"),
        ("frame_touched", "frame"),
        ("frame_changed", "frame"),
    ):
        drop(name, table)
    trigger("frame_changed", "UPDATE", "frame", EVENT_BEFORE, _event(), "NEW.status = 'registered'")
    op.drop_table("amendment")
    op.drop_index("uq_frame_catalogue", "frame")
    _catalogue_index()
    op.drop_index("ix_frame_set_lost", "frame_set")
    op.drop_index("ix_frame_superseded_by", "frame")
    op.drop_index("ix_frame_pixels", "frame")
    op.drop_column("frame_set", "lost")
    op.drop_column("frame", "revision")
    op.drop_column("frame", "pixels")


def _partial(name: str, table: str, columns: list[str], condition: str) -> None:
    where = sa.text(condition)
    op.create_index(name, table, columns, sqlite_where=where, postgresql_where=where)


def _catalogue_index(*more: str) -> None:
    where = sa.text("path IS NULL")
    columns: list[Any] = [*PLACE, sa.text("coalesce(iobs, 0)"), *more]
    op.create_index(
        "uq_frame_catalogue", "frame", columns, unique=True, sqlite_where=where, postgresql_where=where
    )


# --- triggers: written as SQLite has them, and put into PostgreSQL's words --------------------------------------------


def _differs(columns: Sequence[str]) -> str:
    return " OR ".join(f"OLD.{name} IS DISTINCT FROM NEW.{name}" for name in columns)


def _event() -> list[str]:
    return [
        f"INSERT INTO event (kind, subject, payload) VALUES ('frame.changed', 'frame/' || NEW.id, {FRAME})"
    ]


_REGROUP = ["UPDATE frame SET ungrouped = true WHERE id = NEW.id"]


def _amend_frame(now: str) -> list[str]:
    inserts = []
    for name in DESCRIBED:
        number = f"NEW.{name}" if name in FRAME_NUMBERS else "NULL"
        said_number = f"OLD.{name}" if name in FRAME_NUMBERS else "NULL"
        said = _said("NEW.id", f"'{name}'", f"coalesce(CAST(OLD.{name} AS TEXT), '')", said_number)
        inserts.append(
            f"{_INSERT} SELECT NEW.id, '{name}', coalesce(CAST(NEW.{name} AS TEXT), ''), {number}, "
            f"{said}, {BY_SQL} "
            f"WHERE OLD.{name} IS DISTINCT FROM NEW.{name}"
        )
    # A file whose time was corrected is read anew, which tells its night.
    reread = (
        "UPDATE frame SET changed_ns = NULL "
        "WHERE id = NEW.id AND OLD.obsdate IS DISTINCT FROM NEW.obsdate AND OLD.night = NEW.night"
    )
    return [*inserts, *_retire("NEW.id", now), reread]


def amend_keyword(now: str) -> list[str]:
    """Return the statements that make a correction of a keyword that others have updated."""
    changed = "NEW.value IS DISTINCT FROM OLD.value"
    value = f"CASE WHEN {changed} THEN NEW.value ELSE coalesce(CAST(NEW.number AS TEXT), '') END"
    number = (
        f"CASE WHEN NOT {changed} OR NEW.number IS DISTINCT FROM OLD.number THEN NEW.number "
        "WHEN IS_NUMBER(NEW.value) THEN CAST(NEW.value AS DOUBLE PRECISION) END"
    )
    newest = "(SELECT max(id) FROM amendment WHERE frame_id = NEW.frame_id AND name = NEW.name)"
    return [
        f"{_INSERT} SELECT NEW.frame_id, NEW.name, {value}, {number}, "
        f"{_said('NEW.frame_id', 'NEW.name', 'OLD.value', 'OLD.number')}, {BY_SQL}",
        # Text and number of the row say the same again, whichever of them was changed.
        "DELETE FROM frame_keyword WHERE frame_id = NEW.frame_id AND name = NEW.name",
        f"INSERT INTO frame_keyword (frame_id, name, value, number) "
        f"SELECT frame_id, name, value, number FROM amendment WHERE id = {newest}",
        *_retire("NEW.frame_id", now),
        "UPDATE frame SET ungrouped = true WHERE id = NEW.frame_id",
    ]


_INSERT = "INSERT INTO amendment (frame_id, name, value, number, said, said_number, who, why)"


def _said(frame: str, name: str, otherwise: str, number: str) -> str:
    """What the header says: as an earlier correction has kept it, else what stood there until now."""
    earlier = (
        f"FROM amendment WHERE frame_id = {frame} AND name = {name} AND undone = '' ORDER BY id DESC LIMIT 1"
    )
    known = f"EXISTS (SELECT 1 FROM amendment WHERE frame_id = {frame} AND name = {name} AND undone = '')"
    return (
        f"CASE WHEN {known} THEN (SELECT said {earlier}) ELSE {otherwise} END, "
        f"CASE WHEN {known} THEN (SELECT said_number {earlier}) ELSE {number} END"
    )


def _retire(frame: str, now: str) -> list[str]:
    """Earlier corrections of the same thing hold no longer; nor does one that says what the header says."""
    later = (
        "SELECT 1 FROM amendment later WHERE later.frame_id = amendment.frame_id AND later.name = amendment.name "
        "AND later.undone = '' AND later.id > amendment.id"
    )
    same = "number IS NOT DISTINCT FROM said_number AND (number IS NOT NULL OR value = said)"
    return [
        f"UPDATE amendment SET undone = {now} WHERE frame_id = {frame} AND undone = '' AND EXISTS ({later})",
        f"UPDATE amendment SET undone = {now} WHERE frame_id = {frame} AND undone = '' AND {same}",
    ]


HEIR = "(SELECT min(copy.id) FROM frame copy WHERE copy.duplicate_of = OLD.id)"
FORGET = [
    # Its sets are cut anew, and who was to work on it is told why not.
    "UPDATE frame_set SET lost = true WHERE status <> 'superseded' "
    "AND id IN (SELECT set_id FROM set_member WHERE frame_id = OLD.id)",
    "DELETE FROM set_member WHERE frame_id = OLD.id",
    "UPDATE job SET state = 'incomplete', reason = 'frame f' || OLD.id || ' was deleted' "
    "WHERE state IN ('planned', 'failed') AND key IN (SELECT job_key FROM job_input WHERE frame_id = OLD.id)",
    "UPDATE job_input SET frame_id = NULL WHERE frame_id = OLD.id",
    "UPDATE frame SET superseded_by = NULL WHERE superseded_by = OLD.id",
    # The oldest copy of its file holds the exposure from now on.
    f"UPDATE frame SET duplicate_of = {HEIR} WHERE duplicate_of = OLD.id AND id > {HEIR}",
    "UPDATE frame SET status = CASE WHEN reason = '' THEN 'registered' WHEN reason LIKE 'processed%' THEN 'processed' "
    "ELSE 'refused' END, duplicate_of = NULL, ungrouped = true WHERE duplicate_of = OLD.id",
    "DELETE FROM choice WHERE subject = 'f' || OLD.id",
    # PostgreSQL does these by itself, and so does SQLite where foreign keys are switched on, which is not its default.
    *(
        f"DELETE FROM {name} WHERE frame_id = OLD.id"
        for name in ("amendment", "frame_check", "frame_doubt", "frame_keyword", "frame_stage")
    ),
    "INSERT INTO event (kind, subject, payload) VALUES ('frame.deleted', 'frame/' || OLD.id, "
    f"{FRAME.replace('NEW.', 'OLD.')})",
]


def trigger(
    name: str,
    event: str,
    table: str,
    columns: Sequence[str],
    work: Sequence[str],
    condition: str,
    when: str = "AFTER",
) -> None:
    """Make a trigger that does `work` for each row in which one of `columns` has changed."""
    tests = [f"({test})" for test in (condition, _differs(columns) if columns else "") if test]
    where = f"WHEN ({' AND '.join(tests)})" if tests else ""
    of = f" OF {', '.join(columns)}" if columns else ""
    body = "".join(f"{statement}; " for statement in work)
    head = f'CREATE TRIGGER "{name}" {when} {event}{of} ON {table}'
    if op.get_bind().dialect.name == "sqlite":
        op.execute(sa.text(_sqlite(f"{head} FOR EACH ROW {where} BEGIN {body} END").replace(":", "\\:")))
        return
    body = body.replace("json_object", "json_build_object").replace("'SQL'", "session_user")
    body = body.replace("IS_NUMBER(NEW.value)", "NEW.value ~ '^[+-]?[0-9]+([.][0-9]*)?([eE][+-]?[0-9]+)?$'")
    code = f"$$ BEGIN {body} RETURN NULL; END $$"
    op.execute(
        sa.text(f'CREATE FUNCTION "{name}"() RETURNS trigger LANGUAGE plpgsql AS {code}'.replace(":", "\\:"))
    )
    op.execute(f'{head} FOR EACH ROW {where} EXECUTE FUNCTION "{name}"()')


def _sqlite(statement: str) -> str:
    number = "(NEW.value GLOB '*[0-9]*' AND NEW.value NOT GLOB '*[^-+.0-9eE]*')"
    return (
        statement.replace("IS NOT DISTINCT FROM", "IS")
        .replace("IS DISTINCT FROM", "IS NOT")
        .replace("IS_NUMBER(NEW.value)", number)
        .replace("DOUBLE PRECISION", "REAL")
    )


def drop(name: str, table: str) -> None:
    """Drop a trigger."""
    if op.get_bind().dialect.name == "sqlite":
        op.execute(f'DROP TRIGGER "{name}"')
        return
    op.execute(f'DROP TRIGGER "{name}" ON {table}')
    op.execute(f'DROP FUNCTION "{name}"()')
