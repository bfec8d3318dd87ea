"""Damage is found by the checks that a file carries; an edited header is none."""

import gzip
import hashlib
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray

from ccdflow.archive.digest import DamagedFrameError
from ccdflow.archive.fits.integrity import _Sum, faults_of, read_whole, refuse_damaged, tile_faults
from ccdflow.archive.fits.rawfile import open_raw

SHAPE = (61, 67)


def pixels(kind: str = "uint16") -> NDArray[Any]:
    return np.random.default_rng(3).normal(1000, 30, SHAPE).astype(kind)


def written(path: Path, **cards: Any) -> Path:
    fits.PrimaryHDU(pixels(), fits.Header(cards)).writeto(path, checksum=True)
    return path


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 0x40
    path.write_bytes(content)


def kinds(path: Path) -> list[str]:
    raw = open_raw(path)
    digest, faults = read_whole(raw)
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert faults == faults_of(raw)
    return [fault.kind for fault in faults]


def edited(path: Path, card: str) -> Path:
    """A card of the header written over, as a program does that knows nothing of checksums."""
    content = path.read_bytes()
    at = content.index(card.partition("=")[0].ljust(8).encode())
    path.write_bytes(content[:at] + card.ljust(80).encode() + content[at + 80 :])
    return path


def test_a_whole_file_has_no_faults(tmp_path: Path) -> None:
    assert kinds(written(tmp_path / "a.fits")) == []
    fits.PrimaryHDU(pixels()).writeto(tmp_path / "b.fits")
    assert kinds(tmp_path / "b.fits") == []


def test_one_flipped_bit_of_the_data_is_damage(tmp_path: Path) -> None:
    path = written(tmp_path / "a.fits")
    flip(path, open_raw(path).images[0].offset + 4001)
    assert kinds(path) == ["damaged"]
    with pytest.raises(
        DamagedFrameError, match=r"a\.fits is damaged: HDU 0: DATASUM is \d+, its data add up to \d+"
    ):
        refuse_damaged(open_raw(path))


def test_a_header_that_was_edited_is_no_damage(tmp_path: Path) -> None:
    path = edited(written(tmp_path / "a.fits", OBJECT="M13"), "OBJECT  = 'M92     '")
    (fault,) = faults_of(open_raw(path))
    assert (fault.kind, "its data are as DATASUM says" in fault.text) == ("checksum", True)
    refuse_damaged(open_raw(path))


def test_an_edited_header_and_damaged_data_are_damage(tmp_path: Path) -> None:
    path = edited(written(tmp_path / "a.fits", OBJECT="M13"), "OBJECT  = 'M92     '")
    flip(path, -3000)
    assert kinds(path) == ["damaged"]


def test_a_datasum_of_other_data_is_no_damage_where_checksum_holds(tmp_path: Path) -> None:
    path = edited(written(tmp_path / "a.fits"), "DATASUM = '12345'")
    assert kinds(path) == ["damaged"]
    # CHECKSUM is worked out anew with the other sum in place: header and data then add up to all ones.
    total = _Sum()
    total.add(edited(path, "CHECKSUM= '0000000000000000'").read_bytes())
    encoded = fits.PrimaryHDU()._char_encode(~np.uint32(total.value % (2**32 - 1)) & np.uint32(2**32 - 1))
    edited(path, f"CHECKSUM= '{encoded}'")
    assert kinds(path) == ["checksum"]


@pytest.mark.parametrize(
    "card", ["DATASUM = ''", "DATASUM = 'unknown'", "DATASUM =                    T", "COMMENT no sum"]
)
def test_what_states_no_sum_is_not_held_against_the_data(tmp_path: Path, card: str) -> None:
    path = written(tmp_path / "a.fits")
    content = path.read_bytes()
    at = content.index(b"DATASUM ")
    path.write_bytes(content[:at] + card.ljust(80).encode() + content[at + 80 :])
    edited(path, "CHECKSUM= '0000000000000000'")
    flip(path, -3000)
    assert kinds(path) == []


