"""What lies about and is no file is never waited for, and what is said of it is one line that can be shown."""

import errno
import gzip
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from ccdflow.archive import digest, foreignfile
from ccdflow.archive.digest import file_digest
from ccdflow.archive.fits.productfile import ProductFileError, read_product
from ccdflow.archive.fits.rawfile import open_raw
from ccdflow.archive.foreignfile import (
    NotReadError,
    UnreadableFrameError,
    is_not_read,
    name_fault,
    open_plain,
    own_fault,
    spelled,
)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def listening(path: Path) -> None:
    # Its own path is short: that of a socket may not have more than 107 characters.
    here = os.getcwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as ear:
            ear.bind(path.name)
    finally:
        os.chdir(here)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def folder(path: Path) -> None:
    path.mkdir()


def dangling(path: Path) -> None:
    path.symlink_to(path.parent / "gone.fits")


def loop(path: Path) -> None:
    path.symlink_to(path)


def hole(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(1 << 40)


SAID = {
    pipe: "is a named pipe, not a file",
    listening: "is a socket, not a file",
    device: "is a device, not a file",
    folder: "folder",
    dangling: "no such file or directory where its link leads, ",
    loop: "too many levels of symbolic links",
    hole: "has 1099511627776 bytes",
}


@pytest.mark.parametrize("make", SAID, ids=lambda make: make.__name__)
def test_what_is_no_file_is_named_at_once_by_whatever_reads_it(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "x.fits"
    make(path)
    for read in (open_raw, file_digest, read_product):
        with pytest.raises((UnreadableFrameError, ProductFileError)) as told:
            read(path)
        assert SAID[make] in str(told.value) and str(path) in str(told.value)


def test_a_file_that_grows_while_it_is_read_is_read_no_further(tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    path.write_bytes(bytes(1000))

    def grow(_: object) -> None:
        with path.open("ab") as more:
            more.write(bytes(1000))

    with pytest.raises(NotReadError, match="still being written, and grew from 1000 to 2000 bytes"):
        file_digest(path, watch=grow)


def test_the_largest_file_is_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.fits"
    path.write_bytes(bytes(101))
    with open_plain(path) as stream:
        assert stream.read() == bytes(101)
    monkeypatch.setattr(foreignfile, "LARGEST_FILE", 100)
    with pytest.raises(UnreadableFrameError, match="has 101 bytes, wanted 100 at most"):
        open_plain(path)


def test_no_name_of_any_file_is_said_to_be_none() -> None:
    with pytest.raises(UnreadableFrameError, match="is no name of a file"):
        open_plain(Path("/raw/a\0b.fits"))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain.fits", "plain.fits"),
        ("Höhe 12 β.fits", "Höhe 12 β.fits"),
        (os.fsdecode(b"b\xe9.fits"), r"b\xe9.fits"),
        ("two\nlines.fits", r"two\nlines.fits"),
        ("bell\a.fits", r"bell\x07.fits"),
        ("\ud800.fits", r"\ud800.fits"),
        ("no\u00a0break.fits", "no\u00a0break.fits"),
    ],
)
def test_names_are_spelt_so_that_anything_shows_them(name: str, shown: str) -> None:
    assert spelled(name) == shown
    assert bool(name_fault(Path("/raw") / name)) == any(0xD800 <= ord(letter) < 0xE000 for letter in name)


class NoOnesError(Exception):
    """As libraries have them."""


def test_whatever_a_library_raises_is_the_files_own_fault() -> None:
    for error, told in ((NoOnesError("odd\n tile"), "NoOnesError: odd tile"), (NoOnesError(), "NoOnesError")):
        with (
            pytest.raises(UnreadableFrameError, match=rf"^/a.fits can't be read: {told}$"),
            own_fault(Path("/a.fits")),
        ):
            raise error


@pytest.mark.parametrize(
    "error", [OSError(errno.EIO, "I/O"), MemoryError(), KeyboardInterrupt(), UnreadableFrameError("told")]
)
def test_what_is_no_files_fault_goes_on(error: BaseException) -> None:
    with pytest.raises(type(error)) as passed, own_fault(Path("/a.fits")):
        raise error
    assert passed.value is error


def test_a_file_that_grows_is_not_judged(tmp_path: Path) -> None:
    assert is_not_read(digest.unread(tmp_path, OSError(errno.EAGAIN, "it is still being written")))
    assert not is_not_read(gzip.BadGzipFile("CRC"))
