"""Where the pixels of a raw frame come from: sections, amplifiers and their numbers."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeGuard

from numpy.typing import NDArray

from ccdflow.recipes.core.times import Span

# Headers count from 1, x first, both ends included (IRAF's notation of sections); numpy counts from 0, y first, without
# the last. `Section.parse` is the only place that knows both.
_SECTION = re.compile(r"\s*\[\s*(\d+)\s*:\s*(\d+)\s*,\s*(\d+)\s*:\s*(\d+)\s*\]\s*")


@dataclass(frozen=True)
class Section:
    """Rows ``y0 <= y < y1`` and columns ``x0 <= x < x1``, counted from 0.

    `flip_y` and `flip_x` say that the section is read from its far end, as a FITS section does whose
    first bound is above its second.

    Parameters
    ----------
    y0, y1 : int
        First row, and the one after the last.
    x0, x1 : int
        First column, and the one after the last.
    flip_y, flip_x : bool
        True if rows, or columns, run backwards.
    """

    y0: int
    y1: int
    x0: int
    x1: int
    flip_y: bool = False
    flip_x: bool = False

    def __str__(self) -> str:
        """Return the section as FITS writes it: from 1, ends included; backwards where the readout runs backwards."""
        x = (self.x1, self.x0 + 1) if self.flip_x else (self.x0 + 1, self.x1)
        y = (self.y1, self.y0 + 1) if self.flip_y else (self.y0 + 1, self.y1)
        return f"[{x[0]}:{x[1]},{y[0]}:{y[1]}]"

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and columns ``(ny, nx)``."""
        return self.y1 - self.y0, self.x1 - self.x0

    @classmethod
    def parse(cls, text: str) -> "Section":
        """Return the section that a FITS card means.

        Parameters
        ----------
        text : str
            As in DATASEC or BIASSEC: x first, counted from 1, both ends included.

        Returns
        -------
        Section

        Raises
        ------
        ValueError
            If `text` is not a section.

        Examples
        --------
        >>> Section.parse("[1:1024,1:512]").shape
        (512, 1024)
        >>> Section.parse("[1024:1,1:512]").flip_x
        True
        """
        match = _SECTION.fullmatch(text)
        if match is None:
            raise ValueError(f"section {text!r} is not of the form '[x1:x2,y1:y2]'")
        xa, xb, ya, yb = (int(group) for group in match.groups())
        if min(xa, xb, ya, yb) < 1:
            raise ValueError(f"section {text!r} starts below pixel 1, from which FITS counts")
        # From 1 with both ends to 0 without the last: the lower bound loses one, the upper bound stays.
        return cls(min(ya, yb) - 1, max(ya, yb), min(xa, xb) - 1, max(xa, xb), ya > yb, xa > xb)

    @classmethod
    def whole(cls, shape: tuple[int, int]) -> "Section":
        """Return the section that covers all of an array.

        Parameters
        ----------
        shape : (int, int)
            Number of rows and columns ``(ny, nx)``.

        Returns
        -------
        Section
        """
        return cls(0, shape[0], 0, shape[1])


SaturationOrigin = Literal["header", "bits", "pixels", "assumed"]
"""Who says where an amplifier saturates, in falling order of trust."""


@dataclass(frozen=True)
class Amplifier:
    """One readout of a detector.

    Parameters
    ----------
    data : Section
        The light-sensitive pixels in the raw array.
    target : Section
        Where they belong in the assembled image; same shape as `data`.
    overscan : Section or None
        The overscan in the raw array: same rows as `data` (columns beside it), or same columns.
    gain : float or None
        Electron per adu; None where nobody knows.
    read_noise : float or None
        Electron rms per pixel; None where nobody knows.
    saturation : float
        adu in the raw frame; a pixel at or above it is saturated.
    saturation_from : {'header', 'bits', 'pixels', 'assumed'}
        Header or instrument file, the bits of the converter, what pixels show, or nobody.
    bits : int or None
        Bits of the converter, where the header states them.
    linearity : tuple of float
        Coefficients ``c1, c2, ...``: true signal = s (1 + c1 s + c2 s² + ...), s in electron; empty for a
        detector that is linear.
    nonlinear : float or None
        Electron above which a pixel is flagged ``NONLINEAR``.
    name : str
        As the header names it.
    """

    data: Section
    target: Section
    overscan: Section | None = None
    gain: float | None = None
    read_noise: float | None = None
    saturation: float = 65535.0
    linearity: tuple[float, ...] = ()
    nonlinear: float | None = None
    name: str = ""
    saturation_from: SaturationOrigin = "assumed"
    bits: int | None = None