def test_a_checksum_alone_that_does_not_hold_is_a_doubt(tmp_path: Path) -> None:
    path = edited(written(tmp_path / "a.fits"), "DATASUM =")
    assert kinds(path) == ["checksum"]


def test_a_datasum_written_as_a_number_counts(tmp_path: Path) -> None:
    path = written(tmp_path / "a.fits")
    edited(path, f"DATASUM = {fits.getheader(path)['DATASUM']:>20}")
    assert kinds(path) == ["checksum"]
    flip(path, -3000)
    assert kinds(path) == ["damaged"]


def test_padding_that_is_missing_is_no_harm(tmp_path: Path) -> None:
    path = written(tmp_path / "a.fits")
    path.write_bytes(path.read_bytes()[: open_raw(path).images[0].end])
    assert kinds(path) == []


def test_each_image_of_a_file_is_looked_at_and_no_table(tmp_path: Path) -> None:
    table = fits.BinTableHDU.from_columns([fits.Column("x", "E", array=np.arange(900.0))], name="CAT")
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(pixels(), name="A"), fits.ImageHDU(pixels(), name="B"), table]
    fits.HDUList(hdus).writeto(tmp_path / "a.fits", checksum=True)
    flip(tmp_path / "a.fits", -2900)
    assert kinds(tmp_path / "a.fits") == []
    flip(tmp_path / "a.fits", open_raw(tmp_path / "a.fits").images[1].offset + 77)
    (fault,) = faults_of(open_raw(tmp_path / "a.fits"))
    assert fault.text.startswith("B: DATASUM")


def test_sums_do_not_depend_on_how_the_bytes_come() -> None:
    content = np.random.default_rng(1).integers(0, 256, 5003, dtype=np.uint8).tobytes()
    whole = _Sum()
    whole.add(content)
    for size in (1, 3, 7, 1000, 4096):
        pieces = _Sum()
        for start in range(0, len(content), size):
            pieces.add(memoryview(content)[start : start + size])
        assert (pieces.value, pieces.size) == (whole.value, whole.size)


# --- gzip --------------------------------------------------------------------------------------------


def gzipped(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content, 1))
    return path


def plain_bytes(tmp_path: Path, **options: Any) -> bytes:
    fits.PrimaryHDU(pixels()).writeto(tmp_path / "plain.fits", **options)
    return (tmp_path / "plain.fits").read_bytes()


def test_a_whole_gzipped_file_has_no_faults(tmp_path: Path) -> None:
    assert kinds(gzipped(tmp_path / "a.fits.gz", plain_bytes(tmp_path, checksum=True))) == []


def test_gzips_own_check_is_looked_at(tmp_path: Path) -> None:
    path = gzipped(tmp_path / "a.fits.gz", plain_bytes(tmp_path))
    flip(path, -6)  # of the CRC itself: the content still unpacks
    (fault,) = faults_of(open_raw(path))
    assert (fault.kind, fault.text) == ("damaged", fault.text)
    assert fault.text.startswith("gzip's own check contradicts the content (crc check failed")


def test_a_gzipped_file_with_a_broken_middle_is_damaged(tmp_path: Path) -> None:
    path = gzipped(tmp_path / "a.fits.gz", plain_bytes(tmp_path))
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 40] = b"\xff" * 40
    path.write_bytes(content)
    assert kinds(path) == ["damaged"]


def test_a_sum_within_a_gzipped_file_is_looked_at(tmp_path: Path) -> None:
    content = bytearray(plain_bytes(tmp_path, checksum=True))
    content[-3000] ^= 1
    assert kinds(gzipped(tmp_path / "a.fits.gz", bytes(content))) == ["damaged"]


@pytest.mark.parametrize("behind", [b"\0" * 700, b"left over by a tape"])
def test_what_follows_behind_a_gzipped_file_is_no_harm(tmp_path: Path, behind: bytes) -> None:
    path = gzipped(tmp_path / "a.fits.gz", plain_bytes(tmp_path))
    whole = path.read_bytes()
    path.write_bytes(whole + behind)
    assert kinds(path) == []


