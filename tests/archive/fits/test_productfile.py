import gzip
import io
import warnings
from pathlib import Path

import fitsio
import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.utils.exceptions import AstropyUserWarning
from photutils.aperture import RectangularAperture, aperture_photometry

from ccdflow.archive.fits.productfile import (
    InputNote,
    Origin,
    ProductFileError,
    common_cards,
    read_image,
    read_product,
    write_product,
)
from ccdflow.archive.fits.rawfile import open_raw
from ccdflow.recipes.core.dq import DQ, EXCLUDED, excluded
from ccdflow.recipes.core.image import Image
from ccdflow.recipes.core.recipe import Output

SHAPE = 12, 9


def image(unit: str = "electron") -> Image:
    random = np.random.default_rng(5)
    data = random.normal(100, 10, SHAPE).astype(np.float32)
    dq = np.zeros(SHAPE, np.uint16)
    dq[1, 2], dq[3, 4], dq[5, 6] = DQ.BAD_PIXEL, DQ.NONLINEAR, DQ.REJECTED | DQ.SATURATED
    return Image(data, random.uniform(1, 9, SHAPE).astype(np.float32), dq, unit)


def output(unit: str = "electron") -> Output:
    return Output(
        image=image(unit),
        ngood=np.full(SHAPE, 40_000, np.uint16),
        calibration_variance=np.linspace(0, 1, 108, dtype=np.float32).reshape(SHAPE),
        cards={"CLIPFALL": (False, "clip fell back to MAD"), "LONGER_THAN_8": (3, "")},
        quality={"read_noise": 5.25, "fwhm": float("nan")},
    )


INPUTS = (
    InputNote("main", "m13-001.fits", "a" * 64),
    InputNote("main", "m13-002.fits", "b" * 64),
    InputNote("master_bias", "bias-1.fits", "c" * 64, kind="product", level=1),
)


def origin(**more: object) -> Origin:
    return Origin("0123456789abcdef" * 4, "science", "1", INPUTS, level=1, **more)


def written(path: Path, product: Output | None = None, by: Origin | None = None) -> Path:
    with path.open("wb") as stream:
        write_product(stream, product or output(), by or origin())
    return path


def content(product: Output, by: Origin) -> bytes:
    stream = io.BytesIO()
    write_product(stream, product, by)
    return stream.getvalue()


@pytest.mark.parametrize("unit", ["electron", "adu", "electron / s", ""])
def test_ccddata_reads_it_with_unit_mask_and_variance(tmp_path: Path, unit: str) -> None:
    truth = image(unit)
    ccd = CCDData.read(written(tmp_path / "a.fits", output(unit)))
    assert ccd.unit == u.Unit(unit)
    np.testing.assert_array_equal(ccd.data, truth.data)
    assert isinstance(ccd.uncertainty, StdDevUncertainty)
    np.testing.assert_array_equal(ccd.uncertainty.array, np.sqrt(truth.variance))
    assert ccd.mask.dtype == bool
    assert sorted(zip(*np.nonzero(ccd.mask), strict=True)) == [(1, 2), (5, 6)]


def test_ccddata_reads_the_shifted_wcs(tmp_path: Path) -> None:
    wcs = {
        "CTYPE1": "RA---TAN",
        "CTYPE2": "DEC--TAN",
        "CRVAL1": 250.0,
        "CRVAL2": 36.0,
        "CRPIX1": 50.0,
        "CRPIX2": 40.0,
    }
    wcs |= {"CDELT1": -1e-3, "CDELT2": 1e-3, "RADECSYS": "FK5", "EQUINOX": 2000.0}
    path = written(tmp_path / "a.fits", by=origin(header=wcs, trim=(46, 37)))
    ccd = CCDData.read(path)
    x, y = ccd.wcs.all_world2pix(250.0, 36.0, 1)
    assert (x, y) == (pytest.approx(4.0), pytest.approx(3.0))


