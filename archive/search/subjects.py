"""What can be asked for: the columns of frames and products by the names that users know, and what else they have."""

from typing import Any

from sqlalchemy import ColumnElement, Connection, select

from ccdflow.archive.registry.tables import (
    FrameKeywordRow,
    FrameRow,
    JobRow,
    ProductQualityRow,
    ProductRow,
    table,
)
from ccdflow.archive.search.statements import Column, Subject
from ccdflow.cascade.plain import moment, night

_FRAME, _PRODUCT, _JOB = table(FrameRow).c, table(ProductRow).c, table(JobRow).c
_KEYWORD, _QUALITY = table(FrameKeywordRow).c, table(ProductQualityRow).c

MOST_NAMES = 500
"""Names of keywords that a message chooses the nearest from."""


def _text(column: ColumnElement[Any]) -> Column:
    return Column(text=column)


def _number(column: ColumnElement[Any], unit: str = "") -> Column:
    return Column(number=column, unit=unit, kind=f"a number of {unit}" if unit else "a number")


def _night(column: ColumnElement[Any]) -> Column:
    return Column(text=column, read=night, kind="a night, as '2026-03-01'")


def _time(column: ColumnElement[Any]) -> Column:
    return Column(text=column, read=moment, kind="a time, as '2026-03-01T23:59:00'")


FRAME_COLUMNS = {
    "id": _number(_FRAME.id),
    "class": _text(_FRAME["class"]),
    "night": _night(_FRAME.night),
    "telescope": _text(_FRAME.telescope),
    "camera": _text(_FRAME.camera),
    "instrument": _text(_FRAME.instrument),
    "filter": _text(_FRAME.filter),
    "object": _text(_FRAME.object),
    "exptime": _number(_FRAME.exptime, "s"),
    "obsdate": _time(_FRAME.obsdate),
    "iobs": _number(_FRAME.iobs),
    "nobs": _number(_FRAME.nobs),
    "status": _text(_FRAME.status),
    "reason": _text(_FRAME.reason),
    "path": _text(_FRAME.path),
    "sha256": _text(_FRAME.sha256),
    "size": _number(_FRAME.size, "byte"),
    "version": _number(_FRAME.version),
    "registered_at": _time(_FRAME.registered_at),
}
"""Of raw frames, by name."""
PRODUCT_COLUMNS = {
    "id": _number(_PRODUCT.id),
    "category": _text(_PRODUCT.category),
    "night": _night(_PRODUCT.night),
    "telescope": _text(_PRODUCT.telescope),
    "camera": _text(_PRODUCT.camera),
    "instrument": _text(_PRODUCT.instrument),
    "filter": _text(_PRODUCT.filter),
    "object": _text(_PRODUCT.object),
    "exptime": _number(_PRODUCT.exptime, "s"),
    "obsdate": _time(_PRODUCT.obsdate),
    "state": _text(_PRODUCT.state),
    "path": _text(_PRODUCT.path),
    "sha256": _text(_PRODUCT.sha256),
    "size": _number(_PRODUCT.size, "byte"),
    "superseded_by": _number(_PRODUCT.superseded_by),
    "task": _text(_JOB.step),
    "recipe": _text(_JOB.recipe),
    "recipe_version": _text(_JOB.version),
    "level": _number(_JOB.level),
    "worst_level": _number(_JOB.worst_level),
    "job": _text(_JOB.key),
    "finished_at": _time(_JOB.finished_at),
}
"""Of products and the jobs that made them, by name."""


def _keyword(connection: Connection, name: str) -> Column | None:
    """A keyword that some frame has kept."""
    for spelling in dict.fromkeys((name, name.lower(), name.upper())):
        if connection.execute(select(_KEYWORD.name).where(_KEYWORD.name == spelling).limit(1)).first():
            holding = select(_KEYWORD.value).where(_KEYWORD.frame_id == _FRAME.id, _KEYWORD.name == spelling)
            text = holding.correlate(table(FrameRow)).scalar_subquery()
            number = holding.with_only_columns(_KEYWORD.number).correlate(table(FrameRow)).scalar_subquery()
            return Column(text=text, number=number, kind="a keyword")
    return None


def _quality(connection: Connection, name: str) -> Column | None:
    """A quality number that some product has."""
    if not connection.execute(select(_QUALITY.name).where(_QUALITY.name == name).limit(1)).first():
        return None
    holding = select(_QUALITY.value).where(_QUALITY.product_id == _PRODUCT.id, _QUALITY.name == name)
    number = holding.correlate(table(ProductRow)).scalar_subquery()
    return Column(number=number, kind="a quality number")


def _names(connection: Connection, column: ColumnElement[Any]) -> list[str]:
    """All names that a column of names holds, found one by one: of a million rows it has but a few dozen."""
    names: list[str] = []
    while len(names) < MOST_NAMES:
        further = select(column).where(column > names[-1]) if names else select(column)
        row = connection.execute(further.order_by(column).limit(1)).first()
        if row is None:
            break
        names.append(str(row[0]))
    return names


FRAMES = Subject(FRAME_COLUMNS, _keyword, lambda connection: _names(connection, _KEYWORD.name))
"""Raw frames: their columns, and the keywords that their instruments keep."""
PRODUCTS = Subject(PRODUCT_COLUMNS, _quality, lambda connection: _names(connection, _QUALITY.name))
"""Products: their columns, those of their jobs, and their quality numbers."""
