"""One exposure is one frame: copies of its file, and rows of a catalogue before or after it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ccdflow.archive.registry.choices import choose
from ccdflow.archive.registry.doors import Registry
from ccdflow.archive.registry.frames.amendments import amend
from ccdflow.archive.registry.frames.checks import refuse_damaged_file
from ccdflow.archive.registry.frames.files import (
    NewFrame,
    Registered,
    add_frame,
    keep_pixels,
    let_copy_take_over,
    without_pixels,
)
from ccdflow.archive.registry.frames.queries import FrameFilter, find_frames, list_frames
from ccdflow.archive.registry.transactions import add_catalogue
from ccdflow.cascade.records import FrameRecord

ALL = FrameFilter(status=None)
WHEN = "2026-03-01T20:00:10"


def row(**changes: Any) -> NewFrame:
    """A science frame without a file."""
    known = NewFrame(
        frame_class="science",
        telescope="T",
        camera="C",
        instrument="I",
        filter="V",
        object="M 13",
        exptime=60.0,
        obsdate=WHEN,
        iobs=1,
        nobs=4,
        night="2026-03-01",
    )
    return replace(known, **changes)


def file(path: Path, content: str, pixels: str | None = "noise", **changes: Any) -> NewFrame:
    path.write_text(content)
    return row(path=str(path), sha256=content * 64, size=1, changed_ns=1, pixels=pixels, **changes)


def states(registry: Registry) -> dict[int, tuple[str, int | None]]:
    return {
        known["id"]: (known["status"], known["duplicate_of"]) for known in registry.read(list_frames, ALL)
    }


def only(registry: Registry) -> FrameRecord:
    (known,) = registry.read(find_frames)
    return known


@pytest.mark.parametrize(
    ("first", "second", "stays"),
    [
        ({}, {}, 1),
        ({"refused": "no time"}, {}, 2),
        ({"processed": "processed by AstroImageJ"}, {}, 2),
        ({"frame_class": "unclassified"}, {}, 2),
        ({"refused": "no time"}, {"processed": "processed by AstroImageJ"}, 1),
        ({"refused": "no time"}, {"frame_class": "unclassified"}, 2),
    ],
)
def test_of_frames_from_before_the_oldest_that_can_be_used_stays(
    registry: Registry, tmp_path: Path, first: dict[str, str], second: dict[str, str], stays: int
) -> None:
    registry.write(add_frame, file(tmp_path / "a.fits", "a", None, **first))
    registry.write(add_frame, file(tmp_path / "b.fits", "b", None, **second))
    assert registry.write(keep_pixels, 1, "noise") == {}
    assert registry.write(keep_pixels, 2, "noise") == {3 - stays: stays}
    assert states(registry)[3 - stays] == ("duplicate", stays) and states(registry)[stays][1] is None


def test_of_frames_from_before_one_that_is_banned_does_not_come_back_by_its_copy(
    registry: Registry, tmp_path: Path
) -> None:
    for name in "ab":
        registry.write(add_frame, file(tmp_path / f"{name}.fits", name, None))
    registry.write(choose, ["f2"], "banned", "clouds")
    for number in (1, 2):
        registry.write(keep_pixels, number, "noise")
    assert states(registry) == {1: ("duplicate", 2), 2: ("refused", None)}


@pytest.mark.parametrize("content", ["a", "b"])
def test_a_copy_takes_the_place_of_a_frame_that_turned_out_to_be_damaged(
    registry: Registry, tmp_path: Path, content: str
) -> None:
    registry.write(add_frame, file(tmp_path / "a.fits", "a"))
    registry.write(add_frame, file(tmp_path / "gone.fits", content))
    registry.write(add_frame, file(tmp_path / "c.fits", content))
    registry.write(amend, {1: {"filter": "R"}}, "ada", "wheel stuck")
    (tmp_path / "gone.fits").unlink()
    path = str(tmp_path / "a.fits")
    assert registry.write(let_copy_take_over, path) is None  # nothing is wrong with it
    registry.write(refuse_damaged_file, path, "a tile does not decompress")
    assert registry.write(let_copy_take_over, path) == 3
    assert registry.write(let_copy_take_over, path) is None
    assert states(registry) == {1: ("duplicate", 3), 2: ("duplicate", 3), 3: ("done", None)}
    assert (only(registry).filter, only(registry).amended) == ("R", {"filter": "R"})


def test_another_file_with_the_same_pixels_is_a_duplicate(registry: Registry, tmp_path: Path) -> None:
    first = registry.write(add_frame, file(tmp_path / "a.fits", "a"))
    second = registry.write(add_frame, file(tmp_path / "a.fits.fz", "b", obsdate="2026-03-01T21:00:10"))
    assert (second.outcome, second.of, second.same) == ("duplicate", first.id, "pixels")
    byte_by_byte = registry.write(add_frame, file(tmp_path / "copy.fits", "a"))
    assert (byte_by_byte.outcome, byte_by_byte.of, byte_by_byte.same) == ("duplicate", first.id, "content")
    again = registry.write(add_frame, file(tmp_path / "a.fits.fz", "b"))
    assert (again.outcome, again.of) == ("known", first.id)
    assert only(registry).obsdate == WHEN


@pytest.mark.parametrize("pixels", ["", None])
def test_pixels_that_tell_nothing_make_no_duplicate(
    registry: Registry, tmp_path: Path, pixels: str | None
) -> None:
    registry.write(add_frame, file(tmp_path / "a.fits", "a", pixels))
    second = registry.write(add_frame, file(tmp_path / "b.fits", "b", pixels, obsdate="2026-03-01T21:00:00"))
    assert second.outcome == "new"


def test_a_file_that_was_packed_in_place_stays_the_frame_it_is(registry: Registry, tmp_path: Path) -> None:
    first = registry.write(add_frame, file(tmp_path / "a.fits", "a"))
    (tmp_path / "a.fits").unlink()
    packed = registry.write(add_frame, file(tmp_path / "a.fits.fz", "b"))
    assert (packed.outcome, packed.id) == ("known", first.id)
    assert (only(registry).path, only(registry).sha256) == (str(tmp_path / "a.fits.fz"), "b" * 64)


def test_a_header_that_was_mended_in_place_is_a_new_version_and_its_copies_stay_copies(
    registry: Registry, tmp_path: Path
) -> None:
    first = registry.write(add_frame, file(tmp_path / "a.fits", "a"))
    copy = registry.write(add_frame, file(tmp_path / "a.fits.gz", "b"))
    mended = registry.write(add_frame, file(tmp_path / "a.fits", "c", filter="R"))
    assert (mended.outcome, mended.of) == ("version", first.id)
    assert states(registry)[copy.id] == ("duplicate", mended.id)
    assert only(registry).filter == "R"


def test_other_pixels_at_the_path_of_an_original_leave_the_exposure_to_its_copy(
    registry: Registry, tmp_path: Path
) -> None:
    registry.write(add_frame, file(tmp_path / "a.fits", "a"))
    copy = registry.write(add_frame, file(tmp_path / "a.fits.gz", "b"))
    other = registry.write(
        add_frame, file(tmp_path / "a.fits", "c", "other noise", obsdate="2026-03-01T22:00:00")
    )
    assert other.outcome == "version"
    assert states(registry)[copy.id] == ("done", None)


@pytest.mark.parametrize(
    "useless", [{"refused": "when it was taken is not known"}, {"frame_class": "unclassified"}]
)
def test_a_copy_with_a_better_header_holds_the_exposure(
    registry: Registry, tmp_path: Path, useless: dict[str, object]
) -> None:
    first = registry.write(add_frame, file(tmp_path / "a.fits", "a", **useless))
    mended = registry.write(add_frame, file(tmp_path / "b.fits", "b"))
    assert mended.outcome == "new"
    assert states(registry) == {first.id: ("duplicate", mended.id), mended.id: ("done", None)}


def test_a_copy_does_not_get_around_a_ban(registry: Registry, tmp_path: Path) -> None:
    first = registry.write(add_frame, file(tmp_path / "a.fits", "a"))
    registry.write(choose, [f"f{first.id}"], "banned", "clouds")
    assert registry.write(add_frame, file(tmp_path / "a.fits.fz", "b")).outcome == "duplicate"
    assert states(registry)[first.id][0] == "refused"


def test_frames_from_before_pixels_were_compared_are_merged_when_they_are_looked_at(
    registry: Registry, tmp_path: Path
) -> None:
    old = [registry.write(add_frame, file(tmp_path / f"{name}.fits", name, None)).id for name in "abc"]
    assert [number for number, _ in registry.read(without_pixels, 10)] == old
    assert registry.write(keep_pixels, old[0], "noise") == {}
    assert registry.write(keep_pixels, old[1], "") == {}
    again = registry.write(add_frame, file(tmp_path / "c.fits", "c"))
    assert (again.outcome, again.of) == ("known", old[0])
    assert states(registry) == {
        old[0]: ("done", None),
        old[1]: ("done", None),
        old[2]: ("duplicate", old[0]),
    }
    assert registry.read(without_pixels, 10) == []


# --- catalogues ---------------------------------------------------------------------------------------------------


def arrives(registry: Registry, tmp_path: Path, **changes: Any) -> Registered:
    return registry.write(add_frame, file(tmp_path / "a.fits", "a", **changes))


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"obsdate": "2026-03-01T20:00:10.732"},
        {"obsdate": "2026-03-01T20:00:09.510"},
        {"camera": "", "iobs": None, "nobs": None},
        {"object": "m13", "exptime": 59.97},
        {"object": "M_13"},
        {"object": "M-13"},
        {"filter": "", "object": ""},
        {"frame_class": "unclassified"},
    ],
)
def test_a_row_gets_the_file_that_comes_later(
    registry: Registry, tmp_path: Path, header: dict[str, object]
) -> None:
    add_catalogue(registry, [row(keywords={"SEEING": 1.2}), row(obsdate="2026-03-01T20:02:00", iobs=2)])
    registered = arrives(registry, tmp_path, keywords={"binning": "1x1"}, **header)
    assert (registered.id, registered.outcome) == (1, "new")
    first, second = registry.read(find_frames)
    assert (first.id, first.path, first.sha256) == (1, str(tmp_path / "a.fits"), "a" * 64)
    assert (first.frame_class, first.camera, first.filter, first.iobs, first.nobs) == (
        "science",
        "C",
        "V",
        1,
        4,
    )
    assert first.keywords == {"SEEING": 1.2, "binning": "1x1"}
    assert second.path is None


@pytest.mark.parametrize(
    "header",
    [
        {"obsdate": "2026-03-01T20:00:11.2"},
        {"filter": "v"},
        {"object": "M 14"},
        {"camera": "D"},
        {"iobs": 2},
        {"exptime": 10.0},
        {"frame_class": "flat"},
    ],
)
def test_a_row_of_another_exposure_stays_without(
    registry: Registry, tmp_path: Path, header: dict[str, object]
) -> None:
    add_catalogue(registry, [row()])
    assert arrives(registry, tmp_path, **header).id == 2


def test_of_a_burst_each_file_takes_the_nearest_row_once(registry: Registry, tmp_path: Path) -> None:
    starts = [f"2026-03-01T20:00:10.{number}" for number in (1, 3, 5)]
    add_catalogue(registry, [row(obsdate=start, iobs=None, nobs=None) for start in starts])
    for number, start in enumerate(reversed(starts)):
        name = "abc"[number]
        new = file(tmp_path / f"{name}.fits", name, name, obsdate=f"{start}04", iobs=None, nobs=None)
        assert registry.write(add_frame, new).id == 3 - number


def test_whose_row_it_is_is_not_guessed_among_cameras_that_expose_at_once(
    registry: Registry, tmp_path: Path
) -> None:
    add_catalogue(registry, [row(camera="C1"), row(camera="C2")])
    assert arrives(registry, tmp_path, camera="").id == 3


def test_a_catalogue_that_comes_after_the_files_says_nothing_new(registry: Registry, tmp_path: Path) -> None:
    arrives(registry, tmp_path, obsdate="2026-03-01T20:00:10.732")
    assert add_catalogue(registry, [row(), row(obsdate="2026-03-01T20:03:00", iobs=2)]) == 1
    assert add_catalogue(registry, [row(), row(obsdate="2026-03-01T20:03:00", iobs=2)]) == 0


def test_rows_of_one_time_with_another_filter_object_or_class_are_others(registry: Registry) -> None:
    rows = [row(), row(filter="R"), row(object="M 14"), row(frame_class="flat"), row()]
    assert add_catalogue(registry, rows) == 4
    assert add_catalogue(registry, rows) == 0
