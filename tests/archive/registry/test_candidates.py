from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event, text

from ccdflow.archive.registry.candidates import Master
from ccdflow.archive.registry.candidatesql import COLUMNS
from ccdflow.archive.registry.doors import Registry
from ccdflow.archive.registry.frames import NewFrame
from ccdflow.archive.registry.jobs import InputRecord, PlannedJob
from ccdflow.archive.registry.products import Made
from ccdflow.archive.registry.queries import FrameFilter
from ccdflow.cascade.planning.associate import Rule, fitting
from ccdflow.cascade.planning.jobs import Group
from ccdflow.cascade.records import FrameRecord

NOON = datetime(2026, 3, 1, 12)
WORDS = st.sampled_from(["A", "A", "A", "", "B"])
HOURS = st.one_of(st.integers(20, 26), st.integers(20, 26), st.integers(0, 60), st.integers(0, 2000))

MASTERS = (
    """INSERT INTO job (key, step, recipe, version, parameters) SELECT sha256, 's', 'r', '1', '{}' FROM frame""",
    """INSERT INTO job_input (job_key, role, position, frame_id, identity)
    SELECT sha256, 'main', 0, id, sha256 FROM frame""",
    """INSERT INTO product (id, job_key, category, path, state, night, telescope, camera, instrument, filter,
    exptime, obsdate) SELECT id, sha256, 'master_' || class, 'p', CASE WHEN filter = 'B' THEN 'missing' ELSE 'done' END,
    night, telescope, camera, instrument, filter, exptime, obsdate FROM frame""",
)
"""A product of each frame, with the frame's id; those of filter B are gone."""

described = st.fixed_dictionaries(
    {
        "frame_class": st.sampled_from(["flat", "flat", "flat", "science"]),
        "telescope": WORDS,
        "camera": WORDS,
        "instrument": WORDS,
        "filter": WORDS,
        "exptime": st.sampled_from([None, 1.0, 1.005, 1.02, 60.0]),
        "hours": HOURS,
        "night": st.sampled_from(["", "2026-03-01", "2026-03-02"]),
        "binning": st.sampled_from([None, "1x1", "2x2"]),
        "ccd_temperature": st.sampled_from([None, -20, -20.0, -18.5]),
        "copies": st.sampled_from([1, 1, 2, 7]),
        "refused": st.sampled_from(["", "", "", "cut off"]),
    }
)
keywords = st.lists(
    st.sampled_from(["telescope", "camera", "instrument", "filter", "binning", "night", "exptime"]),
    unique=True,
    max_size=5,
).map(tuple)
rules = st.builds(
    Rule,
    level=st.integers(-1, 3),
    match=keywords,
    equal=keywords,
    tolerance=st.sampled_from([{}, {"ccd_temperature": 1.0}, {"exptime": 0.01}]),
    ratio=st.sampled_from([{}, {"exptime": 0.01}]),
    within=st.sampled_from(["same_night", "past", "unlimited", 0.5, 1, 20]),
)


def moment(hours: float) -> str:
    return (NOON + timedelta(hours=hours)).isoformat()


def new_frame(number: int, said: dict[str, Any]) -> NewFrame:
    others = ("hours", "binning", "ccd_temperature", "copies")
    named = {name: value for name, value in said.items() if name not in others}
    kept = {name: said[name] for name in ("binning", "ccd_temperature") if said[name] is not None}
    file = {"path": f"/raw/{number}.fits", "sha256": f"{number:064d}", "size": 2880, "changed_ns": 7}
    return NewFrame(**file, **named, obsdate=moment(said["hours"]), keywords={**kept, "number": number})


def record(said: dict[str, Any]) -> FrameRecord:
    new = new_frame(0, said)
    columns = ("telescope", "camera", "instrument", "filter", "object", "exptime", "obsdate", "night")
    named = {name: getattr(new, name) for name in columns}
    return FrameRecord(
        id=0, frame_class="science", iobs=None, nobs=None, sha256="s", keywords=new.keywords, **named
    )


def by_scan(registry: Registry, frame_class: str, by: Sequence[Rule], reference: Group) -> list[Any]:
    """The answer of the rules to all frames, one after the other."""
    frames = [one for one in registry.frames() if one.frame_class == frame_class and not one.refused]
    return list(fitting(by, reference, [Group((one,)) for one in frames]))


