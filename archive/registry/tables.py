"""The tables of the registry.

The migrations make them; what stands here is compared with that by a test. Conditions of partial indexes are constants,
since a statement has to spell a condition as the index does: neither database would else see that the index holds what
is asked for.
"""

from typing import Any, cast

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Double,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
    true,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from ccdflow.archive.registry.rootpaths import Place

BIG = BigInteger().with_variant(Integer, "sqlite")
"""Ids. SQLite counts them up by itself for the type INTEGER alone."""

SORTED = Text().with_variant(Text(collation="C"), "postgresql")
"""Text that sorts byte by byte, as Python and SQLite do: times, paths and order keys. PostgreSQL's own order would go
by the language of its machine."""

CURRENT = "path IS NOT NULL AND status <> 'superseded'"
"""The newest version of a file: one row for each path."""
ORIGINAL = "sha256 IS NOT NULL AND status IN ('registered', 'refused', 'processed')"
"""The frame that holds a content: one row for each, neither a duplicate nor an old version."""
SAME_PIXELS = "pixels <> '' AND status IN ('registered', 'refused', 'processed')"
"""The frame that holds an exposure, by its pixels, whatever file they are in."""
HOLDS = "undone = ''"
"""A correction that has not been taken back, nor made anew."""
LOST = "lost"
"""A set that a frame was deleted of."""
PENDING = "path IS NOT NULL AND sha256 IS NULL AND status = 'registered'"
"""A row that another program has inserted, whose file has not been read yet."""
NEW_FILE = "ungrouped AND path IS NOT NULL"
"""A frame with a file that grouping has not seen as it is."""
NEW_ROW = "ungrouped AND path IS NULL"
"""A row without a file that grouping has not seen as it is: there may be a hundred thousand."""
CALIBRATION = "status = 'registered' AND class NOT IN ('science', 'unclassified')"
"""A raw frame that calibrations may be made of."""
MADE = "state = 'done'"
"""A product that is there."""
SEQUENCE_POSITION = "(CASE WHEN iobs BETWEEN 1 AND nobs THEN iobs ELSE 0 END)"
"""A frame's position in its sequence, 0 where unknown, as `exposures.sequence_position` in the cascade has it."""

STREAM = ("telescope", "camera", "instrument")
"""The columns that name a stream, in the order of the tuple `Stream`."""


class Base(DeclarativeBase):
    """The base of all tables."""


def table(model: type[Base]) -> Table:
    """Return the table of a class of rows, for statements that take many rows or give plain tuples.

    Parameters
    ----------
    model : type
        The class, as `FrameRow`.

    Returns
    -------
    Table
        Its table; the columns are in ``.c``, under their names in the database.
    """
    return cast(Table, model.__table__)


# Ids are never given out twice, also not those of rows that were deleted (sqlite_autoincrement below, a sequence on
# PostgreSQL): people and logs name frames, sets and products by them.
def _id() -> Mapped[int]:
    return mapped_column(BIG, primary_key=True, autoincrement=True)


# Unknown text is blank, never NULL, so that it is compared and sorted like any other; unknown numbers are NULL.
def _blank() -> Mapped[str]:
    return mapped_column(Text, server_default="")


def _time() -> Mapped[str]:
    return mapped_column(SORTED, server_default="")


def _where(condition: str, name: str, *columns: str) -> Index:
    """An index of the rows for which a condition holds."""
    return Index(name, *columns, sqlite_where=text(condition), postgresql_where=text(condition))


