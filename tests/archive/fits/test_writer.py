"""FITS by our own writer is what astropy reads, verifies and would have written."""

import hashlib
import io
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

from ccdflow.archive.fits.hduheaders import hdu_headers
from ccdflow.archive.fits.writer import (
    CHUNK,
    IN_FLIGHT,
    HashingFile,
    Plane,
    encoded_checksum,
    image_hdu,
    plane_table_hdu,
    primary_hdu,
    read_columns,
    render,
    table_hdu,
    write_hdus,
)

TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60)


def content(*hdus: Any) -> bytes:
    stream = io.BytesIO()
    write_hdus(stream, hdus)
    return stream.getvalue()


def drawn(shape: tuple[int, int], kind: str) -> np.ndarray:
    random = np.random.default_rng(4)
    if kind == "f4":
        return random.normal(0, 1e4, shape).astype(np.float32)
    return random.integers(0, 65536, shape).astype(np.uint16)


@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (7, 5), (3, 1441), (720, 1), (60, 50), (701, 799)])
def test_planes_of_any_size_are_read_and_verified(tmp_path: Path, shape: tuple[int, int]) -> None:
    data, dq = drawn(shape, "f4"), drawn(shape, "u2") & 7
    path = tmp_path / "a.fits"
    hdus = (
        primary_hdu(Plane(data), {"OBJECT": ("M 13", "what")}),
        image_hdu("MASK", Plane(dq.astype(np.uint8)), {}),
        image_hdu("UNCERT", Plane(np.abs(data), root=True), {}),
        image_hdu("DQ", Plane(dq), {}),
        plane_table_hdu("NGOOD", Plane(dq), {}),
        plane_table_hdu("BYTES", Plane(dq.astype(np.uint8)), {}),
    )
    path.write_bytes(content(*hdus))
    with fits.open(path, checksum=True) as hdus:
        assert all(hdu.verify_checksum() == 1 and hdu.verify_datasum() == 1 for hdu in hdus)
        hdus.verify("exception")
        np.testing.assert_array_equal(hdus[0].data, data)
        np.testing.assert_array_equal(hdus["MASK"].data, dq)
        assert hdus["MASK"].data.dtype == np.uint8
        np.testing.assert_array_equal(hdus["UNCERT"].data, np.sqrt(np.abs(data)))
        for name in ("NGOOD", "BYTES"):
            np.testing.assert_array_equal(hdus[name].data[name][0], dq)
        np.testing.assert_array_equal(hdus["DQ"].data, dq)
        assert hdus["DQ"].data.dtype == np.uint16
    assert path.stat().st_size % 2880 == 0


def test_strange_numbers_keep_their_bits() -> None:
    data = np.array([[np.nan, np.inf, -np.inf, -0.0, 1e-45, 3.4e38]], np.float32)
    with fits.open(io.BytesIO(content(primary_hdu(Plane(data), {})))) as hdus:
        stored = hdus[0].data.astype(np.float32)
    np.testing.assert_array_equal(stored.view(np.uint32), data.view(np.uint32))


@given(st.integers(0, 2**32 - 1))
def test_checksum_is_encoded_as_astropy_does(total: int) -> None:
    expected = fits.PrimaryHDU()._encode_byte, fits.PrimaryHDU()._char_encode
    assert encoded_checksum(total) == expected[1](~total & 0xFFFFFFFF)


@given(
    st.from_regex(r"[A-Z][A-Z0-9_-]{0,7}", fullmatch=True).filter(
        lambda word: word not in ("END", "COMMENT", "HISTORY", "CONTINUE", "HIERARCH")
    ),
    st.booleans()
    | st.none()
    | st.integers(-(10**15), 10**15)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    TEXT,
)
def test_cards_are_read_by_astropy_as_they_were_meant(keyword: str, value: Any, comment: str) -> None:
    text = render(keyword, value, comment)
    assert len(text) % 80 == 0
    card = fits.Card.fromstring(text)
    card.verify("exception")
    assert card.keyword == keyword
    if value is None:
        assert isinstance(card.value, fits.card.Undefined)
    elif isinstance(value, str):
        assert card.value == value.rstrip()
    else:
        assert (card.value, type(card.value)) == (value, type(value))
    if len(text) == 80:
        assert comment.strip().startswith(card.comment)


