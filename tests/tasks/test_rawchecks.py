"""Damaged raw files are refused by name when they come in, and found when they are looked at again."""

import gzip
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from sqlalchemy import Connection, insert, update
from tests.tasks.test_ingest import EVERYTHING, counts, write

from ccdflow.archive.digest import DamagedFrameError, NotReadError
from ccdflow.archive.fits.productfile import ProductFileError, read_product
from ccdflow.archive.fits.rawfile import open_raw
from ccdflow.archive.registry.frames.checks import find_damage, raws_by_age_of_check, refuse_damaged_file
from ccdflow.archive.registry.frames.queries import list_frames
from ccdflow.archive.registry.tables import FrameRow, table
from ccdflow.tasks.ingest import ingest_files, recheck_files
from ccdflow.tasks.machine import is_the_machines
from ccdflow.tasks.rawfiles.rawchecks import check_raws
from ccdflow.tasks.workspace import Workspace


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 0x40
    path.write_bytes(content)


def with_sums(path: Path, seed: int, **changes: Any) -> Path:
    write(path, seed, **changes)
    with fits.open(path, mode="update", checksum=True) as hdus:
        hdus[0].add_checksum()
    return path


def rows(space: Workspace) -> dict[str, dict[str, Any]]:
    return {Path(row["path"]).name: row for row in space.registry.read(list_frames, EVERYTHING)}


def not_touched(connection: Connection, path: Path) -> None:
    """As the registry sees a file whose bits fell over on the disk: nobody has changed it since."""
    row = {"changed_ns": path.stat().st_ctime_ns}
    connection.execute(update(table(FrameRow)).where(FrameRow.path == str(path)).values(row))


def night(folder: Path) -> list[Path]:
    return [with_sums(folder / f"{n}.fits", n, DATE_OBS=f"2026-03-01T20:0{n}:00") for n in range(3)]


def test_damaged_files_are_refused_by_name_and_the_others_not_lost(space: Workspace, tmp_path: Path) -> None:
    paths = night(tmp_path / "n")
    flip(paths[1], -300)
    (tmp_path / "n" / "3.fits.gz").write_bytes(gzip.compress(write(tmp_path / "plain.fits", 3).read_bytes()))
    flip(tmp_path / "n" / "3.fits.gz", -6)
    report = ingest_files(space, [tmp_path / "n"])
    assert counts(report) == {"new": 2, "refused": 2}
    assert [problem.split(": ")[0] for problem in report.problems] == [
        str(paths[1]),
        str(tmp_path / "n" / "3.fits.gz"),
    ]
    found = rows(space)
    assert {name: row["status"] for name, row in found.items() if row["status"] == "refused"} == {
        "1.fits": "refused",
        "3.fits.gz": "refused",
    }
    # The header is whole: the frame keeps its place among the others.
    assert (found["1.fits"]["obsdate"], found["1.fits"]["class"]) == ("2026-03-01T20:01:00", "science")
    assert found["1.fits"]["reason"].startswith("HDU 0: DATASUM is ")


def test_a_header_edited_after_it_was_written_is_a_doubt(space: Workspace, tmp_path: Path) -> None:
    path = with_sums(tmp_path / "a.fits", 1)
    path.write_bytes(path.read_bytes().replace(b"'M13     '", b"'M92     '"))
    report = ingest_files(space, [path])
    assert counts(report) == {"new": 1}
    assert [doubt.kind for _, doubt in report.doubts] == ["checksum"]
    assert rows(space)["a.fits"]["status"] != "refused"


def test_what_nobody_touched_and_is_not_what_it_was_is_damaged(space: Workspace, tmp_path: Path) -> None:
    paths = night(tmp_path / "n")
    ingest_files(space, paths)
    assert [check.state for check in check_raws(space)] == ["ok", "ok", "ok"]
    flip(paths[0], -300)
    space.registry.write(not_touched, paths[0])
    flip(paths[1], -300)
    paths[2].rename(tmp_path / "away")
    states = {Path(check.path).name: (check.state, check.reason) for check in check_raws(space)}
    assert [states[f"{n}.fits"][0] for n in range(3)] == ["damaged", "changed", "missing"]
    assert "was registered" in states["0.fits"][1] and "registers it anew" in states["1.fits"][1]
    damage = space.registry.read(find_damage, [1, 2, 3])
    assert list(damage) == [1]
    # What was made of it stays: the frame is refused only where its pixels are wanted again.
    assert rows(space)["0.fits"]["status"] != "refused"


def unreadable(path: Path) -> Path:
    """Lets the system answer with EIO, as for a disk that fails; gives the file back under another name."""
    whole = path.with_suffix(".whole")
    path.rename(whole)
    path.symlink_to("/proc/self/mem")
    return whole


def test_a_file_that_can_not_be_read_now_is_no_damage(space: Workspace, tmp_path: Path) -> None:
    paths = night(tmp_path / "n")
    ingest_files(space, paths)
    whole = unreadable(paths[0])
    paths[1].unlink()
    size = paths[2].stat().st_size
    # What can't be read takes nothing of what the others may use.
    checks = {Path(check.path).name: check for check in check_raws(space, size)}
    assert {name: check.state for name, check in checks.items()} == {
        "0.fits": "unread",
        "1.fits": "missing",
        "2.fits": "ok",
    }
    assert "input/output error; it is looked at again" in checks["0.fits"].reason
    assert space.registry.read(find_damage, [1, 2, 3]) == {}
    assert counts(recheck_files(space)) == {"unreadable": 1}
    assert rows(space)["0.fits"]["status"] == "done"
    whole.replace(paths[0])
    assert [check.state for check in check_raws(space)] == ["ok", "missing", "ok"]


