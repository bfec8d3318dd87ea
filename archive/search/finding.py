"""Frames and products that an expression describes, as rows with the columns that are wanted."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Select, literal, nulls_last, select

from ccdflow.archive.registry.frames.keywords import read_value
from ccdflow.archive.registry.frames.oddvalues import words
from ccdflow.archive.registry.tables import FrameRow, JobRow, ProductRow, table
from ccdflow.archive.search.expressions import All, Any_, Comparison, Expression, Not, parse_expression
from ccdflow.archive.search.statements import Column, Subject, column_of, condition, in_bytes
from ccdflow.archive.search.subjects import FRAMES, PRODUCTS

Kind = Literal["frames", "products"]

SHOWN: Mapping[Kind, tuple[str, ...]] = {
    "frames": ("id", "obsdate", "class", "camera", "filter", "object", "exptime", "status"),
    "products": ("id", "obsdate", "category", "camera", "filter", "object", "exptime", "level"),
}
"""Columns where none are asked for."""
_FRAME, _PRODUCT, _JOB = table(FrameRow), table(ProductRow), table(JobRow)
_SUBJECTS: Mapping[Kind, Subject] = {"frames": FRAMES, "products": PRODUCTS}


@dataclass(frozen=True)
class Question:
    """What is asked for.

    Parameters
    ----------
    kind : {'frames', 'products'}
        Of what.
    expression : str or Expression
        See `ccdflow.archive.search.expressions.parse_expression`; blank for all.
    columns : tuple of str
        What is wanted of each: columns, keywords, quality numbers; those of `SHOWN` where none are named.
    sort : tuple of str
        By what they are sorted, ``-name`` from the largest; by time where nothing is named.
    limit : int or None
        How many at most.
    every : bool
        Also what grouping does not see (duplicates, old versions, processed frames), and products that have given way
        to others or are not there. An expression that names ``status``, ``state`` or ``superseded_by`` chooses itself.
    """

    kind: Kind = "frames"
    expression: str | Expression = ""
    columns: tuple[str, ...] = ()
    sort: tuple[str, ...] = ()
    limit: int | None = None
    every: bool = False


def find_rows(connection: Connection, question: Question) -> list[dict[str, Any]]:
    """Return what an expression describes.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    question : Question
        What is asked for.

    Returns
    -------
    list of dict of str to object
        A row for each, with the columns in the order in which they were named; None for what is not known.

    Raises
    ------
    ExpressionError
        If the expression is none, or a name is not known.
    """
    subject = _SUBJECTS[question.kind]
    tree = _read(question.expression)
    names = question.columns or SHOWN[question.kind]
    columns = [column_of(connection, name, subject) for name in names]
    statement = _of(question.kind, [held for column in columns for held in _holders(column)])
    if tree is not None:
        statement = statement.where(condition(connection, tree, subject))
    if not question.every:
        statement = statement.where(*_seen(question.kind, _named(tree)))
    for name in question.sort or ("obsdate", "id"):
        order = _sorting(in_bytes(connection, column_of(connection, name.removeprefix("-"), subject)))
        statement = statement.order_by(nulls_last(order.desc() if name.startswith("-") else order))
    rows = connection.execute(statement.limit(question.limit))
    return [dict(zip(names, _values(columns, row), strict=True)) for row in rows]


def _read(expression: str | Expression) -> Expression | None:
    if not isinstance(expression, str):
        return expression
    return parse_expression(expression) if expression.strip() else None


def _of(kind: Kind, columns: Sequence[ColumnElement[Any]]) -> Select[Any]:
    if kind == "frames":
        return select(*columns).select_from(_FRAME)
    return select(*columns).select_from(_PRODUCT.join(_JOB, _JOB.c.key == _PRODUCT.c.job_key))


def _holders(column: Column) -> list[ColumnElement[Any]]:
    """What is read of a column: of a keyword text and number, of which together its value is made."""
    return [held for held in (column.text, column.number) if held is not None]


def _values(columns: Sequence[Column], row: Sequence[Any]) -> Iterator[Any]:
    """The values of a row, one for each column."""
    cells = iter(row)
    for column in columns:
        first = words(next(cells))
        if len(_holders(column)) == 1:
            yield first
        else:
            number = next(cells)
            yield None if first is None else read_value(first, number)


def _sorting(column: Column) -> ColumnElement[Any]:
    held = column.number if column.number is not None else column.text
    assert held is not None
    return held


def _named(tree: Expression | None) -> set[str]:
    """Names that stand in an expression."""
    if isinstance(tree, Comparison):
        return {tree.name.lower()}
    if isinstance(tree, Not):
        return _named(tree.part)
    if isinstance(tree, All | Any_):
        return set().union(*map(_named, tree.parts))
    return set()


def _seen(kind: Kind, named: set[str]) -> list[ColumnElement[bool]]:
    """What is left out unless an expression speaks of it."""
    if kind == "frames":
        return [] if "status" in named else [_FRAME.c.status.in_(("registered", "refused"))]
    tests = [] if "state" in named else [_PRODUCT.c.state == literal("done")]
    return tests if "superseded_by" in named else [*tests, _PRODUCT.c.superseded_by.is_(None)]
