"""Write products as FITS, the only place that does, and read them again strip by strip.

A product of ours is recognised by its headers: its planes are never compressed, scaled or blank, so that the general
reader's care would only cost time. What others have made, or have compressed since, is opened as raw frames are. Both
ways end in the same `InputProduct`, whose pixels are read when a recipe asks for their rows.
"""

import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ccdflow.archive.fits.hduheaders import HduHeader, hdu_headers
from ccdflow.archive.fits.maskbits import ANY_BIT
from ccdflow.archive.fits.productheader import InputNote, Origin, common_cards, header_cards
from ccdflow.archive.fits.productplanes import (
    LOG_STEP,
    LOG_ZERO,
    StoredPixels,
    StoredPlanes,
    StoredShare,
    UsableRuns,
    plane_hdus,
)
from ccdflow.archive.fits.rawfile import (
    FileContents,
    file_contents,
    frame_images,
    image_pixels,
    merged_header,
    open_raw,
)
from ccdflow.archive.fits.rawpixels import ImageLayout, PlainPixels
from ccdflow.archive.fits.writer import (
    Hdu,
    Plane,
    Sink,
    primary_hdu,
    read_columns,
    table_hdu,
    write_hdus,
)
from ccdflow.archive.foreignfile import UnreadableFrameError, check_plain, is_not_read, open_plain, unread
from ccdflow.archive.otherforms.forms import OtherFormError
from ccdflow.archive.patience import in_time
from ccdflow.recipes.core.cardnumbers import card_number
from ccdflow.recipes.core.image import Image, ImageSource
from ccdflow.recipes.core.recipe import InputProduct, Output

__all__ = [
    "InputNote",
    "Origin",
    "ProductFileError",
    "common_cards",
    "read_image",
    "read_product",
    "write_product",
]

_UNCERTAINTIES = {"VarianceUncertainty": 1, "StdDevUncertainty": 2, "InverseVariance": -1}
"""Power that makes a variance of the uncertainty, by ``UTYPE``."""
_UNCERTAINTY_OF: Mapping[str, int | None] = {
    "UNCERT": None,
    "VAR": 1,
    "VARIANCE": 1,
    "ERR": 2,
    "ERROR": 2,
    "IVAR": -1,
}
"""The same by the extension's name: astropy's, whose ``UTYPE`` says it, DRAGONS', BANZAI's and DESI's."""
_MASKS = ("MASK", "BPM")
"""Names of extensions that are not 0 where a pixel is bad."""


class ProductFileError(Exception):
    """A file that is no product, or a damaged one; the message is one sentence that names it.

    `errno` is the system's number where it can't give the file's bytes now, which says nothing of the file.
    """

    def __init__(self, message: str, errno: int | None = None) -> None:
        super().__init__(message)
        self.errno = errno


def write_product(stream: Sink, output: Output, origin: Origin) -> None:
    """Write a product as FITS; the same product gives the same bytes.

    Primary HDU: data, float32 with ``BUNIT``, and ``NEXTEND``, the number of extensions. Those are ``PROVENANCE``,
    one row for each input, ``PROCESS``, one for each parameter, package and correction, then the planes (see
    `plane_hdus`) ``MASK``, ``UNCERT`` and where the output has them
    ``CALVAR``, ``NGOOD`` and ``USABLE``; last ``TABLE``. `astropy.nddata.CCDData.read` opens it as it is.

    Planes are neither copied nor turned whole: they pass in chunks, see `ccdflow.archive.fits.writer.Sink`.

    Parameters
    ----------
    stream : Sink
        Where to; an open file, or what a `Store` gives to its writer.
    output : Output
        Image with variance and DQ, or table, as the recipe has given it back; not changed.
    origin : Origin
        What made it.

    Notes
    -----
    `ccdflow.archive.fits.productplanes` says why it is this order and these types. Earlier versions wrote ``UNCERT``
    (variance), ``MASK``, ``DQ``, ``NGOOD``, ``CALVAR`` and last ``PROVENANCE``; `read_product` takes both.
    """
    extensions = [_provenance(origin), *_process(origin), *plane_hdus(output), *_tables(output)]
    write_hdus(stream, [_primary(output, origin, len(extensions)), *extensions])


def _primary(output: Output, origin: Origin, extensions: int) -> Hdu:
    cards = header_cards(origin, output.cards, output.quality, output.dropped)
    cards["NEXTEND"] = extensions, "number of extensions"
    if output.image is None:
        return primary_hdu(None, cards)
    unit = {"BUNIT": (output.image.unit, "unit of the data")}
    return primary_hdu(Plane(np.ascontiguousarray(output.image.data, np.float32)), unit | cards)


def _tables(output: Output) -> list[Hdu]:
    return [] if output.table is None else [table_hdu("TABLE", output.table)]


