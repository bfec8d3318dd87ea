"""What users ask for: numbers and texts of any type mean what they mean, and a name that nothing has is a mistake."""

from datetime import UTC, date, datetime
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Connection, insert, select

from ccdflow.archive.registry.doors import Registry
from ccdflow.archive.registry.frames.doubts import find_doubts
from ccdflow.archive.registry.frames.queries import FrameFilter, find_frames, list_frames, show_frame
from ccdflow.archive.registry.jobs.lineage import keys_of_frames
from ccdflow.archive.registry.jobs.products import ProductFilter, find_product, find_products, list_products
from ccdflow.archive.registry.jobs.records import JobFilter, find_jobs
from ccdflow.archive.registry.sets.records import SetFilter
from ccdflow.archive.registry.tables import FrameRow, JobRow, ProductRow, table

PLACE = {"night": "2026-03-01", "telescope": "T", "camera": "CAM1", "instrument": "I"}


class Name(Enum):
    """Names as a program of somebody's may keep them."""

    NIGHT = "2026-03-01"
    CAMERA = "T/CAM1"
    CLASS = "science"
    STATUS = "registered"


def _fill(connection: Connection) -> None:
    frames = [
        PLACE | {"path": f"/raw/{n}.fits", "class": "science", "obsdate": f"2026-03-01T20:0{n}:00"}
        for n in (1, 2, 3)
    ]
    frames.append(
        frames[0] | {"path": "/raw/4.fits", "night": "2026-03-08", "obsdate": "2026-03-08T20:00:00"}
    )
    connection.execute(insert(table(FrameRow)), frames)
    job = PLACE | {"step": "bias", "recipe": "bias", "version": "1", "state": "done", "parameters": {}}
    job |= {"planned_at": "2026-03-02T00:00:00"}
    connection.execute(insert(table(JobRow)), [job | {"key": key * 64} for key in "ab"])
    rows = [
        PLACE | {"job_key": key * 64, "category": "master_bias", "path": f"{key}.fits", "state": "done"}
        for key in "ab"
    ]
    connection.execute(insert(table(ProductRow)), rows)


@pytest.fixture
def filled(registry: Registry) -> Registry:
    registry.write(_fill)
    return registry


@pytest.mark.parametrize(
    "ids",
    [np.array([1, 2]), np.array([1, 2], np.uint8), ["p1", "2"], [np.int64(1), 2.0], {1: "a", 2: "b"}.keys()],
)
def test_ids_of_any_type_select(filled: Registry, ids: Any) -> None:
    assert [product.id for product in filled.read(find_products, ProductFilter(ids=ids))] == [1, 2]


@pytest.mark.parametrize("number", [np.int64(2), np.uint8(2), "p2", 2.0])
def test_one_id_of_any_type_selects(filled: Registry, number: Any) -> None:
    product = filled.read(find_product, number)
    assert product is not None and product.id == 2


def test_numbers_of_numpy_are_numbers_to_every_statement(filled: Registry) -> None:
    row = filled.read(show_frame, np.int32(3))
    assert row is not None and row["id"] == 3
    assert filled.read(keys_of_frames, np.array([1, 2])) == set()
    assert not filled.read(find_doubts, np.array([1, 2]))

    def store(connection: Connection) -> Any:
        frame = table(FrameRow)
        values = {"exptime": np.float32(0.5), "iobs": np.int16(7)}
        connection.execute(frame.update().where(frame.c.id == np.uint16(1)).values(values))
        return connection.execute(select(frame.c.exptime, frame.c.iobs).where(frame.c.id == 1)).one()

    assert tuple(filled.write(store)) == (0.5, 7)


@pytest.mark.parametrize(
    "wanted",
    [
        {"night": date(2026, 3, 1)},
        {"night": np.str_("2026-03-01")},
        {"night": np.datetime64("2026-03-01")},
        {"ids": range(1, 4)},
        {"classes": "science", "ids": np.arange(1, 4)},
        {"classes": np.array(["science"]), "ids": ["f1", "f2", "f3"]},
        {"classes": b"science", "night": np.bytes_(b"2026-03-01"), "camera": b"CAM1"},
        {"night": "20260301", "camera": Path("T/CAM1")},
        {"night": " 2026-03-01 ", "camera": np.array(["CAM1"])},
        {"night": np.datetime64("2026-03-01T22:00:00", "ns")},
        {"night": datetime(2026, 3, 1, 22)},
        {"night": Name.NIGHT, "camera": Name.CAMERA, "classes": Name.CLASS, "status": [Name.STATUS]},
        {"since": datetime(2026, 3, 1), "until": np.datetime64("2026-03-01T20:03:00")},
        {"since": "2026-03-01T21:01:00+01:00", "until": "2026-03-01"},
        {"since": "2026-03-01 20:01:00Z", "until": datetime(2026, 3, 1, 21, tzinfo=UTC)},
    ],
)
def test_filters_take_a_users_values(filled: Registry, wanted: dict[str, Any]) -> None:
    assert [frame.id for frame in filled.read(find_frames, FrameFilter(**wanted))] == [1, 2, 3]


