"""Corrections by people: checked, kept, and followed by sets, plans and products' headers."""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from astropy.io import fits
from sqlalchemy import make_url

from ccdflow.archive.fits.productheader import InputNote
from ccdflow.archive.registry.frames.amendments import Amendment
from ccdflow.archive.registry.frames.doubts import find_doubts
from ccdflow.archive.registry.frames.queries import FrameFilter, find_frames, show_frame
from ccdflow.archive.registry.sets.records import SetFilter, find_sets
from ccdflow.cascade.planning.request import Request
from ccdflow.cascade.records import FrameRecord
from ccdflow.config.project import PROJECT_FILE, init_project
from ccdflow.tasks.grouping import group_sets
from ccdflow.tasks.ingest import ingest_files, recheck_files
from ccdflow.tasks.inputs import JobInputs
from ccdflow.tasks.planning import planned
from ccdflow.tasks.rawfiles.amendedcards import amended_before
from ccdflow.tasks.rawfiles.amending import (
    Chosen,
    amend_frames,
    chosen_frames,
    parse_changes,
    undo_amendments,
)
from ccdflow.tasks.workspace import Workspace, open_workspace

LATER = Request(now="2026-03-02T12:00:00")
RANDOM = np.random.default_rng(12)


def write(folder: Path, name: str, kind: str, when: str | None, exptime: float = 60.0, **more: Any) -> Path:
    folder.mkdir(exist_ok=True)
    cards = {"IMAGETYP": kind, "DATE-OBS": when, "EXPTIME": exptime, "TELESCOP": "T", "CAMERA": "C", **more}
    header = fits.Header({"INSTRUME": "I", "GAIN": 1.5, "RDNOISE": 7.0, **cards})
    noise = RANDOM.normal(1000, 9, (24, 32)).round().astype(np.uint16)
    fits.PrimaryHDU(noise, header).writeto(folder / name)
    return folder / name


@pytest.fixture
def night(space: Workspace, tmp_path: Path) -> Workspace:
    """A night of two biases (f1, f2) and four science frames (f3 to f6)."""
    raw = tmp_path / "raw"
    for number in range(2):
        write(raw, f"b{number}.fits", "Bias Frame", f"2026-03-01T18:0{number}:00", 0.0)
    science(raw)
    assert ingest_files(space, [raw]).counts == {"new": 6}
    return space


def science(raw: Path) -> None:
    for number in range(4):
        when = f"2026-03-01T21:0{number}:00"
        write(raw, f"s{number}.fits", "Light Frame", when, FILTER="V", OBJECT="M 13", IOBS=number + 1, NOBS=4)


def amended(space: Workspace, *words: str, **chosen: Any) -> list[Amendment]:
    frames = chosen_frames(space, Chosen(**chosen))
    return amend_frames(space, frames, parse_changes(space, words), "ada", "because")


def frame(space: Workspace, number: int) -> FrameRecord:
    (known,) = space.registry.read(find_frames, FrameFilter(status=None, ids=[number]))
    return known


