"""What form a raw file has, by its first bytes; imports nothing.

A name tells as little of a file as it does of FITS: what a folder's files are called decides only which are looked at.
"""

from typing import Literal

from ccdflow.archive.foreignfile import UnreadableFrameError

Form = Literal["xisf", "camera"]
"""XISF; or a raw file of a camera for photographers, which LibRaw reads."""

XISF_SUFFIXES = (".xisf",)
# fmt: off
CAMERA_SUFFIXES = (
    ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".sr2", ".dng", ".raf", ".orf", ".rw2", ".pef",
)
# fmt: on
"""Endings of the names of files that are looked at in a folder, in lower case."""

MAGIC_BYTES = 16
"""Bytes at the beginning of a file that tell its form."""
_XISF = b"XISF0100"
_CAMERAS = (
    b"II*\x00",  # TIFF: CR2, NEF, ARW, DNG, PEF
    b"MM\x00*",
    b"FUJIFILMCCD-RAW",
    b"IIRO",  # ORF
    b"IIRS",
    b"MMOR",
    b"IIU\x00",  # RW2
    b"II\x1a\x00\x00\x00HEAPCCDR",  # CRW
)
_CR3 = b"ftypcrx "


class OtherFormError(UnreadableFrameError):
    """A file of another form where FITS is wanted; `form` is which."""

    def __init__(self, path: object, form: Form) -> None:
        name = "XISF" if form == "xisf" else "a raw file of a camera"
        super().__init__(f"{path} is {name}, wanted FITS")
        self.form = form


def form_of(head: bytes) -> Form | None:
    """Return the form of a file.

    Parameters
    ----------
    head : bytes
        Its first `MAGIC_BYTES`.

    Returns
    -------
    {'xisf', 'camera'} or None
        None for FITS, gzip and all else. TIFF counts as a camera's: LibRaw tells whether it is one.
    """
    if head.startswith(_XISF):
        return "xisf"
    if head.startswith(_CAMERAS) or head[4:12] == _CR3:
        return "camera"
    return None