def _provenance(origin: Origin) -> Hdu:
    inputs = origin.inputs
    columns = {
        "ROLE": _text([note.role for note in inputs]),
        "NAME": _text([note.name for note in inputs]),
        "KIND": _text([note.kind for note in inputs]),
        "IDENTITY": _text([note.identity for note in inputs]),
        "LEVEL": np.array([0 if note.level is None else note.level for note in inputs], np.int16),
        "ASSOCIATED": np.array([note.level is not None for note in inputs], np.bool_),
    }
    return table_hdu("PROVENANCE", columns)


def _process(origin: Origin) -> list[Hdu]:
    if not origin.process:
        return []
    names = ("what", "name", "value", "origin")
    columns = {name.upper(): _text([getattr(note, name) for note in origin.process]) for name in names}
    return [table_hdu("PROCESS", columns)]


# Fixed width by bytes, not by characters: an input's name may hold letters outside of ASCII.
def _text(values: list[str]) -> NDArray[np.bytes_]:
    written = [value.encode("utf-8") for value in values]
    return np.array(written, dtype=f"S{max([1, *map(len, written)])}")


def read_product(path: Path, *, by_others: bool = False) -> InputProduct:
    """Return a product from its file; its pixels are read when a recipe asks for their rows.

    Any FITS file with an image will do, such as another program's master, gzipped or tile-compressed (``.fz``)
    too: without ``UNCERT`` (or ``VAR``, ``ERR``) its variance is 0, a standard deviation there is squared, and
    without ``DQ`` what its ``MASK`` (or ``BPM``) marks are bad pixels. A file that is but a mask is that image.

    Parameters
    ----------
    path : Path
        The file.
    by_others : bool
        Whether another program has just written it, which may have taken over the header of a product of ours, and not
        the extensions by which a product of ours is seen to be whole.

    Returns
    -------
    InputProduct
        Its header, its table if it has one, and the source of its pixels: data and variance float32, DQ uint16.

    Raises
    ------
    ProductFileError
        If it is no FITS file, is damaged, or holds neither image nor table.

    Examples
    --------
    >>> product = read_product(Path("master_bias.fits"))  # doctest: +SKIP
    >>> strip = product.image.rows(slice(0, 100))  # doctest: +SKIP
    >>> strip.data.shape, strip.variance.shape, strip.dq.shape  # doctest: +SKIP
    ((100, 2048), (100, 2048), (100, 2048))
    """
    try:
        return in_time(
            path,
            lambda: _own_product(path) or _product_of_others(path, by_others=by_others),
        )
    except MemoryError:
        raise
    except Exception as error:  # libraries raise whatever they stumble over, of no common kind
        if isinstance(error, OSError):
            error = unread(path, error)
        told = str(error) or type(error).__name__
        passing = getattr(error, "errno", None) if is_not_read(error) else None
        raise ProductFileError(
            told if str(path) in told else f"{path} is no product: {told}", passing
        ) from None


def read_image(product: InputProduct) -> Image:
    """Return all pixels of a product in memory.

    Parameters
    ----------
    product : InputProduct
        As `read_product` gives it.

    Returns
    -------
    Image
        Data and variance float32, DQ uint16, each of shape (ny, nx).

    Raises
    ------
    ValueError
        If the product is a table.
    """
    if product.image is None:
        raise ValueError(f"{product.name} holds a table, wanted an image")
    return product.image.rows(slice(None))


def _own_product(path: Path) -> InputProduct | None:
    """Read a product of ours by its headers alone; None for anything else, or one that is not whole.

    What goes wrong here is no error yet: the general way then has a look at the file, and says what is wrong with it.
    """
    try:
        with open_plain(path) as stream:
            headers = list(hdu_headers(path, stream, ahead=3, every=True))
            hdus = {hdu.name: hdu for hdu in headers[1:]}
            main = headers[0]
            size = os.fstat(stream.fileno()).st_size
            if _what_lacks(main.values, headers) or any(hdu.end > size for hdu in headers):
                return None
            if "JOBKEY" not in main.values or not (main.axes or "TABLE" in hdus):
                return None
            tables = {name: read_columns(hdus[name], stream) for name in ("TABLE", "USABLE") if name in hdus}
        planes = None if not main.axes else _own_planes(path, main, hdus, tables.get("USABLE"))
        masters = planes and _masters(planes, hdus, lambda hdu: _plane(path, hdu))
    except (OSError, UnreadableFrameError, KeyError, ValueError):
        return None
    return _product(path, (main.values, main.comments), planes, masters, tables.get("TABLE"))


