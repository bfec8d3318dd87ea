"""Parts of a file: one plane, one section, the header, a table, without reading the rest."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ccdflow.archive.fits.productfile import read_product
from ccdflow.archive.fits.rawfile import open_raw
from ccdflow.cascade.headers.sections import read_section
from ccdflow.cascade.wording import unknown
from ccdflow.recipes.core.dq import excluded
from ccdflow.recipes.core.image import Image, ImageSource
from ccdflow.recipes.core.recipe import InputProduct
from ccdflow.recipes.detector.amplifiers import Section

if TYPE_CHECKING:
    from astropy.io.fits import Header
    from astropy.nddata import CCDData
    from astropy.table import Table

PLANES = ("data", "variance", "uncertainty", "mask", "dq", "masters")
"""Parts that are arrays of the image's shape."""
PRODUCT_PARTS = ("ccd", *PLANES, "header", "table")
LONGEST_KEYWORD = 8
RAW_PARTS = ("ccd", "data", "header")


def product_part(path: Path, part: str = "", section: str = "") -> Any:
    """Return a part of a product.

    Parameters
    ----------
    path : Path
        Its file.
    part : str
        ``ccd``: an `astropy.nddata.CCDData` with standard deviation, mask, unit, WCS and header; ``data``,
        ``variance``, ``uncertainty`` (standard deviation), ``masters`` (what the masters brought to the variance):
        float32 arrays; ``mask``: bool; ``dq``: uint16; ``header``; ``table``. Blank: ``ccd``, or the table of a product
        that is one.
    section : str
        ``[x0:x1,y0:y1]`` as in FITS: counted from 1, both ends belong to it; only its rows are read. Blank for all.

    Returns
    -------
    CCDData, array, Header or Table
        The part.

    Raises
    ------
    ProductFileError
        If the file is none, or damaged.
    ValueError
        If the product has no such part, or the section is none.
    """
    product = read_product(path)
    wanted = part or ("ccd" if product.image is not None else "table")
    if wanted not in PRODUCT_PARTS:
        raise ValueError(unknown("part", wanted, PRODUCT_PARTS))
    if wanted == "header":
        return fits_header(product.header, product.comments)
    if wanted == "table":
        return _table(product)
    source = product.calibration_variance if wanted == "masters" else product.image
    if source is None:
        raise ValueError(f"{product.name} has no {wanted}")
    cut = _section(section, source.shape)
    image = _cut(source, cut)
    if wanted == "ccd":
        return _ccd(image, fits_header(product.header, product.comments), cut)
    return _plane(image, "data" if wanted == "masters" else wanted)


def raw_part(path: Path, part: str = "", section: str = "") -> Any:
    """Return a part of a raw frame.

    Parameters
    ----------
    path : Path
        Its file.
    part : str
        ``ccd`` (also where it is blank): a `CCDData` in adu; ``data``: the array as it is in the file; ``header``.
    section : str
        As of `product_part`; of the raw array.

    Returns
    -------
    CCDData, array or Header
        The part.

    Raises
    ------
    UnreadableFrameError
        If the file is no raw frame.
    ValueError
        If there is no such part, or the section is none.
    """
    wanted = part or "ccd"
    if wanted not in RAW_PARTS:
        raise ValueError(unknown("part of a raw frame", wanted, RAW_PARTS))
    raw = open_raw(path)
    header = fits_header(raw.header, raw.comments)
    if wanted == "header":
        return header
    cut = _section(section, raw.shape)
    data = raw.pixels[slice(cut.y0, cut.y1), slice(cut.x0, cut.x1)]
    if wanted == "data":
        return data
    from astropy.nddata import CCDData

    _shift(header, cut)
    return CCDData(data, unit="adu", meta=header, wcs=_world(header))


def _section(written: str, shape: tuple[int, int]) -> Section:
    if not written:
        return Section(0, shape[0], 0, shape[1])
    section = read_section("section", written, shape).section
    if section.x1 > shape[1] or section.y1 > shape[0]:
        raise ValueError(f"section {written} reaches out of an image of {shape[1]} x {shape[0]} pixels")
    return section


def _cut(source: ImageSource, cut: Section) -> Image:
    rows, columns = source.rows(slice(cut.y0, cut.y1)), slice(cut.x0, cut.x1)
    data, variance = (np.ascontiguousarray(plane[:, columns]) for plane in (rows.data, rows.variance))
    return Image(data, variance, np.ascontiguousarray(rows.dq[:, columns]), rows.unit)


def _plane(image: Image, part: str) -> Any:
    if part == "uncertainty":
        return np.sqrt(image.variance)
    return excluded(image.dq) if part == "mask" else getattr(image, part)


def _ccd(image: Image, header: "Header", cut: Section) -> "CCDData":
    from astropy.nddata import CCDData, StdDevUncertainty

    _shift(header, cut)
    return CCDData(
        image.data,
        uncertainty=StdDevUncertainty(np.sqrt(image.variance)),
        mask=excluded(image.dq),
        unit=image.unit,
        meta=header,
        wcs=_world(header),
    )


def fits_header(values: Mapping[str, Any], comments: Mapping[str, str]) -> "Header":
    """Return a header as astropy has it.

    Parameters
    ----------
    values, comments : mapping
        By keyword; those of more than 8 letters become HIERARCH cards.

    Returns
    -------
    Header
        A card for each.
    """
    from astropy.io.fits import Header

    header = Header()
    for name, value in values.items():
        keyword = f"HIERARCH {name}" if len(name) > LONGEST_KEYWORD or " " in name else name
        header[keyword] = value, comments.get(name, "")
    return header


def _shift(header: "Header", cut: Section) -> None:
    """Let the reference pixel be that of the section (FITS 4.0, section 8.1)."""
    for card, first in (("CRPIX1", cut.x0), ("CRPIX2", cut.y0)):
        if card in header and first:
            header[card] -= first


def _world(header: "Header") -> Any:
    """The coordinates; None where the header has none."""
    if "CTYPE1" not in header:
        return None
    from astropy.wcs import WCS

    return WCS(header)


def _table(product: InputProduct) -> "Table":
    from astropy.table import Table

    if product.table is None:
        raise ValueError(f"{product.name} holds no table")
    return Table(dict(product.table))
