"""A process that reads raw files of cameras by LibRaw, one after the other, with limits of memory and time.

``python -m ccdflow.archive.otherforms.cameradecoder`` is started by `ccdflow.archive.otherforms.cameraraw`, and ends
with it. What LibRaw unpacks nobody has checked: a library that writes where it must not ends its own process alone.
"""

import logging
import math
import os
import pickle
import resource
import sys
import time
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ccdflow.archive.fits.tileprocess import LENGTH

ROOM = 1 << 30
"""Bytes of memory that a file may take besides what its size and its pixels do."""
MOST_PIXELS = 1 << 28
"""Pixels of a sensor; those of medium format have 150 million."""
BYTES_PER_PIXEL = 12
"""What LibRaw and the copies that are sent take."""
_CPU_BEHIND_S = 60
_EXIF = {
    "Image Make": "make",
    "Image Model": "model",
    "EXIF ExposureTime": "exposure",
    "EXIF DateTimeOriginal": "date",
    "Image DateTime": "changed",
    "EXIF SubSecTimeOriginal": "fraction",
    "EXIF OffsetTimeOriginal": "zone",
    "EXIF OffsetTime": "zone_of_change",
    "EXIF BodySerialNumber": "serial",
    "EXIF LensModel": "lens",
    "MakerNote CameraTemperature": "temperature",
    "Image Software": "software",
    "Image Artist": "artist",
}
"""What is taken of EXIF, as the package exifread names it."""
_LONGEST = 68
"""Characters of a text, as of a FITS card."""


def _limit(path: str, seconds: float) -> None:
    """Let this process have no more memory and time than the file can need."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:  # no Linux
        return
    size = Path(path).stat().st_size
    wanted = pages * resource.getpagesize() + ROOM + 2 * size + BYTES_PER_PIXEL * MOST_PIXELS
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (wanted if hard < 0 else min(wanted, hard), hard))
    used = resource.getrusage(resource.RUSAGE_SELF)
    end = int(used.ru_utime + used.ru_stime + seconds) + _CPU_BEHIND_S
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    # Whoever waits for it may have died.
    resource.setrlimit(resource.RLIMIT_CPU, (end if hard < 0 else min(end, hard), hard))


def _facts(path: str, raw: Any) -> tuple[str, Any]:
    """Return what LibRaw and EXIF tell of a file, without unpacking its pixels."""
    sizes = raw.sizes
    ny, nx = int(sizes.height), int(sizes.width)
    if min(ny, nx) < 1 or sizes.raw_height * sizes.raw_width > MOST_PIXELS:
        return "refused", f"has {ny} rows of {nx} pixels, wanted {MOST_PIXELS} pixels at most"
    if str(raw.raw_type).rpartition(".")[2] != "Flat":
        return "refused", "holds colours that were mixed already (a linear DNG), wanted the sensor's numbers"
    told: dict[str, Any] = {"shape": (ny, nx), "exif": _exif(path)}
    with open(path, "rb") as stream:
        is_tiff = stream.read(4) in (b"II*\x00", b"MM\x00*")
    # LibRaw takes any TIFF of 16 bits for the picture of a camera that it does not know.
    if is_tiff and not told["exif"].get("make"):
        return "refused", "is a TIFF that names no camera, wanted a camera's raw file"
    told["margins"] = int(sizes.left_margin), int(sizes.top_margin)
    told["pattern"] = _pattern(raw)
    told["white"] = [int(level) for level in (raw.camera_white_level_per_channel or [])] + [
        int(raw.white_level)
    ]
    told["black"] = [int(level) for level in raw.black_level_per_channel]
    other = raw.other
    for name in ("iso_speed", "shutter_speed", "aperture", "focal_length"):
        value = float(getattr(other, name))
        told[name] = value if math.isfinite(value) and value > 0 else None
    return "facts", told


def _pattern(raw: Any) -> str:
    """Return the letters of the mosaic's first rows; nothing for a sensor without one."""
    letters = raw.color_desc.decode("ascii", "replace")
    pattern = raw.raw_pattern
    if pattern is None or raw.num_colors == 1:
        return ""
    # LibRaw counts from the sensor's first pixel, and so does rawpy's `raw_pattern`: what is visible begins later.
    rows, columns = pattern.shape
    top, left = int(raw.sizes.top_margin), int(raw.sizes.left_margin)
    places = ((top + y, left + x) for y in range(rows) for x in range(columns))
    return "".join(letters[raw.raw_color(*place)] for place in places)


def _exif(path: str) -> Mapping[str, str]:
    """Return tags as text; what EXIF says in a way that can't be read, it does not say."""
    exifread = import_module("exifread")
    logging.getLogger("exifread").setLevel(logging.CRITICAL)
    try:
        with open(path, "rb") as stream:
            tags = exifread.process_file(stream, details=True, extract_thumbnail=False)
    except MemoryError:
        raise
    except Exception:  # pixels and numbers of LibRaw are there all the same
        return {}
    found = {name: tags[tag].printable for tag, name in _EXIF.items() if tag in tags}
    return {name: " ".join(str(text).split())[:_LONGEST] for name, text in found.items()}


def answered(question: tuple[str, str, float]) -> tuple[tuple[Any, ...], bytes]:
    """Return what is answered to a question, and the bytes of the pixels behind it.

    Parameters
    ----------
    question : tuple
        Path, ``facts`` or ``pixels``, and seconds of computing.

    Returns
    -------
    tuple, bytes
        ``("facts", dict)``, ``("rows", dtype, shape, "")`` with bytes; ``("system", errno, text)``,
        ``("damaged", text)`` or ``("refused", text)``.
    """
    path, wanted, seconds = question
    rawpy = import_module("rawpy")
    try:
        _limit(path, seconds)
        with open(path, "rb") as stream:
            stream.read(1)  # what the system says of it, LibRaw would call an error of the file
        with rawpy.RawPy() as raw:
            raw.open_file(path)
            if wanted == "facts":
                return _facts(path, raw), b""
            raw.unpack()
            pixels = np.ascontiguousarray(raw.raw_image_visible)
            return ("rows", pixels.dtype.str, pixels.shape, ""), pixels.tobytes()
    except MemoryError:
        return ("damaged", "it takes far more memory to unpack than its pixels have"), b""
    except OSError as error:
        return ("system", error.errno or 5, error.strerror or str(error)), b""
    except Exception as error:  # LibRaw's own, of which the file is the reason
        text = error.args[0] if error.args else type(error).__name__
        told = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
        if type(error).__name__ == "LibRawIOError":
            return ("damaged", "it ends before it should"), b""
        if type(error).__name__ == "LibRawFileUnsupportedError":
            return ("refused", "is no raw file of a camera that LibRaw knows (a TIFF is none)"), b""
        return ("damaged", f"LibRaw can't read it ({told})"), b""


def main() -> None:
    """Answer questions until there are no more."""
    # LibRaw takes the camera's clock for one of this machine's zone.
    os.environ["TZ"] = "UTC"
    time.tzset()
    import_module("rawpy")  # before anybody counts the seconds
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    sink.write(LENGTH.pack(0))
    sink.flush()
    while length := source.read(LENGTH.size):
        told, content = answered(pickle.loads(source.read(LENGTH.unpack(length)[0])))
        answer = pickle.dumps(told)
        sink.write(LENGTH.pack(len(answer)) + answer)
        if told[0] == "rows":
            sink.write(LENGTH.pack(len(content)) + content)
        sink.flush()


if __name__ == "__main__":
    main()
