"""Headers of raw frames; amplifiers as the Arcon controllers of CTIO and NOAO write them (IRAF quadproc)."""

from datetime import datetime
from math import cos, radians, sin
from typing import Any

from astropy.io import fits

from ccdflow.recipes.detector.amplifiers import Section
from ccdflow.simulate.camera import ADC_LIMIT, PIXEL_SCALE, AmplifierTruth, CameraTruth
from ccdflow.simulate.frames import FrameTruth, generator
from ccdflow.simulate.schedule import Exposure, Programme, Target

SET_TEMPERATURE = -20.0
"""Degrees Celsius."""

# What observatories write is not what the pipeline calls it: classification has something to do.
_IMAGETYP = {"bias": "zero", "dark": "dark", "flat": "sky flat", "science": "object"}

Cards = list[tuple[str, Any, str]]


def raw_header(
    programme: Programme, seed: int, exposure: Exposure, camera: CameraTruth, truth: FrameTruth
) -> fits.Header:
    """Return the header of one raw frame.

    Parameters
    ----------
    programme : Programme
        Night, for the site.
    seed : int
        Seed of the night, which decides the temperature.
    exposure : Exposure
        What was taken.
    camera : CameraTruth
        The camera that took it.
    truth : FrameTruth
        For the pointing, which a real header knows from its astrometry.

    Returns
    -------
    astropy.io.fits.Header
        All cards but those that say how the pixels are stored.
    """
    header = fits.Header()
    header.extend(_observation(exposure))
    header.extend(_site(programme, exposure))
    header.extend(_detector(seed, exposure, camera))
    for amplifier in camera.amplifiers:
        header.extend(_amplifier(amplifier))
    if exposure.target is not None:
        header.extend(_pointing(programme, exposure, exposure.target))
        header.extend(_wcs(exposure.target, camera, truth))
    header["SWCREATE"] = ("ccdflow simulate", "software that wrote this file")
    header["SIMSEED"] = (seed, "seed of the simulation")
    return header


def _observation(exposure: Exposure) -> Cards:
    cards: Cards = [
        ("IMAGETYP", _IMAGETYP[exposure.imagetype], "kind of frame"),
        ("OBJECT", exposure.object, "what is observed"),
        ("EXPTIME", exposure.exptime, "[s] exposure time"),
        ("DATE-OBS", exposure.obsdate, "start of the exposure, UTC"),
        ("MJD-OBS", round(_modified_julian_date(exposure.start), 8), "start of the exposure, UTC"),
        ("TIMESYS", "UTC", "time scale of the dates"),
        ("IOBS", exposure.iobs, "number of the exposure in its sequence"),
        ("NOBS", exposure.nobs, "exposures in the sequence"),
    ]
    # Frames with the shutter closed have no such card, as at many observatories.
    return cards + ([("FILTER", exposure.filter, "filter")] if exposure.filter else [])


def _site(programme: Programme, exposure: Exposure) -> Cards:
    return [
        ("TELESCOP", exposure.camera.telescope, "mount"),
        ("INSTRUME", exposure.camera.instrument, "instrument"),
        ("CAMERA", exposure.camera.name, "camera"),
        ("OBSERVER", "simulator", "observer"),
        *((keyword, value, "site") for keyword, value in programme.site.items()),
    ]


def _detector(seed: int, exposure: Exposure, camera: CameraTruth) -> Cards:
    ny, nx = camera.shape
    # A regulated sensor is never quite as cold as it was told to be.
    drift = float(generator(seed, "temperature", exposure.stem).normal(0.0, 0.05))
    return [
        ("DETSIZE", f"[1:{nx},1:{ny}]", "light-sensitive pixels"),
        ("CCDSUM", "1 1", "binning"),
        ("XBINNING", 1, "binning along x"),
        ("YBINNING", 1, "binning along y"),
        ("READMODE", "normal", "readout mode"),
        ("CCD-TEMP", round(SET_TEMPERATURE + drift, 2), "[C] detector temperature"),
        ("SET-TEMP", SET_TEMPERATURE, "[C] temperature asked for"),
        ("SATURATE", ADC_LIMIT, "[adu] saturation"),
        ("NAMPSYX", "1 2", "amplifiers along y and x"),
        ("AMPLIST", " ".join(amplifier.name for amplifier in camera.amplifiers), "amplifiers"),
    ]


