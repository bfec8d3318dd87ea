"""What a product alone tells of where it came from, read from its headers and tables."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ccdflow.archive.fits.hduheaders import hdu_headers
from ccdflow.archive.fits.productfile import ProductFileError
from ccdflow.archive.fits.productheader import InputNote, ProcessNote
from ccdflow.archive.fits.writer import read_columns
from ccdflow.archive.foreignfile import UnreadableFrameError, open_plain, unread


@dataclass(frozen=True)
class ToldOrigin:
    """What a product tells of itself: cards of its primary header, its inputs, and how it was made.

    `process` is empty where it was made by a version that did not write it.
    """

    header: Mapping[str, Any]
    inputs: tuple[InputNote, ...]
    process: tuple[ProcessNote, ...] = ()


def read_origin(path: Path) -> ToldOrigin:
    """Read what a product tells of where it came from; its pixels are not read.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    ToldOrigin
        Cards, inputs, and how it was made.

    Raises
    ------
    ProductFileError
        If it is no product of ccdflow as it was written, or can't be read.
    """
    try:
        with open_plain(path) as stream:
            headers = list(hdu_headers(path, stream, ahead=3, every=True))
            named = {hdu.name: hdu for hdu in headers[1:] if hdu.name in ("PROVENANCE", "PROCESS")}
            if "JOBKEY" not in headers[0].values or "PROVENANCE" not in named:
                raise ProductFileError(f"{path} is no product of ccdflow: it has no JOBKEY and PROVENANCE")
            tables = {name: read_columns(hdu, stream) for name, hdu in named.items()}
    except (OSError, UnreadableFrameError, KeyError, ValueError) as error:
        told = unread(path, error) if isinstance(error, OSError) else error
        raise ProductFileError(str(told) if str(path) in str(told) else f"{path}: {told}") from None
    return ToldOrigin(headers[0].values, _inputs(tables["PROVENANCE"]), _process(tables.get("PROCESS")))


def _inputs(table: Mapping[str, NDArray[Any]]) -> tuple[InputNote, ...]:
    names = ("ROLE", "NAME", "IDENTITY", "KIND", "LEVEL", "ASSOCIATED")
    rows = zip(*(table[name].tolist() for name in names), strict=True)
    return tuple(
        InputNote(role, name, identity, kind, level if associated else None)
        for role, name, identity, kind, level, associated in rows
    )


def _process(table: Mapping[str, NDArray[Any]] | None) -> tuple[ProcessNote, ...]:
    if table is None:
        return ()
    rows = zip(*(table[name].tolist() for name in ("WHAT", "NAME", "VALUE", "ORIGIN")), strict=True)
    return tuple(ProcessNote(*row) for row in rows)