def test_a_file_that_could_not_be_read_is_taken_once_it_can_be(space: Workspace, tmp_path: Path) -> None:
    paths = night(tmp_path / "n")
    whole = unreadable(paths[0])
    report = ingest_files(space, paths)
    assert counts(report) == {"new": 2, "unreadable": 1}
    assert report.problems == [f"{paths[0]} can't be read: input/output error"]
    assert sorted(rows(space)) == ["1.fits", "2.fits"]
    whole.replace(paths[0])
    assert counts(ingest_files(space, paths)) == {"new": 1, "known": 2}


def test_a_row_of_plain_sql_whose_file_could_not_be_read_is_read_once_it_can_be(
    space: Workspace, tmp_path: Path
) -> None:
    (path, *_) = night(tmp_path / "n")
    whole = unreadable(path)
    with space.registry.database.write() as connection:
        connection.execute(insert(table(FrameRow)).values(path=str(path)))
    recheck_files(space)
    assert rows(space)["0.fits"]["reason"] == f"{path} can't be read: input/output error"
    whole.replace(path)
    recheck_files(space)
    assert (rows(space)["0.fits"]["status"], rows(space)["0.fits"]["reason"]) == ("done", "")


def test_a_job_waits_for_a_file_that_can_not_be_read_now(tmp_path: Path) -> None:
    path = write(tmp_path / "a.fits", 1)
    unreadable(path)
    with pytest.raises(NotReadError) as raw:
        open_raw(path)
    with pytest.raises(ProductFileError) as product:
        read_product(path)
    assert is_the_machines(raw.value) and is_the_machines(product.value)
    path.unlink()
    with pytest.raises(ProductFileError) as gone:
        read_product(path)
    assert not is_the_machines(gone.value) and not is_the_machines(DamagedFrameError(path, "odd"))


def test_files_are_looked_at_in_turn_those_first_that_waited_longest(
    space: Workspace, tmp_path: Path
) -> None:
    paths = night(tmp_path / "n")
    ingest_files(space, paths)
    size = paths[0].stat().st_size
    assert [Path(check.path).name for check in check_raws(space, 2 * size)] == ["0.fits", "1.fits"]
    assert [raw.id for raw in space.registry.read(raws_by_age_of_check)] == [3, 1, 2]
    assert [Path(check.path).name for check in check_raws(space, 1)] == ["2.fits"]
    assert list(check_raws(space, 0)) == []


def test_damage_found_while_reading_is_kept_until_the_file_is_restored(
    space: Workspace, tmp_path: Path
) -> None:
    path = with_sums(tmp_path / "a.fits", 1)
    whole = path.read_bytes()
    ingest_files(space, [path])
    assert space.registry.write(refuse_damaged_file, str(path), "it can't be decompressed (end of stream)")
    assert not space.registry.write(refuse_damaged_file, "/store/product.fits", "whatever")
    row = rows(space)["a.fits"]
    assert (row["status"], row["reason"]) == ("refused", "it can't be decompressed (end of stream)")
    assert row["doubts"] == ["damaged: it can't be decompressed (end of stream)"]
    ingest_files(space, [path])  # its header says no more than before
    assert rows(space)["a.fits"]["status"] == "refused"
    path.write_bytes(whole)
    ingest_files(space, [path])
    assert (rows(space)["a.fits"]["status"], rows(space)["a.fits"]["doubts"]) == ("done", [])
    assert space.registry.read(find_damage, [1]) == {}


def test_a_tile_that_does_not_decompress_is_damage(space: Workspace, tmp_path: Path) -> None:
    header = fits.Header({"IMAGETYP": "Light Frame", "DATE-OBS": "2026-03-01T20:00:00", "EXPTIME": 60.0})
    pixels = np.random.default_rng(1).normal(1000, 30, (64, 80)).astype(np.uint16)
    image = fits.CompImageHDU(pixels, header, compression_type="GZIP_1", tile_shape=(1, 80))
    path = tmp_path / "a.fits.fz"
    fits.HDUList([fits.PrimaryHDU(), image]).writeto(path)
    content = bytearray(path.read_bytes())
    content[content.rindex(b"\x1f\x8b") + 20] ^= 0x40
    path.write_bytes(content)
    assert counts(ingest_files(space, [path])) == {"refused": 1}
    assert "can't be" in rows(space)["a.fits.fz"]["reason"]


@pytest.mark.parametrize("policy", ["note", "ignore"])
def test_an_instrument_file_may_pass_over_damage(space: Workspace, tmp_path: Path, policy: str) -> None:
    path = with_sums(tmp_path / "a.fits", 1)
    flip(path, -300)
    lenient = tuple(by.model_copy(update={"doubts": {"damaged": policy}}) for by in space.instruments)
    space = replace(space, instruments=lenient)
    assert counts(ingest_files(space, [path])) == {"new": 1}
    assert [check.state for check in check_raws(space)] == ["ok"]


def bytes_read() -> int:
    return int(Path("/proc/self/io").read_text().split()[1])


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="Linux counts what is read")
def test_a_file_is_read_once_for_digest_and_sums(space: Workspace, tmp_path: Path) -> None:
    pixels = np.random.default_rng(8).integers(0, 60_000, (1024, 1024)).astype(np.uint16)
    path = with_sums(tmp_path / "large.fits", 8)
    with fits.open(path) as hdus:
        hdus[0].data = pixels
        hdus.writeto(path, overwrite=True, checksum=True)
    ingest_files(space, [path])
    before, size = bytes_read(), path.stat().st_size
    assert [check.state for check in check_raws(space)] == ["ok"]
    assert bytes_read() - before < 1.5 * size