def _amplifier(amplifier: AmplifierTruth) -> Cards:
    """Return sections, gain and read noise; every light-sensitive pixel is kept, so that TSEC is DSEC."""
    data, overscan = amplifier.data, amplifier.overscan
    all_pixels = Section(data.y0, data.y1, min(data.x0, overscan.x0), max(data.x1, overscan.x1))
    name = amplifier.name
    return [
        (f"ASEC{name}", fits_section(all_pixels), "all pixels of the amplifier"),
        (f"BSEC{name}", fits_section(overscan), "overscan"),
        (f"CSEC{name}", fits_section(amplifier.target), "place on the detector"),
        (f"DSEC{name}", fits_section(data), "light-sensitive pixels"),
        (f"TSEC{name}", fits_section(data), "pixels to keep"),
        (f"GTGAIN{name}", amplifier.gain, "[electron/adu] gain"),
        (f"GTRON{name}", amplifier.read_noise, "[electron] read noise"),
    ]


def fits_section(section: Section) -> str:
    """Return a section as FITS writes it: x first, counted from 1, both ends included.

    Parameters
    ----------
    section : Section
        Rows and columns from 0, ends excluded.

    Returns
    -------
    str
        Such as ``[1:256,1:512]``.

    Examples
    --------
    >>> fits_section(Section(0, 512, 0, 256))
    '[1:256,1:512]'
    """
    return f"[{section.x0 + 1}:{section.x1},{section.y0 + 1}:{section.y1}]"


def _pointing(programme: Programme, exposure: Exposure, target: Target) -> Cards:
    return [
        ("RA", target.ra, "[deg] right ascension of the target"),
        ("DEC", target.dec, "[deg] declination of the target"),
        ("AIRMASS", round(_airmass(programme, exposure, target), 3), "airmass at the start"),
    ]


def _wcs(target: Target, camera: CameraTruth, truth: FrameTruth) -> Cards:
    """Return a WCS, north up, east left, of the assembled image: in the raw array overscan parts its halves."""
    (ny, nx), (dy, dx) = camera.shape, truth.sky.shift
    scale = PIXEL_SCALE / 3600
    return [
        ("RADESYS", "ICRS", "coordinate system"),
        ("CTYPE1", "RA---TAN", "projection"),
        ("CTYPE2", "DEC--TAN", "projection"),
        ("CUNIT1", "deg", "unit"),
        ("CUNIT2", "deg", "unit"),
        ("CRVAL1", target.ra, "[deg] right ascension of the reference pixel"),
        ("CRVAL2", target.dec, "[deg] declination of the reference pixel"),
        # FITS counts pixels from 1 at the centre of the first one, so that the middle of nx pixels is (nx + 1) / 2.
        ("CRPIX1", round((nx + 1) / 2 + dx, 4), "reference pixel of the assembled image"),
        ("CRPIX2", round((ny + 1) / 2 + dy, 4), "reference pixel of the assembled image"),
        # East is left: right ascension grows to the left.
        ("CD1_1", -scale, "[deg/pixel]"),
        ("CD1_2", 0.0, "[deg/pixel]"),
        ("CD2_1", 0.0, "[deg/pixel]"),
        ("CD2_2", scale, "[deg/pixel]"),
    ]


def _modified_julian_date(moment: datetime) -> float:
    return (moment - datetime(1858, 11, 17)).total_seconds() / 86400


def _airmass(programme: Programme, exposure: Exposure, target: Target) -> float:
    """Return the secant of the zenith distance; sidereal time as in the Astronomical Almanac, good to a second."""
    # MJD 51544.5 is J2000.0. UTC stands for UT1, less than a second from it.
    days = _modified_julian_date(exposure.start) - 51544.5
    sidereal = 280.46061837 + 360.98564736629 * days + float(programme.site["SITELONG"])
    hour_angle = radians(sidereal - target.ra)
    latitude, declination = radians(float(programme.site["SITELAT"])), radians(target.dec)
    cosine = sin(latitude) * sin(declination) + cos(latitude) * cos(declination) * cos(hour_angle)
    return 1 / cosine
