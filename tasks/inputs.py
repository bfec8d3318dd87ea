"""Files as recipes take them: raw frames with their detector, products with their header."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ccdflow.archive.product import read_product
from ccdflow.archive.rawfile import open_raw
from ccdflow.cascade.amplifiers import detector
from ccdflow.cascade.classify import FileFacts, describe
from ccdflow.cascade.headers import cards_of
from ccdflow.cascade.instrument import Instrument, find_instrument
from ccdflow.recipes.detector import RawFrame
from ccdflow.recipes.recipe import Product, Recipe


def raw_frame(path: Path, instruments: Sequence[Instrument]) -> tuple[RawFrame, Mapping[str, Any]]:
    """A raw file as a recipe takes it, and its header; pixels are read when the recipe cuts them.

    Raises
    ------
    UnreadableFrameError
        If the file is no raw frame.
    ValueError
        If the sections in its header contradict each other.
    """
    file = open_raw(path)
    instrument = find_instrument(cards_of(file.header), instruments)
    made = detector(file.header, instrument, file.shape)
    facts = FileFacts(file.comments, [one.name for one in file.extensions])
    exptime = describe(file.header, file.shape, instruments, facts).exptime
    return RawFrame(file.pixels, made, exptime or 0.0, path.name), file.header


def read_input(
    recipe: Recipe, role: str, path: Path, instruments: Sequence[Instrument]
) -> tuple[RawFrame | Product, Mapping[str, Any]]:
    """A file as the recipe takes it in one role, and its header."""
    if recipe.inputs[role].kind == "raw":
        return raw_frame(path, instruments)
    product = read_product(path)
    return product, product.header
