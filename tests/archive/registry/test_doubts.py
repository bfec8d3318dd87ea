from pathlib import Path

from sqlalchemy import text

from ccdflow.archive.registry.doors import Registry
from ccdflow.archive.registry.frames.doubts import (
    MEASURED,
    DoubtCount,
    find_doubts,
    replace_doubts,
    sum_up,
    tell_doubts,
)
from ccdflow.archive.registry.frames.files import NewFrame, add_frame
from ccdflow.archive.registry.frames.queries import list_frames
from ccdflow.archive.registry.jobs.productdoubts import find_product_doubts, keep_product_doubts
from ccdflow.archive.registry.jobs.products import ProductFilter, list_products
from ccdflow.archive.registry.transactions import add_catalogue
from ccdflow.cascade.records import Doubt

SHORT = Doubt("exptime_conflict", "EXPTIME says 60 s, EXPOSURE 41.7 s")
CLOCK = Doubt("date_conflict", "DATE-OBS and MJD-OBS are 7 h apart")


def file(path: Path, content: str = "a", doubts: tuple[Doubt, ...] = (), **more: object) -> NewFrame:
    path.touch()
    known = {"path": str(path), "sha256": content * 64, "size": 1, "obsdate": "2026-03-01T20:00:00"}
    return NewFrame(**{**known, "doubts": doubts, **more})


def test_doubts_are_kept_with_a_frame_and_told_anew_when_it_is_read_again(
    registry: Registry, tmp_path: Path
) -> None:
    path = tmp_path / "a.fits"
    frame = registry.write(add_frame, file(path, doubts=(SHORT, CLOCK))).id
    assert registry.read(find_doubts, [frame]) == {frame: (SHORT, CLOCK)}
    assert registry.write(add_frame, file(path, doubts=(CLOCK,))).outcome == "known"
    assert registry.read(find_doubts, [frame]) == {frame: (CLOCK,)}
    registry.write(add_frame, file(path))
    assert registry.read(find_doubts, [frame]) == {}


def test_a_new_version_of_a_file_has_its_own_doubts(registry: Registry, tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    old = registry.write(add_frame, file(path, doubts=(SHORT,))).id
    new = registry.write(add_frame, file(path, "b", doubts=(CLOCK,))).id
    assert registry.read(find_doubts, [old, new]) == {old: (SHORT,), new: (CLOCK,)}


def test_what_others_have_found_outlives_a_new_reading(registry: Registry, tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    gain = Doubt("gain_conflict", "EGAIN says 1.5 electron/adu, measured was 0.75")
    frame = registry.write(add_frame, file(path, doubts=(SHORT,))).id
    registry.write(replace_doubts, frame, [gain], "gain")
    registry.write(add_frame, file(path, doubts=(CLOCK,)))
    assert registry.read(find_doubts, [frame]) == {frame: (CLOCK, gain)}


def test_a_row_of_plain_sql_gets_the_doubts_of_its_file(registry: Registry, tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    with registry.database.write() as connection:
        connection.execute(text("INSERT INTO frame (path) VALUES (:path)"), {"path": str(path)})
    frame = registry.write(add_frame, file(path, doubts=(SHORT,))).id
    (row,) = registry.read(list_frames)
    assert (row["id"], row["doubts"]) == (frame, [str(SHORT)])


def test_plain_sql_may_add_a_doubt_and_delete_a_frame(registry: Registry, tmp_path: Path) -> None:
    frame = registry.write(add_frame, file(tmp_path / "a.fits")).id
    with registry.database.write() as connection:
        adding = text(
            "INSERT INTO frame_doubt (frame_id, source, kind, text) VALUES (:id, 'me', 'odd', 'a moth')"
        )
        connection.execute(adding, {"id": frame})
    assert registry.read(find_doubts, [frame]) == {frame: (Doubt("odd", "a moth"),)}
    with registry.database.write() as connection:
        connection.execute(text("DELETE FROM frame WHERE id = :id"), {"id": frame})
    assert registry.read(find_doubts, [frame]) == {}


def test_rows_of_a_catalogue_have_doubts_too(registry: Registry) -> None:
    row = NewFrame(telescope="T", obsdate="2026-03-01T20:00:00", doubts=(SHORT,))
    assert add_catalogue(registry, [row, NewFrame(telescope="T", obsdate="2026-03-01T21:00:00")]) == 2
    assert [row["doubts"] for row in registry.read(list_frames)] == [[str(SHORT)], []]


def test_doubts_are_summed_up_by_kind_with_an_example() -> None:
    pairs = [("f1", CLOCK), ("f1", CLOCK), ("f2", SHORT), ("f3", SHORT)]
    counts = sum_up(pairs)
    assert counts == [
        DoubtCount("exptime_conflict", 2, SHORT.text, "f2"),
        DoubtCount("date_conflict", 1, CLOCK.text, "f1"),
    ]
    assert counts[1].line() == f"doubt date_conflict: 1 frame, for instance f1: {CLOCK.text}"


def test_doubts_of_a_product_are_those_of_its_last_making(registry: Registry) -> None:
    made = [Doubt("gain_assumed", "1 electron/adu is assumed"), Doubt("left_out", "flat1 is left out")]
    with registry.database.write() as connection:
        connection.execute(
            text(
                "INSERT INTO job (key, step, recipe, version, parameters) VALUES ('k', 'flat', 'flat', '1', '{}')"
            )
        )
        connection.execute(
            text("INSERT INTO product (job_key, category, path) VALUES ('k', 'master_flat', 'a')")
        )
    registry.write(keep_product_doubts, 1, made)
    assert registry.read(find_product_doubts, [1, 2]) == {1: tuple(made)}
    (row,) = registry.read(list_products, ProductFilter(states=None))
    assert row["doubts"] == [str(doubt) for doubt in made]
    registry.write(keep_product_doubts, 1, [])
    assert registry.read(find_product_doubts, [1]) == {}


def test_the_same_doubt_of_many_frames_is_told_and_cleared_up_at_once(
    registry: Registry, tmp_path: Path
) -> None:
    gain = Doubt("gain_conflict", "EGAIN says 1.5 electron/adu, measured was 0.75")
    first = registry.write(add_frame, file(tmp_path / "a.fits", doubts=(SHORT,))).id
    second = registry.write(add_frame, file(tmp_path / "b.fits", "b")).id
    registry.write(tell_doubts, [first, second], [gain], MEASURED)
    registry.write(tell_doubts, [first, second], [gain], MEASURED)
    assert registry.read(find_doubts, [first, second]) == {first: (SHORT, gain), second: (gain,)}
    registry.write(tell_doubts, [first, second], [], MEASURED)
    assert registry.read(find_doubts, [first, second]) == {first: (SHORT,)}