def empty(registry: Registry) -> None:
    with registry.database.write() as connection:
        for table in ("product", "job_input", "job", "frame_keyword", "event", "frame"):
            connection.execute(text(f"DELETE FROM {table}"))


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    frames=st.lists(described, max_size=20),
    by=st.lists(rules, min_size=1, max_size=3),
    asked=described,
    others=st.lists(described, max_size=1),
    frame_class=st.sampled_from(["flat", "flat", "flat", "science"]),
    count=st.sampled_from([1, 2, 50]),
)
def test_the_answer_is_that_of_a_scan_of_all_frames(
    registry: Registry,
    frames: list[dict[str, Any]],
    by: list[Rule],
    asked: dict[str, Any],
    others: list[dict[str, Any]],
    frame_class: str,
    count: int,
) -> None:
    empty(registry)
    copies = [one for one in frames for _ in range(one["copies"])]
    for number, said in enumerate(copies):
        registry.add_frame(new_frame(number, said), moves=False)
    reference = Group((record(asked), *map(record, others)))
    wanted = by_scan(registry, frame_class, by, reference)[:count]
    assert registry.candidates(frame_class, by, reference, count) == wanted


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    frames=st.lists(described, max_size=20),
    by=st.lists(rules, min_size=1, max_size=3),
    asked=described,
    count=st.sampled_from([1, 50]),
)
def test_the_answer_is_that_of_a_scan_of_all_products(
    registry: Registry, frames: list[dict[str, Any]], by: list[Rule], asked: dict[str, Any], count: int
) -> None:
    empty(registry)
    copies = [one for one in frames for _ in range(one["copies"])]
    for number, said in enumerate(copies):
        registry.add_frame(new_frame(number, said), moves=False)
    with registry.database.write() as connection:
        for statement in MASTERS:
            connection.execute(text(statement))
    masters = [
        Master(
            **{name: getattr(one, name) for name in COLUMNS},
            job_key=one.sha256 or "",
            path="p",
            keywords=one.keywords,
        )
        for one in registry.frames(FrameFilter(status=None))
        if one.frame_class == "flat" and one.filter != "B"
    ]
    reference = Group((record(asked),))
    wanted = [(one.candidate.id, one.level) for one in fitting(by, reference, masters)][:count]
    found = registry.master_candidates("master_flat", by, reference, count)
    assert [(one.candidate.id, one.level) for one in found] == wanted


def flat(number: int, minutes: float, **more: Any) -> NewFrame:
    said = {
        "frame_class": "flat",
        "telescope": "A",
        "camera": "A",
        "instrument": "A",
        "filter": "A",
        "exptime": 4.0,
        "night": "2026-03-01",
        "refused": "",
        "hours": minutes / 60,
        "binning": "1x1",
        "ccd_temperature": -20.0,
    }
    return new_frame(number, {**said, **more})


NEAREST = Rule(level=1, match=("telescope", "camera", "instrument", "binning"), equal=("filter",))


def replaced(within: Any) -> Rule:
    """The rule with another range of time."""
    return Rule.model_validate({**NEAREST.model_dump(), "within": within})


ASKED = {
    "telescope": "A",
    "camera": "A",
    "instrument": "A",
    "filter": "A",
    "exptime": 60.0,
    "hours": 10,
    "night": "2026-03-01",
    "refused": "",
    "binning": "1x1",
    "ccd_temperature": None,
    "frame_class": "science",
}


def test_a_calibration_comes_with_all_its_keywords(registry: Registry) -> None:
    given = {
        "ccd_temperature": -20.0,
        "gain": 0.1 + 0.2,
        "tiny": 1e-9 / 3,
        "open": True,
        "word": 'it\'s "so" ä',
    }
    registry.add_frame(replace(flat(1, 590), keywords=given))
    (found,) = registry.candidates("flat", [NEAREST], Group((record(ASKED),)))
    assert (found.candidate.frames, found.level) == (tuple(registry.frames()), 1)
    assert found.candidate.frames[0].keywords == given


def test_in_a_view_calibrations_are_those_of_the_view(registry: Registry) -> None:
    registry.add_frame(flat(1, 500))
    asked = Group((record(ASKED),))
    with registry.view():
        seen = registry.frames()
        with ThreadPoolExecutor(1) as other:
            other.submit(registry.add_frame, flat(2, 590)).result()
        (found,) = registry.candidates("flat", [NEAREST], asked)
    assert list(found.candidate.frames) == seen
    (now,) = registry.candidates("flat", [NEAREST], asked)
    assert list(now.candidate.frames) != seen


def test_of_two_at_equal_distance_the_earlier_counts(registry: Registry) -> None:
    for number, minutes in enumerate((610, 590, 610, 590, 700)):
        registry.add_frame(flat(number, minutes))
    (found,) = registry.candidates("flat", [NEAREST], Group((record(ASKED),)))
    assert found.candidate.time < Group((record(ASKED),)).time


