"""Which pixels of a detector were read out, and whether a calibration has them all."""

from collections.abc import Iterator
from typing import Literal, Protocol

from ccdflow.cascade.records import Value
from ccdflow.cascade.windows import Window, binning_factors, window_of
from ccdflow.cascade.wording import shown

Area = Literal["same", "covers"]
"""What a calibration's pixels must be to those of a frame: the same ones, or all of the frame's and perhaps more."""
AREA_KEYWORDS = ("window", "size", "binning")
"""Keywords of frame and calibration that `area_disagreements` looks at."""


class Described(Protocol):
    """What has keywords: a frame, or a group of them."""

    def value(self, keyword: str) -> Value | None:
        """Return the value of a keyword; None for a blank.

        Parameters
        ----------
        keyword : str
            Column or kept keyword.
        """
        ...


def area_disagreements(
    area: Area, reference: Described, candidate: Described, *, blanks: bool
) -> Iterator[str]:
    """Say why a calibration does not have the pixels of a frame.

    Parameters
    ----------
    area : {'same', 'covers'}
        What its pixels must be to the frame's.
    reference : Described
        The frame.
    candidate : Described
        The calibration.
    blanks : bool
        Whether a place that is not told agrees with any, where the sizes are equal; and whether a larger image whose
        place is not told counts as all of the detector.

    Yields
    ------
    str
        At most one sentence.
    """
    wanted, window = reference.value("window"), candidate.value("window")
    wanted_size, size = reference.value("size"), candidate.value("size")
    if wanted_size is None or size is None or wanted_size == size:
        # Rows of a catalogue have no size: then only what is told can disagree.
        either_blank = wanted is None or window is None
        if wanted != window and not (either_blank and blanks):
            yield f"window is {shown(window)}, wanted {shown(wanted)}"
        return
    if area == "same":
        yield f"size is {size}, wanted {wanted_size}"
        return
    yield from _uncovered(reference, candidate, blanks=blanks)


def _uncovered(reference: Described, candidate: Described, *, blanks: bool) -> Iterator[str]:
    wanted_size, size = reference.value("size"), candidate.value("size")
    wanted, binning = Window.parse(reference.value("window")), reference.value("binning")
    window = Window.parse(candidate.value("window"))
    if wanted is None:
        yield f"size is {size}, wanted {wanted_size}, whose place in it is not told"
    elif window is None and not blanks:
        yield f"window is blank (size {size}), wanted {wanted}"
    else:
        whole = window or window_of(size, binning)
        try:
            if whole is not None:
                whole.cut(wanted, binning_factors(binning))
        except ValueError as error:
            yield str(error)
