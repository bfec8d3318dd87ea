"""Recipe ``colours``: a calibrated frame of a one-shot colour camera to its red, green and blue planes.

A plane has one pixel for each cell of 2 × 2, so half the scale: nothing is interpolated, and noise stays what it was.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ccdflow.recipes.core.cardnumbers import card_number
from ccdflow.recipes.core.image import FloatArray, Image
from ccdflow.recipes.core.mosaic import CELL, COLOURS, PATTERNS, places
from ccdflow.recipes.core.recipe import Card, Input, InputProduct, Inputs, Output, Parameters, Recipe, Result
from ccdflow.recipes.core.response import combined_response, response_cards, response_of
from ccdflow.recipes.core.sky import sky_quality
from ccdflow.recipes.detector.calibrate import one_product, pixels_of

MOSAIC_CARDS = (
    "MOSAIC",
    "BAYERPAT",
    "XBAYROFF",
    "YBAYROFF",
    "BAYOFFX",
    "BAYOFFY",
    "COLORTYP",
    "CFAPAT",
    "ROWORDER",
)
"""Cards that no longer hold: who reads them would take the plane for a mosaic."""
PIXEL_SIZES = (
    "XPIXSZ",
    "YPIXSZ",
    "PIXSIZE1",
    "PIXSIZE2",
    "PIXSCALE",
    "SECPIX",
    "SCALE",
    "SECPIX1",
    "SECPIX2",
)
"""Cards of the size of a pixel, in whatever unit: that of a cell is twice as long."""


class ColoursParameters(Parameters):
    """Parameters of the recipe ``colours``: it has none."""


def run(inputs: Inputs, parameters: ColoursParameters) -> Result:
    """Split a calibrated mosaic into its colours.

    Parameters
    ----------
    inputs : Inputs
        ``main``: one calibrated frame, whose card ``MOSAIC`` tells the pattern.
    parameters : ColoursParameters
        None.

    Returns
    -------
    Result
        Categories ``science_red``, ``science_green`` and ``science_blue``, of shape (ny // 2, nx // 2), in the unit of
        the frame. Red and blue are the frame's own pixels; green is the mean of two, with variance (Va + Vb) / 4
        and the flags of both, and the masters' part of the variance likewise. ``FILTER`` is R, G or B; the WCS is that
        of the plane.

    Raises
    ------
    ValueError
        If there is not one frame, or its mosaic is not known.
    """
    frame = one_product(inputs, "main")
    if frame is None:
        raise ValueError("found no frame as main, one is needed")
    pattern = str(frame.header.get("MOSAIC", ""))
    if pattern not in PATTERNS:
        known = ", ".join(PATTERNS)
        raise ValueError(f"{frame.name} has MOSAIC={pattern!r}; known: {known}, which science frames tell")
    image = pixels_of(frame, "frame").rows(slice(None))
    masters = frame.calibration_variance
    shared = None if masters is None else masters.rows(slice(None)).data
    outputs = {
        f"science_{name}": _output(frame, image, shared, places(pattern, colour), colour)
        for colour, name in COLOURS.items()
    }
    return Result(outputs)


def _output(
    frame: InputProduct,
    image: Image,
    shared: FloatArray | None,
    cells: Sequence[tuple[int, int]],
    colour: str,
) -> Output:
    plane = Image(
        _mean(image.data, cells), _mean_variance(image.variance, cells), _flags(image.dq, cells), image.unit
    )
    known = response_of(frame.header, image.unit)
    count = len(cells)
    response = combined_response([known] * count, [1.0] * count, [1.0] * count, [known.saturation] * count)
    return Output(
        plane,
        calibration_variance=None if shared is None else _mean_variance(shared, cells),
        cards={
            "FILTER": (colour, "colour of the mosaic's pixels"),
            "MOSAICOF": (str(frame.header["MOSAIC"]), "mosaic that this is a plane of"),
            **wcs_cards(frame.header, cells),
            **_size_cards(frame.header),
            **response_cards(response, image.unit),
        },
        quality=sky_quality(plane),
        dropped=MOSAIC_CARDS,
    )


def _parts(plane: NDArray[Any], cells: Sequence[tuple[int, int]]) -> list[NDArray[Any]]:
    """Pixels of a colour, one array for each of its places in a cell; a last odd row or column is in no cell."""
    ny, nx = (size // CELL * CELL for size in plane.shape)
    return [plane[row:ny:CELL, column:nx:CELL] for row, column in cells]


def _mean(plane: FloatArray, cells: Sequence[tuple[int, int]]) -> FloatArray:
    parts = _parts(plane, cells)
    # One part is copied: the frame's memory belongs to others.
    return np.asarray(sum(parts[1:], parts[0].copy()) / np.float32(len(parts)), np.float32)


def _mean_variance(plane: FloatArray, cells: Sequence[tuple[int, int]]) -> FloatArray:
    parts = _parts(plane, cells)
    return np.asarray(sum(parts[1:], parts[0].copy()) / np.float32(len(parts) ** 2), np.float32)


def _flags(dq: NDArray[np.uint16], cells: Sequence[tuple[int, int]]) -> NDArray[np.uint16]:
    # A mean of which a part is bad is bad: the other green alone would lie half a cell beside its place.
    flags: NDArray[np.uint16] = np.bitwise_or.reduce(_parts(dq, cells))
    return flags


def wcs_cards(header: Mapping[str, Any], cells: Sequence[tuple[int, int]]) -> dict[str, Card]:
    """Return the cards of a header's WCS as they are for a plane of one colour.

    Parameters
    ----------
    header : mapping
        Keyword to value, of the mosaic.
    cells : sequence of (int, int)
        Row and column of the colour's pixels within a cell.

    Returns
    -------
    dict of str to (value, comment)
        The cards that differ; empty where the header has no WCS.

    Notes
    -----
    A plane's pixel P, counted from 1, has its centre at p = 2 (P - 1) + 1 + o of the mosaic, for the mean place o of
    its pixels in the cell: 0 or 1, and 1/2 for green. So CRPIX becomes (CRPIX - 1 - o) / 2 + 1, steps are doubled, and
    SIP's coefficients of order p + q are multiplied by 2^(p + q - 1) [1].

    References
    ----------
    [1] Shupe et al. 2005, ASPC 347, 491: SIP's u and v are pixels from CRPIX, and so are f(u, v) and g(u, v).
    """
    offsets = [float(np.mean([cell[axis] for cell in cells])) for axis in (1, 0)]
    cards: dict[str, Card] = {}
    for axis, offset in enumerate(offsets, 1):
        if (pixel := card_number(header.get(f"CRPIX{axis}"))) is not None:
            cards[f"CRPIX{axis}"] = ((pixel - 1 - offset) / CELL + 1, "reference pixel")
        names = (f"CDELT{axis}", f"CD{axis}_1", f"CD{axis}_2")
        steps = {name: step for name in names if (step := card_number(header.get(name))) is not None}
        # PCi_j without CDELTi means that this is 1.
        if not steps and f"CTYPE{axis}" in header:
            steps = {f"CDELT{axis}": 1.0}
        cards |= {name: (CELL * step, "step of a pixel") for name, step in steps.items()}
    return cards | dict(_sip_cards(header))


def _sip_cards(header: Mapping[str, Any]) -> dict[str, Card]:
    cards: dict[str, Card] = {}
    for letters in ("A", "B", "AP", "BP"):
        for p in range(10):
            for q in range(10):
                value = card_number(header.get(f"{letters}_{p}_{q}"))
                if value is not None:
                    cards[f"{letters}_{p}_{q}"] = (value * CELL ** (p + q - 1), "SIP distortion")
    return cards


def _size_cards(header: Mapping[str, Any]) -> dict[str, Card]:
    sizes = {name: card_number(header.get(name)) for name in PIXEL_SIZES}
    return {
        name: (CELL * size, "of a cell of 2 x 2 pixels") for name, size in sizes.items() if size is not None
    }


RECIPE = Recipe(
    name="colours",
    version="3",
    inputs={"main": Input("product", 1, 1)},
    outputs=tuple(f"science_{name}" for name in COLOURS.values()),
    parameters=ColoursParameters,
    run=run,
)
