"""Which frames of a set can be stacked: the largest number that fit one reference; the others are left out by name.

A frame may be of another field, trailed, behind clouds, of another size or unit, or without a good pixel. None of that
costs the stack: what fits together is stacked. Nor does it where the reference itself is the frame that does not fit,
since it is given up for one that more frames fit.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ccdflow.recipes.alignment.placement import (
    MeasuredFrame,
    RegisteredFrame,
    RegistrationOptions,
    UnfitFrameError,
    measure_all,
    references,
)
from ccdflow.recipes.alignment.register import NoMatchError, register_stars
from ccdflow.recipes.core.doubts import Doubt
from ccdflow.recipes.core.recipe import InputProduct, LeftOut

TRAILED = 0.4
"""Ellipticity of stars nearly twice as long as wide: they are trails, unless those of the other frames are, too."""
TRAILED_BEYOND = 0.2
"""By how much their ellipticity exceeds that of the frames in the middle."""
STILL_ROUND = 0.5
"""Part of the usual number of usable stars that a frame shows which is not trailed: the pieces of a satellite's or an
aeroplane's trail are many and bright, but they take no star away."""
MOST_REFERENCES = 8
"""Frames that are tried as reference at most: of more fields in one set none is worth a stack."""

Placed = tuple[RegisteredFrame, Sequence[Doubt]]
"""A frame on the reference, and the doubts about it."""
Place = Callable[[MeasuredFrame, MeasuredFrame, bool], Placed]
"""Puts a frame on a reference, by cross-correlation too if that is allowed; raises `UnfitFrameError` if it can't be."""


@dataclass
class Selection:
    """The frames of a stack, and those that are not in it.

    Parameters
    ----------
    members : list of RegisteredFrame
        In the order of the inputs; fewer than two make no stack.
    reference : MeasuredFrame or None
        The one that the others are placed on; None where no frame can be used.
    left_out : list of LeftOut
        In the order of the inputs, each with its reason.
    doubts : list of Doubt
        About members.
    """

    members: list[RegisteredFrame] = field(default_factory=list)
    reference: MeasuredFrame | None = None
    left_out: list[LeftOut] = field(default_factory=list)
    doubts: list[Doubt] = field(default_factory=list)


def select(
    products: Sequence[InputProduct], misfits: Mapping[int, str], options: RegistrationOptions, place: Place
) -> Selection:
    """Measure frames, and place those that fit together on one of them.

    Parameters
    ----------
    products : sequence of InputProduct
        Calibrated frames.
    misfits : mapping of int to str
        Frames, by their places in `products`, that can't be used whatever they show, and why.
    options : RegistrationOptions
        How they are registered, and which is wanted as reference.
    place : callable
        Puts one frame on another one.

    Returns
    -------
    Selection
        With the reference that most frames fit; of several the one that is wanted most.
    """
    wanted = {i: product for i, product in enumerate(products) if i not in misfits}
    measured = measure_all(wanted, options.detection)
    reasons = dict(misfits) | {
        i: str(frame) for i, frame in measured.items() if isinstance(frame, UnfitFrameError)
    }
    frames = {i: frame for i, frame in measured.items() if isinstance(frame, MeasuredFrame)}
    reasons |= _without_noise(frames)
    search = _Search({i: frame for i, frame in frames.items() if i not in reasons}, options, place)
    selection = search.best() if search.frames else Selection()
    return _with_left_out(selection, products, reasons | search.reasons)


def _with_left_out(
    selection: Selection, products: Sequence[InputProduct], reasons: Mapping[int, str]
) -> Selection:
    """Add what is left out; a single frame that is left makes no stack, and is left out too."""
    left = {i: reason for i, reason in reasons.items() if reason}
    if len(selection.members) < 2:
        alone = "no other frame fits it"
        left = {i: left.get(i, alone) for i in range(len(products))}
        selection.members, selection.doubts = [], []
    selection.left_out = [LeftOut(i, products[i].name, left[i]) for i in sorted(left)]
    return selection


def most_common(values: Mapping[int, Hashable]) -> Hashable:
    """Return the value that most frames have; of equally many the one that comes first.

    Parameters
    ----------
    values : mapping of int to hashable
        By place; at least one.

    Returns
    -------
    hashable
    """
    return Counter(values[i] for i in sorted(values)).most_common(1)[0][0]


def _without_noise(frames: Mapping[int, MeasuredFrame]) -> dict[int, str]:
    """Return the frames that state no variance while others do: they would have all the weight, or none."""
    silent = [i for i, frame in frames.items() if not frame.variance > 0]
    if len(silent) == len(frames):
        return {}
    return {i: "it states a variance of 0, which the others do not: it can't be weighted" for i in silent}


