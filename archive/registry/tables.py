"""The tables of the registry."""

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
    func,
    literal_column,
    text,
    true,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

BIG = BigInteger().with_variant(Integer, "sqlite")
"""SQLite counts ids up by itself for INTEGER alone."""

SORTED = Text().with_variant(Text(collation="C"), "postgresql")
"""Text that sorts byte by byte: times, paths and keys of order."""

CURRENT = "path IS NOT NULL AND status <> 'superseded'"
PLACE = "(CASE WHEN iobs BETWEEN 1 AND nobs THEN iobs ELSE 0 END)"
"""A frame's position in its sequence, 0 where unknown, as `exposures.sequence_position` has it."""
CALIBRATION = "status = 'registered' AND class NOT IN ('science', 'unclassified')"
PENDING = "path IS NOT NULL AND sha256 IS NULL AND status = 'registered'"
"""A row that another program has inserted, whose file has not been read yet."""
MADE = "state = 'done'"
ORIGINAL = "sha256 IS NOT NULL AND status IN ('registered', 'refused')"


class Base(DeclarativeBase):
    """What all tables have in common."""


def table(model: type[Base]) -> Table:
    """The table of a model, for statements that take many rows."""
    return cast(Table, model.__table__)


def _id() -> Mapped[int]:
    return mapped_column(BIG, primary_key=True, autoincrement=True)


def _blank() -> Mapped[str]:
    return mapped_column(Text, server_default="")


def _time() -> Mapped[str]:
    return mapped_column(SORTED, server_default="")


_PLACE = ("telescope", "camera", "instrument")


def _where(condition: str, name: str, *columns: str) -> Index:
    """An index of the rows for which a condition holds."""
    return Index(name, *columns, sqlite_where=text(condition), postgresql_where=text(condition))


class FrameRow(Base):
    """Raw frames: the columns that every frame has."""

    __tablename__ = "frame"
    id: Mapped[int] = _id()
    path: Mapped[str | None] = mapped_column(SORTED)
    sha256: Mapped[str | None] = mapped_column(SORTED)
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
    registered_at: Mapped[str] = _time()

    __table_args__ = (
        CheckConstraint(
            "status IN ('registered', 'duplicate', 'superseded', 'refused')", name="ck_frame_status"
        ),
        Index(
            "uq_frame_path", "path", unique=True, sqlite_where=text(CURRENT), postgresql_where=text(CURRENT)
        ),
        Index(
            "uq_frame_content",
            "sha256",
            unique=True,
            sqlite_where=text(ORIGINAL),
            postgresql_where=text(ORIGINAL),
        ),
        Index(
            "uq_frame_catalogue",
            "telescope",
            "camera",
            "instrument",
            "obsdate",
            text("coalesce(iobs, 0)"),
            unique=True,
            sqlite_where=text("path IS NULL"),
            postgresql_where=text("path IS NULL"),
        ),
        Index(
            "ix_frame_stream",
            "telescope",
            "camera",
            "instrument",
            "obsdate",
            text(PLACE),
            text("coalesce(sha256, '')"),
            "id",
        ),
        Index("ix_frame_class_night", "class", "night"),
        _where(PENDING, "ix_frame_pending", "id"),
        _where(CALIBRATION, "ix_frame_calibration", "class", *_PLACE, "obsdate", "id"),
        _where(CALIBRATION, "ix_frame_calibration_filter", "class", *_PLACE, "filter", "obsdate", "id"),
        _where(CALIBRATION, "ix_frame_calibration_night", "class", "night", *_PLACE, "obsdate", "id"),
        Index("ix_frame_night", "night"),
        Index("ix_frame_obsdate", "obsdate"),
        Index("ix_frame_duplicate_of", "duplicate_of"),
        Index(
            "ix_frame_ungrouped",
            "telescope",
            "camera",
            "instrument",
            "obsdate",
            text(PLACE),
            text("coalesce(sha256, '')"),
            "id",
            sqlite_where=text("ungrouped"),
            postgresql_where=text("ungrouped"),
        ),
        {"sqlite_autoincrement": True},
    )


