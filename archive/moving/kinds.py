"""The rows of which an archive consists, as they stand in a manifest: each with what belongs to it alone.

A row is written with all columns that its table has, but for those that say something of this registry only: when a
file was last seen, who holds a lease, what is still to be looked at. So a column that is added moves too.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import isnan
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, select, type_coerce

from ccdflow.archive.registry.bulk import batches
from ccdflow.archive.registry.rootpaths import Place
from ccdflow.archive.registry.tables import (
    SORTED,
    AmendmentRow,
    ChoiceRow,
    FrameDoubtRow,
    FrameKeywordRow,
    FrameRow,
    FrameSetRow,
    FrameStageRow,
    InstrumentEventRow,
    JobInputRow,
    JobLogRow,
    JobRow,
    ProductDoubtRow,
    ProductQualityRow,
    ProductRow,
    SetMemberRow,
    table,
)

Row = dict[str, Any]
"""Values by column; under the name of a `Part` a list of rows."""
AT_ONCE = 2000
"""Rows that are held in memory at once."""


@dataclass(frozen=True)
class Part:
    """Rows that belong to one of a kind: keywords of a frame, inputs of a job.

    `owner` is the column that names the row to which they belong, `links` are columns with ids of other kinds.
    """

    name: str
    table: Table
    owner: str
    order: tuple[str, ...]
    left_out: frozenset[str] = frozenset()
    links: Mapping[str, str] = field(default_factory=dict)

    @property
    def columns(self) -> list[str]:
        """Columns that stand in a manifest."""
        return [column.name for column in self.table.c if column.name not in {self.owner, *self.left_out}]


@dataclass(frozen=True)
class Kind:
    """A kind of rows.

    `key` is the column by which others point to it, `links` are columns with ids of other kinds.
    """

    name: str
    table: Table
    key: str = "id"
    left_out: frozenset[str] = frozenset()
    links: Mapping[str, str] = field(default_factory=dict)
    parts: tuple[Part, ...] = ()

    @property
    def columns(self) -> list[str]:
        """Columns that stand in a manifest."""
        return [column.name for column in self.table.c if column.name not in self.left_out]


FRAME = Kind(
    "frame",
    table(FrameRow),
    left_out=frozenset({"changed_ns", "ungrouped", "revision"}),
    links={"duplicate_of": "frame", "superseded_by": "frame"},
    parts=(
        Part("keywords", table(FrameKeywordRow), "frame_id", ("name",)),
        Part("amendments", table(AmendmentRow), "frame_id", ("id",), frozenset({"id"})),
        Part("doubts", table(FrameDoubtRow), "frame_id", ("source", "position")),
        Part("stages", table(FrameStageRow), "frame_id", ("stage",), frozenset({"unsettled"})),
    ),
)
SET = Kind(
    "set",
    table(FrameSetRow),
    links={"superseded_by": "set", "product_id": "product"},
    parts=(Part("frames", table(SetMemberRow), "set_id", ("position",), links={"frame_id": "frame"}),),
)
JOB = Kind(
    "job",
    table(JobRow),
    key="key",
    left_out=frozenset({"owner", "heartbeat"}),
    links={"set_id": "set"},
    parts=(
        Part("inputs", table(JobInputRow), "job_key", ("role", "position"), links={"frame_id": "frame"}),
        Part("log", table(JobLogRow), "job_key", ("attempt",)),
    ),
)
PRODUCT = Kind(
    "product",
    table(ProductRow),
    left_out=frozenset({"changed_ns", "unwanted"}),
    links={"superseded_by": "product"},
    parts=(
        Part("quality", table(ProductQualityRow), "product_id", ("name",)),
        Part("doubts", table(ProductDoubtRow), "product_id", ("position",)),
    ),
)
CHOICE = Kind("choice", table(ChoiceRow), key="subject")
EVENT = Kind("event", table(InstrumentEventRow), left_out=frozenset({"id"}))
KINDS = (FRAME, SET, JOB, PRODUCT, CHOICE, EVENT)
"""In the order in which they stand in a manifest: a row points to earlier kinds, but for a set's product."""


def rows_of(connection: Connection, kind: Kind, keys: Iterable[Any]) -> Iterator[Row]:
    """Read rows with what belongs to each.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    kind : Kind
        Of which kind.
    keys : iterable
        Ids, or keys, in the order in which the rows are wanted.

    Yields
    ------
    dict of str to object
        The next row that is there.
    """
    column = kind.table.c[kind.key]
    columns = [_kept(kind.table.c[name]) for name in kind.columns]
    for some in batches(keys, AT_ONCE):
        held = {
            row[kind.key]: _plain(row)
            for row in connection.execute(select(*columns).where(column.in_(some))).mappings()
        }
        for part in kind.parts:
            belonging = _parts(connection, part, some)
            for key, row in held.items():
                row[part.name] = belonging.get(key, [])
        yield from (held[key] for key in some if key in held)


def _kept(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """A column as the registry keeps it: paths below a root stay relative to it, wherever that is."""
    return type_coerce(column, SORTED).label("path") if isinstance(column.type, Place) else column


def _parts(connection: Connection, part: Part, owners: Collection[Any]) -> dict[Any, list[Row]]:
    names, owner = part.columns, part.table.c[part.owner]
    columns = [owner, *(part.table.c[name] for name in names)]
    found = select(*columns).where(owner.in_(owners))
    belonging: dict[Any, list[Row]] = {}
    # Sorted by Python, since each database has an order of its own for texts.
    numbered = "id" in part.order
    if numbered:
        found = found.order_by(part.table.c.id)
    for row in connection.execute(found):
        belonging.setdefault(row[0], []).append(_plain(dict(zip(names, row[1:], strict=True))))
    if not numbered:
        for held in belonging.values():
            held.sort(key=lambda row: tuple(row[name] for name in part.order))
    return belonging


def _plain(row: Mapping[Any, Any]) -> Row:
    """A row as JSON holds it on either database: SQLite itself keeps no NaN, but nothing in its place."""
    return {
        str(name): None if isinstance(value, float) and isnan(value) else value for name, value in row.items()
    }


def linked(kind: Kind, row: Row) -> Iterator[tuple[str, Any]]:
    """Tell to what a row points.

    Parameters
    ----------
    kind : Kind
        Its kind.
    row : dict of str to object
        The row with its parts.

    Yields
    ------
    (str, object)
        Kind and id of the next.
    """
    for column, other in kind.links.items():
        if row[column] is not None:
            yield other, row[column]
    for part in kind.parts:
        for belonging in row[part.name]:
            for column, other in part.links.items():
                if belonging[column] is not None:
                    yield other, belonging[column]