@pytest.mark.parametrize(
    ("chosen", "frames"),
    [
        ({"names": ["f3"]}, [3]),
        ({"names": ["f3-f5", "f1"]}, [1, 3, 4, 5]),
        ({"names": ["f3-99"]}, [3, 4, 5, 6]),
        ({"frame_class": "bias"}, [1, 2]),
        ({"object": "M 13", "filter": "V", "exptime": 60.02}, [3, 4, 5, 6]),
        ({"night": "2026-03-01", "camera": "T/C", "frame_class": "science", "names": ["f1-f4"]}, [3, 4]),
    ],
)
def test_frames_are_named_or_described(night: Workspace, chosen: dict[str, Any], frames: list[int]) -> None:
    assert sorted(known.id for known in chosen_frames(night, Chosen(**chosen))) == frames


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ({"names": ["f77"]}, "there is no frame f77"),
        ({"names": ["bogus"]}, "nothing is called 'bogus'"),
        ({"frame_class": "lights"}, "unknown class 'lights'; known: bias"),
        ({"object": "M 14", "filter": "V"}, "no frame has object M 14 and filter V"),
        ({"names": ["f1-f2"], "frame_class": "dark"}, "no frame among f1-f2 has class dark"),
    ],
)
def test_frames_that_are_not_there_are_told(night: Workspace, chosen: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        chosen_frames(night, Chosen(**chosen))


def test_a_duplicate_and_an_old_version_say_which_to_amend(night: Workspace, tmp_path: Path) -> None:
    copy = tmp_path / "raw" / "t.fits"
    copy.write_bytes((tmp_path / "raw" / "s0.fits").read_bytes())
    ingest_files(night, [copy])
    with pytest.raises(ValueError, match="f7 is a duplicate of f3: amend that one"):
        chosen_frames(night, Chosen(["f7"]))
    (tmp_path / "raw" / "s1.fits").unlink()
    write(tmp_path / "raw", "s1.fits", "Light Frame", "2026-03-01T21:01:30", FILTER="V")
    ingest_files(night, [tmp_path / "raw"])
    with pytest.raises(ValueError, match="f4 has given way to f8: amend that one"):
        chosen_frames(night, Chosen(["f4"]))
    (current,) = chosen_frames(night, Chosen([str(tmp_path / "raw" / "s1.fits")]))
    assert current.id == 8


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("filter=R", "R"),
        ("filter=", None),
        ("class=Flat Field", "flat"),
        ("exptime=2 min", 120.0),
        ("exptime=30", 30.0),
        ("obsdate=2026-03-01T23:30:00+01:00", "2026-03-01T22:30:00"),
        ("iobs=2", 2),
        ("gain=2.5", 2.5),
        ("ccd_temperature=-20", -20.0),
        ("binning=2", "2x2"),
        ("obsdate=2026-03-01T22:30:00Z", "2026-03-01T22:30:00"),
        ("OBSERVER=007", "007"),
        ("OBSERVER=2026-03-01", "2026-03-01"),
        ("ROTANGLE=90", 90),
        ("night=2026-03-02", "2026-03-02"),
        ("mosaic=rggb", "RGGB"),
    ],
)
def test_values_are_read_as_people_write_them(space: Workspace, change: str, value: Any) -> None:
    (read,) = parse_changes(space, [change]).values()
    assert read == value and type(read) is type(value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("filtr=V", "did you mean 'filter'"),
        ("shape=3x3", "unknown name 'shape'"),
        ("class=lights", "unknown class 'lights'"),
        ("class=", "class= is blank"),
        ("exptime=abc", "exptime=abc is no exposure time, wanted seconds"),
        ("exptime=-3", "exptime=-3 is no exposure time"),
        ("obsdate=yesterday", "wanted ISO"),
        ("obsdate=2026-03-01", "wanted ISO"),
        ("mosaic=xtrans", "mosaic=xtrans can't be taken apart, wanted the colours of the first pixels: RGGB"),
        ("obsdate=0001-01-01T00:00:00+05:00", "is no time, wanted ISO"),
        ("obsdate=+99999999d", "moves it by more than 100 years"),
        ("night=tonight", "night=tonight is no date"),
        ("iobs=0", "'0' is no place in a sequence"),
        ("gain=-1", "gain=-1 can't be, wanted a number from 0.001"),
        ("read_noise=nan", "read_noise=nan can't be"),
        ("binning=two", "wanted columns and rows: 2x2"),
    ],
)
def test_values_that_can_not_be_are_refused_in_one_line(space: Workspace, change: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as error:
        parse_changes(space, [change])
    assert "\n" not in str(error.value)


def test_a_place_beyond_the_sequence_is_refused(night: Workspace) -> None:
    with pytest.raises(ValueError, match="f3 can't be exposure 5 of 4"):
        amended(night, "iobs=5", names=["f3"])


def test_a_clock_that_was_wrong_moves_frames_and_their_night(night: Workspace, tmp_path: Path) -> None:
    made = amended(night, "obsdate=+16h", frame_class="science")
    assert [amendment.value for amendment in made][:2] == ["2026-03-02T13:00:00", "2026-03-02T13:01:00"]
    assert [frame(night, number).night for number in (2, 3, 6)] == ["2026-03-01", "2026-03-02", "2026-03-02"]
    ingest_files(night, [tmp_path / "raw"])
    assert frame(night, 3).obsdate == "2026-03-02T13:00:00"
    undo_amendments(night, chosen_frames(night, Chosen(["f3"])))
    assert (frame(night, 3).obsdate, frame(night, 3).night) == ("2026-03-01T21:00:00", "2026-03-01")
    shown = night.registry.read(show_frame, 4)
    assert shown is not None
    assert shown["amended"] == ["obsdate 2026-03-01T21:01:00 -> 2026-03-02T13:01:00 (because)"]


def test_a_copy_does_not_contradict_a_correction(night: Workspace, tmp_path: Path) -> None:
    amended(night, "filter=R", names=["f3"])
    copy = tmp_path / "copy.fits"
    copy.write_bytes((tmp_path / "raw" / "s0.fits").read_bytes())
    assert list(ingest_files(night, [copy]).copies.lines()) == [f"{copy} is a duplicate of f3 (s0.fits)"]


def test_the_night_of_a_frame_whose_file_is_away_follows_until_its_header_tells(
    night: Workspace, tmp_path: Path
) -> None:
    raw = tmp_path / "raw" / "s0.fits"
    raw.rename(tmp_path / "away")
    amended(night, "filter=R", names=["f3"])
    assert frame(night, 3).night == "2026-03-01"
    amended(night, "obsdate=+16h", names=["f3"])
    assert (frame(night, 3).obsdate, frame(night, 3).night) == ("2026-03-02T13:00:00", "2026-03-02")
    recheck_files(night)
    (tmp_path / "away").rename(raw)
    recheck_files(night)
    assert frame(night, 3).night == "2026-03-02"
    assert list(frame(night, 3).amended) == ["filter", "obsdate"]


def test_a_new_version_of_a_file_has_the_night_of_the_corrected_time(
    night: Workspace, tmp_path: Path
) -> None:
    amended(night, "obsdate=+16h", names=["f3"])
    raw = tmp_path / "raw" / "s0.fits"
    raw.unlink()
    write(tmp_path / "raw", "s0.fits", "Light Frame", "2026-03-01T21:00:00", FILTER="V", OBJECT="M 13")
    ingest_files(night, [raw])
    assert (frame(night, 7).obsdate, frame(night, 7).night) == ("2026-03-02T13:00:00", "2026-03-02")


def test_a_frame_without_a_time_becomes_usable(space: Workspace, tmp_path: Path) -> None:
    write(tmp_path / "raw", "a.fits", "Light Frame", None)
    assert ingest_files(space, [tmp_path / "raw"]).counts == {"refused": 1}
    amended(space, "obsdate=2026-03-01T21:00:00", names=["f1"])
    assert (frame(space, 1).refused, frame(space, 1).night) == ("", "2026-03-01")
    assert ingest_files(space, [tmp_path / "raw"]).counts == {"known": 1}
    undo_amendments(space, chosen_frames(space, Chosen(["f1"])))
    assert "when it was taken is not known" in frame(space, 1).refused


def test_an_unclassified_frame_and_its_doubt(space: Workspace, tmp_path: Path) -> None:
    write(tmp_path / "raw", "a.fits", "mystery", "2026-03-01T21:00:00")
    ingest_files(space, [tmp_path / "raw"])
    amended(space, "class=flat", names=["f1"])
    shown = space.registry.read(show_frame, 1)
    assert shown is not None
    assert shown["class"] == "flat"
    assert not ingest_files(space, [tmp_path / "raw"]).problems


def test_only_jobs_of_amended_frames_have_other_keys(night: Workspace) -> None:
    def keys() -> dict[tuple[int, ...], str]:
        jobs = planned(night, Request(targets=("bias", "science"), now=LATER.now)).jobs
        return {tuple(known.id for known in job.group.frames): job.key for job in jobs}

    before = keys()
    amended(night, "gain=2.5", names=["f3"])
    changed = keys()
    assert {frames for frames in before if before[frames] != changed[frames]} == {(3,)}
    undo_amendments(night, chosen_frames(night, Chosen(["f3"])))
    assert keys() == before


def test_products_say_what_was_corrected(night: Workspace, tmp_path: Path) -> None:
    made = amended(night, "filter=R", "gain=2.5", "obsdate=2026-03-01T22:00:00", names=["f3"])
    inputs = JobInputs()
    path = tmp_path / "raw" / "s0.fits"
    inputs.add_raw("main", path, night.instruments, InputNote("main", path.name, "0"), amendments=made)
    (raw,) = inputs.by_role["main"]
    assert [amplifier.gain for amplifier in raw.detector.amplifiers] == [2.5]
    origin = inputs.origin("0" * 64, "science", "1")
    assert origin.header["FILTER"] == "R"
    assert str(origin.header["DATE-OBS"]).startswith("2026-03-01T22:00:00")
    assert origin.cards["AMENDED"][0] == "filter, gain, obsdate"
    assert origin.cards["AMEND 1 filter"][0] == "s0.fits: filter V -> R (because)"
    # A stack of it, and of one that nobody has corrected, says so too.
    said = {
        f"HIERARCH {name.upper()}": value for name, (value, _) in origin.cards.items() if "AMEND " in name
    }
    assert [correction.name for correction in amended_before(said)] == ["filter", "gain", "obsdate"]


# --- plain SQL on both databases ----------------------------------------------------------------------------------

Execute = Callable[[str], object]


@pytest.fixture(params=["sqlite", "postgresql"])
def plain(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Workspace, Execute]]:
    """A project with four science frames in a set, and its database by the driver alone."""
    init_project(tmp_path / "project")
    if request.param == "postgresql":
        (tmp_path / "project" / PROJECT_FILE).write_text(
            f"registry: {request.getfixturevalue('new_database')}\n"
        )
    space = open_workspace(tmp_path / "project")
    url = make_url(space.registry.url)
    if request.param == "postgresql":
        text = url.set(drivername="postgresql").render_as_string(hide_password=False)
        connection: Any = psycopg.connect(text, autocommit=True)
    else:
        connection = sqlite3.connect(str(url.database), isolation_level=None)
    science(tmp_path / "raw")
    ingest_files(space, [tmp_path / "raw"])
    group_sets(space, LATER)
    assert cut(space) == [(1, (1, 2, 3, 4))]
    yield space, connection.execute
    connection.close()
    space.registry.close()