@pytest.mark.parametrize(
    ("kind", "wanted", "message"),
    [
        (FrameFilter, {"since": "yesterday"}, "'yesterday' is no time; wanted ISO"),
        (FrameFilter, {"until": 61000.5}, "is no time"),
        (FrameFilter, {"ids": [2**63]}, "9223372036854775808 is no id"),
        (FrameFilter, {"ids": [np.inf]}, "inf is no id"),
        (ProductFilter, {"ids": "p99999999999999999999"}, "is no id"),
        (ProductFilter, {"category": ["science", "stack"]}, "is no text; wanted one name"),
        (JobFilter, {"step": {"bias"}}, "is no text"),
        (SetFilter, {"status": "close"}, "unknown status 'close'.*did you mean 'closed'"),
        (JobFilter, {"from_night": "last week"}, "night 'last week' is no date"),
    ],
)
def test_what_means_nothing_is_refused_before_any_database_sees_it(
    kind: Any, wanted: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**wanted)


def test_what_a_row_says_is_no_mistake_of_who_asks(filled: Registry) -> None:
    odd = FrameFilter(since="yesterday evening", night="no night", strict=False)
    assert filled.read(find_frames, odd) == []


def test_steps_of_any_type_select(filled: Registry) -> None:
    steps: tuple[Any, ...] = (b"bias", np.str_("bias"), Path("bias"), ["bias"])
    for step in steps:
        assert len(filled.read(find_jobs, JobFilter(step=step))) == 2


@pytest.mark.parametrize(
    ("statement", "wanted", "message"),
    [
        (find_frames, FrameFilter(night="2026-03-05"), "2026-03-05; nearest: 2026-03-01, 2026-03-08"),
        (list_frames, FrameFilter(night="2027-01-01"), "no frames of night 2027-01-01; nearest: 2026-03-08"),
        (find_frames, FrameFilter(night="yesterday"), "night 'yesterday' is no date"),
        (find_frames, FrameFilter(camera="CAM"), "unknown camera 'CAM'; known: CAM1; did you mean 'CAM1'"),
        (find_frames, FrameFilter(camera="T2/CAM1"), "known: T/CAM1; did you mean 'T/CAM1'"),
        (find_frames, FrameFilter(classes=["sience"]), "unknown class 'sience'.*did you mean 'science'"),
        (find_jobs, JobFilter(camera="CAM2"), "did you mean 'CAM1'"),
        (find_jobs, JobFilter(step="bais"), "unknown task 'bais'; known: bias; did you mean 'bias'"),
        (find_jobs, JobFilter(night="2026-03-02"), "nearest: 2026-03-01, 2026-03-08"),
        (find_products, ProductFilter(category="master_bais"), "did you mean 'master_bias'"),
        (list_products, ProductFilter(camera="CAM2"), "did you mean 'CAM1'"),
    ],
)
def test_a_name_that_nothing_has_is_a_mistake(
    filled: Registry, statement: Any, wanted: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        filled.read(statement, wanted)


@pytest.mark.parametrize(
    ("statement", "wanted"),
    [
        (find_products, ProductFilter(category="stack")),  # which could be there
        (find_products, ProductFilter(night="2026-03-08")),
        (find_jobs, JobFilter(night="2026-03-08", camera="T/CAM1")),
        (find_frames, FrameFilter(night="2026-03-08", classes=["bias"])),
        (find_frames, FrameFilter(night="")),
    ],
)
def test_what_could_be_and_is_not_is_no_mistake(filled: Registry, statement: Any, wanted: Any) -> None:
    assert filled.read(statement, wanted) == []


def test_an_empty_registry_knows_no_mistakes(registry: Registry) -> None:
    assert registry.read(find_frames, FrameFilter(night="2026-03-05", camera="X", classes=["odd"])) == []
    assert registry.read(find_products, ProductFilter(category="odd", camera="X")) == []


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FrameFilter(status=["registerd"]), "did you mean 'registered'"),
        (lambda: JobFilter(states=("dnoe",)), "did you mean 'done'"),
        (lambda: ProductFilter(states=["gone"]), "known: planned, done, missing"),
        (lambda: SetFilter(ids=["x"]), "'x' is no id; wanted a number, such as 7, or s7"),
        (lambda: SetFilter(frames=[1.5]), "1.5 is no id; wanted a number, such as 7, or f7"),
    ],
)
def test_what_can_never_be_is_refused_at_once(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