def test_a_file_of_several_gzip_members_is_whole(tmp_path: Path) -> None:
    content = plain_bytes(tmp_path)
    path = tmp_path / "a.fits.gz"
    path.write_bytes(gzip.compress(content[:5000]) + gzip.compress(content[5000:]))
    assert kinds(path) == []


# --- tiles -------------------------------------------------------------------------------------------


def packed(path: Path, compression: str, *, sums: bool, **options: Any) -> Path:
    with fitsio.FITS(str(path), "rw", clobber=True) as file:
        file.write_image(pixels(), compress=compression, **options)
        if sums:
            file[-1].write_checksum()
    return path


@pytest.mark.parametrize("compression", ["RICE", "GZIP", "GZIP_2", "HCOMPRESS"])
def test_a_flipped_bit_among_tiles_with_a_sum_is_damage(tmp_path: Path, compression: str) -> None:
    path = packed(tmp_path / "a.fits.fz", compression, sums=True)
    assert kinds(path) == []
    image = open_raw(path).images[0]
    flip(path, image.end - 500)
    assert kinds(path) == ["damaged"]


@pytest.mark.parametrize("compression", ["GZIP", "GZIP_2"])
def test_tiles_without_a_sum_must_decompress(tmp_path: Path, compression: str) -> None:
    path = packed(tmp_path / "a.fits.fz", compression, sums=False)
    assert kinds(path) == []
    flip(path, open_raw(path).images[0].end - 5)  # the CRC of the last tile
    (fault,) = faults_of(open_raw(path))
    assert (fault.kind, "can't be decompressed" in fault.text or "can't be unpacked" in fault.text) == (
        "damaged",
        True,
    )


def test_a_broken_rice_tile_is_damage_with_the_files_name(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.fits.fz", "RICE", sums=False, tile_dims=(1, 67))
    image = open_raw(path).images[0]
    content = bytearray(path.read_bytes())
    content[image.end - 600 : image.end] = b"\xff" * 600
    path.write_bytes(content)
    assert [fault.kind for fault in tile_faults(open_raw(path))] == ["damaged"]
    with pytest.raises(DamagedFrameError, match=r"a\.fits\.fz is damaged: it can't be decompressed"):
        np.asarray(open_raw(path).pixels)


@pytest.mark.parametrize("byte", [4, 5])  # the highest of the place: a bit of it is a gigabyte, or the sign
def test_a_tile_that_lies_nowhere_is_damage_without_any_sum(tmp_path: Path, byte: int) -> None:
    path = packed(tmp_path / "a.fits.fz", "RICE", sums=False, tile_dims=(1, 67))
    table = open_raw(path).images[0].offset
    content = bytearray(path.read_bytes())
    content[table + 8 * 2 + byte] ^= 0x80
    path.write_bytes(content)
    (fault,) = faults_of(open_raw(path))
    assert (
        fault.kind == "damaged"
        and "tile 3 of" in fault.text
        and "lies outside of the image's data" in fault.text
    )
    with pytest.raises(DamagedFrameError, match="tile 3 of"):
        np.asarray(open_raw(path).pixels)


@pytest.mark.parametrize(("off", "wanted"), [(0, []), (1, ["damaged"])])
def test_the_sum_of_the_pixels_before_they_were_packed_is_looked_at(
    tmp_path: Path, off: int, wanted: list[str]
) -> None:
    written(tmp_path / "plain.fits")
    stated = int(fits.getheader(tmp_path / "plain.fits")["DATASUM"])
    path = packed(tmp_path / "a.fits.fz", "RICE", sums=False)
    with fits.open(path, mode="update", disable_image_compression=True) as hdus:
        hdus[1].header["ZDATASUM"] = str(stated + off)
    assert kinds(path) == wanted
    assert [fault.kind for fault in tile_faults(open_raw(path))] == wanted


def test_reals_that_were_quantized_have_no_sum_to_be_held_against(tmp_path: Path) -> None:
    path = tmp_path / "a.fits.fz"
    fitsio.write(str(path), pixels("float32"), compress="RICE", qlevel=4, clobber=True)
    with fits.open(path, mode="update", disable_image_compression=True) as hdus:
        hdus[1].header["ZDATASUM"] = "12345"
    assert kinds(path) == []