def cut(space: Workspace) -> list[tuple[int, tuple[int, ...]]]:
    """Ids and frames of the sets that count, after grouping."""
    group_sets(space, LATER)
    return [(known.id, known.frames) for known in space.registry.read(find_sets)]


def test_sets_follow_frames_that_others_correct_and_the_next_ingest_changes_nothing(
    plain: tuple[Workspace, Execute], tmp_path: Path
) -> None:
    space, execute = plain
    execute("UPDATE frame SET filter = 'R' WHERE path LIKE '%s1.fits'")
    after = cut(space)
    assert [frames for _, frames in after] == [(1,), (2,), (3, 4)]
    ingest_files(space, [tmp_path / "raw"])
    assert (cut(space), frame(space, 2).filter) == (after, "R")
    execute("UPDATE frame SET filter = 'V'")
    assert [frames for _, frames in cut(space)] == [(1, 2, 3, 4)]


@pytest.mark.parametrize("value", ["garbage", "2026-03-01T21:01", "2026-03-01T22:01:00+01:00"])
def test_one_time_that_others_correct_to_whatever_stops_nobody(
    plain: tuple[Workspace, Execute], value: str
) -> None:
    space, execute = plain
    execute(f"UPDATE frame SET obsdate = '{value}' WHERE id = 2")
    execute("UPDATE frame SET filter = 'R' WHERE id = 4")
    recheck_files(space)
    assert frame(space, 2).obsdate == "2026-03-01T21:01:00"
    assert [frames for _, frames in cut(space)] == [(1, 2, 3), (4,)]
    doubts = space.registry.read(find_doubts, [1, 2, 3, 4])
    assert [doubt.kind for own in doubts.values() for doubt in own] == ["amendment"] * (value == "garbage")
    assert planned(space, LATER).jobs


