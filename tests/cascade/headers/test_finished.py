"""Signs of frames that are no raw frames any more, as programs write them; and raw frames that bear look-alikes."""

from typing import Any

import pytest

from ccdflow.cascade.headers.classify import FileFacts, describe
from ccdflow.cascade.headers.finished import PROCESSED, Pixels, finished
from ccdflow.cascade.headers.instrument import Instrument, inherit
from ccdflow.cascade.headers.keywords import cards_of
from ccdflow.config.instruments import load_instruments
from ccdflow.config.shipped import shipped

INSTRUMENTS = load_instruments([shipped("instruments")])
RAW = {"IMAGETYP": "Light Frame", "DATE-OBS": "2026-03-01T21:00:00", "EXPTIME": 60.0}


def done(**cards: Any) -> str | None:
    """What cards say was done, in alphabetical order; None where they say that the frame is raw."""
    told = finished(cards_of({name.replace("__", "-"): value for name, value in cards.items()}))
    return None if told is None else " ".join(sorted(told.done))


@pytest.mark.parametrize(
    ("cards", "steps"),
    [
        ({"CALSTAT": "BDF"}, "bias dark flat"),  # MaxIm DL, iTelescope
        ({"CALSTAT": "BD"}, "bias dark"),
        ({"CALSTAT": "DF "}, "dark flat"),
        ({"CALSTAT": "B,D,F"}, "bias dark flat"),
        ({"ZEROCOR": "Mar 1 21:10 Zero level correction image is Zero"}, "bias"),  # IRAF
        ({"FLATCOR": "Oct  7 14:02 Flat field image is FlatV with scale=1."}, "flat"),
        ({"OVERSCAN": "Oct  7 14:02 Overscan section is [1025:1056,1:1024] with mean=612.1"}, "overscan"),
        ({"TRIM": "Oct  7 14:02 Trim data section is [1:1024,1:1024]"}, "trim"),
        ({"CCDPROC": "Oct  7 14:02 CCD processing done"}, ""),
        ({"CCDMEAN": 1.00034}, ""),
        ({"SUBBIAS": "ccd=<CCDData>, master=<CCDData>"}, "bias"),  # ccdproc in Python
        ({"FLATCOR": "ccd=<CCDData>, flat=<CCDData>"}, "flat"),
        ({"RLEVEL": 91}, "bias dark flat overscan trim"),  # BANZAI
        ({"L1STATBI": 1, "L1STATFL": 0}, "bias"),
        ({"ESO PRO CATG": "SCIENCE_REDUCED"}, "bias dark flat overscan trim"),
        ({"PROCTYPE": "InstCal", "PRODTYPE": "image"}, "bias dark flat overscan trim"),  # DECam
        ({"BIASCORR": "COMPLETE", "FLATCORR": "COMPLETE"}, "bias flat"),  # HST
        ({"BIASCORR": "2019-05-03T04:11:09", "ADUTOELE": "2019-05-03T04:11:12"}, "bias gain"),  # DRAGONS
        ({"BUNIT": "electron"}, "gain"),
        ({"BUNIT": "electrons/s"}, "gain"),
        ({"BUNIT": "e-"}, "gain"),
        ({"BUNIT": "nanomaggy"}, "bias dark flat overscan trim"),  # SDSS
        ({"BUNIT": "adu/s"}, "bias dark flat overscan trim"),
        ({"NCOMBINE": 7}, "combined"),
        ({"STACKCNT": 12}, "combined"),  # Siril, Seestar
        ({"SNAPSHOT": 3}, "combined"),
        ({"LIVETIME": 600.0, "EXPTIME": 60.0}, "combined"),
        ({"IMAGETYP": "Master Bias"}, "combined"),
        ({"IMAGETYP": "masterDark"}, "combined"),
        ({"COMBINED": True}, "combined"),
        ({"CALSTAT": "DFS", "LIGH_CNT": 20, "DARK_CNT": 30, "FLAT_CNT": 20}, "combined dark flat"),  # ASTAP
        ({"CALSTAT": "S"}, "combined"),
        ({"FLAT_CNT": 20, "BIAS_CNT": 15, "IMAGETYP": "Light"}, "flat"),
        ({"DARK_CNT": 30, "IMAGETYP": "Light"}, "dark"),
        ({"DARK_CNT": 30, "IMAGETYP": "DARK"}, "combined"),
        ({"FLAT_CNT": 20, "BIAS_CNT": 15, "IMAGETYP": "FLAT"}, "bias combined"),
        ({"EXPTIME": 280, "SUBEXP": 8}, "combined"),  # SharpCap's live stack
        ({"EXPTIME": 30.0, "TOTALEXP": 3180}, "combined"),  # Seestar
        ({"INTEGRAT": "Integration"}, "combined"),  # Astro Pixel Processor
        ({"CALFRAME": "MasterFlat", "NUMFRAME": 30}, "combined"),
        ({"IMCMB001": "a.fits", "IMCMB002": "b.fits"}, "combined"),  # IRAF imcombine
        ({"FIXPIX": "Oct  8 21:19 Fix mscdb$noao/bpm + sat + bleed"}, ""),
        ({"BIASIM": "N2020_bias.fits", "FLATIM": "N2020_flat.fits"}, "bias flat"),
        ({"GPREPARE": "2013-01-01T10:00:00"}, ""),
        ({"GIREDUCE": "2013-01-01T10:00:10"}, "bias dark flat overscan trim"),
        ({"IMRED_FF": "04Am02.flat.i.36.02.fits[ccd06]"}, "flat"),  # CFHT
        ({"SOFTNAME": "SWarp", "COMBINET": "MEDIAN"}, "combined"),
        ({"BUNIT": "photons"}, "gain"),
        ({"BUNIT": "electron/pixel"}, "gain"),
        ({"BUNIT": "e-/pixel/s"}, "gain"),
        ({"BUNIT": "W/m^2/um/sr"}, "bias dark flat overscan trim"),
        ({"BUNIT": "normalized"}, "bias dark flat overscan trim"),
        ({"IMAGETYP": "Calibrated Light"}, "bias dark flat overscan trim"),
        ({"OBSTYPE": "REDUCED"}, "bias dark flat overscan trim"),
        ({"IMAGETYP": "Median Dark"}, "combined"),
    ],
)
def test_a_card_says_what_was_done(cards: dict[str, Any], steps: str) -> None:
    assert done(**cards) == steps


