"""The statements that read candidates outwards from a time, one index range for each place and direction.

They are handed to the drivers as they are, since a search has a millisecond.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection

from ccdflow.archive.registry.frames import read_value
from ccdflow.archive.registry.tables import CALIBRATION, MADE
from ccdflow.cascade.records import Value

PLACE = ("telescope", "camera", "instrument")
COLUMNS = ("id", *PLACE, "filter", "object", "exptime", "obsdate", "night")
FRAME_COLUMNS = ("class", "iobs", "nobs", "sha256", "path")

_LAST_ID = 2**63 - 1


@dataclass(frozen=True)
class Shelf:
    """A table that holds candidates.

    `kind` is the column that says what they are, `kept` the condition of the indexes, `columns` what is read.
    `indexes` serve searches in a place, in a place by filter, and in a place by night; empty where there is none.
    `keywords` is where those of the candidate `found` are read.
    """

    table: str
    kind: str
    kept: str
    columns: tuple[str, ...]
    indexes: tuple[str, str, str]
    keywords: str


CALIBRATIONS = Shelf(
    "frame",
    "class",
    CALIBRATION,
    (*COLUMNS, *FRAME_COLUMNS),
    ("ix_frame_calibration", "ix_frame_calibration_filter", "ix_frame_calibration_night"),
    "frame_keyword AS k WHERE k.frame_id = found.id",
)
OTHER_FRAMES = replace(CALIBRATIONS, kept="status = 'registered'", indexes=("", "", ""))
PRODUCTS = Shelf(
    "product",
    "category",
    MADE,
    (*COLUMNS, "job_key", "path"),
    ("ix_product_made", "ix_product_made_filter", "ix_product_made_night"),
    "job_input AS i JOIN frame_keyword AS k USING (frame_id) "
    "WHERE i.job_key = found.job_key AND i.role = 'main' AND i.position = 0",
)


@dataclass(frozen=True)
class Shape:
    """What makes two pages the same statement: the columns of a place, further conditions, the index, the size.

    In a condition, ``{name}`` is the place of a value.
    """

    columns: tuple[str, ...]
    conditions: tuple[str, ...]
    index: str


@dataclass
class End:
    """How far a place was read into one direction: up to the row (`obsdate`, `id`), at `distance` seconds."""

    place: tuple[str, ...]
    earlier: bool
    obsdate: str
    id: int = _LAST_ID
    distance: float = 0.0
    done: bool = False


def page(
    connection: Connection, shelf: Shelf, shape: Shape, values: dict[str, Any], ends: Sequence[End], size: int
) -> Iterator[tuple[int, dict[str, Value], Sequence[Any]]]:
    """The next `size` rows at each end: the end's number, keywords, and the columns of the shelf."""
    if _is_postgresql(connection):
        statement = _page_of_json(shelf, shape, size)
        values = values | _listed(shape.columns, ends)
    else:
        statement = _page_of_selects(shelf, shape, size, tuple(end.earlier for end in ends))
        values = values | _numbered(shape.columns, ends)
    for number, keywords, *columns in connection.exec_driver_sql(statement, values):
        yield number, _read(keywords), columns


def _read(keywords: str | None) -> dict[str, Value]:
    found: Mapping[str, tuple[str, float | str | None]] = json.loads(keywords or "{}")
    return {
        name: read_value(value, None if number is None else float(number))
        for name, (value, number) in found.items()
    }


def all_places(connection: Connection, shelf: Shelf, kind: str) -> list[tuple[str, ...]]:
    """Every place of the shelf that holds candidates of a kind."""
    statement = _all_places(shelf, _is_postgresql(connection))
    rows = connection.exec_driver_sql(statement, {"kind": kind})
    return [(row[0], row[1], row[2]) for row in rows]


def _is_postgresql(connection: Connection) -> bool:
    return connection.dialect.name == "postgresql"


