"""Write products as FITS, the only place that does, and read them again strip by strip.

A product of ours is recognised by its headers and then read without astropy: its planes are never compressed, scaled
or blank, so that the general reader's care would only cost time. What others have made is opened by astropy. Both ways
end in the same `InputProduct`, whose pixels are read when a recipe asks for their rows.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ccdflow.archive.digest import UnreadableFrameError
from ccdflow.archive.fits.hduheaders import HduHeader, hdu_headers
from ccdflow.archive.fits.productheader import InputNote, Origin, common_cards, header_cards
from ccdflow.archive.fits.rawpixels import ImageLayout, PlainPixels
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
from ccdflow.recipes.core.dq import DQ
from ccdflow.recipes.core.image import Image, ImageSource
from ccdflow.recipes.core.recipe import InputProduct, Output
from ccdflow.recipes.detector.raw import read_adu

if TYPE_CHECKING:
    from astropy.io import fits

__all__ = [
    "InputNote",
    "Origin",
    "ProductFileError",
    "common_cards",
    "read_image",
    "read_product",
    "write_product",
]

_UNCERTAINTIES = {"VarianceUncertainty": 1, "StdDevUncertainty": 2}
"""Power that makes a variance of the uncertainty, by ``UTYPE``."""


class ProductFileError(Exception):
    """A file that is no product, or a damaged one; the message is one sentence that names it."""


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
    cards = header_cards(origin, output.cards, output.quality)
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
    data, variance, dq, mask : PlainPixels or None
        Without `variance` it is 0; without `dq` what `mask` marks is a bad pixel.
    power : int
        Power of the stored uncertainty that is the variance: 2 for a standard deviation.
    """

    shape: tuple[int, int]
    unit: str
    data: PlainPixels
    variance: PlainPixels | None
    dq: PlainPixels | None
    mask: PlainPixels | None = None
    power: int = 1

    def rows(self, rows: slice) -> Image:
        """Return some rows as an image in memory."""
        data = read_adu(self.data, rows)
        return Image(data, self._variance(rows, data), self._dq(rows, data), self.unit)

    def _variance(self, rows: slice, data: NDArray[Any]) -> NDArray[np.float32]:
        if self.variance is None:
            return np.zeros_like(data)
        stated = read_adu(self.variance, rows)
        return stated if self.power == 1 else stated**self.power

    def _dq(self, rows: slice, data: NDArray[Any]) -> NDArray[np.uint16]:
        if self.dq is not None:
            return self.dq[rows, :].astype(np.uint16, copy=False)
        if self.mask is None:
            return np.zeros(data.shape, np.uint16)
        return np.where(self.mask[rows, :] != 0, np.uint16(DQ.BAD_PIXEL), np.uint16(0))


def read_product(path: Path) -> InputProduct:
    """Return a product from its file; its pixels are read when a recipe asks for their rows.

    Any FITS file with an image in its primary HDU will do, such as another program's master: without
    ``UNCERT`` its variance is 0, a standard deviation there is squared, and without ``DQ`` what its ``MASK``
    marks are bad pixels.

    Parameters
    ----------
    path : Path
        The file.

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
    product = _own_product(path)
    if product is not None:
        return product
    # astropy takes a third of a second to import, and is asked only for what others have written, or is damaged.
    from astropy.io import fits

    try:
        with fits.open(path, do_not_scale_image_data=True) as hdus:
            return _product(path, hdus)
    except (OSError, fits.VerifyError, KeyError, TypeError) as error:
        raise ProductFileError(f"{path} is no product: {error}") from None


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

    What goes wrong here is no error yet: astropy then has a look at the file, and says what is wrong with it.
    """
    try:
        with path.open("rb") as stream:
            hdus = {hdu.name or "PRIMARY": hdu for hdu in hdu_headers(path, stream, ahead=3, every=True)}
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
    exptime = header.get("EXPTIME", header.get("EXPOSURE"))
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
        exptime=float(exptime) if isinstance(exptime, int | float) else 0.0,
        name=path.name,
        header=header,
        calibration=str(header.get("CALIBID", "")),
        calibration_variance=masters,
        table=table,
    )


def _plane(path: Path, hdu: HduHeader) -> PlainPixels:
    zero = hdu.real("BZERO", 0.0)
    return PlainPixels(path, ImageLayout(hdu.offset, hdu.size("BITPIX"), hdu.shape, zero=zero))


