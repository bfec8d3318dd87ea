"""What a recipe states about itself, and what it takes and gives.

`Recipe` is the declaration: what goes in (`Input`), the names of what comes out, its parameters and its version. The
job graph is built from it alone. `InputProduct` and `ccdflow.recipes.detector.amplifiers.RawFrame` are what `run`
gets, `Result` with an `Output` for each category is what it gives back. ``recipes/template.py`` is an example to copy.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from ccdflow.recipes.core.doubts import Doubt
from ccdflow.recipes.core.image import FloatArray, Image, ImageSource
from ccdflow.recipes.detector.amplifiers import RawFrame

# FITS keywords are state of a file, not of a program: a recipe adds cards for readers, and no later step of the same
# run looks at them. Only a later job does, by `InputProduct.header`.
Card = tuple[str | int | float | bool, str]
"""Value and comment of a header card; a comment on a number begins with its unit: ``[electron] level``."""


class Parameters(BaseModel):
    """Base of every recipe's parameters: unknown names are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class InputProduct:
    """A product of an earlier job, as a recipe takes it.

    Parameters
    ----------
    image : ImageSource or None
        Its pixels; None for a calibration that is a table.
    exptime : float
        Exposure time in seconds of one exposure (of the mean, for a combined product); NaN where it is not known.
    name : str
        File name, for messages.
    header : mapping
        Its header cards, keyword to value.
    calibration : str
        Identity of the masters that were applied: frames with equal identities share their masters' errors.
    calibration_variance : ImageSource or None
        The part of the variance that those masters brought, as the data of an image.
    table : mapping of arrays or None
        The columns of a calibration that is a table, each of shape (rows,).
    comments : mapping
        Comments of its header cards, by keyword.
    """

    image: ImageSource | None
    exptime: float = 0.0
    name: str = ""
    header: Mapping[str, Any] = field(default_factory=dict)
    calibration: str = ""
    calibration_variance: ImageSource | None = None
    table: Mapping[str, NDArray[Any]] | None = None
    comments: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Output:
    """A product as a recipe gives it back, before it has a file.

    Parameters
    ----------
    image : Image or None
        None for a calibration that is a table.
    ngood : uint16 array or None, shape (ny, nx)
        How many inputs stand behind each pixel, for combined products.
    calibration_variance : float32 array or None, shape (ny, nx)
        The part of the variance that the masters brought, in the image's unit squared.
    table : mapping of arrays or None
        Columns of a calibration that is a table, each of shape (rows,).
    cards : mapping
        Header cards that the recipe adds, keyword to (value, comment).
    quality : mapping
        Quality numbers, name to value; they stand in the registry and in the header.
    dropped : tuple of str
        Keywords of the main input's header that do not hold for this product.

    Raises
    ------
    ValueError
        If the image has no rows or no columns.
    """

    image: Image | None
    ngood: NDArray[np.uint16] | None = None
    calibration_variance: FloatArray | None = None
    table: Mapping[str, NDArray[Any]] | None = None
    cards: Mapping[str, Card] = field(default_factory=dict)
    quality: Mapping[str, float] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.image is not None and not self.image.data.size:
            raise ValueError(f"an output has no pixels: its shape is {self.image.shape}")


@dataclass(frozen=True)
class LeftOut:
    """A main input that a recipe has not used, since it does not fit the others.

    Parameters
    ----------
    position : int
        Its place among the main inputs, from 0.
    name : str
        Its file name.
    reason : str
        What is wrong with it, in one sentence without its name.
    """

    position: int
    name: str
    reason: str

    @property
    def sentence(self) -> str:
        """Name and reason."""
        return f"{self.name} is left out: {self.reason}"


def left_out_cards(left_out: Sequence[LeftOut]) -> dict[str, Card]:
    """Return the cards that name the frames which are not in a product.

    Parameters
    ----------
    left_out : sequence of LeftOut
        In the order of the inputs.

    Returns
    -------
    dict of str to (value, comment)
        Their number, also 0, and name and reason of each.
    """
    cards: dict[str, Card] = {"NLEFTOUT": (len(left_out), "frames of the set that are not in it")}
    for number, left in enumerate(left_out, start=1):
        cards[f"LEFT{number:03d}"] = f"{left.name}: {left.reason}", ""
    return cards


@dataclass(frozen=True)
class Result:
    """What a recipe gives back.

    Parameters
    ----------
    outputs : mapping
        Category to `Output`; those categories that `Recipe.outputs` states. Empty where `left_out` leaves nothing to be
        combined: then the main inputs pass as they are.
    warnings : tuple of Doubt
        What is odd about it; they stand in the registry and in the product's header. A sentence alone, as text, will
        do: it is of the kind ``recipe``.
    left_out : tuple of LeftOut
        Main inputs that the outputs hold nothing of. Frame and set say so, and the header's cards.
    """

    outputs: Mapping[str, Output]
    warnings: tuple[Doubt | str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()


Inputs = Mapping[str, Sequence[RawFrame] | Sequence[InputProduct]]
"""Role to inputs; ``main`` is always there, an optional role may be missing or empty."""


@dataclass(frozen=True)
class Input:
    """What a recipe takes in one role.

    Parameters
    ----------
    kind : {'raw', 'product'}
        Raw frames (`RawFrame`), or products of other jobs (`InputProduct`).
    minimum : int
        How many there are at least; 0 makes the role optional.
    maximum : int or None
        How many there are at most; None means any number.
    """

    kind: Literal["raw", "product"]
    minimum: int = 1
    maximum: int | None = 1


# A declaration is data: planning a month of nights reads these and imports no algorithm.
@dataclass(frozen=True)
class Recipe:
    """A recipe's declaration: the job graph is built from it without calling the algorithm.

    Parameters
    ----------
    name : str
        As the cascade calls it.
    version : str
        Changes whenever the pixels that it makes change; part of each job's key.
    inputs : mapping
        Role to `Input`; ``main`` is the set that the job is made for.
    outputs : tuple of str
        Product categories.
    parameters : type of Parameters
        Model of the parameters, with defaults.
    run : callable
        ``run(inputs, parameters) -> Result``; pure, does not change its inputs.
    kernels : tuple of str
        Modules of compiled functions that it runs, which may be loaded beforehand, side by side.
    """

    name: str
    version: str
    inputs: Mapping[str, Input]
    outputs: tuple[str, ...]
    parameters: type[Parameters]
    run: Callable[[Inputs, Any], Result]
    kernels: tuple[str, ...] = ()