def test_plain_astropy_finds_every_extension(tmp_path: Path) -> None:
    with fits.open(written(tmp_path / "a.fits")) as hdus:
        names = ["PRIMARY", "PROVENANCE", "MASK", "UNCERT", "CALVAR", "NGOOD", "USABLE"]
        assert [hdu.name for hdu in hdus] == names
        assert hdus[0].header["NEXTEND"] == len(names) - 1
        assert [hdus[name].data.dtype.name for name in ("PRIMARY", "MASK", "UNCERT")] == [
            "float32",
            "uint8",
            "float32",
        ]
        assert hdus["UNCERT"].header["UTYPE"] == "StdDevUncertainty"
        assert u.Unit(hdus["UNCERT"].header["BUNIT"]) == u.electron
        np.testing.assert_array_equal(hdus["MASK"].data != 0, excluded(image().dq))
        named = [hdus["MASK"].header[f"BIT{place:02d}"] for place in range(8)]
        assert hdus["MASK"].data.dtype == np.uint8
        assert named == [
            "BAD_PIXEL",
            "EDGE",
            "SATURATED",
            "COSMIC_RAY",
            "NO_DATA",
            "HOT",
            "LOW_FLAT",
            "REJECTED",
        ]
        assert hdus["NGOOD"].data["NGOOD"].min() == 40_000
        assert hdus["USABLE"].data.tolist() == [[3 * 9 + 4, 1, int(DQ.NONLINEAR)]]
        cards = hdus["CALVAR"].header
        share = 10.0 ** (cards["LOGZERO"] + cards["LOGSTEP"] * hdus["CALVAR"].data["CALVAR"][0])
        np.testing.assert_allclose(
            (share * image().variance).reshape(-1)[1:],
            output().calibration_variance.reshape(-1)[1:],
            rtol=0.012,
        )


@pytest.mark.parametrize("form", ["as it is", "gzipped"])
def test_products_of_earlier_versions_are_read_as_they_were(tmp_path: Path, form: str) -> None:
    truth, masters = image(), output().calibration_variance
    header = fits.Header({"BUNIT": "electron", "JOBKEY": "e" * 64, "CALIBID": "c", "EXPTIME": 30.0})
    planes = {
        "UNCERT": truth.variance,
        "MASK": excluded(truth.dq).astype(np.uint8),
        "DQ": truth.dq,
        "NGOOD": output().ngood,
        "CALVAR": masters,
    }
    hdus = [fits.ImageHDU(plane, name=name) for name, plane in planes.items()]
    hdus[0].header.update({"UTYPE": "VarianceUncertainty", "BUNIT": "electron2"})
    hdus[2].header.update({"BIT00": "BAD_PIXEL"})
    last = fits.BinTableHDU.from_columns([fits.Column("ROLE", "4A", array=["main"])], name="PROVENANCE")
    path = tmp_path / ("a.fits" if form == "as it is" else "a.fits.gz")
    fits.HDUList([fits.PrimaryHDU(truth.data, header), *hdus, last]).writeto(path)
    product = read_product(path)
    again = read_image(product)
    for name in ("data", "variance", "dq"):
        np.testing.assert_array_equal(getattr(again, name), getattr(truth, name))
    assert product.calibration_variance is not None and product.calibration == "c"
    np.testing.assert_array_equal(product.calibration_variance.rows(slice(2, 5)).data, masters[2:5])


def test_a_calibrated_frame_takes_11_bytes_a_pixel_at_most(tmp_path: Path) -> None:
    shape = 300, 400
    random = np.random.default_rng(3)
    variance = random.uniform(80, 9000, shape).astype(np.float32)
    dq = np.zeros(shape, np.uint16)
    # As many saturated stars and single interpolated pixels as a poor detector has.
    dq[random.uniform(size=shape) < 0.003] = DQ.INTERPOLATED
    dq[random.uniform(size=shape) < 0.01] = DQ.HOT
    calibrated = Image(variance, variance, dq, "electron")
    path = written(
        tmp_path / "a.fits", Output(calibrated, calibration_variance=np.full(shape, 3, np.float32))
    )
    headers = 9 * 2880
    assert (path.stat().st_size - headers) / dq.size < 10.1
    np.testing.assert_array_equal(read_image(read_product(path)).dq, dq)