class FrameKeywordRow(Base):
    """Everything else that an instrument keeps of a frame; the user's table.

    `number` is the value as a number, where it is one (1 and 0 for a truth value, whose text is T or F).
    """

    __tablename__ = "frame_keyword"
    frame_id: Mapped[int] = mapped_column(ForeignKey("frame.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(Text, primary_key=True)
    value: Mapped[str] = mapped_column(Text)
    number: Mapped[float | None] = mapped_column(Double)
    __table_args__ = (Index("ix_frame_keyword_name", "name", "value"),)


class FrameStageRow(Base):
    """How far each frame has come in each stage, and why; `unsettled` until its sets have been looked at."""

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
        _where("unsettled", "ix_frame_stage_unsettled", "stage", "frame_id"),
    )


class FrameSetRow(Base):
    """Frames that one job takes together, or that pass through as they are."""

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
    __table_args__ = (
        CheckConstraint("action IN ('stack', 'pass')", name="ck_frame_set_action"),
        CheckConstraint("status IN ('open', 'closed', 'superseded')", name="ck_frame_set_status"),
        Index("ix_frame_set_stream", "telescope", "camera", "instrument", "step", "sequence_start"),
        Index("ix_frame_set_status", "step", "status", "ready"),
        _where("status = 'open'", "ix_frame_set_open", *_PLACE, "step"),
        {"sqlite_autoincrement": True},
    )


class SetMemberRow(Base):
    """The frames of a set, in order."""

    __tablename__ = "set_member"
    set_id: Mapped[int] = mapped_column(ForeignKey("frame_set.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(Integer, primary_key=True)
    frame_id: Mapped[int] = mapped_column(ForeignKey("frame.id"))
    __table_args__ = (
        UniqueConstraint("set_id", "frame_id", name="uq_set_member_frame"),
        Index("ix_set_member_frame", "frame_id"),
    )


class SetCountRow(Base):
    """How many sets of a step there are of each kind, so that nobody has to count them."""

    __tablename__ = "set_count"
    step: Mapped[str] = mapped_column(Text, primary_key=True)
    kind: Mapped[str] = mapped_column(Text, primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger)


class StreamStateRow(Base):
    """Where the grouping of a stream stands, so that it goes on from there."""

    __tablename__ = "stream_state"
    telescope: Mapped[str] = mapped_column(Text, primary_key=True)
    camera: Mapped[str] = mapped_column(Text, primary_key=True)
    instrument: Mapped[str] = mapped_column(Text, primary_key=True)
    step: Mapped[str] = mapped_column(Text, primary_key=True)
    rules: Mapped[str] = mapped_column(Text)
    state: Mapped[Any] = mapped_column(JSON)


class JobRow(Base):
    """Jobs, with the lease of the one that works on each; `heartbeat` is in seconds since 1970."""

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
    __table_args__ = (
        CheckConstraint(
            "state IN ('planned', 'running', 'done', 'failed', 'incomplete', 'refused')", name="ck_job_state"
        ),
        Index("ix_job_state", "state", "step"),
        Index("ix_job_night", "night"),
        Index("ix_job_set", "set_id"),
    )


class JobInputRow(Base):
    """What a job takes: a raw frame, or what another job makes."""

    __tablename__ = "job_input"
    job_key: Mapped[str] = mapped_column(ForeignKey("job.key", ondelete="CASCADE"), primary_key=True)
    role: Mapped[str] = mapped_column(Text, primary_key=True)
    position: Mapped[int] = mapped_column(Integer, primary_key=True)
    frame_id: Mapped[int | None] = mapped_column(ForeignKey("frame.id"))
    parent_job_key: Mapped[str | None] = mapped_column(SORTED)
    identity: Mapped[str] = mapped_column(Text)
    level: Mapped[int | None] = mapped_column(Integer)
    __table_args__ = (
        Index("ix_job_input_frame", "frame_id"),
        Index("ix_job_input_parent", "parent_job_key"),
    )


class ProductRow(Base):
    """What jobs make; the row is there before the file is."""

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
    __table_args__ = (
        UniqueConstraint("job_key", "category", name="uq_product_job_category"),
        CheckConstraint("state IN ('planned', 'done', 'missing')", name="ck_product_state"),
        Index("ix_product_category_night", "category", "night"),
        Index("ix_product_night", "night"),
        Index("ix_product_path", "path"),
        _where(MADE, "ix_product_made", "category", *_PLACE, "obsdate", "id"),
        _where(MADE, "ix_product_made_filter", "category", *_PLACE, "filter", "obsdate", "id"),
        _where(MADE, "ix_product_made_night", "category", "night", *_PLACE, "obsdate", "id"),
        {"sqlite_autoincrement": True},
    )


class ProductQualityRow(Base):
    """Quality numbers of products; without value where it could not be measured."""

    __tablename__ = "product_quality"
    product_id: Mapped[int] = mapped_column(ForeignKey("product.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(Text, primary_key=True)
    value: Mapped[float | None] = mapped_column(Double)
    __table_args__ = (Index("ix_product_quality_name", "name", "value"),)


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
    """What happened to an instrument: calibrations from before don't fit frames from after."""

    __tablename__ = "instrument_event"
    id: Mapped[int] = _id()
    telescope: Mapped[str] = _blank()
    camera: Mapped[str] = _blank()
    instrument: Mapped[str] = _blank()
    happened: Mapped[str] = _time()
    what: Mapped[str] = mapped_column(Text)
    __table_args__ = (Index("ix_instrument_event_happened", "happened"), {"sqlite_autoincrement": True})


class HoldRow(Base):
    """While there is a row, no job is begun."""

    __tablename__ = "hold"
    name: Mapped[str] = mapped_column(Text, primary_key=True)
    reason: Mapped[str] = _blank()
    since: Mapped[str] = mapped_column(Text)


class ChoiceRow(Base):
    """What people pin or ban: a frame (``f12``), or the product of a job (its key)."""

    __tablename__ = "choice"
    subject: Mapped[str] = mapped_column(Text, primary_key=True)
    verdict: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = _blank()
    created: Mapped[str] = _time()
    __table_args__ = (CheckConstraint("verdict IN ('pinned', 'banned')", name="ck_choice_verdict"),)


class DrainRow(Base):
    """Who does what is due on a stream; `heartbeat` is in seconds since 1970."""

    __tablename__ = "drain"
    name: Mapped[str] = mapped_column(Text, primary_key=True)
    owner: Mapped[str] = mapped_column(Text)
    heartbeat: Mapped[float] = mapped_column(Double)


class EventRow(Base):
    """The outbox: what happened, written by triggers together with the row that it happened to."""

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


def order_key() -> tuple[Any, ...]:
    """Columns that order the frames of a stream: obsdate, iobs (0 where unknown), content, id."""
    # Literals, since SQLite does not see its index behind bound values.
    content = func.coalesce(FrameRow.sha256, literal_column("''"))
    return FrameRow.obsdate, literal_column(PLACE, Integer), content, FrameRow.id
