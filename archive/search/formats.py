"""The forms in which objects are put into the archive and come back: images, tables, texts, JSON, and those of others.

A package of somebody's own adds one by an entry point of the group ``ccdflow.formats``, whose object is a `Format`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ccdflow.archive.fits.productfile import write_product
from ccdflow.archive.fits.productheader import Origin
from ccdflow.archive.fits.writer import Sink
from ccdflow.archive.search.parts import product_part
from ccdflow.cascade.wording import unknown
from ccdflow.recipes.core.dq import DQ
from ccdflow.recipes.core.image import Image
from ccdflow.recipes.core.recipe import Output

GROUP = "ccdflow.formats"
"""Of the entry points by which others add forms."""


class Format(Protocol):
    """A form of files: how objects of a kind are written and read.

    `name` is a short word, `suffix` the ending of its files, with the dot.
    """

    name: str
    suffix: str

    def takes(self, value: object) -> bool:
        """Tell whether it can hold an object."""

    def write(self, value: Any, stream: Sink, origin: Origin) -> None:
        """Write an object; `origin` says where it comes from, for forms that can tell it."""

    def read(self, path: Path, part: str, section: str) -> Any:
        """Return an object, or a part of it, or say that there are no parts."""


class _Fits:
    """An image with its uncertainty, mask, unit and header."""

    name, suffix = "ccd", ".fits"

    def takes(self, value: object) -> bool:
        return hasattr(value, "uncertainty") and hasattr(value, "mask") and hasattr(value, "unit")

    def write(self, value: Any, stream: Sink, origin: Origin) -> None:
        write_product(stream, Output(_image(value)), replace(origin, header=_cards(value)))

    def read(self, path: Path, part: str, section: str) -> Any:
        return product_part(path, part, section)


class _Table(_Fits):
    """A table of astropy."""

    name = "table"

    def takes(self, value: object) -> bool:
        return hasattr(value, "colnames") and hasattr(value, "columns")

    def write(self, value: Any, stream: Sink, origin: Origin) -> None:
        columns = {name: np.asarray(value[name]) for name in value.colnames}
        write_product(stream, Output(None, table=columns), origin)


class _Text:
    name, suffix = "text", ".txt"

    def takes(self, value: object) -> bool:
        return isinstance(value, str)

    def write(self, value: Any, stream: Sink, origin: Origin) -> None:
        stream.write(str(value).encode("utf-8"))

    def read(self, path: Path, part: str, section: str) -> Any:
        _refuse_parts(path, part, section)
        return path.read_text(encoding="utf-8")


class _Json:
    name, suffix = "json", ".json"

    def takes(self, value: object) -> bool:
        return isinstance(value, Mapping | list | tuple | int | float | bool | None)

    def write(self, value: Any, stream: Sink, origin: Origin) -> None:
        # Keys sorted, so that equal objects are equal files.
        stream.write(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False).encode("utf-8"))

    def read(self, path: Path, part: str, section: str) -> Any:
        _refuse_parts(path, part, section)
        return json.loads(path.read_text(encoding="utf-8"))


OWN: Sequence[Format] = (_Fits(), _Table(), _Text(), _Json())
"""Forms that come with ccdflow."""


@cache
def formats() -> dict[str, Format]:
    """Return all forms by name: those of others come before ours, and may take what ours would."""
    others = [entry.load() for entry in entry_points(group=GROUP)]
    return {form.name: form for form in (*others, *OWN)}


def format_of(value: object, name: str = "") -> Format:
    """Return the form in which an object is kept.

    Parameters
    ----------
    value : object
        Of any kind.
    name : str
        A form; blank for the first that takes it.

    Returns
    -------
    Format
        The form.

    Raises
    ------
    ValueError
        If there is no such form, or none takes it.
    """
    known = formats()
    if name and name not in known:
        raise ValueError(unknown("form", name, known))
    form = known[name] if name else next((form for form in known.values() if form.takes(value)), None)
    if form is None or not form.takes(value):
        hint = "; wrap it in a CCDData, which has a unit" if isinstance(value, np.ndarray) else ""
        raise ValueError(f"{type(value).__name__} is of no form that is known: {', '.join(known)}{hint}")
    return form


def read_file(path: Path, part: str = "", section: str = "") -> Any:
    """Return what is in a product's file.

    Parameters
    ----------
    path : Path
        The file; its ending says of which form it is.
    part, section : str
        As of `product_part`, where the form has parts.

    Returns
    -------
    object
        As it was put, or as a recipe made it.

    Raises
    ------
    ValueError
        If no form has such an ending, or the form has no such part.
    """
    for form in formats().values():
        if form.suffix == path.suffix:
            return form.read(path, part, section)
    raise ValueError(f"{path} is of a form that is not installed: files end in {_suffixes()}")


def _suffixes() -> str:
    return ", ".join(sorted({form.suffix for form in formats().values()}))


def _refuse_parts(path: Path, part: str, section: str) -> None:
    if part or section:
        raise ValueError(f"{path.name} has no parts or sections: {part or section} was wanted")


def _image(value: Any) -> Image:
    """The pixels of a CCDData: without uncertainty of variance 0, masked ones as bad."""
    data = np.asarray(value.data, np.float32)
    if data.ndim != 2:
        raise ValueError(f"an image has two axes; this one has the shape {data.shape}")
    mask = np.zeros(data.shape, bool) if value.mask is None else np.broadcast_to(value.mask, data.shape)
    dq = np.where(mask, DQ.BAD_PIXEL, 0).astype(np.uint16)
    return Image(data, _variance(value, data), dq, value.unit.to_string())


def _cards(value: Any) -> dict[str, Any]:
    """The header of a CCDData, with its coordinates, which astropy keeps apart."""
    world = {} if value.wcs is None else dict(value.wcs.to_header(relax=True))
    return {str(name): card for name, card in {**value.meta, **world}.items()}


def _variance(value: Any, data: Any) -> Any:
    if value.uncertainty is None:
        return np.zeros_like(data)
    from astropy.nddata import VarianceUncertainty

    return np.asarray(value.uncertainty.represent_as(VarianceUncertainty).array, np.float32)
