"""Detectors whose amplifiers stand in extensions of their own, as LCO's Sinistro cameras write them."""

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from ccdflow.archive.fits.rawfile import open_raw
from ccdflow.cascade.headers.amplifiers import detector
from ccdflow.cascade.headers.instrument import find_instrument
from ccdflow.cascade.headers.keywords import cards_of
from ccdflow.config.instruments import load_instruments
from ccdflow.config.shipped import shipped
from ccdflow.recipes.core.dq import DQ
from ccdflow.recipes.detector.amplifiers import RawFrame
from ccdflow.recipes.detector.raw import prepare
from ccdflow.recipes.detector.readout import readouts

NY, NX, WIDE = 20, 30, 8
"""Light-sensitive rows and columns of one amplifier, and columns of its overscan."""
GAINS, LEVELS = (2.3, 2.4, 2.2, 2.5), (900, 1100, 1000, 950)
PLACES = (  # DETSEC, and how the image must be turned to be read so
    (f"[1:{NX},1:{NY}]", (slice(None), slice(None))),
    (f"[{2 * NX}:{NX + 1},1:{NY}]", (slice(None), slice(None, None, -1))),
    (f"[{2 * NX}:{NX + 1},{2 * NY}:{NY + 1}]", (slice(None, None, -1), slice(None, None, -1))),
    (f"[1:{NX},{2 * NY}:{NY + 1}]", (slice(None, None, -1), slice(None))),
)
QUARTERS = (np.s_[:NY, :NX], np.s_[:NY, NX:], np.s_[NY:, NX:], np.s_[NY:, :NX])
PRIMARY = {"INSTRUME": "fa15", "SITEID": "cpt", "TELESCOP": "1m0-10", "OBSTYPE": "EXPOSE", "EXPTIME": 30.0,
           "DATE-OBS": "2020-01-01T20:00:00", "FILTER": "rp", "CCDSUM": "1 1", "LONGITUD": 20.8}  # fmt: skip


@pytest.fixture
def truth() -> np.ndarray:
    """Signal on the whole detector in electron, such that it is whole adu in each amplifier."""
    adu = np.random.default_rng(1).integers(0, 5000, (2 * NY, 2 * NX)).astype(float)
    for gain, quarter in zip(GAINS, QUARTERS, strict=True):
        adu[quarter] *= gain
    return adu


def written(path: Path, truth: np.ndarray, *, shift: int = 0, **last) -> Path:
    """A raw file; `shift` rows below the data, and other cards of the last extension."""
    hdus = [fits.PrimaryHDU(header=fits.Header(PRIMARY))]
    for number, (gain, level, quarter, (place, turned)) in enumerate(
        zip(GAINS, LEVELS, QUARTERS, PLACES, strict=True), 1
    ):
        raw = np.full((NY + shift, NX + WIDE), level, np.uint16)
        raw[shift:, :NX] += np.round(truth[quarter][turned] / gain).astype(np.uint16)
        rows = f"{1 + shift}:{NY + shift}"
        cards = {"EXTVER": number, "DATASEC": f"[1:{NX},{rows}]", "BIASSEC": f"[{NX + 1}:{NX + WIDE},{rows}]",
                 "DETSEC": place, "GAIN": gain, "RDNOISE": 8.0 + number, "SATURATE": 60000.0}  # fmt: skip
        cards |= last if number == 4 else {}
        hdus.append(fits.ImageHDU(raw, fits.Header(cards), name="SCI"))
    fits.HDUList(hdus).writeto(path)
    return path


def assembled(path: Path):
    """The file in electron, and its detector."""
    raw = open_raw(path)
    instrument = find_instrument(cards_of(raw.header), load_instruments([shipped("instruments")]))
    assert instrument.name == "sinistro"
    built = detector(raw.header, instrument, raw.shape, raw.extensions)
    frame = RawFrame(raw.pixels, built, 30.0, path.name)
    return prepare(frame, readouts([frame], None)[0]), built


@pytest.mark.parametrize("shift", [0, 2])
def test_four_extensions_become_one_image(tmp_path, truth, shift):
    image, built = assembled(written(tmp_path / "a.fits", truth, shift=shift))
    np.testing.assert_allclose(image.data, truth, atol=2e-3)
    assert [amplifier.gain for amplifier in built.amplifiers] == list(GAINS)
    assert [amplifier.read_noise for amplifier in built.amplifiers] == [9.0, 10.0, 11.0, 12.0]
    for number, quarter in enumerate(QUARTERS, 9):
        np.testing.assert_allclose(image.variance[quarter], number**2 * (1 + 1 / (NY * WIDE)), rtol=1e-6)
    assert not image.dq.any()


def test_tile_compressed_and_gzipped_extensions_give_the_same(tmp_path, truth):
    plain = written(tmp_path / "a.fits", truth)
    with fits.open(plain) as file:
        tiled = [fits.CompImageHDU(hdu.data, hdu.header, name="SCI") for hdu in file[1:]]
        fits.HDUList([file[0], *tiled]).writeto(tmp_path / "a.fits.fz")
    subprocess.run(["gzip", "-k", plain], check=True)
    for name in ("a.fits.fz", "a.fits.gz"):
        np.testing.assert_array_equal(assembled(tmp_path / name)[0].data, assembled(plain)[0].data)


def test_a_row_that_no_amplifier_covers_holds_no_data(tmp_path, truth):
    path = tmp_path / "a.fits"
    written(path, truth, DATASEC=f"[1:{NX},1:{NY - 1}]", DETSEC=f"[1:{NX},{2 * NY}:{NY + 2}]")
    image, _ = assembled(path)
    gap = np.zeros(truth.shape, bool)
    gap[NY, :NX] = True
    np.testing.assert_array_equal((image.dq & DQ.NO_DATA) > 0, gap)


def test_rows_across_two_images_are_read_as_one_array(tmp_path, truth):
    raw = open_raw(written(tmp_path / "a.fits", truth))
    pixels = np.asarray(raw.pixels)
    assert pixels.shape == raw.shape == (4 * NY, NX + WIDE)
    for start in range(0, 4 * NY):
        for stop in range(start, 4 * NY + 1, 7):
            np.testing.assert_array_equal(raw.pixels[start:stop, 3:9], pixels[start:stop, 3:9])


@pytest.mark.parametrize(
    ("last", "said"),
    [
        ({"DETSEC": "UNKNOWN"}, "where SCI,4 lies on the detector is not told: no DETSEC"),
        ({"DETSEC": PLACES[0][0]}, "amplifiers '1' and '4' overlap"),
        ({"DATASEC": "[1:99,1:20]"}, "lies outside of the raw array of 38 columns and 20 rows"),
        ({"DETSEC": "[1:5,1:5]"}, "differs in size from its place on the detector, [1:5,1:5]"),
    ],
)
def test_contradictions_are_named(tmp_path, truth, last, said):
    with pytest.raises(ValueError, match=said.replace("[", r"\[")):
        assembled(written(tmp_path / "a.fits", truth, **last))


def test_images_of_different_width_are_refused(tmp_path, truth):
    raw = open_raw(written(tmp_path / "a.fits", truth))
    wider = replace(raw.extensions[3], shape=(NY, NX + WIDE + 1))
    sinistro = next(
        instrument
        for instrument in load_instruments([shipped("instruments")])
        if instrument.name == "sinistro"
    )
    with pytest.raises(ValueError, match="not of one width: SCI,1"):
        detector(raw.header, sinistro, raw.shape, (*raw.extensions[:3], wider))