def test_a_calibration_far_behind_many_that_do_not_fit_is_found(registry: Registry) -> None:
    rows = [flat(number, number / 10, binning="2x2") for number in range(3000)]
    rows.append(flat(3000, -500))
    registry.add_catalogue([replace(one, path=None, sha256=None) for one in rows], batch=5000)
    (found,) = registry.candidates("flat", [NEAREST], Group((record(ASKED),)))
    assert found.candidate.frames[0].keywords["number"] == 3000
    tonight = replaced(0.5)
    assert registry.candidates("flat", [tonight], Group((record(ASKED),))) == []


def test_frames_that_do_not_count_are_no_calibrations(registry: Registry) -> None:
    registry.add_frame(flat(1, 590))
    registry.add_frame(replace(flat(2, 595), path="/raw/1.fits"))
    registry.add_frame(replace(flat(3, 599), obsdate=""))
    (found,) = registry.candidates("flat", [NEAREST], Group((record(ASKED),)), 9)
    assert found.candidate.frames[0].sha256 == f"{2:064d}"


def made(registry: Registry, number: int, minutes: float, **more: Any) -> None:
    """A master flat, made by a finished job from one flat."""
    registry.add_frame(flat(number, minutes, **more))
    frame = next(one for one in registry.frames() if one.keywords["number"] == number)
    key = f"{number:064x}"
    inputs = (InputRecord("main", frame.sha256 or "", frame=frame.id),)
    place = {name: getattr(frame, name) for name in ("night", "telescope", "camera", "instrument", "filter")}
    job = PlannedJob(
        key, "flat", "flat", "1", inputs, outputs=[("master_flat", f"{key}.fits")], obsdate=frame.obsdate,
        exptime=frame.exptime, **place,
    )  # fmt: skip
    registry.plan_jobs([job])
    registry.claim(key, "me", 60)
    registry.finish(key, "me", [Made("master_flat", f"{key}.fits", "s", 1)])


def test_masters_are_found_by_columns_and_by_the_keywords_of_their_frames(registry: Registry) -> None:
    made(registry, 1, 599, binning="2x2")
    made(registry, 2, 598, filter="B")
    made(registry, 3, 500)
    made(registry, 4, 800)
    asked = Group((record(ASKED),))
    found = registry.master_candidates("master_flat", [NEAREST], asked, 9)
    assert [one.candidate.path for one in found] == [f"{3:064x}.fits", f"{4:064x}.fits"]
    assert isinstance(found[0].candidate, Master)
    tonight = [replaced("same_night"), NEAREST]
    assert registry.master_candidates("master_flat", tonight, asked)[0].candidate.job_key == f"{3:064x}"
    registry.lose_products([found[0].candidate.id], "gone")
    assert len(registry.master_candidates("master_flat", [NEAREST], asked, 9)) == 1
    assert registry.master_candidates("master_bias", [NEAREST], asked) == []


@pytest.mark.parametrize("within", ["unlimited", "same_night", "past", 7.0])
def test_the_indexes_are_used(tmp_path: Path, within: Any) -> None:
    registry = Registry(f"sqlite:///{tmp_path}/registry.sqlite")
    registry.upgrade()
    statements: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, values: Any, *_: Any) -> None:
        statements.append((statement, values))

    event.listen(registry.database.engine, "before_cursor_execute", note)
    rule = replaced(within)
    registry.candidates("flat", [rule], Group((record(ASKED),)))
    registry.master_candidates("master_flat", [rule], Group((record(ASKED),)))
    event.remove(registry.database.engine, "before_cursor_execute", note)
    with registry.database.read() as connection:
        for statement, values in statements:
            if statement.startswith("SELECT"):
                plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values).all()
                steps = " ".join(row[3] for row in plan)
                assert "USING INDEX ix_frame_calibration" in steps or "USING INDEX ix_product_made" in steps
                assert "TEMP B-TREE" not in steps
    registry.close()
    assert len(statements) >= 2


@pytest.mark.parametrize("hours", [0, 5_000, 10_000])
def test_no_more_is_read_than_lies_nearest(tmp_path: Path, hours: int) -> None:
    registry = Registry(f"sqlite:///{tmp_path}/registry.sqlite")
    registry.upgrade()
    rows = [replace(flat(number, 60 * number), path=None, sha256=None) for number in range(10_000)]
    registry.add_catalogue(rows)
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 100
        return 0

    with registry.database.engine.connect() as connection:
        connection.connection.dbapi_connection.set_progress_handler(step, 100)
    reference = Group((record({**ASKED, "hours": hours, "night": "2026-03-02"}),))
    tonight = replaced("same_night")
    assert len(registry.candidates("flat", [tonight, NEAREST], reference)) == 1
    registry.close()
    assert 0 < steps < 10_000