class _Search:
    """Tries one reference after the other until no other can have more frames.

    Parameters
    ----------
    frames : mapping of int to MeasuredFrame
        By place.
    options : RegistrationOptions
        How they are registered.
    place : callable
        Puts one frame on another one.

    Attributes
    ----------
    reasons : dict of int to str
        Why frames are not in the best selection.
    """

    def __init__(
        self, frames: Mapping[int, MeasuredFrame], options: RegistrationOptions, place: Place
    ) -> None:
        self.frames = frames
        self.reasons: dict[int, str] = {}
        self._options, self._place = options, place
        self._trailed = _trailed(frames) if options.register != "none" else {}

    def best(self) -> Selection:
        """Return the frames that fit the reference that most fit."""
        sharp = {i: frame for i, frame in self.frames.items() if i not in self._trailed}
        wanted = references(sharp, self._options)
        # Correlation takes seconds, so it is left until the reference is known, unless stars can't tell that.
        correlate = not self._has_stars(wanted)
        reference, placed = self._most_fitting(wanted, correlate)
        missing = [i for i in self.frames if i not in placed]
        self.reasons = {}
        for i in missing:
            outcome = self._try(i, reference, correlate=True)
            if isinstance(outcome, str):
                self.reasons[i] = outcome
            else:
                placed[i] = outcome
        members = [placed[i][0] for i in sorted(placed)]
        doubts = [doubt for i in sorted(placed) for doubt in placed[i][1]]
        return Selection(members, self.frames[reference], doubts=doubts)

    def _has_stars(self, wanted: Sequence[int]) -> bool:
        return any(self.frames[i].stars.usable.any() for i in wanted)

    def _most_fitting(self, wanted: Sequence[int], correlate: bool) -> tuple[int, dict[int, Placed]]:
        """Return the reference that most frames fit, and these."""
        tried: set[int] = set()
        best: tuple[int, dict[int, Placed]] = wanted[0], {}
        for reference in wanted[:MOST_REFERENCES]:
            # Whoever fits an earlier reference sees the same field as that one, and will have no more frames.
            if reference in tried:
                continue
            placed = {}
            for i in self.frames:
                outcome = self._try(i, reference, correlate=correlate)
                if not isinstance(outcome, str):
                    placed[i] = outcome
            tried |= placed.keys()
            if len(placed) > len(best[1]):
                best = reference, placed
            # No other can have more; of as many the first counts.
            if len(best[1]) >= len(self.frames) - len(tried):
                break
        return best

    def _try(self, i: int, reference: int, *, correlate: bool) -> Placed | str:
        """Place a frame, or say why it can't be placed."""
        frame, onto = self.frames[i], self.frames[reference]
        if i in self._trailed:
            return self._trailed[i] + self._matches(frame, onto)
        try:
            return self._place(frame, onto, correlate)
        except UnfitFrameError as error:
            return str(error)

    def _matches(self, frame: MeasuredFrame, reference: MeasuredFrame) -> str:
        """Say how many of a trailed frame's stars are found in the reference."""
        try:
            registration = register_stars(reference.stars, frame.stars, "affine", self._options.max_residual)
        except NoMatchError as error:
            return f"; {error}"
        return f"; {registration.matches} of its stars match"


def _trailed(frames: Mapping[int, MeasuredFrame]) -> dict[int, str]:
    """Return the frames whose stars are trails, while those of most others are not."""
    lengths = {i: frame.stars.elongation for i, frame in frames.items() if len(frame.stars) >= 3}
    if not lengths:
        return {}
    # Where most are trailed (no guiding, a comet) that is how the night was.
    usual = float(np.median(list(lengths.values())))
    stars = float(np.median([frames[i].stars.usable.sum() for i in lengths]))
    return {
        i: f"it is trailed: its {len(frames[i].stars)} stars have a median ellipticity of {length:.2f}, "
        f"those of the other frames {usual:.2f}"
        for i, length in lengths.items()
        if length > TRAILED and length > usual + TRAILED_BEYOND and not _shows_round_stars(frames[i], stars)
    }


def _shows_round_stars(frame: MeasuredFrame, usual: float) -> bool:
    """Tell whether a frame shows its stars as the others do, beside whatever else is long."""
    stars = frame.stars
    return bool(stars.usable.sum() >= STILL_ROUND * usual and stars.median_ellipticity <= TRAILED)