class FrameRow(Base):
    """Raw frames: the columns that every frame has.

    `status` is ``registered``, ``refused`` (can't be used, but still bounds sequences), ``processed`` (calibrated or
    combined by another program: no exposure as the camera gave it, and in no sequence), ``duplicate`` (same content as
    the frame `duplicate_of`) or ``superseded`` (the file has another content now, in the row `superseded_by`).
    `version` counts the contents that a path has had. `ungrouped` is true until grouping has seen the row as it is.
    `pixels` is the digest of its pixels (`fits.pixeldigest`), blank where they tell nothing, NULL where nobody has
    looked. `revision` is counted up by us alone, whenever we write what a header says or a person has corrected: what
    changes without it was written by others, and a trigger makes an `AmendmentRow` of it (migration 0015).
    """

    __tablename__ = "frame"
    id: Mapped[int] = _id()
    path: Mapped[str | None] = mapped_column(Place())
    sha256: Mapped[str | None] = mapped_column(SORTED)
    pixels: Mapped[str | None] = mapped_column(Text)
    size: Mapped[int | None] = mapped_column(BigInteger)
    changed_ns: Mapped[int | None] = mapped_column(BigInteger)
    version: Mapped[int] = mapped_column(Integer, server_default="1")
    frame_class: Mapped[str] = mapped_column("class", Text, server_default="unclassified")
    telescope: Mapped[str] = _blank()
    camera: Mapped[str] = _blank()
    instrument: Mapped[str] = _blank()
    filter: Mapped[str] = _blank()
    object: Mapped[str] = _blank()
    exptime: Mapped[float | None] = mapped_column(Double)
    obsdate: Mapped[str] = _time()
    iobs: Mapped[int | None] = mapped_column(Integer)
    nobs: Mapped[int | None] = mapped_column(Integer)
    night: Mapped[str] = _time()
    status: Mapped[str] = mapped_column(Text, server_default="registered")
    reason: Mapped[str] = _blank()
    duplicate_of: Mapped[int | None] = mapped_column(ForeignKey("frame.id"))
    superseded_by: Mapped[int | None] = mapped_column(ForeignKey("frame.id"))
    ungrouped: Mapped[bool] = mapped_column(server_default=true())
    revision: Mapped[int] = mapped_column(Integer, server_default="0")
    registered_at: Mapped[str] = _time()

    __table_args__ = (
        CheckConstraint(
            "status IN ('registered', 'duplicate', 'superseded', 'refused', 'processed')",
            name="ck_frame_status",
        ),
        # Of two programs that register the same file at once, the second fails here and then sees the first's row.
        Index(
            "uq_frame_path", "path", unique=True, sqlite_where=text(CURRENT), postgresql_where=text(CURRENT)
        ),
        # One frame is reduced once, however many files hold its content.
        Index(
            "uq_frame_content",
            "sha256",
            unique=True,
            sqlite_where=text(ORIGINAL),
            postgresql_where=text(ORIGINAL),
        ),
        # Rows without files have no content to be told apart by. coalesce, since each NULL differs from all others.
        Index(
            "uq_frame_catalogue",
            "telescope",
            "camera",
            "instrument",
            "obsdate",
            text("coalesce(iobs, 0)"),
            "filter",
            "object",
            "class",
            unique=True,
            sqlite_where=text("path IS NULL"),
            postgresql_where=text("path IS NULL"),
        ),
        # A whole order key, so that a stream is read in order, from any frame on, without sorting.
        Index(
            "ix_frame_stream",
            "telescope",
            "camera",
            "instrument",
            "obsdate",
            text(SEQUENCE_POSITION),
            text("coalesce(sha256, '')"),
            "id",
        ),
        Index("ix_frame_class_night", "class", "night"),
        _where(PENDING, "ix_frame_pending", "id"),
        _where(SAME_PIXELS, "ix_frame_pixels", "pixels"),
        # Whoever deletes a frame looks for rows that point to it.
        _where("superseded_by IS NOT NULL", "ix_frame_superseded_by", "superseded_by"),
        # The calibration nearest in time: of a stream, of a stream and filter, of a night.
        _where(CALIBRATION, "ix_frame_calibration", "class", *STREAM, "obsdate", "id"),
        _where(CALIBRATION, "ix_frame_calibration_filter", "class", *STREAM, "filter", "obsdate", "id"),
        _where(CALIBRATION, "ix_frame_calibration_night", "class", "night", *STREAM, "obsdate", "id"),
        Index("ix_frame_night", "night"),
        Index("ix_frame_obsdate", "obsdate"),
        Index("ix_frame_duplicate_of", "duplicate_of"),
        _where(NEW_ROW, "ix_frame_ungrouped_row", "id"),
        # What grouping has not seen: empty nearly always, however many frames there are.
        Index(
            "ix_frame_ungrouped",
            "telescope",
            "camera",
            "instrument",
            "obsdate",
            text(SEQUENCE_POSITION),
            text("coalesce(sha256, '')"),
            "id",
            sqlite_where=text(NEW_FILE),
            postgresql_where=text(NEW_FILE),
        ),
        {"sqlite_autoincrement": True},
    )


