"""One bad file is one bad file: it is named with its reason, and all others come in."""

import errno
import gzip
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ccdflow.archive.fits import hduheaders, rawfile
from ccdflow.archive.fits.rawfile import open_raw
from ccdflow.archive.foreignfile import UnreadableFrameError
from ccdflow.archive.patience import read_limit, set_read_limit
from ccdflow.archive.registry.frames.queries import list_frames
from ccdflow.tasks import ingest
from ccdflow.tasks.ingest import IngestReport, ingest_files, read_pending, recheck_files
from ccdflow.tasks.rawfiles import places
from ccdflow.tasks.rawfiles.lookahead import look_at
from ccdflow.tasks.rawfiles.rawchecks import check_raws
from ccdflow.tasks.workspace import Workspace

CARDS = {
    "SIMPLE": "T",
    "BITPIX": "16",
    "NAXIS": "2",
    "NAXIS1": "20",
    "NAXIS2": "16",
    "IMAGETYP": "'Light Frame'",
    "DATE-OBS": "'2026-03-01T20:00:00'",
    "EXPTIME": "60.0",
}


def write(path: Path, seed: int = 0, **cards: str) -> Path:
    """A file written by hand: no library would write such headers."""
    told = CARDS | {name.replace("_", "-"): value for name, value in cards.items()}
    text = "".join(f"{name:<8}= {value:>20}".ljust(80) for name, value in told.items()) + "END".ljust(80)
    rows = np.random.default_rng(seed).integers(300, 1300, (16, 20)).astype(">i2").tobytes()
    content = text.encode("latin-1", "replace")
    path.write_bytes(content.ljust(-(-len(content) // 2880) * 2880) + rows.ljust(2880, b"\0"))
    return path


ABSURD = {
    "axes": ({"NAXIS": "1000000000"}, "NAXIS = 1000000000, wanted a number from 0 to 999"),
    "hundreds": ({"NAXIS": "999"}, "holds no image"),
    "below": ({"NAXIS": "-1"}, "NAXIS = -1, wanted"),
    "long": ({"NAXIS1": "1000000000000"}, "wanted at most 1000000 of each"),
    "longer": ({"NAXIS1": "9" * 30}, "wanted at most 1000000 of each"),
    "negative": ({"NAXIS2": "-16"}, "NAXIS2 = -16, wanted a number from 0 on"),
    "groups": ({"GCOUNT": "-3"}, "GCOUNT = -3"),
    "heap": ({"PCOUNT": "99999999999999999999"}, "is truncated"),
    "bits": ({"BITPIX": "99999999999999999999"}, "wanted at most"),
    "kind": ({"BITPIX": "17"}, "BITPIX = 17"),
}


@pytest.mark.parametrize("name", ABSURD)
def test_an_absurd_header_is_refused_before_anything_counts_to_it(name: str, tmp_path: Path) -> None:
    cards, said = ABSURD[name]
    with pytest.raises(UnreadableFrameError) as told:
        open_raw(write(tmp_path / "a.fits", **cards))
    assert said in str(told.value) and "\n" not in str(told.value)


def test_each_bad_one_of_a_folder_is_named_and_all_others_come_in(space: Workspace, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    good = [
        write(raw / f"{name}.fits", seed, DATE_OBS=f"'2026-03-01T20:0{seed}:00'")
        for seed, name in enumerate("amz")
    ]
    write(raw / "count.fits", 5, IOBS="1", NOBS="10000000000000000000", DATE_OBS="'2026-03-01T20:05:00'")
    write(raw / "odd.fits", 6).rename(os.fsdecode(os.fsencode(raw) + b"/b\xe9.fits"))
    write(raw / "absurd.fits", NAXIS="999999999")
    os.mkfifo(raw / "pipe.fits")
    (raw / "folder.fits").mkdir()
    (raw / "nothing.fits").symlink_to(raw / "gone")
    (raw / "loop.fits").symlink_to(raw / "loop.fits")
    (raw / "zero.fits").symlink_to("/dev/zero")
    report = ingest_files(space, [raw])
    assert report.counts == {"new": 4, "unreadable": 7} and report.exit_code == 1
    for words in (
        "pipe.fits",
        r"b\xe9.fits",
        "folder.fits",
        "nothing.fits",
        "loop.fits",
        "zero.fits",
        "absurd.fits",
    ):
        assert sum(words in line for line in report.problems) == 1, (words, report.problems)
    frames = {Path(row["path"]).name: row for row in space.registry.read(list_frames)}
    assert frames.keys() == {*(path.name for path in good), "count.fits", "absurd.fits"}
    assert [name for name, row in frames.items() if row["status"] == "refused"] == ["absurd.fits"]
    assert frames["count.fits"]["nobs"] is None and "nobs=1e+19" in report.doubt_lines()[0]
    # Once more, and with what nightly does besides: nothing hangs, nothing is registered twice.
    assert ingest_files(space, [raw]).counts == {"known": 4, "unreadable": 7}
    assert recheck_files(space).counts == {}
    assert {check.state for check in check_raws(space)} == {"ok"}


def test_a_gzipped_file_is_unpacked_no_further_than_its_headers_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rawfile, "ROOM_BEHIND", 1 << 22)
    monkeypatch.setattr(hduheaders, "MOST_HDUS", 50)
    whole = write(tmp_path / "a.fits").read_bytes()
    for name, behind, said in (("room", 1 << 20, []), ("bomb", 1 << 24, ["it unpacks to more than"])):
        path = tmp_path / f"{name}.fits.gz"
        path.write_bytes(gzip.compress(whole + bytes(behind)))
        faults = look_at(path).faults
        assert [fault.text[: len(words)] for fault, words in zip(faults, said, strict=True)] == said
    header = (
        b"XTENSION= 'IMAGE   '".ljust(80) + b"NAXIS   =                    0".ljust(80) + b"END".ljust(2720)
    )
    (tmp_path / "many.fits").write_bytes(
        write(tmp_path / "b.fits", NAXIS="0").read_bytes()[:2880] + 60 * header
    )
    with pytest.raises(UnreadableFrameError, match="has 50 headers with 50 blocks, and more"):
        open_raw(tmp_path / "many.fits")


class CfitsioLikeError(Exception):
    """As the classes of compiled libraries: of no common kind."""


@pytest.mark.parametrize(
    "error",
    [
        CfitsioLikeError("bad tile"),
        zlib.error("-3"),
        ValueError("cannot reshape"),
        RecursionError(),
        KeyError(),
    ],
)
def test_whatever_reading_raises_is_that_files_own_refusal(
    error: Exception, space: Workspace, tmp_path: Path
) -> None:
    bad, good = write(tmp_path / "bad.fits", 1), write(tmp_path / "good.fits", 2)
    report = IngestReport()

    def look(path: Path) -> Any:
        if path == bad:
            raise error
        return look_at(path)

    for path in (bad, good):
        ingest.ingest_file(space, path, report, look=look)
    assert report.counts == {"unreadable": 1, "new": 1}
    assert str(bad) in report.problems[0] and type(error).__name__ in report.problems[0]
    frames = {row["path"]: row for row in space.registry.read(list_frames)}
    assert frames[str(bad)]["status"] == "refused" and type(error).__name__ in frames[str(bad)]["reason"]


@pytest.mark.parametrize("error", [MemoryError(), KeyboardInterrupt()])
def test_what_is_no_fault_of_the_file_is_not_taken_for_one(
    error: BaseException, space: Workspace, tmp_path: Path
) -> None:
    def look(_: Path) -> Any:
        raise error

    with pytest.raises(type(error)):
        ingest.ingest_file(space, write(tmp_path / "a.fits"), IngestReport(), look=look)
    assert space.registry.read(list_frames) == []


WORDS = st.one_of(
    st.integers(-(10**20), 10**20).map(str),
    st.floats().map(lambda value: repr(value).upper()),
    st.text(st.characters(min_codepoint=0, max_codepoint=255), max_size=20),
    st.text(st.characters(min_codepoint=0, max_codepoint=255), max_size=20).map(lambda text: f"'{text}'"),
    st.sampled_from(["T", "F", "", "1E999", "-0", "'", "''", "0x10", "NaN", "+", "1D400", "&'"]),
)
KEYWORDS = (
    *CARDS,
    "PCOUNT",
    "GCOUNT",
    "BSCALE",
    "BZERO",
    "BLANK",
    "IOBS",
    "NOBS",
    "XBINNING",
    "GAIN",
    "BIASSEC",
    "TIMESYS",
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cards=st.dictionaries(st.sampled_from(KEYWORDS), WORDS, max_size=3), simple=st.booleans())
def test_any_header_is_a_frame_or_one_line(
    cards: dict[str, str], simple: bool, space: Workspace, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.fits", **({"SIMPLE": "T"} if simple else {}) | cards)
    report = IngestReport()
    ingest.ingest_file(space, path, report)
    assert report.total == 1
    assert all("\n" not in line and str(path) in line for line in report.problems)
    assert read_pending(space, IngestReport()) == 0


@pytest.fixture
def gate() -> Iterator[Event]:
    """What silent files wait for; meanwhile the limit is short."""
    before = read_limit()
    set_read_limit(0.3)
    event = Event()
    yield event
    event.set()
    set_read_limit(before)


def test_a_silent_file_is_its_own_refusal_and_is_looked_at_again(
    space: Workspace, tmp_path: Path, gate: Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    for seed, name in enumerate("abz"):
        write(raw / f"{name}.fits", seed, DATE_OBS=f"'2026-03-01T20:0{seed}:00'")
    opened = rawfile.open_plain

    def waiting(path: Path, buffering: int = -1) -> Any:
        if path.name == "b.fits":
            gate.wait()
        return opened(path, buffering)

    monkeypatch.setattr(rawfile, "open_plain", waiting)
    report = ingest_files(space, [raw])
    assert report.counts == {"new": 2, "unreadable": 1} and report.exit_code == 1
    assert report.problems == [f"{raw}/b.fits can't be read: not read within 0.3 s"]
    # Nothing is kept of it that would be held against it, and as a row of another program it keeps no drain waiting.
    assert {Path(row["path"]).name for row in space.registry.read(list_frames)} == {"a.fits", "z.fits"}
    assert ingest_files(space, [raw / "b.fits"]).counts == {"unreadable": 1}
    gate.set()
    assert ingest_files(space, [raw]).counts == {"known": 2, "new": 1}


def test_a_folder_that_may_not_be_looked_into_is_named(
    space: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = tmp_path / "raw"
    for name in ("a", "closed", "z"):
        (raw / name).mkdir(parents=True)
    write(raw / "a" / "1.fits", 1)
    write(raw / "z" / "2.fits", 2, DATE_OBS="'2026-03-01T20:02:00'")
    entries = places._entries

    def closed(folder: Path) -> Any:
        # Whoever runs the tests may look into any folder.
        if folder.name == "closed":
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return entries(folder)

    monkeypatch.setattr(places, "_entries", closed)
    report = ingest_files(space, [raw])
    assert report.counts == {"new": 2, "unreadable": 1} and report.exit_code == 1
    assert report.problems == [f"{raw}/closed can't be read: permission denied"]
    assert ingest_files(space, [raw / "closed"]).exit_code == 2


def test_files_below_a_folder_are_those_that_are_called_so(tmp_path: Path) -> None:
    (tmp_path / "b" / "c.fits").mkdir(parents=True)
    (tmp_path / "b" / ".hidden").mkdir()
    for name in ("b/c.fits/d.fit", "b/.hidden/e.FITS", "a.fits", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "link").symlink_to(tmp_path)
    files, closed = places.fits_below(tmp_path)
    below = [str(path.relative_to(tmp_path)) for path in files]
    assert below == ["a.fits", "b/.hidden/e.FITS", "b/c.fits", "b/c.fits/d.fit"] and not closed