@pytest.mark.parametrize("packed", [False, True])
def test_every_combination_of_bits_comes_back_from_one_byte(tmp_path: Path, packed: bool) -> None:
    bits = np.arange(1024, dtype=np.uint16).reshape(32, 32)
    data, variance = np.ones((32, 32), np.float32), np.ones((32, 32), np.float32)
    path = written(tmp_path / "a.fits", Output(Image(data, variance, bits, "adu")))
    assert fits.getdata(path, "MASK").dtype == np.uint8
    if packed:
        with path.open("rb") as plain, gzip.open(tmp_path / "a.fits.gz", "wb") as stream:
            stream.write(plain.read())
        path = tmp_path / "a.fits.gz"
    np.testing.assert_array_equal(read_image(read_product(path)).dq, bits)


def test_bits_of_a_later_version_stay(tmp_path: Path) -> None:
    frame = image()
    frame.dq[5, 6] = 1024 | DQ.REJECTED
    path = written(tmp_path / "a.fits", Output(frame))
    np.testing.assert_array_equal(read_image(read_product(path)).dq, frame.dq)


def test_masks_of_the_version_before_are_read(tmp_path: Path) -> None:
    path = written(tmp_path / "a.fits", Output(image()))
    with fits.open(path, mode="update") as hdus:
        hdus["MASK"].data = image().dq & EXCLUDED
        for number, bit in enumerate(DQ):
            hdus["MASK"].header[f"BIT{number:02d}"] = bit.name
    np.testing.assert_array_equal(read_image(read_product(path)).dq, image().dq)


def test_the_mask_is_one_byte_where_its_bits_fit(tmp_path: Path) -> None:
    frame = image()
    frame.dq[5, 6] = DQ.SATURATED | DQ.NONLINEAR
    with fits.open(written(tmp_path / "a.fits", Output(frame))) as hdus:
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "PROVENANCE", "MASK", "UNCERT", "USABLE"]
        assert hdus["MASK"].data.dtype == np.uint8
        assert hdus["MASK"].data[5, 6] == DQ.SATURATED
    np.testing.assert_array_equal(read_image(read_product(tmp_path / "a.fits")).dq, frame.dq)


@pytest.mark.parametrize("rows", [slice(0, 12), slice(0, 1), slice(2, 6), slice(11, 12), slice(4, 4)])
def test_runs_of_usable_bits_come_back_in_any_rows(tmp_path: Path, rows: slice) -> None:
    frame = image()
    # Over the ends of rows, side by side with others, and to the last pixel.
    frame.dq.reshape(-1)[[0, 7, 8, 9, 10, 30, 31, 32, 107]] |= np.uint16(DQ.NONLINEAR)
    frame.dq.reshape(-1)[[31, 32, 33, 60]] |= np.uint16(DQ.INTERPOLATED)
    product = read_product(written(tmp_path / "a.fits", Output(frame)))
    assert product.image is not None
    np.testing.assert_array_equal(product.image.rows(rows).dq, frame.dq[rows])


def test_means_of_ccddata_and_fluxes_of_photutils_have_the_errors_of_the_product(tmp_path: Path) -> None:
    ccd = CCDData.read(written(tmp_path / "a.fits"))
    good = ~ccd.mask
    assert ccd.mean().uncertainty.array == pytest.approx(np.sqrt(image().variance[good].sum()) / good.sum())
    assert ccd.mean().uncertainty.unit == u.electron
    table = aperture_photometry(ccd, RectangularAperture((4, 8), 3, 3))
    inside = slice(7, 10), slice(3, 6)
    assert table["aperture_sum"][0].value == pytest.approx(image().data[inside].sum())
    assert table["aperture_sum_err"][0].value == pytest.approx(np.sqrt(image().variance[inside].sum()))