def test_sets_follow_a_frame_that_moves_to_another_camera(plain: tuple[Workspace, Execute]) -> None:
    space, execute = plain
    execute("UPDATE frame SET camera = 'D' WHERE id IN (1, 2)")
    assert sorted(frames for _, frames in cut(space)) == [(1, 2), (3, 4)]


def test_a_time_that_others_correct_gives_the_night_when_files_are_looked_at(
    plain: tuple[Workspace, Execute],
) -> None:
    space, execute = plain
    execute("UPDATE frame SET obsdate = '2026-03-04T21:00:00' WHERE id = 4")
    recheck_files(space)
    assert (frame(space, 4).obsdate, frame(space, 4).night) == ("2026-03-04T21:00:00", "2026-03-04")
    assert [frames for _, frames in cut(space)] == [(1, 2, 3), (4,)]


@pytest.mark.parametrize(
    ("gone", "left"), [("2", [(1, 3, 4)]), ("1", [(2, 3, 4)]), ("4", [(1, 2, 3)]), ("1, 2, 3, 4", [])]
)
def test_sets_follow_frames_that_others_delete(
    plain: tuple[Workspace, Execute], gone: str, left: list[tuple[int, ...]]
) -> None:
    space, execute = plain
    execute(f"DELETE FROM frame WHERE id IN ({gone})")
    assert [frames for _, frames in cut(space)] == left
    old, *new = space.registry.read(find_sets, SetFilter(status=None))
    assert old.status == "superseded" and old.superseded_by == (new[0].id if new else None)
    assert all(known.version == 2 for known in new)
