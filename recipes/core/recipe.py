"""What a recipe states about itself, and what it takes and gives."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from ccdflow.recipes.core.image import FloatArray, Image, ImageSource
from ccdflow.recipes.detector.amplifiers import RawFrame

Card = tuple[str | int | float | bool, str]
"""Value and comment of a header card."""


class Parameters(BaseModel):
    """Base of every recipe's parameters: unknown names are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class InputProduct:
    """A product that another recipe takes as input.

    Parameters
    ----------
    image : ImageSource
        Its pixels; `Image` where the recipe needs them whole.
    exptime : float
        Exposure time in seconds of one exposure (of the mean, for a combined product).
    name : str
        File name, for messages.
    header : mapping
        Its header cards, keyword to value.
    calibration : str
        Identity of the masters that were applied: frames with equal identities share their masters' errors.
    calibration_variance : ImageSource or None
        The part of the variance that those masters brought, as the data of an image.
    table : mapping of arrays or None
        The columns of a calibration that is a table.
    """

    image: ImageSource | None
    exptime: float = 0.0
    name: str = ""
    header: Mapping[str, Any] = field(default_factory=dict)
    calibration: str = ""
    calibration_variance: ImageSource | None = None
    table: Mapping[str, NDArray[Any]] | None = None


@dataclass(frozen=True)
class Output:
    """One product as a recipe gives it back.

    Parameters
    ----------
    image : Image or None
        None for a calibration that is a table.
    ngood : uint16 array or None, shape (ny, nx)
        How many inputs stand behind each pixel, for combined products.
    calibration_variance : float32 array or None, shape (ny, nx)
        The part of the variance that the masters brought.
    table : mapping of arrays or None
        Columns of a calibration that is a table.
    cards : mapping
        Header cards that the recipe adds, keyword to (value, comment).
    quality : mapping
        Quality numbers, name to value; they stand in the registry and in the header.
    """

    image: Image | None
    ngood: NDArray[np.uint16] | None = None
    calibration_variance: FloatArray | None = None
    table: Mapping[str, NDArray[Any]] | None = None
    cards: Mapping[str, Card] = field(default_factory=dict)
    quality: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """What a recipe gives back: its outputs by category, and one sentence for each doubt."""

    outputs: Mapping[str, Output]
    warnings: tuple[str, ...] = ()


Inputs = Mapping[str, Sequence[RawFrame] | Sequence[InputProduct]]
"""Role to inputs; ``main`` is always there, an optional role may be missing or empty."""


@dataclass(frozen=True)
class Input:
    """What a recipe takes in one role: raw frames or products, and how many (None: any number)."""

    kind: Literal["raw", "product"]
    minimum: int = 1
    maximum: int | None = 1


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