def test_a_program_may_hand_on_the_header_of_a_product_and_not_its_extensions(tmp_path: Path) -> None:
    with fits.open(written(tmp_path / "a.fits")) as hdus:
        fits.PrimaryHDU(hdus[0].data - 1, hdus[0].header).writeto(tmp_path / "b.fits")
    read = read_product(tmp_path / "b.fits", by_others=True)
    np.testing.assert_array_equal(read_image(read).data, image().data - 1)
    # Of who knows whom the file is not taken: it may be a product of ours that was cut off.
    with pytest.raises(
        ProductFileError, match="is a part of a product of ccdflow: it has 0 of its 6 extensions"
    ):
        read_product(tmp_path / "b.fits")


def test_a_product_that_astropy_has_written_again_is_the_same(tmp_path: Path) -> None:
    path = written(tmp_path / "a.fits")
    with fits.open(path) as hdus:
        assert all(hdu.data is not None and hdu.data.size for hdu in hdus)
        assert hdus["CALVAR"].data["CALVAR"].max() == 255 and hdus["NGOOD"].data["NGOOD"].max() == 40_000
        hdus.writeto(tmp_path / "b.fits")
    first, again = read_product(path), read_product(tmp_path / "b.fits")
    np.testing.assert_array_equal(read_image(first).dq, read_image(again).dq)
    assert first.calibration_variance is not None and again.calibration_variance is not None
    masters = [product.calibration_variance.rows(slice(0, 12)).data for product in (first, again)]
    np.testing.assert_array_equal(*masters)


def test_checksums_agree_and_one_changed_byte_shows(tmp_path: Path) -> None:
    path = written(tmp_path / "a.fits")
    with fits.open(path, checksum=True) as hdus:
        assert all(hdu.verify_checksum() == 1 and hdu.verify_datasum() == 1 for hdu in hdus)
        hdus.verify("exception")
        place = hdus["MASK"].fileinfo()["datLoc"]
    damaged = bytearray(path.read_bytes())
    damaged[place + 5] ^= 1
    path.write_bytes(damaged)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with fits.open(path, checksum=True) as hdus:
            assert hdus["MASK"].name == "MASK"
    assert {str(warning.message) for warning in caught} == {
        "Checksum verification failed for HDU ('MASK', 1).\n",
        "Datasum verification failed for HDU ('MASK', 1).\n",
    }


def test_same_product_gives_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    first = content(output(), origin(header={"OBJECT": "M 13"}))
    monkeypatch.setattr("time.time", lambda: 0.0)
    assert content(output(), origin(header={"OBJECT": "M 13"})) == first
    assert content(output(), origin(header={"OBJECT": "M 14"})) != first
    today = np.datetime64("today").astype(str).encode()
    assert today not in first


def test_header_tells_what_made_it(tmp_path: Path) -> None:
    header = fits.getheader(written(tmp_path / "a.fits"))
    assert header["JOBKEY"] == "0123456789abcdef" * 4
    assert (header["RECIPE"], header["RECIPEV"], header["ASSOLVL"]) == ("science", "1", 1)
    assert (header["NCOMBINE"], header["NINPUTS"]) == (2, 3)
    assert (header["IR003"], header["IN003"], header["IH003"]) == ("master_bias", "bias-1.fits", "c" * 16)
    assert header["CLIPFALL"] is False
    assert header["LONGER_THAN_8"] == 3
    assert header["QC READ_NOISE"] == 5.25
    assert header["QC FWHM"] is None


def test_programs_that_look_for_a_card_by_its_beginning_find_it(tmp_path: Path) -> None:
    cards = {"GAINSRC": ("header", ""), "GAIN01": (9.0, "")}
    made = Output(image(), cards={"GAIN": (1.5, ""), "SATUR01": (1.0, ""), "SATURATE": (5e4, "")})
    with (tmp_path / "a.fits").open("wb") as stream:
        write_product(stream, made, Origin("e" * 64, "science", "1", cards=cards))
    names = list(fits.getheader(tmp_path / "a.fits"))
    for sought in ("GAIN", "SATURATE"):
        assert next(name for name in names if name.startswith(sought)) == sought