@pytest.mark.parametrize(
    "cards",
    [
        {"BUNIT": "ADU"},
        {"BUNIT": "counts"},
        {"BUNIT": "DN"},
        {"RLEVEL": 0},
        {"NCOMBINE": 1},
        {"STACKCNT": 1, "SNAPSHOT": 1},
        {"COADDS": 10, "NFRAMES": 50},  # sums of the camera itself are raw
        {"CALSTAT": ""},
        {"CALSTAT": "NONE"},
        {"CALSTAT": "raw"},
        {"CALSTAT": False},
        {"CCDPROC": "CCDproc acquisition 2.1"},  # a program's name
        {"OVERSCAN": 32},
        {"OVERSCAN": "[1025:1056,1:1024]"},
        {"OVERSCAN": True, "TRIM": False},
        {"FLATCOR": "F", "ZEROCOR": "no", "DARKCOR": 0},
        {"FLATCORR": "OMIT", "BIASCORR": "PERFORM"},
        {"PROCTYPE": "RAW"},
        {"PRODCATG": "SCIENCE.RAW"},
        {"L1STATBI": "N/A", "L1STATFL": "0"},
        {"LIVETIME": 59.9, "EXPTIME": 60.0},
        {"EXPTIME": 60.0, "SUBEXP": 60.0, "TOTALEXP": 60.0},
        {"BUNIT": "ADU/pixel"},
        {"BUNIT": "counts/pixel"},
        {"BIASFILE": "jref$x_bia.fits"},
        {"IMAGETYP": "uncalibrated light"},
        {"PEDESTAL": -100},
        {"SNAPSHOT": 1, "LIGH_CNT": 1, "DARK_CNT": 0},
        {"CALSTAT": "0"},
        {"INTEGRAT": "60.0"},  # the exposure time
        {"FIXPIX": True},
    ],
)
def test_cards_of_raw_frames_are_no_sign(cards: dict[str, Any]) -> None:
    assert done(**cards) is None


