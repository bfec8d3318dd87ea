"""Tiles that say themselves to how much they unpack are decompressed by a process that may end over them."""

import errno
import gzip
import os
import signal
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from ccdflow.archive.fits import tileprocess
from ccdflow.archive.fits.rawfile import open_raw
from ccdflow.archive.fits.tiledecoder import fault_of_tile
from ccdflow.archive.foreignfile import DamagedFrameError, NotReadError
from ccdflow.archive.patience import read_limit, set_read_limit

PIXELS = np.random.default_rng(3).integers(0, 900, (40, 30)).astype(np.int16)


def compressed(path: Path, algorithm: str = "GZIP_1") -> Path:
    tile = (10, 30) if algorithm == "HCOMPRESS_1" else (1, 30)
    hdu = fits.CompImageHDU(PIXELS, compression_type=algorithm, tile_shape=tile)
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    return path


@pytest.mark.parametrize("algorithm", ["GZIP_1", "GZIP_2", "HCOMPRESS_1", "PLIO_1"])
def test_rows_come_as_they_were(algorithm: str, tmp_path: Path) -> None:
    path = compressed(tmp_path / "a.fits.fz", algorithm)
    rows, name = tileprocess.rows_apart(path, 1, 7, 23)
    assert np.array_equal(rows, PIXELS[7:23]) and name == algorithm
    assert np.array_equal(np.asarray(open_raw(path).pixels), PIXELS)


def hcompress(rows: int, columns: int) -> bytes:
    return b"\xdd\x99" + rows.to_bytes(4, "big") + columns.to_bytes(4, "big") + bytes(20)


def line_list(length: int, words: int) -> bytes:
    head = np.array([0, 7, -100, length & 0x7FFF, length >> 15, 0, 0], ">i2")
    return head.tobytes() + bytes(2 * (words - 7))


@pytest.mark.parametrize(
    ("algorithm", "content", "said"),
    [
        ("GZIP_1", gzip.compress(bytes(60), mtime=0), ""),
        (
            "GZIP_1",
            gzip.compress(bytes(241), mtime=0),
            "unpacks to more than 240 bytes, wanted 1 x 30 numbers",
        ),
        ("GZIP_2", gzip.compress(bytes(241), mtime=0), "unpacks to more than 240 bytes"),
        ("HCOMPRESS_1", hcompress(30, 1), ""),
        ("HCOMPRESS_1", hcompress(30, 2), "says to hold 30 x 2 numbers, wanted 1 x 30"),
        ("PLIO_1", line_list(9, 9), ""),
        ("PLIO_1", line_list(10, 9), "says to have 10 words, found 9"),
        ("PLIO_1", b"\0\0", "says to have inf words, found 1"),
        ("RICE_1", b"\1\2\3", ""),
    ],
    ids=range(9),
)
def test_what_a_tile_says_of_its_size_is_held_against_the_image(
    algorithm: str, content: bytes, said: str
) -> None:
    told = fault_of_tile(algorithm, content, (1, 30))
    assert told.startswith(said) and bool(told) == bool(said)


def test_a_tile_that_unpacks_to_more_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = compressed(tmp_path / "a.fits.fz")
    larger = gzip.compress(bytes(8 * 30 + 1))
    with fits.open(path, disable_image_compression=True) as file:
        first = file[1].data["COMPRESSED_DATA"][0]
    content = path.read_bytes()
    start = content.index(first.tobytes())
    assert len(larger) <= len(first)
    path.write_bytes(content[:start] + larger.ljust(len(first), b"\0") + content[start + len(first) :])
    with pytest.raises(DamagedFrameError, match="tile 1 unpacks to more than 240 bytes"):
        np.asarray(open_raw(path).pixels)
    # The others can be had.
    assert np.array_equal(tileprocess.rows_apart(path, 1, 1, 40)[0], PIXELS[1:])


class Ending(tileprocess._Decoder):
    """A process that ends over whatever it is asked."""

    def ask(self, question: tuple[object, ...], seconds: float) -> tuple[object, ...]:
        os.kill(self._process.pid, signal.SIGSEGV)
        return super().ask(question, seconds)


class Silent(tileprocess._Decoder):
    """A process that does not answer."""

    def ask(self, question: tuple[object, ...], seconds: float) -> tuple[object, ...]:
        os.kill(self._process.pid, signal.SIGSTOP)
        return super().ask(question, seconds)


def test_the_end_of_a_process_is_the_refusal_of_its_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = compressed(tmp_path / "a.fits.fz")
    before = read_limit()
    with monkeypatch.context() as patched:
        patched.setattr(tileprocess, "_IDLE", defaultdict(list))
        patched.setattr(tileprocess, "_Decoder", Ending)
        with pytest.raises(DamagedFrameError, match="ended by SIGSEGV"):
            tileprocess.rows_apart(path, 1, 0, 4)
        patched.setattr(tileprocess, "_Decoder", Silent)
        set_read_limit(0.2)
        try:
            with pytest.raises(NotReadError, match=r"not decompressed within 0\.18 s") as told:
                tileprocess.rows_apart(path, 1, 0, 4)
            assert told.value.errno == errno.ETIMEDOUT
        finally:
            set_read_limit(before)
    assert np.array_equal(tileprocess.rows_apart(path, 1, 0, 4)[0], PIXELS[:4])


def test_a_file_that_is_gone_is_not_damaged(tmp_path: Path) -> None:
    path = compressed(tmp_path / "a.fits.fz")
    pixels = open_raw(path).pixels
    path.unlink()
    with pytest.raises(FileNotFoundError):
        np.asarray(pixels)
    assert pixels.shape == PIXELS.shape
    with pytest.raises(NotReadError):
        tileprocess.rows_apart(path, 1, 0, 4)