def test_provenance_table_agrees_with_the_cards(tmp_path: Path) -> None:
    with fits.open(written(tmp_path / "a.fits")) as hdus:
        rows, header = hdus["PROVENANCE"].data, hdus[0].header
        assert list(rows["IDENTITY"]) == [note.identity for note in INPUTS]
        for number, row in enumerate(rows, 1):
            assert header[f"IR{number:03d}"] == row["ROLE"]
            assert header[f"IN{number:03d}"] == row["NAME"]
            assert row["IDENTITY"].startswith(header[f"IH{number:03d}"])
        assert list(rows["LEVEL"]) == [0, 0, 1]
        assert list(rows["ASSOCIATED"]) == [False, False, True]


def test_cards_that_no_longer_hold_are_left_out(tmp_path: Path) -> None:
    gone = {
        "GAIN": 1.3,
        "EGAIN": 1.3,
        "GTGAIN11": 2.0,
        "BIASSEC": "[1:5,1:9]",
        "TRIMSEC": "[6:9,1:9]",
        "DSEC12": "[1:2,1:2]",
    }
    gone |= {
        "BZERO": 32768,
        "BSCALE": 1,
        "NAXIS": 2,
        "NAXIS1": 4096,
        "CHECKSUM": "x",
        "SATURATE": 60000,
        "BITPIX": 16,
    }
    stay = {"OBJECT": "M 13", "EXPTIME": 60.0, "AIRMASS": 1.1, "FILTER": "sdss_r"}
    header = fits.getheader(written(tmp_path / "a.fits", by=origin(header=gone | stay)))
    assert {name: header[name] for name in stay} == stay
    assert header["NAXIS1"] == SHAPE[1]
    assert header["BITPIX"] == -32
    assert not {
        "GAIN",
        "EGAIN",
        "GTGAIN11",
        "BIASSEC",
        "TRIMSEC",
        "DSEC12",
        "BZERO",
        "BSCALE",
        "SATURATE",
    } & set(header)


def test_cards_of_the_job_that_made_an_input_are_replaced(tmp_path: Path) -> None:
    before = read_product(written(tmp_path / "a.fits")).header
    by = Origin("f" * 64, "stack", "2", INPUTS[:1], header=before)
    header = fits.getheader(written(tmp_path / "b.fits", by=by))
    assert (header["JOBKEY"], header["RECIPE"], header["NINPUTS"]) == ("f" * 64, "stack", 1)
    assert "IR002" not in header


def test_sloppy_headers_do_not_break_the_file(tmp_path: Path) -> None:
    sloppy = {
        "OBSERVER": "Jürgen Müller 星",
        "TEMP": float("nan"),
        "AIRMASS": float("inf"),
        "lower": "x",
        "A KEY WITH BLANKS AND LENGTH": "v" * 200,
        "BAD=KEY": 1,
        "KEY\n": "two\nlines",
        "QUOTE": "O'Brien's " * 20,
        "HIERARCH ESO DET": "it's " * 40,
        "NOTHING": None,
        "NUMPY": np.float32(1.5),
        "BIG": 10**25,
        "": "blank",
        "Ä": 3,
        "X" * 70: "far too long",
    }
    comments = {"OBSERVER": "who — observed " * 20, "NUMPY": "ö" * 90, "lower": "\t"}
    path = written(tmp_path / "a.fits", by=origin(header=sloppy, comments=comments))
    with fits.open(path, checksum=True) as hdus:
        hdus.verify("exception")
        header = hdus[0].header
        assert header["OBSERVER"] == "Jurgen Muller ?"
        assert header["LOWER"] == "x"
        assert header["NUMPY"] == 1.5
        assert header["QUOTE"] == ("O'Brien's " * 20).rstrip()
        assert header["TEMP"] is None
        assert header["A KEY WITH BLANKS AND LENGTH"].startswith("vvvvv")
    assert CCDData.read(path).unit == u.electron


