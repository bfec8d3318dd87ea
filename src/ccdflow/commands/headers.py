"""`ccdflow describe`: what is read from the headers of raw files, and by which instrument file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ccdflow.archive.fits.filefacts import file_facts
from ccdflow.archive.fits.rawfile import open_raw
from ccdflow.archive.foreignfile import own_fault, unread
from ccdflow.cascade.headers.amplifiers import detector
from ccdflow.cascade.headers.classify import describe
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
    try:
        with own_fault(path):
            return _described(path, instruments)
    except OSError as error:
        raise unread(path, error) from None


def _described(path: Path, instruments: Sequence[Instrument]) -> dict[str, Any]:
    raw = open_raw(path)
    instrument = find_instrument(cards_of(raw.header), instruments)
    description = describe(raw.header, raw.shape, instruments, file_facts(raw))
    row: dict[str, Any] = {"file": str(path), "read by": instrument.name}
    row |= {name.removeprefix("frame_"): getattr(description, name) for name in NAMES.split()}
    row |= {name: value for name, value in description.keywords.items() if name != "profile"}
    if "mosaic" in row:
        row["mosaic"] = f"{row['mosaic']}, a colour camera's (BAYERPAT and its kin)"
    if not description.refused:
        layout = detector(raw.header, instrument, raw.shape, raw.extensions)
        row["detector"] = f"{layout.shape[0]}x{layout.shape[1]}"
        row["amplifiers"] = [_amplifier(amplifier) for amplifier in layout.amplifiers]
    if description.finished is not None:
        row["processed"] = description.finished.sentence
    return row | {"doubts": [str(doubt) for doubt in description.doubts], "refused": description.refused}


def _amplifier(amplifier: Amplifier) -> dict[str, Any]:
    """Return what is known of an amplifier, without what is not."""
    sections = {"data": amplifier.data, "place": amplifier.target, "overscan": amplifier.overscan}
    texts = {name: str(section) for name, section in sections.items() if section is not None}
    numbers = {"gain": amplifier.gain, "read_noise": amplifier.read_noise, "saturation": amplifier.saturation}
    return {
        "name": amplifier.name or "only one",
        **texts,
        **{key: value for key, value in numbers.items() if value},
        "saturation_from": amplifier.saturation_from,
    }
