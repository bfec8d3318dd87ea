"""The planes of a product in its file: which there are, in which order, and what their numbers mean.

Other programs take planes for images, and what decides is neither their names nor their cards but order and type, as
runs of ours have shown (``docs/peers.md``):

- The first extension is a table: IRAF then takes the data without asking which extension is meant, and gnuastro, which
  takes extension 1 unless told otherwise, stops instead of working on something else than the data.
- What has not the type of the data comes before what has it: Siril takes further images of a file for frames until one
  comes of another type. So ``MASK`` stands before ``UNCERT``.
- What `astropy.nddata.CCDData` does not read is no image at all, but a table of one row: source-extractor and SWarp
  take each image extension for a frame, and leave tables alone.

The uncertainty is a standard deviation, since photutils takes no other, and the sums and means of `CCDData` are right
with no other.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ccdflow.archive.fits.maskbits import from_mask, to_mask
from ccdflow.archive.fits.rawpixels import JoinedPixels, Part
from ccdflow.archive.fits.shares import coded_shares, share_of_code
from ccdflow.archive.fits.writer import Hdu, Plane, image_hdu, plane_table_hdu, table_hdu
from ccdflow.recipes.core.dq import DQ, EXCLUDED, DQArray
from ccdflow.recipes.core.image import FloatArray, Image
from ccdflow.recipes.core.recipe import Output
from ccdflow.recipes.detector.raw import read_adu

StoredPixels = Part | JoinedPixels

LOG_ZERO, LOG_STEP = "LOGZERO", "LOGSTEP"
"""Cards that say what the numbers of ``CALVAR`` mean, see `ccdflow.archive.fits.shares.CodedShares`."""
_BYTE = 255


# --- into a file ---------------------------------------------------------------------------------------------------


def plane_hdus(output: Output) -> list[Hdu]:
    """Return what a file holds of an image behind its data and ``PROVENANCE``.

    Parameters
    ----------
    output : Output
        The product; not changed.

    Returns
    -------
    list of Hdu
        ``MASK``: the bits that exclude a pixel, see `ccdflow.archive.fits.maskbits`. ``UNCERT``: standard deviation,
        float32. Then tables of one row: ``CALVAR``, the masters' share of the variance (see
        `ccdflow.archive.fits.shares`), and ``NGOOD``; and ``USABLE``, a row for each run of pixels whose bits do not
        exclude them, where there are such. Empty for a product without image.
    """
    if output.image is None:
        return []
    image = output.image
    unit = {"BUNIT": (image.unit, "unit of the standard deviation")}
    kind = {"UTYPE": ("StdDevUncertainty", "astropy.nddata's name of its kind")}
    hdus = [_mask(image.dq), image_hdu("UNCERT", Plane(_float32(image.variance), root=True), kind | unit)]
    if output.calibration_variance is not None:
        hdus.append(_share(_float32(output.calibration_variance), _float32(image.variance)))
    if output.ngood is not None:
        hdus.append(plane_table_hdu("NGOOD", Plane(_narrow(output.ngood)), {}))
    return hdus + _usable(image.dq)


def _mask(dq: DQArray) -> Hdu:
    mask, cards = to_mask(dq)
    return image_hdu("MASK", Plane(mask), cards)


def _narrow(values: NDArray[np.uint16]) -> NDArray[Any]:
    """Return whole numbers in one byte each where they fit."""
    largest = values.max(initial=0)
    return np.ascontiguousarray(values, np.uint8 if largest <= _BYTE else np.uint16)


def _share(masters: FloatArray, variance: FloatArray) -> Hdu:
    coded = coded_shares(masters, variance)
    # Not TSCAL1 and TZERO1: of a scaled column astropy 8.0.2 writes other numbers than it has read.
    cards = {
        LOG_ZERO: (coded.zero, "share of the variance: 10^(LOGZERO + LOGSTEP n)"),
        LOG_STEP: (coded.step, "for n from 1 to 255; 0 stands for no share"),
    }
    return plane_table_hdu("CALVAR", Plane(coded.codes), cards)


def _usable(dq: DQArray) -> list[Hdu]:
    """Bits that do not exclude their pixels, as runs of equal ones: few pixels have them."""
    flat = dq.reshape(-1) & ~EXCLUDED
    places = np.flatnonzero(flat)
    if not places.size:
        return []
    bits = flat[places]
    begins = np.flatnonzero(np.r_[True, (np.diff(places) != 1) | (np.diff(bits.astype(np.int32)) != 0)])
    columns = {
        "FIRST": places[begins].astype(np.int64 if dq.size > np.iinfo(np.int32).max else np.int32),
        "COUNT": np.diff(np.r_[begins, places.size]).astype(np.int32),
        "BITS": bits[begins].astype(np.int16),
    }
    return [table_hdu("USABLE", columns)]


def _float32(plane: NDArray[Any]) -> FloatArray:
    return np.ascontiguousarray(plane, np.float32)


def squared(unit: str) -> str:
    """Return the square of a unit.

    Parameters
    ----------
    unit : str
        As FITS writes it.

    Returns
    -------
    str
        Of ``electron / s`` it is ``electron2 / s2``.
    """
    if re.fullmatch(r"([A-Za-z]+( / [A-Za-z]+)?)?", unit):
        return re.sub(r"[A-Za-z]+", r"\g<0>2", unit)
    # astropy's units take a fifth of a second to import, and hardly any product needs them.
    from astropy import units

    return str(units.Unit(unit) ** 2)


# --- out of a file -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class UsableRuns:
    """Bits of pixels that may be used all the same, as runs in the order of the file.

    Parameters
    ----------
    first : int array, shape (n,)
        Number of each run's first pixel, counted row by row from 0; increasing.
    count : int array, shape (n,)
        Its length.
    bits : uint16 array, shape (n,)
        The bits of its pixels.
    """

    first: NDArray[np.int64]
    count: NDArray[np.int64]
    bits: NDArray[np.uint16]

    @classmethod
    def of(cls, columns: Mapping[str, NDArray[Any]]) -> "UsableRuns":
        """Return the runs that a table holds.

        Parameters
        ----------
        columns : mapping of arrays
            ``FIRST``, ``COUNT`` and ``BITS``.

        Raises
        ------
        KeyError
            If a column is not there.
        """
        first, count = (columns[name].astype(np.int64) for name in ("FIRST", "COUNT"))
        return cls(first, count, columns["BITS"].astype(np.uint16))

    def put_into(self, dq: DQArray, y0: int) -> None:
        """Set the bits in some rows.

        Parameters
        ----------
        dq : uint16 array, shape (rows, nx)
            C-contiguous; changed.
        y0 : int
            Number of its first row.
        """
        flat, start = dq.reshape(-1), y0 * dq.shape[1]
        # Runs may begin in a row before and end in one behind.
        begin = np.clip(self.first - start, 0, flat.size)
        length = np.clip(self.first + self.count - start, 0, flat.size) - begin
        inside = length > 0
        begin, length = begin[inside], length[inside]
        # Each run's pixels: its own beginning, and how far they are from that.
        before = np.cumsum(length) - length
        places = np.repeat(begin - before, length) + np.arange(length.sum())
        flat[places] |= np.repeat(self.bits[inside], length)


@dataclass(frozen=True)
class StoredPlanes:
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
    usable : UsableRuns, optional
        Bits beside those of `dq`.
    is_foreign : bool
        Whether another program may have written it: then a variance that is no number, or below 0, is no data.
    bits : mapping
        Cards of `dq`, which say what its bits mean.
    """

    shape: tuple[int, int]
    unit: str
    data: StoredPixels
    variance: StoredPixels | None
    dq: StoredPixels | None
    mask: StoredPixels | None = None
    power: int = 1
    usable: UsableRuns | None = None
    is_foreign: bool = False
    bits: Mapping[str, Any] = field(default_factory=dict)

    def rows(self, rows: slice) -> Image:
        """Return some rows as an image in memory."""
        data = read_adu(self.data, rows)
        variance = self.variance_of(rows)
        return Image(data, np.zeros_like(data) if variance is None else variance, self._dq(rows), self.unit)

    def variance_of(self, rows: slice) -> FloatArray | None:
        """Return the variance of some rows; None where the file states none."""
        if self.variance is None:
            return None
        stated = read_adu(self.variance, rows)
        if self.power < 0 or self.is_foreign:
            stated = np.where(self._known(stated), stated, np.float32(0))
        if self.power < 0:
            return np.divide(1, stated, out=np.zeros_like(stated), where=stated > 0)
        return stated if self.power == 1 else stated**self.power

    def _dq(self, rows: slice) -> NDArray[np.uint16]:
        if self.dq is not None:
            flags = from_mask(self.dq[rows, :], self.bits)
        elif self.mask is not None:
            flags = np.where(self.mask[rows, :] != 0, np.uint16(DQ.BAD_PIXEL), np.uint16(0))
        else:
            y0, y1, _ = rows.indices(self.shape[0])
            flags = np.zeros((max(y1 - y0, 0), self.shape[1]), np.uint16)
        if self.usable is not None:
            self.usable.put_into(flags, rows.indices(self.shape[0])[0])
        if self.variance is None or (self.power > 0 and not self.is_foreign):
            return flags
        known = self._known(read_adu(self.variance, rows))
        return flags | np.where(known, np.uint16(0), np.uint16(DQ.NO_DATA))

    def _known(self, stated: FloatArray) -> NDArray[np.bool_]:
        """Where a stated uncertainty is one."""
        enough = stated > 0 if self.power < 0 else stated >= 0
        return enough & np.isfinite(stated)


@dataclass(frozen=True)
class StoredShare:
    """What the masters brought to a product's variance, by its share.

    Parameters
    ----------
    planes : StoredPlanes
        Of the product, with a variance.
    codes : PlainPixels or TiledPixels
        uint8, see `ccdflow.archive.fits.shares`.
    step, zero : float
        As in `ccdflow.archive.fits.shares.CodedShares`.
    """

    planes: StoredPlanes
    codes: StoredPixels
    step: float
    zero: float

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.planes.shape

    @property
    def unit(self) -> str:
        """Unit of a variance."""
        return squared(self.planes.unit)

    def rows(self, rows: slice) -> Image:
        """Return some rows as the data of an image in memory."""
        shares = share_of_code(self.step, self.zero)[self.codes[rows, :]]
        variance = self.planes.variance_of(rows)
        masters = shares if variance is None else np.multiply(shares, variance, out=shares)
        return Image(masters, np.zeros_like(masters), np.zeros(masters.shape, np.uint16), self.unit)