class FrameKeywordRow(Base):
    """Everything else that an instrument keeps of a frame: which keywords, users decide.

    `number` is the value as a number, where it is one (1 and 0 for a truth value, whose text is T or F).
    """

    __tablename__ = "frame_keyword"
    frame_id: Mapped[int] = mapped_column(ForeignKey("frame.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(Text, primary_key=True)
    value: Mapped[str] = mapped_column(Text)
    number: Mapped[float | None] = mapped_column(Double)
    __table_args__ = (Index("ix_frame_keyword_name", "name", "value"),)


class AmendmentRow(Base):
    """What people have corrected of frames; `FrameRow` and `FrameKeywordRow` have the corrected values.

    `said` is what the header says, as it was read last: NULL where it says nothing of a keyword. `undone` is when the
    correction was taken back, or another one of the same thing took its place; blank for one that holds.
    """

    __tablename__ = "amendment"
    id: Mapped[int] = _id()
    frame_id: Mapped[int] = mapped_column(ForeignKey("frame.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(Text)
    value: Mapped[str] = _blank()
    number: Mapped[float | None] = mapped_column(Double)
    said: Mapped[str | None] = mapped_column(Text)
    said_number: Mapped[float | None] = mapped_column(Double)
    who: Mapped[str] = _blank()
    why: Mapped[str] = _blank()
    made: Mapped[str] = _time()
    undone: Mapped[str] = _time()
    __table_args__ = (
        Index("ix_amendment_frame", "frame_id", "name"),
        # Few of all frames, and asked for with each plan.
        _where(HOLDS, "ix_amendment_holds", "frame_id"),
        {"sqlite_autoincrement": True},
    )


class FrameDoubtRow(Base):
    """What is doubtful about a frame, in one sentence each.

    `source` says who found it: ``header`` for what reading its header tells, and is told anew whenever it is read.
    """

    __tablename__ = "frame_doubt"
    frame_id: Mapped[int] = mapped_column(ForeignKey("frame.id", ondelete="CASCADE"), primary_key=True)
    source: Mapped[str] = mapped_column(Text, primary_key=True, server_default="header")
    position: Mapped[int] = mapped_column(Integer, primary_key=True, server_default="0")
    kind: Mapped[str] = mapped_column(Text)
    text: Mapped[str] = _blank()
    __table_args__ = (Index("ix_frame_doubt_kind", "kind", "frame_id"),)


class FrameCheckRow(Base):
    """When a raw file was last read whole since it was registered, and what is wrong with its content.

    `changed_ns` is when the file had last been changed then: of one that was touched since, `reason` no longer holds.
    """

    __tablename__ = "frame_check"
    frame_id: Mapped[int] = mapped_column(ForeignKey("frame.id", ondelete="CASCADE"), primary_key=True)
    checked_at: Mapped[str] = _blank()
    changed_ns: Mapped[int | None] = mapped_column(BigInteger)
    reason: Mapped[str] = _blank()


class FrameStageRow(Base):
    """How far each frame has come in each stage, and why; `unsettled` until its sets have been looked at.

    Set where a frame's calibration has come to an end: then a set that was waiting for it may be ready.
    """

    __tablename__ = "frame_stage"
    frame_id: Mapped[int] = mapped_column(ForeignKey("frame.id", ondelete="CASCADE"), primary_key=True)
    stage: Mapped[str] = mapped_column(Text, primary_key=True)
    state: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = _blank()
    updated: Mapped[str] = _time()
    unsettled: Mapped[bool] = mapped_column(server_default=true())
    __table_args__ = (
        CheckConstraint(
            "state IN ('waiting', 'running', 'done', 'passed', 'failed', 'refused')",
            name="ck_frame_stage_state",
        ),
        Index("ix_frame_stage_state", "stage", "state"),
        # Empty nearly always, as long as somebody settles.
        _where("unsettled", "ix_frame_stage_unsettled", "stage", "frame_id"),
    )


class FrameSetRow(Base):
    """Frames that one job takes together, or that pass through as they are.

    `sequence_start` is the order key of the first frame of the sequence that the set was cut from, as
    `orderkeys.write_order_key` writes it. `ready` once each frame is calibrated or has failed for good. `lost` where a
    frame of it was deleted: then it gives way to another set, whatever is left.
    """

    __tablename__ = "frame_set"
    id: Mapped[int] = _id()
    step: Mapped[str] = mapped_column(Text)
    telescope: Mapped[str] = _blank()
    camera: Mapped[str] = _blank()
    instrument: Mapped[str] = _blank()
    action: Mapped[str] = mapped_column(Text, server_default="stack")
    status: Mapped[str] = mapped_column(Text, server_default="open")
    ready: Mapped[bool] = mapped_column(server_default=false())
    reason: Mapped[str] = _blank()
    sequence_start: Mapped[str] = _time()
    first_obsdate: Mapped[str] = _time()
    last_obsdate: Mapped[str] = _time()
    version: Mapped[int] = mapped_column(Integer, server_default="1")
    superseded_by: Mapped[int | None] = mapped_column(ForeignKey("frame_set.id"))
    # No foreign key: product -> job -> set -> product would be a circle.
    product_id: Mapped[int | None] = mapped_column(BIG)
    lost: Mapped[bool] = mapped_column(server_default=false())
    __table_args__ = (
        _where(LOST, "ix_frame_set_lost", "id"),
        CheckConstraint("action IN ('stack', 'pass')", name="ck_frame_set_action"),
        CheckConstraint("status IN ('open', 'closed', 'superseded')", name="ck_frame_set_status"),
        Index("ix_frame_set_stream", "telescope", "camera", "instrument", "step", "sequence_start"),
        Index("ix_frame_set_status", "step", "status", "ready"),
        # Few of all: time may close them, so that each round of grouping looks at them.
        _where("status = 'open'", "ix_frame_set_open", *STREAM, "step"),
        {"sqlite_autoincrement": True},
    )


class SetMemberRow(Base):
    """The frames of a set, in order. Sets that were superseded keep theirs."""

    __tablename__ = "set_member"
    set_id: Mapped[int] = mapped_column(ForeignKey("frame_set.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(Integer, primary_key=True)
    frame_id: Mapped[int] = mapped_column(ForeignKey("frame.id"))
    __table_args__ = (
        # That a frame is in one set of a step only is seen to by `setchanges`: superseded sets keep their frames.
        UniqueConstraint("set_id", "frame_id", name="uq_set_member_frame"),
        Index("ix_set_member_frame", "frame_id"),
    )


class SetCountRow(Base):
    """Numbers of sets by step and kind, so that nobody has to count them."""

    __tablename__ = "set_count"
    step: Mapped[str] = mapped_column(Text, primary_key=True)
    kind: Mapped[str] = mapped_column(Text, primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger)


class StreamStateRow(Base):
    """Digests of the rules that each stream was grouped by; with others it is grouped anew.

    `state` is left blank: where grouping goes on is read from the sets.
    """

    __tablename__ = "stream_state"
    telescope: Mapped[str] = mapped_column(Text, primary_key=True)
    camera: Mapped[str] = mapped_column(Text, primary_key=True)
    instrument: Mapped[str] = mapped_column(Text, primary_key=True)
    step: Mapped[str] = mapped_column(Text, primary_key=True)
    rules: Mapped[str] = mapped_column(Text)
    state: Mapped[Any] = mapped_column(JSON)


class JobRow(Base):
    """Jobs, with the lease of the one that works on each: `owner`, and `heartbeat` in seconds since 1970-01-01 UTC.

    `variant` is empty for what the project's own parameters ask for; else it says by what a request asked for it.
    `compromises` is in what its inputs are less than planned, a line each. `software` names the programs that did it.
    """

    __tablename__ = "job"
    key: Mapped[str] = mapped_column(SORTED, primary_key=True)
    step: Mapped[str] = mapped_column(Text)
    recipe: Mapped[str] = mapped_column(Text)
    version: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(Text, server_default="planned")
    reason: Mapped[str] = _blank()
    night: Mapped[str] = _time()
    telescope: Mapped[str] = _blank()
    camera: Mapped[str] = _blank()
    instrument: Mapped[str] = _blank()
    filter: Mapped[str] = _blank()
    object: Mapped[str] = _blank()
    parameters: Mapped[Any] = mapped_column(JSON)
    set_id: Mapped[int | None] = mapped_column(ForeignKey("frame_set.id"))
    level: Mapped[int] = mapped_column(Integer, server_default="0")
    worst_level: Mapped[int] = mapped_column(Integer, server_default="0")
    owner: Mapped[str] = _blank()
    heartbeat: Mapped[float | None] = mapped_column(Double)
    attempts: Mapped[int] = mapped_column(Integer, server_default="0")
    planned_at: Mapped[str] = _time()
    started_at: Mapped[str] = _time()
    finished_at: Mapped[str] = _time()
    variant: Mapped[str] = _blank()
    compromises: Mapped[str] = _blank()
    software: Mapped[str] = _blank()
    __table_args__ = (
        CheckConstraint(
            "state IN ('planned', 'running', 'done', 'failed', 'incomplete', 'refused')", name="ck_job_state"
        ),
        Index("ix_job_state", "state", "step"),
        Index("ix_job_night", "night"),
        Index("ix_job_set", "set_id"),
        _where("variant <> ''", "ix_job_variant", "key"),
    )


class JobInputRow(Base):
    """Inputs of jobs: each a raw frame, or what another job makes."""

    __tablename__ = "job_input"
    # `position` counts from 0 for each role. Of frame_id and parent_job_key one is given.
    job_key: Mapped[str] = mapped_column(ForeignKey("job.key", ondelete="CASCADE"), primary_key=True)
    role: Mapped[str] = mapped_column(Text, primary_key=True)
    position: Mapped[int] = mapped_column(Integer, primary_key=True)
    frame_id: Mapped[int | None] = mapped_column(ForeignKey("frame.id"))
    # No foreign key: incomplete jobs are deleted, in whatever order.
    parent_job_key: Mapped[str | None] = mapped_column(SORTED)
    identity: Mapped[str] = mapped_column(Text)
    level: Mapped[int | None] = mapped_column(Integer)
    __table_args__ = (
        Index("ix_job_input_frame", "frame_id"),
        Index("ix_job_input_parent", "parent_job_key"),
    )


class JobLogRow(Base):
    """What programs and functions of others have written while they did a job: head and tail, of the last attempt."""

    __tablename__ = "job_log"
    job_key: Mapped[str] = mapped_column(ForeignKey("job.key", ondelete="CASCADE"), primary_key=True)
    attempt: Mapped[int] = mapped_column(Integer)
    written: Mapped[str] = _time()
    text: Mapped[str] = mapped_column(Text)


class ProductRow(Base):
    """Products of jobs: the row is there, as ``planned``, before the file is.

    `unwanted` is a product that is missing since somebody has asked for it to be made again: its file does not count,
    though it may be there until it is replaced.
    """

    __tablename__ = "product"
    id: Mapped[int] = _id()
    job_key: Mapped[str] = mapped_column(ForeignKey("job.key"))
    category: Mapped[str] = mapped_column(Text)
    path: Mapped[str] = mapped_column(SORTED)
    sha256: Mapped[str | None] = mapped_column(Text)
    size: Mapped[int | None] = mapped_column(BigInteger)
    changed_ns: Mapped[int | None] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(Text, server_default="planned")
    night: Mapped[str] = _time()
    telescope: Mapped[str] = _blank()
    camera: Mapped[str] = _blank()
    instrument: Mapped[str] = _blank()
    filter: Mapped[str] = _blank()
    object: Mapped[str] = _blank()
    exptime: Mapped[float | None] = mapped_column(Double)
    obsdate: Mapped[str] = _time()
    cards: Mapped[Any] = mapped_column(JSON, nullable=True)
    # No foreign key: rows of products are deleted with their jobs.
    superseded_by: Mapped[int | None] = mapped_column(BIG)
    unwanted: Mapped[bool] = mapped_column(server_default=false())
    __table_args__ = (
        # So a product that is made a second time is the same row, with the same id.
        UniqueConstraint("job_key", "category", name="uq_product_job_category"),
        CheckConstraint("state IN ('planned', 'done', 'missing')", name="ck_product_state"),
        Index("ix_product_category_night", "category", "night"),
        Index("ix_product_night", "night"),
        Index("ix_product_path", "path"),
        # As those of calibration frames.
        _where(MADE, "ix_product_made", "category", *STREAM, "obsdate", "id"),
        _where(MADE, "ix_product_made_filter", "category", *STREAM, "filter", "obsdate", "id"),
        _where(MADE, "ix_product_made_night", "category", "night", *STREAM, "obsdate", "id"),
        {"sqlite_autoincrement": True},
    )


class ProductQualityRow(Base):
    """Quality numbers of products; without value where it could not be measured."""

    __tablename__ = "product_quality"
    product_id: Mapped[int] = mapped_column(ForeignKey("product.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(Text, primary_key=True)
    value: Mapped[float | None] = mapped_column(Double)
    __table_args__ = (Index("ix_product_quality_name", "name", "value"),)


class ProductDoubtRow(Base):
    """What is doubtful about a product: its recipe's warnings, in order."""

    __tablename__ = "product_doubt"
    product_id: Mapped[int] = mapped_column(ForeignKey("product.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(Integer, primary_key=True, server_default="0")
    kind: Mapped[str] = mapped_column(Text)
    text: Mapped[str] = _blank()
    __table_args__ = (Index("ix_product_doubt_kind", "kind", "product_id"),)


class CollectionRow(Base):
    """Named lists of products."""

    __tablename__ = "collection"
    id: Mapped[int] = _id()
    name: Mapped[str] = mapped_column(Text, unique=True)
    created: Mapped[str] = _time()
    __table_args__ = ({"sqlite_autoincrement": True},)


class CollectionMemberRow(Base):
    """The products of a collection."""

    __tablename__ = "collection_member"
    collection_id: Mapped[int] = mapped_column(
        ForeignKey("collection.id", ondelete="CASCADE"), primary_key=True
    )
    product_id: Mapped[int] = mapped_column(ForeignKey("product.id"), primary_key=True)
    __table_args__ = (Index("ix_collection_member_product", "product_id"),)


class InstrumentEventRow(Base):
    """Changes of an instrument: calibrations from before don't fit frames from after."""

    __tablename__ = "instrument_event"
    id: Mapped[int] = _id()
    telescope: Mapped[str] = _blank()
    camera: Mapped[str] = _blank()
    instrument: Mapped[str] = _blank()
    happened: Mapped[str] = _time()
    what: Mapped[str] = mapped_column(Text)
    __table_args__ = (Index("ix_instrument_event_happened", "happened"), {"sqlite_autoincrement": True})


class ArchiveRow(Base):
    """The name by which the registry and its store know each other: one row, made once (``archive.storemark``)."""

    __tablename__ = "archive"
    name: Mapped[str] = mapped_column(Text, primary_key=True)
    id: Mapped[str] = mapped_column(Text)
    since: Mapped[str] = mapped_column(Text)


class HoldRow(Base):
    """The hold of a project: while there is a row, no job is begun."""

    __tablename__ = "hold"
    name: Mapped[str] = mapped_column(Text, primary_key=True)
    reason: Mapped[str] = _blank()
    since: Mapped[str] = mapped_column(Text)


class ChoiceRow(Base):
    """Choices of people, who pin or ban a frame (``f12``) or the product of a job (its key)."""

    __tablename__ = "choice"
    subject: Mapped[str] = mapped_column(Text, primary_key=True)
    verdict: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = _blank()
    created: Mapped[str] = _time()
    __table_args__ = (CheckConstraint("verdict IN ('pinned', 'banned')", name="ck_choice_verdict"),)


class DrainRow(Base):
    """Drains: who does what is due on a stream; `heartbeat` is in seconds since 1970-01-01 UTC."""

    __tablename__ = "drain"
    name: Mapped[str] = mapped_column(Text, primary_key=True)
    owner: Mapped[str] = mapped_column(Text)
    heartbeat: Mapped[float] = mapped_column(Double)


class EventRow(Base):
    """The outbox: what happened, and when the bridge has told Prefect of it.

    Triggers of the database write it, in the transaction of the row that it happened to. So there is an event exactly
    where the row was committed, also for rows that other programs insert with SQL of their own. The triggers stand in
    the migrations 0001 (frame registered, product made, set closed) and 0015 (frame changed, frame deleted); on
    PostgreSQL another one on this table notifies who listens (`listening.Ear`). An event only wakes: that it is lost or
    doubled does no harm.
    """

    __tablename__ = "event"
    id: Mapped[int] = _id()
    kind: Mapped[str] = mapped_column(Text)
    subject: Mapped[str] = mapped_column(Text)
    payload: Mapped[Any] = mapped_column(JSON)
    created: Mapped[str] = _time()
    delivered: Mapped[str | None] = mapped_column(SORTED)
    __table_args__ = (
        Index(
            "ix_event_undelivered",
            "id",
            sqlite_where=text("delivered IS NULL"),
            postgresql_where=text("delivered IS NULL"),
        ),
        {"sqlite_autoincrement": True},
    )
