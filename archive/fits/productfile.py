"""Write products as FITS, the only place that does, and read them again strip by strip.

A product of ours is recognised by its headers: its planes are never compressed, scaled or blank, so that the general
reader's care would only cost time. What others have made, or have compressed since, is opened as raw frames are. Both
ways end in the same `InputProduct`, whose pixels are read when a recipe asks for their rows.
"""

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ccdflow.archive.fits.hduheaders import HduHeader, hdu_headers
from ccdflow.archive.fits.productheader import InputNote, Origin, common_cards, header_cards
from ccdflow.archive.fits.rawfile import (
    FileContents,
    file_contents,
    frame_images,
    image_pixels,
    merged_header,
)
from ccdflow.archive.fits.rawpixels import ImageLayout, PlainPixels, TiledPixels
from ccdflow.archive.fits.writer import (
    Hdu,
    Plane,
    Sink,
    image_hdu,
    primary_hdu,
    read_columns,
    table_hdu,
    write_hdus,
)
from ccdflow.archive.foreignfile import UnreadableFrameError, check_plain, is_not_read, open_plain, unread
from ccdflow.archive.patience import in_time
from ccdflow.recipes.core.cardnumbers import card_number
from ccdflow.recipes.core.dq import DQ
from ccdflow.recipes.core.image import Image, ImageSource
from ccdflow.recipes.core.recipe import InputProduct, Output
from ccdflow.recipes.detector.raw import read_adu

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

    Primary HDU: data, float32 with ``BUNIT``. Extensions: ``UNCERT`` (variance), ``MASK`` (uint8, 1 =
    excluded), ``DQ`` (uint16, bits of `DQ`), and where the output has them ``NGOOD`` (uint16), ``CALVAR``
    (float32, the part of the variance that the masters brought) and ``TABLE``; last ``PROVENANCE``, one row
    for each input. `astropy.nddata.CCDData.read` opens it as it is.

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
    The variance stands as ``VarianceUncertainty``, in the square of the data's unit. The mask is 1 where a bit of DQ
    excludes the pixel; it says less than ``DQ`` and is there for readers that know no bits.
    """
    write_hdus(stream, [_primary(output, origin), *_planes(output), *_tables(output), _provenance(origin)])


def _primary(output: Output, origin: Origin) -> Hdu:
    cards = header_cards(origin, output.cards, output.quality, output.dropped)
    if output.image is None:
        return primary_hdu(None, cards)
    unit = {"BUNIT": (output.image.unit, "unit of the data")}
    return primary_hdu(_float32(output.image.data), unit | cards)


def _planes(output: Output) -> list[Hdu]:
    if output.image is None:
        return []
    image, squared = output.image, _squared(output.image.unit)
    unit = {"BUNIT": (squared, "unit of the variance")}
    kind = {"UTYPE": ("VarianceUncertainty", "astropy.nddata's name of its kind")}
    bits = {f"BIT{number:02d}": (bit.name, f"meaning of {bit.value}") for number, bit in enumerate(DQ)}
    # One array for both HDUs: the mask is made of it chunk by chunk when it is written.
    dq = np.ascontiguousarray(image.dq, np.uint16)
    planes = [
        image_hdu("UNCERT", _float32(image.variance), kind | unit),
        image_hdu("MASK", Plane(dq, mask=True), {}),
        image_hdu("DQ", Plane(dq), bits),
    ]
    if output.ngood is not None:
        planes.append(image_hdu("NGOOD", Plane(np.ascontiguousarray(output.ngood, np.uint16)), {}))
    if output.calibration_variance is not None:
        planes.append(image_hdu("CALVAR", _float32(output.calibration_variance), unit))
    return planes


def _float32(plane: NDArray[Any]) -> Plane:
    return Plane(np.ascontiguousarray(plane, np.float32))


def _squared(unit: str) -> str:
    """Return the square of a unit as FITS writes it: ``electron / s`` gives ``electron2 / s2``."""
    if re.fullmatch(r"([A-Za-z]+( / [A-Za-z]+)?)?", unit):
        return re.sub(r"[A-Za-z]+", r"\g<0>2", unit)
    # astropy's units take a fifth of a second to import, and hardly any product needs them.
    from astropy import units

    return str(units.Unit(unit) ** 2)


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


# Fixed width by bytes, not by characters: an input's name may hold letters outside of ASCII.
def _text(values: list[str]) -> NDArray[np.bytes_]:
    written = [value.encode("utf-8") for value in values]
    return np.array(written, dtype=f"S{max([1, *map(len, written)])}")


@dataclass(frozen=True)
class _Planes:
    """The planes of a product in its file, of which only the rows that are asked for are read.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns.
    unit : str
        Of the data; the variance is in its square.
    data, variance, dq, mask : PlainPixels, TiledPixels or None
        Without `variance` it is 0; without `dq` what `mask` marks is a bad pixel.
    power : int
        Power of the stored uncertainty that is the variance: 2 for a standard deviation, -1 for an inverse variance,
        of which 0 means that nothing is known: such a pixel has no data.
    """

    shape: tuple[int, int]
    unit: str
    data: PlainPixels | TiledPixels
    variance: PlainPixels | TiledPixels | None
    dq: PlainPixels | TiledPixels | None
    mask: PlainPixels | TiledPixels | None = None
    power: int = 1

    def rows(self, rows: slice) -> Image:
        """Return some rows as an image in memory."""
        data = read_adu(self.data, rows)
        return Image(data, self._variance(rows, data), self._dq(rows, data), self.unit)

    def _variance(self, rows: slice, data: NDArray[Any]) -> NDArray[np.float32]:
        if self.variance is None:
            return np.zeros_like(data)
        stated = read_adu(self.variance, rows)
        if self.power < 0:
            return np.divide(1, stated, out=np.zeros_like(stated), where=stated > 0)
        return stated if self.power == 1 else stated**self.power

    def _dq(self, rows: slice, data: NDArray[Any]) -> NDArray[np.uint16]:
        if self.dq is not None:
            flags: NDArray[np.uint16] = self.dq[rows, :].astype(np.uint16, copy=False)
        elif self.mask is None:
            flags = np.zeros(data.shape, np.uint16)
        else:
            flags = np.where(self.mask[rows, :] != 0, np.uint16(DQ.BAD_PIXEL), np.uint16(0))
        if self.power > 0 or self.variance is None:
            return flags
        known = read_adu(self.variance, rows) > 0
        return flags | np.where(known, np.uint16(0), np.uint16(DQ.NO_DATA))


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
            lambda: (
                _own_product(path) or _any_product(path, file_contents(path, every=True), by_others=by_others)
            ),
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
            headers = hdu_headers(path, stream, ahead=3, every=True)
            hdus = {hdu.name if hdu.index else "PRIMARY": hdu for hdu in headers}
            size = os.fstat(stream.fileno()).st_size
            header = hdus["PRIMARY"].values
            # PROVENANCE is written last: where it is missing the file was cut off.
            is_whole = (
                "JOBKEY" in header and "PROVENANCE" in hdus and all(hdu.end <= size for hdu in hdus.values())
            )
            if not is_whole or not (hdus["PRIMARY"].axes or "TABLE" in hdus):
                return None
            table = read_columns(hdus["TABLE"], stream) if "TABLE" in hdus else None
    except (OSError, UnreadableFrameError, KeyError, ValueError):
        return None
    planes = {name: _plane(path, hdu) for name, hdu in hdus.items() if hdu.axes}
    exptime = card_number(header.get("EXPTIME", header.get("EXPOSURE")))
    image = None
    if "PRIMARY" in planes:
        unit = str(header.get("BUNIT", ""))
        data = planes["PRIMARY"]
        image = _Planes(data.shape, unit, data, planes["UNCERT"], planes["DQ"])
    masters = None
    if "CALVAR" in planes:
        unit = str(hdus["CALVAR"].values.get("BUNIT", ""))
        masters = _Planes(planes["CALVAR"].shape, unit, planes["CALVAR"], None, None)
    return InputProduct(
        image=image,
        exptime=math.nan if exptime is None else exptime,
        name=path.name,
        header=header,
        calibration=str(header.get("CALIBID", "")),
        calibration_variance=masters,
        table=table,
        comments=hdus["PRIMARY"].comments,
    )


def _plane(path: Path, hdu: HduHeader) -> PlainPixels:
    zero = hdu.real("BZERO", 0.0)
    return PlainPixels(path, ImageLayout(hdu.offset, hdu.size("BITPIX"), hdu.shape, zero=zero))


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
    if "JOBKEY" in header and "PROVENANCE" not in named and not by_others:
        raise ProductFileError(f"{path} is truncated: it has no PROVENANCE, with which every product ends")
    table = _columns(path, named["TABLE"].index) if "TABLE" in named else None
    if main is None and table is None:
        raise ProductFileError(f"{path} is no product: it holds neither an image nor a table")
    exptime = card_number(header.get("EXPTIME", header.get("EXPOSURE")))
    image = masters = None
    if main is not None:
        image = _image_source(path, contents, main, named, str(header.get("BUNIT", "")).strip())
    if "CALVAR" in named:
        plane = _plane_of(path, contents, named["CALVAR"])
        masters = _Planes(plane.shape, str(named["CALVAR"].values.get("BUNIT", "")), plane, None, None)
    return InputProduct(
        image=image,
        exptime=math.nan if exptime is None else exptime,
        name=path.name,
        header=header,
        calibration=str(header.get("CALIBID", "")),
        calibration_variance=masters,
        table=table,
        comments=comments,
    )


def _main_image(hdus: Sequence[HduHeader]) -> HduHeader | None:
    """Return the image that a product is: as of a raw frame, or of a file that is but a mask, that."""
    if hdus[0].axes:
        return hdus[0]
    images = frame_images(hdus) or [hdu for hdu in hdus if hdu.axes]
    return images[0] if images else None


def _image_source(
    path: Path, contents: FileContents, main: HduHeader, named: Mapping[str, HduHeader], unit: str
) -> ImageSource:
    """Return the pixels of a product with what goes with them."""
    data = _plane_of(path, contents, main)
    planes: dict[str, PlainPixels | TiledPixels] = {}
    uncertainty = next((named[name] for name in _UNCERTAINTY_OF if name in named), None)
    mask = next((named[name] for name in _MASKS if name in named and named[name] is not main), None)
    dq = named.get("DQ") if main.name != "DQ" else None
    for role, hdu in (("variance", uncertainty), ("mask", mask), ("dq", dq)):
        if hdu is None or not hdu.axes or hdu is main:
            continue
        planes[role] = _plane_of(path, contents, hdu)
        if planes[role].shape != data.shape:
            raise ProductFileError(
                f"{path}: {hdu.name} has shape {planes[role].shape}, the data have {data.shape}"
            )
    return _Planes(
        shape=data.shape,
        unit=unit,
        data=data,
        variance=planes.get("variance"),
        dq=planes.get("dq"),
        mask=planes.get("mask"),
        power=_power(path, uncertainty) if "variance" in planes and uncertainty else 1,
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


def _plane_of(path: Path, contents: FileContents, hdu: HduHeader) -> PlainPixels | TiledPixels:
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