def _what_lacks(header: Mapping[str, Any], hdus: Sequence[HduHeader]) -> str:
    """Say what a product of ours lacks of its extensions; nothing where it is whole, or no product of ours."""
    if "JOBKEY" not in header:
        return ""
    stated = header.get("NEXTEND")
    # Earlier versions wrote PROVENANCE last, and no NEXTEND: where the table is missing the file was cut off.
    if not isinstance(stated, int):
        whole = any(hdu.name == "PROVENANCE" for hdu in hdus)
        return "" if whole else "it has no PROVENANCE, with which every product ends"
    # fpack puts an empty HDU in front.
    there = len(hdus) - 1
    return f"it has {there} of its {stated} extensions" if there < stated else ""


def _own_planes(
    path: Path, main: HduHeader, hdus: Mapping[str, HduHeader], usable: Mapping[str, NDArray[Any]] | None
) -> StoredPlanes:
    """Planes of a product of ours, of this or an earlier version; KeyError where one is missing."""
    uncertainty, unit = hdus["UNCERT"], str(main.values.get("BUNIT", ""))
    flags = hdus["DQ"] if "DQ" in hdus else hdus["MASK"]
    # A mask whose numbers are no bits is none of ours.
    if flags.name == "MASK":
        _ = flags.values[ANY_BIT]
    return StoredPlanes(
        shape=main.shape,
        unit=unit,
        data=_plane(path, main),
        variance=_plane(path, uncertainty),
        dq=_plane(path, flags),
        power=_UNCERTAINTIES[str(uncertainty.values["UTYPE"])],
        usable=None if usable is None else UsableRuns.of(usable),
        bits=flags.values,
    )


def _masters(
    planes: StoredPlanes, named: Mapping[str, HduHeader], pixels: Callable[[HduHeader], StoredPixels]
) -> ImageSource | None:
    """What the masters brought: a share of the variance, or of an earlier version a variance."""
    hdu = named.get("CALVAR")
    if hdu is None:
        return None
    if not hdu.axes:
        step, zero = (float(str(hdu.values[card])) for card in (LOG_STEP, LOG_ZERO))
        return StoredShare(planes, pixels(hdu), step, zero)
    plane = pixels(hdu)
    return StoredPlanes(plane.shape, str(hdu.values.get("BUNIT", "")).strip(), plane, None, None)


def _product(
    path: Path,
    header: tuple[Mapping[str, Any], Mapping[str, str]],
    image: ImageSource | None,
    masters: ImageSource | None,
    table: Mapping[str, NDArray[Any]] | None,
) -> InputProduct:
    values, comments = header
    exptime = card_number(values.get("EXPTIME", values.get("EXPOSURE")))
    return InputProduct(
        image=image,
        exptime=math.nan if exptime is None else exptime,
        name=path.name,
        header=values,
        calibration=str(values.get("CALIBID", "")),
        calibration_variance=masters,
        table=table,
        comments=comments,
    )


def _plane(path: Path, hdu: HduHeader) -> PlainPixels:
    return PlainPixels(path, _layout(hdu))


def _layout(hdu: HduHeader) -> ImageLayout:
    """Where a plane lies: an image, or the one column of a table of one row (see `plane_table_hdu`)."""
    if hdu.axes:
        return ImageLayout(hdu.offset, hdu.size("BITPIX"), hdu.shape, zero=hdu.real("BZERO", 0.0))
    form = re.fullmatch(r"(\d+)([BI])", str(hdu.values.get("TFORM1")))
    axes = re.fullmatch(r"\((\d+),(\d+)\)", str(hdu.values.get("TDIM1")))
    if form is None or axes is None or int(form[1]) != int(axes[1]) * int(axes[2]):
        raise ValueError(f"{hdu.label} holds no plane")
    bits, zero = (8, 0.0) if form[2] == "B" else (16, hdu.real("TZERO1", 0.0))
    return ImageLayout(hdu.offset, bits, (int(axes[2]), int(axes[1])), zero=zero)


def _product_of_others(path: Path, *, by_others: bool) -> InputProduct:
    """Read a product of anybody, FITS or of another form."""
    try:
        contents = file_contents(path, every=True)
    except OtherFormError:
        raw = open_raw(path)
        if "JOBKEY" in raw.header and not by_others:
            raise ProductFileError(_why_not_whole(path, "its form holds the image alone")) from None
        unit = str(raw.header.get("BUNIT", "")).strip()
        planes = StoredPlanes(raw.shape, unit, raw.pixels, None, None)
        return _product(path, (raw.header, raw.comments), planes, None, None)
    return _any_product(path, contents, by_others=by_others)


