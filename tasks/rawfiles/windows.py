"""Masters cut to the part of the detector that a raw frame has read out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ccdflow.cascade.headers.classify import Description
from ccdflow.cascade.records import Value
from ccdflow.cascade.windows import Window, binning_factors, window_of
from ccdflow.recipes.core.cutting import cut_product
from ccdflow.recipes.core.recipe import Card, InputProduct

WINDOW_CARD = "CCDSEC"
"""Card of a product with its place on the detector, in unbinned pixels (NOAO's word)."""
_WORDS = {"bias": "BIASCUT", "dark": "DARKCUT", "flat": "FLATCUT", "bad_pixel_mask": "MASKCUT"}
"""Cards that tell the part of each master that was used."""


@dataclass(frozen=True)
class ReadArea:
    """What a raw frame has read out.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns of the assembled image.
    window : Window or None
        Its place on the detector, where that is told.
    binning : str or None
        ``2x2``.
    """

    shape: tuple[int, int]
    window: Window | None = None
    binning: Value | None = None

    @classmethod
    def of(cls, shape: tuple[int, int], keywords: Mapping[str, Value]) -> "ReadArea":
        """Return the area of a frame by the keywords that its header was read into.

        Parameters
        ----------
        shape : tuple of int
            Rows and columns of the assembled image.
        keywords : mapping
            With ``window`` and ``binning``, where they are told.
        """
        return cls(shape, Window.parse(keywords.get("window")), keywords.get("binning"))

    @property
    def cards(self) -> dict[str, Card]:
        """The card by which a product tells its place."""
        if self.window is None:
            return {}
        return {WINDOW_CARD: (str(self.window), "part of the detector, unbinned pixels")}


def placed(product: InputProduct, described: Description) -> InputProduct:
    """Return a calibration of another program with its place on the detector told as our products tell it.

    Parameters
    ----------
    product : InputProduct
        As its file has it.
    described : Description
        What its header says: its place may stand in ``XORGSUBF``, ``DETSEC``, ``LTV1``, ...

    Returns
    -------
    InputProduct
        With `WINDOW_CARD`, or without where nobody knows: then it was chosen as one of all the detector.
    """
    header = {name: value for name, value in product.header.items() if name != WINDOW_CARD}
    window = described.keywords.get("window")
    return replace(product, header=header if window is None else {**header, WINDOW_CARD: window})


def cut_to(
    area: ReadArea, by_role: Mapping[str, Sequence[Any]]
) -> tuple[dict[str, list[Any]], dict[str, Card]]:
    """Return a job's inputs with each master cut to the frame, and the cards that tell of it.

    Parameters
    ----------
    area : ReadArea
        Of the raw frames that are the main input.
    by_role : mapping
        Role to inputs; what is no product with an image, or has the frame's size already, stays as it is.

    Returns
    -------
    inputs : dict
        Role to inputs.
    cards : dict
        ``BIASCUT``, ``DARKCUT``, ``FLATCUT``: the section of the master that was used, in its own pixels.

    Raises
    ------
    ValueError
        If a master tells a place that does not hold the frame's.
    """
    inputs: dict[str, list[Any]] = {}
    cards: dict[str, Card] = {}
    for role, products in by_role.items():
        inputs[role] = list(products)
        for place, product in enumerate(products):
            first = None if role == "main" else _first_pixel(area, role, product)
            if first is not None:
                (y, x), (ny, nx) = first, area.shape
                inputs[role][place] = cut_product(product, first, area.shape)
                section = f"[{x + 1}:{x + nx},{y + 1}:{y + ny}]"
                cards[_WORDS.get(role, f"{role[:5].upper()}CUT")] = (
                    section,
                    f"part of the {role} that was used",
                )
    return inputs, cards


def _first_pixel(area: ReadArea, role: str, product: Any) -> tuple[int, int] | None:
    """Return the row and column at which the frame begins in a master; None where nothing is to be cut."""
    if not isinstance(product, InputProduct) or product.image is None or area.window is None:
        return None
    ny, nx = product.image.shape
    told = Window.parse(product.header.get(WINDOW_CARD))
    if (ny, nx) == area.shape and told in (None, area.window):
        return None
    # What is smaller can't be cut; whoever applies it says how large it is. So are products of stubs.
    if ny < area.shape[0] or nx < area.shape[1]:
        return None
    # A master that does not tell its place is of all the detector.
    whole = told or window_of(f"{ny}x{nx}", area.binning)
    if whole is None:
        return None
    try:
        x, y = whole.cut(area.window, binning_factors(area.binning))
    except ValueError as error:
        raise ValueError(f"{role} {product.name}: {error}") from None
    return y, x