def test_common_cards_are_those_that_agree() -> None:
    headers = [
        {"FILTER": "r", "EXPTIME": 60.0, "DATE-OBS": "1"},
        {"FILTER": "r", "EXPTIME": 60.0, "DATE-OBS": "2"},
    ]
    assert common_cards(headers) == {"FILTER": "r", "EXPTIME": 60.0}
    assert common_cards([]) == {}


def test_product_is_read_back_strip_by_strip(tmp_path: Path) -> None:
    by = origin(header={"EXPTIME": 90.0})
    product = read_product(written(tmp_path / "a.fits", by=by))
    assert product.image is not None
    assert product.calibration_variance is not None
    truth = image()
    strip = product.image.rows(slice(4, 7))
    assert (product.image.shape, product.image.unit, strip.shape) == (SHAPE, "electron", (3, 9))
    np.testing.assert_array_equal(strip.data, truth.data[4:7])
    np.testing.assert_allclose(strip.variance, truth.variance[4:7], rtol=2e-7)
    np.testing.assert_array_equal(strip.dq, truth.dq[4:7])
    assert (strip.data.dtype, strip.variance.dtype, strip.dq.dtype) == (np.float32, np.float32, np.uint16)
    assert strip.data.dtype.isnative
    masters = product.calibration_variance.rows(slice(4, 7)).data
    np.testing.assert_allclose(masters, output().calibration_variance[4:7], rtol=0.012)
    np.testing.assert_array_equal(read_image(product).data, truth.data)
    assert (product.exptime, product.name, product.header["JOBKEY"]) == (90.0, "a.fits", by.key)


def packed(path: Path, kept: Path, dq: str) -> Path:
    """A product compressed as `fpack` does it: images one by one, with their cards, tables as they are."""
    with fitsio.FITS(str(path), "rw", clobber=True) as packed_file, fits.open(kept) as hdus:
        for hdu in hdus:
            cards = [
                {"name": card.keyword, "value": card.value, "comment": card.comment}
                for card in hdu.header.cards
                if not isinstance(card.value, fits.card.Undefined)
            ]
            if isinstance(hdu, fits.BinTableHDU):
                continue
            name = {} if hdu.name == "PRIMARY" else {"extname": hdu.name}
            kind = "GZIP_2" if hdu.data.dtype.kind == "f" else dq
            pixels = hdu.data.astype(hdu.data.dtype.newbyteorder("="))
            packed_file.write_image(pixels, header=cards, compress=kind, qlevel=0, **name)
    # Byte by byte, as fpack does: astropy would turn scaled columns into numbers and those into others.
    with fits.open(kept) as hdus, path.open("ab") as end:
        places = [hdu.fileinfo() for hdu in hdus if isinstance(hdu, fits.BinTableHDU)]
        for place in places:
            end.write(kept.read_bytes()[place["hdrLoc"] : place["datLoc"] + place["datSpan"]])
    return path


@pytest.mark.parametrize("kind", ["PLIO", "RICE", "GZIP"])
def test_a_compressed_product_is_the_same_product(tmp_path: Path, kind: str) -> None:
    kept = written(tmp_path / "a.fits", by=origin(header={"EXPTIME": 90.0, "CATEGORY": "science"}))
    path = packed(tmp_path / "a.fits.fz", kept, kind)
    product, raw = read_product(path), open_raw(path)
    assert (raw.header["JOBKEY"], raw.shape, len(raw.extensions)) == (origin().key, SHAPE, 1)
    assert (product.exptime, product.header["JOBKEY"]) == (90.0, origin().key)
    assert product.calibration == read_product(kept).calibration != ""
    before = read_product(kept)
    again, truth = read_image(product), read_image(before)
    for name in ("data", "variance", "dq"):
        np.testing.assert_array_equal(getattr(again, name), getattr(truth, name))
    np.testing.assert_array_equal(again.dq, image().dq)
    assert again.unit == "electron"
    assert product.calibration_variance is not None and before.calibration_variance is not None
    masters, wanted = (each.calibration_variance.rows(slice(0, 12)).data for each in (product, before))
    np.testing.assert_array_equal(masters, wanted)