def _product(path: Path, hdus: "fits.HDUList") -> InputProduct:
    """Read a product of anybody, opened by astropy."""
    header = {
        name: value
        for name, value in _values(hdus[0].header).items()
        if name not in ("COMMENT", "HISTORY", "")
    }
    if "JOBKEY" in header and "PROVENANCE" not in hdus:
        raise ProductFileError(f"{path} is truncated: it has no PROVENANCE, with which every product ends")
    image = _image_source(path, hdus)
    table = _columns(hdus["TABLE"]) if "TABLE" in hdus else None
    if image is None and table is None:
        raise ProductFileError(
            f"{path} is no product: it holds neither an image in its primary HDU nor a table"
        )
    exptime = header.get("EXPTIME", header.get("EXPOSURE"))
    return InputProduct(
        image=image,
        exptime=float(exptime) if isinstance(exptime, int | float) else 0.0,
        name=path.name,
        header=header,
        calibration=str(header.get("CALIBID", "")),
        calibration_variance=_calibration_variance(path, hdus),
        table=table,
    )


def _values(header: "fits.Header") -> dict[str, Any]:
    return {card.keyword: card.value for card in header.cards if card.value is not None}


def _columns(hdu: "fits.BinTableHDU") -> dict[str, NDArray[Any]]:
    # Copies in native byte order: the file is closed when they are used.
    names = [] if hdu.data is None else hdu.data.names
    return {name: _native(np.array(hdu.data[name])) for name in names}


def _native(values: NDArray[Any]) -> NDArray[Any]:
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _image_source(path: Path, hdus: "fits.HDUList") -> ImageSource | None:
    """Return the pixels of the primary HDU with what goes with them; None for a product without an image."""
    data = _pixels(path, hdus[0])
    if data is None:
        return None
    extra = {name: _pixels(path, hdus[name]) for name in ("UNCERT", "DQ", "MASK") if name in hdus}
    for name, plane in extra.items():
        if plane is not None and plane.shape != data.shape:
            raise ProductFileError(f"{path}: {name} has shape {plane.shape}, the data have {data.shape}")
    # astropy.nddata takes an uncertainty that does not say what it is for a standard deviation.
    kind = (
        hdus["UNCERT"].header.get("UTYPE", "StdDevUncertainty") if "UNCERT" in hdus else "VarianceUncertainty"
    )
    if kind not in _UNCERTAINTIES:
        known = ", ".join(_UNCERTAINTIES)
        raise ProductFileError(f"{path} states its uncertainty as {kind!r}; known: {known}")
    return _Planes(
        shape=data.shape,
        unit=str(hdus[0].header.get("BUNIT", "")).strip(),
        data=data,
        variance=extra.get("UNCERT"),
        dq=extra.get("DQ"),
        mask=extra.get("MASK"),
        power=_UNCERTAINTIES[kind],
    )


def _calibration_variance(path: Path, hdus: "fits.HDUList") -> ImageSource | None:
    plane = _pixels(path, hdus["CALVAR"]) if "CALVAR" in hdus else None
    if plane is None:
        return None
    return _Planes(plane.shape, str(hdus["CALVAR"].header.get("BUNIT", "")), plane, None, None)


def _pixels(path: Path, hdu: Any) -> PlainPixels | None:
    """Return the pixels of an image HDU; None for one without.

    astropy only tells where they lie. Its own arrays would need the whole plane in memory, or a mapping of the file.
    """
    header = hdu.header
    if header.get("NAXIS", 0) == 0:
        return None
    if header["NAXIS"] != 2:
        raise ProductFileError(f"{path}: {hdu.name} has {header['NAXIS']} axes, wanted 2")
    offset = hdu.fileinfo()["datLoc"]
    layout = ImageLayout(
        offset=offset,
        bitpix=header["BITPIX"],
        shape=(header["NAXIS2"], header["NAXIS1"]),
        scale=header.get("BSCALE", 1.0),
        zero=header.get("BZERO", 0.0),
        blank=header.get("BLANK"),
    )
    gzipped = path.suffix == ".gz"
    size = layout.shape[0] * layout.shape[1] * layout.stored.itemsize
    if not gzipped and offset + size > path.stat().st_size:
        raise ProductFileError(f"{path} is truncated: it ends before the last pixel of {hdu.name}")
    return PlainPixels(path, layout, gzipped=gzipped)