@pytest.mark.parametrize(
    ("line", "steps"),
    [
        ("Bias Subtraction (Bias 13, 2184 x 1472, Bin1 x 1, Temp -20C)", "bias"),
        ("Dark corrected with mdark_300.fits", "dark"),
        ("Flat corrected with mflat_R.fits", "flat"),
        ("Median stacking of 20 images", "combined"),
        ("ImageIntegration.pixelCombination: Average", "combined"),
        ("Dark current at -20 C is 0.02 e/s", None),
        ("Flat lamp was on", None),
        ("dark subtraction: none", None),
        ("Flat Field (Flat SII 1, SII, 4864 x 3232, Bin1 x 1, Temp -35C,", "flat"),
        ("dark current subtracted", "dark"),
        ("Overscan subtracted using [1025:1056,1:1024]", "overscan"),
        ("ImageCalibration.enableMasterDark: true", "bias dark flat overscan trim"),
        ("Registration with StarAlignment process", ""),
        ("Cosmetic correction with CosmeticCorrection process", ""),
        ("Crop (x=10, y=10, w=100, h=100)", ""),
        ("Background extraction (Correction: Subtraction)", ""),
        ("File was processed by PinPoint 5.1.8 at 2018-07-04T14:08:45", None),
        ("Rotation (45.00 deg, cropped=TRUE)", ""),
        ("Rotation of the field: 12.3", None),
        ("Rotation (deg): 12.3", None),
        ("Dark slide removed", None),
        ("dark frames to be subtracted later", None),
        ("Bias will be subtracted", None),
        ("Needs flat fielding", None),
        ("Bias voltage corrected to 2.5 V", None),
        ("Filter focus offset corrected", None),
        ("pointing offset corrected, telescope offset removed", None),
        ("zero point of the clock corrected", None),
        ("timing offset corrected; bias subtracted", "bias"),
    ],
)
def test_history_says_it_too(line: str, steps: str | None) -> None:
    told = finished({}, [line])
    assert (None if told is None else " ".join(sorted(told.done))) == steps


def test_reals_from_0_to_1_were_scaled_by_a_program() -> None:
    by_siril = finished({"PROGRAM": "Siril 1.2.0"}, pixels=Pixels(real=True, low=0.001, high=0.9))
    assert by_siril is not None and by_siril.done == {"scaled"}
    assert finished({}, pixels=Pixels(real=True, low=0.01, high=1.0)) is not None
    normalised = finished({}, pixels=Pixels(real=True, low=0.4, high=1.3))
    assert normalised is not None and not normalised.done
    assert (
        finished({}, pixels=Pixels(real=True, low=300.0, high=40000.0)) is None
    )  # a camera that writes reals
    assert finished({"PROGRAM": "Siril 1.2.0"}, pixels=Pixels(low=300, high=40000)) is None  # raw, converted


@pytest.mark.parametrize("unit", ["adu", "electron", "adu/s", "electron / s", "ph / (s pix)"])
def test_small_reals_of_a_stated_unit_were_not_scaled(unit: str) -> None:
    told = finished({"BUNIT": unit, "NCOMBINE": 10}, pixels=Pixels(real=True, low=0.1, high=0.4))
    assert told is not None and "scaled" not in told.done
    assert told.seconds == (1.0 if "s" in unit.partition("/")[2] else None)


def test_a_program_that_scales_leaves_the_unit_of_before() -> None:
    told = finished({"PROGRAM": "Siril 1.2.0", "BUNIT": "adu"}, pixels=Pixels(real=True, low=0.1, high=0.4))
    assert told is not None and "scaled" in told.done


def test_the_sentence_names_what_was_done_and_the_cards() -> None:
    told = finished(cards_of({"CALSTAT": "BDF", "BUNIT": "electron"}))
    assert told is not None
    assert told.sentence == f"{PROCESSED}bias, dark, flat, gain (CALSTAT='BDF', BUNIT='electron')"


def test_an_instrument_says_which_cards_mean_something_else_and_where_frames_enter() -> None:
    generic = next(instrument for instrument in INSTRUMENTS if instrument.name == "generic")
    own = Instrument.model_validate({"name": "mine", "processed": {"ignore": ["bunit"], "enter": "science"}})
    mine = inherit(own, generic)
    frame = describe({**RAW, "BUNIT": "electron"}, (8, 8), [mine])
    assert frame.finished is None
    frame = describe({**RAW, "BUNIT": "electron", "CALSTAT": "B"}, (8, 8), [mine], FileFacts())
    assert frame.finished is not None and frame.finished.done == {"bias"} and frame.enter == "science"


@pytest.mark.parametrize("card", ["NCOADD", "COADDS", "NCOADDS", "ESO DET NDIT"])
def test_sums_of_the_camera_are_raw(card: str) -> None:
    generic = next(known for known in INSTRUMENTS if known.name == "generic")
    assert describe({**RAW, card: 5}, (8, 8), [generic]).finished is None
    # Of an instrument that calls its own sums otherwise it is a sign, and tells how many there are.
    mine = generic.model_copy(
        update={"keywords": generic.keywords.model_copy(update={"coadds": ("MYSUMS",)})}
    )
    told = describe({**RAW, "NCOADD": 5}, (8, 8), [mine]).finished
    assert told is not None and told.frames == 5 and told.done == {"combined"}