def test_a_gzipped_product_is_the_same_product_whatever_its_name(tmp_path: Path) -> None:
    kept = written(tmp_path / "a.fits")
    (tmp_path / "b.fits").write_bytes(gzip.compress(kept.read_bytes()))
    np.testing.assert_array_equal(read_image(read_product(tmp_path / "b.fits")).data, image().data)


def test_products_calibrated_alike_have_one_calibration_identity(tmp_path: Path) -> None:
    other = Origin("e" * 64, "science", "1", (InputNote("main", "x", "d" * 64), INPUTS[2]))
    without = Origin("e" * 64, "science", "1", INPUTS[:2])
    identities = [
        read_product(written(tmp_path / f"{number}.fits", by=by)).calibration
        for number, by in enumerate([origin(), other, without])
    ]
    assert identities[0] == identities[1] != ""
    assert identities[2] == ""


def test_tables_are_written_and_read_back(tmp_path: Path) -> None:
    table = {
        "amplifier": np.array(["11", "12"]),
        "gain": np.array([1.25, 1.5]),
        "count": np.array([3, 4], np.int32),
        "ok": np.array([True, False]),
    }
    product = read_product(written(tmp_path / "a.fits", Output(None, table=table)))
    assert product.image is None
    assert product.table is not None
    for name, values in table.items():
        np.testing.assert_array_equal(product.table[name], values)
        assert product.table[name].dtype.isnative
    with pytest.raises(ValueError, match="holds a table, wanted an image"):
        read_image(product)


def test_product_without_inputs_can_be_written_and_read(tmp_path: Path) -> None:
    product = read_product(written(tmp_path / "a.fits", by=Origin("a" * 64, "bias", "1")))
    assert product.header["NINPUTS"] == 0


def test_masters_of_other_programs_are_read(tmp_path: Path) -> None:
    truth = image()
    plain = CCDData(truth.data, unit="adu", mask=truth.dq == DQ.BAD_PIXEL)
    plain.write(tmp_path / "a.fits")
    master = read_image(read_product(tmp_path / "a.fits"))
    assert (master.unit, master.variance.max(), master.dq[1, 2], master.dq[0, 0]) == (
        "adu",
        0.0,
        DQ.BAD_PIXEL,
        0,
    )
    deviation = fits.ImageHDU(np.full(SHAPE, 3, np.float32), name="UNCERT")
    deviation.header["UTYPE"] = "StdDevUncertainty"
    fits.HDUList([fits.PrimaryHDU(truth.data), deviation]).writeto(tmp_path / "b.fits")
    assert read_image(read_product(tmp_path / "b.fits")).variance.max() == 9.0


@pytest.mark.parametrize(("name", "kind"), [("IVAR", ""), ("UNCERT", "InverseVariance")])
def test_inverse_variances_are_turned_and_0_of_them_is_no_data(tmp_path: Path, name: str, kind: str) -> None:
    truth = image()
    inverse = 1 / truth.variance
    inverse[2, 3] = 0
    plane = fits.ImageHDU(inverse, name=name)
    if kind:
        plane.header["UTYPE"] = kind
    fits.HDUList([fits.PrimaryHDU(truth.data), plane]).writeto(tmp_path / "a.fits")
    master = read_image(read_product(tmp_path / "a.fits"))
    assert master.dq[2, 3] == DQ.NO_DATA and (master.dq != 0).sum() == 1
    np.testing.assert_allclose(master.variance[master.dq == 0], truth.variance[master.dq == 0], rtol=1e-6)