def _any_product(path: Path, contents: FileContents, *, by_others: bool) -> InputProduct:
    """Read a product of anybody, of any form that a raw frame may have."""
    hdus = contents.hdus
    if contents.short:
        raise ProductFileError(contents.short)
    named = {hdu.name: hdu for hdu in reversed(hdus) if hdu.name}  # of several alike the first counts
    main = _main_image(hdus)
    header, comments = hdus[0].values, hdus[0].comments
    if main is not None and main is not hdus[0]:
        header, comments = merged_header(hdus[0], [main])
    if not by_others and (lacking := _what_lacks(header, hdus)):
        raise ProductFileError(_why_not_whole(path, lacking))
    table = _columns(path, named["TABLE"].index) if "TABLE" in named else None
    if main is None and table is None:
        raise ProductFileError(f"{path} is no product: it holds neither an image nor a table")
    image = masters = None
    if main is not None:
        image = _image_source(path, contents, main, named, str(header.get("BUNIT", "")).strip())
        masters = _masters(image, named, lambda hdu: _plane_of(path, contents, hdu))
    return _product(path, (header, comments), image, masters, table)


def _why_not_whole(path: Path, lacking: str) -> str:
    """Say why a product of ours is not taken whose headers tell of more than there is."""
    return (
        f"{path} is a part of a product of ccdflow: {lacking}; it was cut off, or another program has saved its image "
        "alone (fpack and gzip keep all): take the whole file, or delete its card JOBKEY to have it taken as another "
        "program's, whose noise nobody knows"
    )


def _main_image(hdus: Sequence[HduHeader]) -> HduHeader | None:
    """Return the image that a product is: as of a raw frame, or of a file that is but a mask, that."""
    if hdus[0].axes:
        return hdus[0]
    images = frame_images(hdus) or [hdu for hdu in hdus if hdu.axes]
    return images[0] if images else None


def _image_source(
    path: Path, contents: FileContents, main: HduHeader, named: Mapping[str, HduHeader], unit: str
) -> StoredPlanes:
    """Return the pixels of a product with what goes with them."""
    data = _plane_of(path, contents, main)
    planes: dict[str, StoredPixels] = {}
    uncertainty = next((named[name] for name in _UNCERTAINTY_OF if name in named), None)
    mask = next((named[name] for name in _MASKS if name in named and named[name] is not main), None)
    dq = named.get("DQ") if main.name != "DQ" else None
    if dq is None and mask is not None and ANY_BIT in mask.values:
        mask, dq = None, mask
    elif dq is not None and ANY_BIT not in dq.values:
        # Bits of others mean something else: JWST's 2 is saturated, and its bits go up to 2^31.
        mask, dq = dq, None
    for role, hdu in (("variance", uncertainty), ("mask", mask), ("dq", dq)):
        if hdu is None or not hdu.axes or hdu is main:
            continue
        planes[role] = _plane_of(path, contents, hdu)
        if planes[role].shape != data.shape:
            raise ProductFileError(
                f"{path}: {hdu.name} has shape {planes[role].shape}, the data have {data.shape}"
            )
    usable = _columns(path, named["USABLE"].index) if dq is not None and "USABLE" in named else None
    return StoredPlanes(
        shape=data.shape,
        unit=unit,
        data=data,
        variance=planes.get("variance"),
        dq=planes.get("dq"),
        mask=planes.get("mask"),
        power=_power(path, uncertainty) if "variance" in planes and uncertainty else 1,
        usable=None if usable is None else UsableRuns.of(usable),
        is_foreign=True,
        bits={} if dq is None else dq.values,
    )


def _power(path: Path, uncertainty: HduHeader) -> int:
    """Return the power of a stored uncertainty that is a variance."""
    stated = _UNCERTAINTY_OF[uncertainty.name]
    if stated is not None:
        return stated
    # astropy.nddata takes an uncertainty that does not say what it is for a standard deviation.
    kind = str(uncertainty.values.get("UTYPE", "StdDevUncertainty"))
    if kind not in _UNCERTAINTIES:
        known = ", ".join(_UNCERTAINTIES)
        raise ProductFileError(f"{path} states its uncertainty as {kind!r}; known: {known}")
    return _UNCERTAINTIES[kind]


def _plane_of(path: Path, contents: FileContents, hdu: HduHeader) -> StoredPixels:
    if not hdu.axes:
        return PlainPixels(path, _layout(hdu), gzipped=contents.gzipped)
    if len(hdu.axes) != 2:
        raise ProductFileError(f"{path}: {hdu.label} has {len(hdu.axes)} axes, wanted 2")
    return image_pixels(path, hdu, gzipped=contents.gzipped)


def _columns(path: Path, index: int) -> dict[str, NDArray[Any]]:
    # astropy takes a third of a second to import, and is asked only for tables that others have written.
    from astropy.io import fits

    check_plain(path)
    with fits.open(path) as hdus:
        data = hdus[index].data
        # Copies in native byte order: the file is closed when they are used.
        return {name: _native(np.array(data[name])) for name in ([] if data is None else data.names)}


def _native(values: NDArray[Any]) -> NDArray[Any]:
    return values.astype(values.dtype.newbyteorder("="), copy=False)
