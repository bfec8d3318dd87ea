"""Open raw files of cameras for photographers (CR2, NEF, ARW, DNG, ...) as raw files, by LibRaw in another process."""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from importlib.util import find_spec
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from ccdflow.archive.fits.rawfile import RawFile
from ccdflow.archive.fits.tileprocess import asked_apart
from ccdflow.archive.fits.unpackedpixels import UnpackedPixels, Write
from ccdflow.archive.foreignfile import DamagedFrameError, UnreadableFrameError, check_plain, unread
from ccdflow.archive.patience import in_time
from ccdflow.cascade.records import Doubt, Extension, Value

_DECODER = "ccdflow.archive.otherforms.cameradecoder"
_PACKAGES = ("rawpy", "exifread")
_PIECE = 1 << 24
_FULL = 1 << 16
"""Above all numbers that such cameras write."""

Card = tuple[str, Value, str]


def open_camera_raw(path: Path) -> RawFile:
    """Return a raw file of a camera, whose pixels are unpacked when they are asked for.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    RawFile
        adu, as the sensor's visible part gave them, without subtracting a black level; the picture's uppermost row
        first, whichever way the camera was held. Of EXIF there are the cards that FITS has for the same.

    Raises
    ------
    UnreadableFrameError
        If it is no such file, or the packages that read it are not installed.
    """
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise UnreadableFrameError(
            f"{path} is a raw file of a camera, which needs {' and '.join(missing)}: pip install 'ccdflow[dslr]'"
        )
    try:
        check_plain(path)
        _, facts = in_time(path, lambda: asked_apart(_DECODER, path, ("facts",)))
    except DamagedFrameError as error:
        # Of what can't even be opened nobody knows that it was a raw file once.
        raise UnreadableFrameError(f"{path} is no raw file that can be read: {error.reason}") from None
    except OSError as error:
        raise unread(path, error) from None
    shape = facts["shape"]
    cards = list(_cards(path, facts))
    header = {keyword: value for keyword, value, _ in cards}
    comments = {keyword: comment for keyword, _, comment in cards}
    return RawFile(
        path=path,
        header=header,
        comments=comments,
        extensions=(Extension(0, "raw", shape, dict(header), 0),),
        pixels=UnpackedPixels(path, np.dtype("<u2"), shape, partial(_unpack, path, shape)),
        bitpix=16,
        doubts=tuple(_doubts(facts["exif"])),
    )


def _unpack(path: Path, shape: tuple[int, int], write: Write) -> None:
    """Write the pixels of a file."""
    check_plain(path)
    _, kind, found, _, content = asked_apart(_DECODER, path, ("pixels",))
    if found != shape or np.dtype(kind) != np.dtype("<u2"):
        told = f"{found} pixels of type {kind}, its header says {shape} of 16 bits"
        raise DamagedFrameError(path, f"it unpacks to {told}")
    for start in range(0, len(content), _PIECE):
        write(start, content[start : start + _PIECE])


def _cards(path: Path, facts: Mapping[str, Any]) -> Iterator[Card]:
    exif: Mapping[str, str] = facts["exif"]
    yield "CAMRAW", True, "raw file of a camera, read by LibRaw"
    # Such files tell nowhere whether they are a light or a dark: rules of an instrument file may go by these.
    yield "FOLDER", path.parent.name, "folder of the file"
    yield "FILENAME", path.name, "name of the file"
    yield from _camera(exif)
    exposure = _ratio(exif.get("exposure", "")) or facts["shutter_speed"]
    if exposure is not None:
        yield "EXPTIME", exposure, "[s] EXIF ExposureTime, as the camera rounds it"
    moment, zone = _moment(exif)
    if moment is not None:
        yield "DATE-OBS", moment.isoformat(), "UTC" if zone else "camera's clock, taken as UTC"
    if facts["iso_speed"] is not None:
        yield "ISOSPEED", int(facts["iso_speed"]), "ISO, a setting of the gain"
    temperature = re.match(r"-?\d+", exif.get("temperature", ""))
    if temperature is not None:
        yield "CCD-TEMP", float(temperature[0]), "[deg C] EXIF CameraTemperature, of the body"
    yield from _numbers(facts)
    if facts["pattern"]:
        yield "BAYERPAT", facts["pattern"], "colours of the first rows"
    yield "ROWORDER", "TOP-DOWN", "uppermost row first"


def _camera(exif: Mapping[str, str]) -> Iterator[Card]:
    make, model = exif.get("make", ""), exif.get("model", "")
    name = model if make and model.upper().startswith(make.split()[0].upper()) else f"{make} {model}".strip()
    if name:
        yield "INSTRUME", name, "EXIF Make and Model"
    if exif.get("serial"):
        yield "CAMERAID", exif["serial"], "EXIF BodySerialNumber"
    if exif.get("lens"):
        yield "LENS", exif["lens"], "EXIF LensModel"
    if exif.get("artist"):
        yield "OBSERVER", exif["artist"], "EXIF Artist"


def _numbers(facts: Mapping[str, Any]) -> Iterator[Card]:
    """Yield levels of the converter, and what is known of the optics."""
    white = [level for level in facts["white"] if 0 < level < _FULL]
    if white:
        yield "SATURATE", min(white), "[adu] LibRaw's white level"
    black = facts["black"]
    if black and max(black) < _FULL:
        levels = ", ".join(map(str, black))
        yield "BLACKLVL", round(sum(black) / len(black)), f"[adu] LibRaw's black levels: {levels}"
    if facts["focal_length"] is not None:
        yield "FOCALLEN", facts["focal_length"], "[mm] EXIF FocalLength"
    if facts["aperture"] is not None:
        yield "FNUMBER", facts["aperture"], "EXIF FNumber"


def _ratio(text: str) -> float | None:
    """Return a number that EXIF writes as 1/30."""
    above, _, below = text.partition("/")
    try:
        value = float(above) / float(below or 1)
    except (ValueError, ZeroDivisionError, OverflowError):
        return None
    return value if isfinite(value) and value > 0 else None


def _moment(exif: Mapping[str, str]) -> tuple[datetime | None, bool]:
    """Return when the exposure began, and whether that is UTC."""
    name, zone_name = ("date", "zone") if exif.get("date") else ("changed", "zone_of_change")
    try:
        moment = datetime.strptime(exif.get(name, ""), "%Y:%m:%d %H:%M:%S")
    except ValueError:
        return None, False
    fraction = exif.get("fraction", "")
    if name == "date" and fraction.isdigit():
        moment = moment.replace(microsecond=int(fraction[:6].ljust(6, "0")))
    try:
        zone = datetime.strptime(exif.get(zone_name, ""), "%z").tzinfo
    except ValueError:
        return moment, False
    try:
        return moment.replace(tzinfo=zone).astimezone(UTC).replace(tzinfo=None), True
    except OverflowError:
        return None, False


def _doubts(exif: Mapping[str, str]) -> Iterator[Doubt]:
    moment, zone = _moment(exif)
    if moment is not None and not zone:
        yield Doubt("date", "EXIF tells no time zone: the camera's clock is taken as UTC")


__all__ = ["open_camera_raw"]