def test_files_that_are_no_products_are_named(tmp_path: Path) -> None:
    (tmp_path / "text.fits").write_text("no FITS at all" * 500)
    fits.PrimaryHDU().writeto(tmp_path / "empty.fits")
    fits.PrimaryHDU(np.zeros((2, 3, 4))).writeto(tmp_path / "cube.fits")
    intact = written(tmp_path / "whole.fits").read_bytes()
    (tmp_path / "cut.fits").write_bytes(intact[: len(intact) // 3])
    for name in ("text", "empty", "cube", "cut", "absent"):
        with warnings.catch_warnings(), pytest.raises(ProductFileError, match=f"{name}.fits"):
            warnings.simplefilter("ignore", AstropyUserWarning)
            read_image(read_product(tmp_path / f"{name}.fits"))


@pytest.mark.parametrize("kind", ["StdDevUncertainty", "VarianceUncertainty", "InverseVariance"])
@pytest.mark.parametrize("algorithm", ["RICE_1", "GZIP_1", "GZIP_2"])
def test_a_ccddata_that_was_fpacked_whole_keeps_its_noise_and_mask(
    tmp_path: Path, kind: str, algorithm: str
) -> None:
    # As fpack leaves it: an empty primary, and a table for each plane, the mask's too. Lossless, as by -q 0.
    data = np.random.default_rng(2).normal(300, 9, (20, 30)).astype(np.float32)
    lossless = {"compression_type": algorithm, "quantize_level": 0.0}
    if algorithm == "RICE_1":
        data = np.rint(data).astype(np.int16)
    stated = {"StdDevUncertainty": 2, "VarianceUncertainty": 4, "InverseVariance": 0.25}[kind]
    mask = np.zeros(data.shape, np.uint8)
    mask[3, 4] = 1
    uncertainty = fits.CompImageHDU(
        np.full(data.shape, stated, np.float32),
        fits.Header({"UTYPE": kind}),
        name="UNCERT",
        compression_type="GZIP_1",
        quantize_level=0.0,
    )
    planes = [
        fits.CompImageHDU(data, fits.Header({"BUNIT": "adu", "EXPTIME": 3.0}), **lossless),
        uncertainty,
        fits.CompImageHDU(mask, name="MASK", compression_type=algorithm),
    ]
    fits.HDUList([fits.PrimaryHDU(), *planes]).writeto(tmp_path / "master.fits.fz")
    product = read_product(tmp_path / "master.fits.fz")
    read = read_image(product)
    np.testing.assert_array_equal(read.data, data)
    np.testing.assert_array_equal(read.variance, np.full(data.shape, 4, np.float32))
    np.testing.assert_array_equal(read.dq != 0, mask != 0)
    assert (read.unit, product.exptime) == ("adu", 3.0)


@pytest.mark.parametrize("form", ["as it is", "gzipped"])
@pytest.mark.parametrize(
    ("name", "odd"), [("ERR", np.nan), ("VAR", -4.0), ("VAR", np.inf), ("UNCERT", -1.0), ("IVAR", 0.0)]
)
def test_an_error_of_others_that_is_none_is_no_data(tmp_path: Path, form: str, name: str, odd: float) -> None:
    plane = np.full((5, 6), 4.0, np.float32)
    plane[2, 3] = odd
    path = tmp_path / ("a.fits" if form == "as it is" else "a.fits.gz")
    hdus = [fits.PrimaryHDU(np.ones((5, 6), np.float32)), fits.ImageHDU(plane, name=name)]
    fits.HDUList(hdus).writeto(path)
    again = read_image(read_product(path))
    assert again.dq[2, 3] == DQ.NO_DATA and np.count_nonzero(again.dq) == 1
    assert np.isfinite(again.variance).all() and again.variance.min() >= 0


def test_bits_of_others_are_bad_pixels_whatever_they_mean(tmp_path: Path) -> None:
    flags = np.zeros((5, 6), np.int32)
    flags[1, :4] = 65536, 2, 1, 128
    hdus = [fits.PrimaryHDU(np.ones((5, 6), np.float32)), fits.ImageHDU(flags, name="DQ")]
    fits.HDUList(hdus).writeto(tmp_path / "a.fits")
    again = read_image(read_product(tmp_path / "a.fits"))
    assert again.dq[1].tolist() == [1, 1, 1, 1, 0, 0] and not again.dq[0].any()