def _numbered(columns: Sequence[str], ends: Sequence[End]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for number, end in enumerate(ends):
        for name, value in zip(columns, end.place, strict=True):
            values[f"{name}{number}"] = value
        values[f"obsdate{number}"], values[f"id{number}"] = end.obsdate, end.id
    return values


def _listed(columns: Sequence[str], ends: Sequence[End]) -> dict[str, str]:
    rows = [
        {"asked": number, "obsdate": end.obsdate, "id": end.id, **dict(zip(columns, end.place, strict=True))}
        for number, end in enumerate(ends)
    ]
    earlier = [row for row, end in zip(rows, ends, strict=True) if end.earlier]
    later = [row for row, end in zip(rows, ends, strict=True) if not end.earlier]
    return {"earlier": json.dumps(earlier), "later": json.dumps(later)}


def _rows(shelf: Shelf, conditions: Iterable[str], size: int, earlier: bool, after: str) -> str:
    """The rows of a place in one direction behind the row `after`."""
    sign, order = ("<", "DESC") if earlier else (">", "ASC")
    tests = [shelf.kept, *conditions, f"(obsdate, id) {sign} {after}"]
    if earlier:  # of two lower bounds SQLite might take the wrong one
        tests.append("obsdate > ''")
    return f"WHERE {' AND '.join(tests)} ORDER BY obsdate {order}, id {order} LIMIT {size}"


@lru_cache(512)
def _page_of_selects(shelf: Shelf, shape: Shape, size: int, directions: tuple[bool, ...]) -> str:
    # Without statistics SQLite takes the first index that fits at all.
    by = f"INDEXED BY {shape.index}" if shape.index else ""
    further = [_marked(one, postgresql=False) for one in (f"{shelf.kind} = {{kind}}", *shape.conditions)]
    selects = []
    for number, earlier in enumerate(directions):
        tests = [*(f"{name} = :{name}{number}" for name in shape.columns), *further]
        rows = _rows(shelf, tests, size, earlier, f"(:obsdate{number}, :id{number})")
        found = f"SELECT {', '.join(shelf.columns)} FROM {shelf.table} {by} {rows}"
        kept = f"SELECT json_group_object(k.name, json_array(k.value, {_DIGITS})) FROM {shelf.keywords}"
        selects.append(f"SELECT {number}, ({kept}), found.* FROM ({found}) AS found")
    return " UNION ALL ".join(selects)


# In JSON SQLite gives numbers with 15 digits.
_DIGITS = "CASE WHEN k.number IS NOT NULL THEN printf('%!.20g', k.number) END"


@lru_cache(512)
def _page_of_json(shelf: Shelf, shape: Shape, size: int) -> str:
    place = f"asked integer, obsdate text, id bigint, {', '.join(f'{name} text' for name in shape.columns)}"
    further = [_marked(one, postgresql=True) for one in (f"{shelf.kind} = {{kind}}", *shape.conditions)]
    selects = []
    for side, earlier in (("earlier", True), ("later", False)):
        tests = [*(f"{name} = place.{name}" for name in shape.columns), *further]
        rows = _rows(shelf, tests, size, earlier, "(place.obsdate, place.id)")
        kept = f"SELECT json_object_agg(k.name, json_build_array(k.value, k.number)) FROM {shelf.keywords}"
        selects.append(
            f"SELECT place.asked, ({kept})::text, found.* "
            f"FROM json_to_recordset(CAST(%({side})s AS json)) AS place({place}) "
            f"CROSS JOIN LATERAL (SELECT {', '.join(shelf.columns)} FROM {shelf.table} {rows}) AS found"
        )
    return " UNION ALL ".join(selects)


def _marked(condition: str, *, postgresql: bool) -> str:
    """A condition with the driver's marks for values."""
    return condition.replace("{", "%(" if postgresql else ":").replace("}", ")s" if postgresql else "")


@lru_cache
def _all_places(shelf: Shelf, postgresql: bool) -> str:
    """Every place once, by one step through the index for each."""
    names = ", ".join(PLACE)
    of_kind = _marked(f"{shelf.kept} AND {shelf.kind} = {{kind}}", postgresql=postgresql)
    return f"""
        WITH RECURSIVE place AS (
            SELECT * FROM (
                SELECT {names} FROM {shelf.table} WHERE {of_kind} ORDER BY {names} LIMIT 1
            ) AS lowest
            UNION ALL
            SELECT following.telescope, following.camera, following.instrument
            FROM place JOIN {shelf.table} AS following ON following.id = (
                SELECT id FROM {shelf.table} WHERE {of_kind}
                AND (telescope, camera, instrument) > (place.telescope, place.camera, place.instrument)
                ORDER BY {names} LIMIT 1
            )
        )
        SELECT {names} FROM place"""
