"""`ccdflow describe`: what is read from the headers of raw files, and by which instrument file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ccdflow.archive.fits.rawfile import open_raw
from ccdflow.cascade.headers.amplifiers import detector
from ccdflow.cascade.headers.classify import FileFacts, describe
from ccdflow.cascade.headers.instrument import Instrument, find_instrument
from ccdflow.cascade.headers.keywords import cards_of
from ccdflow.recipes.detector.amplifiers import Amplifier

NAMES = "frame_class telescope camera instrument filter object exptime obsdate night iobs nobs"


def described(path: Path, instruments: Sequence[Instrument]) -> dict[str, Any]:
    """What a raw file says, field by field.

    Raises
    ------
    UnreadableFrameError
        If it is no raw file.
    """
    raw = open_raw(path)
    by = find_instrument(cards_of(raw.header), instruments)
    found = describe(raw.header, raw.shape, instruments, FileFacts(raw.comments, raw.extensions))
    row: dict[str, Any] = {"file": str(path), "read by": by.name}
    row |= {name.removeprefix("frame_"): getattr(found, name) for name in NAMES.split()}
    row |= {name: value for name, value in found.keywords.items() if name != "profile"}
    if not found.refused:
        made = detector(raw.header, by, raw.shape, raw.extensions)
        row["detector"] = f"{made.shape[0]}x{made.shape[1]}"
        row["amplifiers"] = [_amplifier(one) for one in made.amplifiers]
    return row | {"doubts": list(found.reasons), "refused": found.refused}


def _amplifier(one: Amplifier) -> dict[str, Any]:
    sections = {"data": one.data, "place": one.target, "overscan": one.overscan}
    told = {name: _section(found) for name, found in sections.items() if found is not None}
    numbers = {"gain": one.gain, "read_noise": one.read_noise, "saturation": one.saturation}
    return {"name": one.name or "only one", **told, **{key: value for key, value in numbers.items() if value}}


def _section(one: Any) -> str:
    """A section as FITS writes it."""
    x = (one.x1, one.x0 + 1) if one.flip_x else (one.x0 + 1, one.x1)
    y = (one.y1, one.y0 + 1) if one.flip_y else (one.y0 + 1, one.y1)
    return f"[{x[0]}:{x[1]},{y[0]}:{y[1]}]"
