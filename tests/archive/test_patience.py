"""What is silent is left behind in time, and keeps nobody else waiting for long."""

import errno
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from time import monotonic, sleep
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from ccdflow.archive import patience
from ccdflow.archive.digest import file_digest
from ccdflow.archive.fits import rawpixels
from ccdflow.archive.fits.rawfile import open_raw
from ccdflow.archive.foreignfile import NotReadError
from ccdflow.archive.patience import came, in_time, read_limit, readers, set_read_limit


@pytest.fixture(autouse=True)
def short() -> Iterator[None]:
    """A limit of a fifth of a second; at the end nothing is left that counts against a disk."""
    before = read_limit()
    set_read_limit(0.2)
    yield
    set_read_limit(before)
    end = monotonic() + 5
    while patience._STUCK and monotonic() < end:
        sleep(0.01)
    assert not patience._STUCK


@pytest.fixture
def gate() -> Iterator[Event]:
    """What silent files wait for."""
    event = Event()
    yield event
    event.set()


def test_work_gives_what_it_gives_and_raises_what_it_raises(tmp_path: Path) -> None:
    assert in_time(tmp_path, lambda: 7) == 7
    with pytest.raises(KeyError, match="x"):
        in_time(tmp_path, lambda: {}["x"])
    # Within such work the outer one's time counts, and no other thread is asked.
    assert in_time(tmp_path, lambda: in_time(tmp_path, lambda: 8)) == 8


def test_what_is_silent_is_left_with_one_sentence(tmp_path: Path, gate: Event) -> None:
    begin = monotonic()
    with pytest.raises(OSError, match=r"not read within 0\.2 s") as told:
        in_time(tmp_path / "a.fits", gate.wait)
    assert told.value.errno == errno.ETIMEDOUT and monotonic() - begin < 2
    assert in_time(tmp_path / "b.fits", lambda: 9) == 9


def test_what_comes_is_waited_for_and_what_comes_too_slowly_is_not(tmp_path: Path) -> None:
    def read(pieces: int, size: int) -> int:
        for _ in range(pieces):
            sleep(0.05)
            came(size)
        return pieces

    assert in_time(tmp_path, lambda: read(8, 100_000)) == 8
    with pytest.raises(TimeoutError, match="it comes too slowly"):
        in_time(tmp_path, lambda: read(1000, 1))


def test_a_disk_of_which_several_files_have_not_come_is_not_asked_again_until_one_has(
    tmp_path: Path, gate: Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "MOST_STUCK", 2)
    for name in "ab":
        with pytest.raises(TimeoutError):
            in_time(tmp_path / name, gate.wait)
    begun: list[int] = []
    with pytest.raises(
        TimeoutError, match=r"its disk does not answer: 2 files, for instance .*a, were not read"
    ):
        in_time(tmp_path / "c", lambda: begun.append(1))
    assert not begun
    assert in_time(Path("/proc/self/stat"), lambda: 3) == 3  # of another disk
    gate.set()
    end = monotonic() + 5
    while patience._STUCK and monotonic() < end:
        sleep(0.01)
    assert in_time(tmp_path / "c", lambda: 4) == 4


def test_threads_that_were_left_are_replaced(tmp_path: Path, gate: Event) -> None:
    with readers(1) as pool:
        tickets = [pool.begin(tmp_path / "a", gate.wait), pool.begin(tmp_path / "b", lambda: True)]
        with pytest.raises(TimeoutError):
            pool.result(tickets[0])
        assert pool.result(tickets[1])


def test_a_silent_file_is_not_read_and_not_judged(
    tmp_path: Path, gate: Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.fits"
    pixels = np.random.default_rng(1).integers(300, 900, (32, 20)).astype(np.int16)
    fits.writeto(path, pixels)
    plain = open_raw(path).pixels
    expected = np.asarray(plain)
    read = rawpixels._SharedFile._read

    def silent(*arguments: Any) -> None:
        gate.wait()
        read(*arguments)

    monkeypatch.setattr(rawpixels, "_at_hand", lambda *_: False)
    monkeypatch.setattr(rawpixels._SharedFile, "_read", silent)
    with pytest.raises(NotReadError, match=r"a.fits can't be read: not read within 0.2 s"):
        plain[0:4, :]
    gate.set()
    # What comes too late is written where nobody looks any more.
    assert np.array_equal(np.asarray(open_raw(path).pixels), expected)


def test_the_digest_of_a_silent_file_is_unknown(
    tmp_path: Path, gate: Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.fits"
    path.write_bytes(bytes(2880))
    with pytest.raises(NotReadError, match="not read within"):
        file_digest(path, watch=lambda _: gate.wait() and None)