def test_long_texts_and_long_keywords_are_read_by_astropy() -> None:
    long = "It's " * 60
    with fits.open(
        io.BytesIO(content(primary_hdu(None, {"LONG": (long, "why"), "HIERARCH QC FWHM": (1.5, "pixel")})))
    ) as hdus:
        assert hdus[0].header["LONG"] == long.rstrip()
        assert hdus[0].header["QC FWHM"] == 1.5


def test_tables_are_read_by_astropy_and_by_us(tmp_path: Path) -> None:
    columns = {
        "NAME": np.array(["a", "längere"]),
        "GAIN": np.array([1.5, np.nan]),
        "SHORT": np.array([1, -2], np.int16),
        "LONG": np.array([2**40, 1]),
        "TRUTH": np.array([True, False]),
        "PAIR": np.array([[1, 2], [3, 4]], np.float32),
    }
    path = tmp_path / "a.fits"
    path.write_bytes(content(primary_hdu(None, {}), table_hdu("TABLE", columns)))
    with fits.open(path, checksum=True) as hdus:
        assert hdus[1].verify_checksum() == 1
        for name in ("GAIN", "SHORT", "LONG", "TRUTH", "PAIR"):
            np.testing.assert_array_equal(hdus[1].data[name], columns[name])
    with path.open("rb") as stream:
        hdu = list(hdu_headers(path, stream, every=True))[1]
        ours = read_columns(hdu, stream)
    for name, values in columns.items():
        np.testing.assert_array_equal(ours[name], values)
        assert ours[name].dtype.isnative


def test_table_without_rows_and_numbers_that_fits_has_not() -> None:
    with fits.open(io.BytesIO(content(primary_hdu(None, {}), table_hdu("T", {"A": np.empty(0)})))) as hdus:
        assert len(hdus["T"].data) == 0
    with pytest.raises(ValueError, match="complex128"):
        table_hdu("T", {"A": np.array([1j])})


def test_digest_is_that_of_the_bytes_and_memory_does_not_grow_with_the_plane(tmp_path: Path) -> None:
    plane = drawn((4600, 1100), "f4")
    path = tmp_path / "a.fits"
    write_hdus(io.BytesIO(), [primary_hdu(Plane(plane[:10]), {})])
    tracemalloc.start()
    with path.open("wb", buffering=0) as file, HashingFile(file.write) as sink:
        write_hdus(sink, [primary_hdu(Plane(plane), {})])
        digest, size = sink.digest(), sink.size
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert size == path.stat().st_size
    assert peak < 6 * CHUNK < plane.nbytes


def test_a_chunk_stays_as_it_is_until_so_many_further_ones_were_written() -> None:
    class Keeper:
        """A sink that looks again at what it was given before."""

        def __init__(self) -> None:
            self.chunks: list[tuple[Any, bytes]] = []

        def write(self, data: Any) -> None:
            self.chunks.append((data, bytes(data)))
            time.sleep(0.01)  # the next one is encoded meanwhile
            assert all(bytes(view) == content for view, content in self.chunks[-1 - IN_FLIGHT :])

    sink = Keeper()
    plane = drawn((4600, 1100), "f4")
    write_hdus(sink, [primary_hdu(Plane(plane), {})])

    assert sum(len(content) for _, content in sink.chunks) > plane.nbytes
    assert len({bytes(view) for view, _ in sink.chunks}) < len(sink.chunks)  # what is older was written over


def test_file_that_takes_few_bytes_at_a_time_gets_all_of_them() -> None:
    taken = bytearray()

    def few(view: memoryview) -> int:
        taken.extend(view[:1000])
        return min(len(view), 1000)

    with HashingFile(few) as sink:
        write_hdus(sink, [primary_hdu(Plane(drawn((400, 500), "f4")), {})])
        digest = sink.digest()
    assert digest == hashlib.sha256(taken).hexdigest()
    assert bytes(taken) == content(primary_hdu(Plane(drawn((400, 500), "f4")), {}))