@dataclass(frozen=True)
class Detector:
    """The amplifiers of one detector.

    Parameters
    ----------
    shape : (int, int)
        Number of rows and columns ``(ny, nx)`` of the assembled image.
    amplifiers : tuple of Amplifier
        At least one.
    assumptions : tuple of str
        Sentences: what was taken for granted of sections that the header leaves open.
    """

    shape: tuple[int, int]
    amplifiers: tuple[Amplifier, ...]
    assumptions: tuple[str, ...] = ()

    @property
    def linear(self) -> bool:
        """True if no amplifier is to be corrected for linearity, nor flagged beyond it."""
        return not any(
            amplifier.linearity or amplifier.nonlinear is not None for amplifier in self.amplifiers
        )


# What a recipe reads raw frames by. An array in memory does, in tests and notebooks; files give theirs piece by piece,
# so that combining a hundred frames holds a strip of each.


class Pixels(Protocol):
    """A two-dimensional array of adu that can be cut: a numpy array, a memory map, a FITS section."""

    @property
    def shape(self) -> Sequence[int]:
        """Number of rows and columns ``(ny, nx)``."""
        ...

    def __getitem__(self, key: tuple[slice, slice], /) -> Any: ...


@dataclass(frozen=True)
class StoredNumbers:
    """Rows of pixels as they stand in a FITS file.

    Parameters
    ----------
    numbers : uint16 or uint32 array, shape (rows, nx)
        C-contiguous, highest byte first as FITS has it (standard 4.0, section 5). As uint16, the bits of signed
        integers (BITPIX 16), which mean adu - 32768 - `zero`; as uint32, those of reals (BITPIX -32) in adu.
    zero : float
        Added to integers: BZERO less the 32768 that makes them unsigned.
    """

    numbers: NDArray[Any]
    zero: float = 0.0


class StoredPixels(Pixels, Protocol):
    """Pixels that can be had as they stand in their file, which saves making and copying numbers."""

    def stored(self, rows: slice) -> StoredNumbers | None:
        """Return some rows as they stand in their file.

        Parameters
        ----------
        rows : slice
            Consecutive rows of the raw array, counted from 0.

        Returns
        -------
        StoredNumbers or None
            None where they are of neither kind.
        """
        ...


def are_stored(pixels: Pixels) -> TypeGuard[StoredPixels]:
    """Tell whether pixels can be had as they stand in their file.

    Parameters
    ----------
    pixels : Pixels
        Any; nothing is read from them.

    Returns
    -------
    bool
    """
    # isinstance with a protocol looks at all its members anew each time, which for each strip is too slow.
    return hasattr(pixels, "stored")


@dataclass(frozen=True)
class RawFrame:
    """One raw frame as a recipe sees it.

    Parameters
    ----------
    pixels : Pixels
        adu, shape (ny, nx) of the raw array, overscan included; recipes that combine cut it, and never load it whole.
    detector : Detector
        How to read the raw array.
    exptime : float
        Exposure time in seconds; NaN where it is not known.
    name : str
        File name or id, for messages.
    span : Span
        When it was exposed, as far as that is known.
    mosaic : str
        Colours of the assembled image's first pixels (`ccdflow.recipes.core.mosaic`); empty without a mosaic.
    """

    pixels: Pixels
    detector: Detector
    exptime: float = 0.0
    name: str = ""
    span: Span = field(default_factory=Span)
    mosaic: str = ""
