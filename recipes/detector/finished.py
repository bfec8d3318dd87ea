"""Frames of which another program has done a part of the work already."""

from collections.abc import Collection
from dataclasses import replace
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from ccdflow.recipes.detector.amplifiers import Amplifier, Detector, RawFrame, Section

DONE = ("overscan", "trim", "bias", "dark", "flat", "gain", "combined", "scaled")
"""What may have been done to a frame: `gain` makes electron of adu, `scaled` divides numbers of 16 bits by 65535."""
FULL_SCALE = 65535.0
"""What programs divide by that store 16 bits as reals of 0 to 1 (Siril, PixInsight)."""


def _known(done: tuple[str, ...]) -> tuple[str, ...]:
    for name in done:
        if name not in DONE:
            raise ValueError(f"{name!r} is nothing that can be done already; known: {', '.join(DONE)}")
    return done


def _words(done: Any) -> Any:
    """Return the words of a text, as somebody writes them on the command line: ``bias,dark``."""
    return tuple(done.replace(",", " ").split()) if isinstance(done, str) else done


Done = Annotated[tuple[str, ...], BeforeValidator(_words), AfterValidator(_known)]
"""Type of the parameter `done` of recipes that take raw frames."""
DONE_FIELD = Field((), description="What another program has done to the frames already, which is left out.")


def as_taken(frames: Collection[RawFrame], done: Collection[str]) -> list[RawFrame]:
    """Return frames with a detector that asks for nothing that was done already.

    Parameters
    ----------
    frames : collection of RawFrame
        Not changed.
    done : collection of str
        Of `DONE`; nothing for raw frames, which come back as they are.

    Returns
    -------
    list of RawFrame
        Without overscan where that is subtracted, one amplifier with the whole array where it is trimmed, a gain of 1
        where the numbers are electron, and the gain times 65535 where they were divided by that.
    """
    if not done:
        return list(frames)
    return [replace(frame, detector=_detector(frame, frozenset(done))) for frame in frames]


def _detector(frame: RawFrame, done: frozenset[str]) -> Detector:
    amplifiers = frame.detector.amplifiers
    # What is trimmed has been put together too: sections of the raw array mean nothing any more.
    if "trim" in done:
        whole = Section.whole((int(frame.pixels.shape[0]), int(frame.pixels.shape[1])))
        amplifiers = (replace(amplifiers[0], data=whole, target=whole, overscan=None),)
        return Detector(whole.shape, (_amplifier(amplifiers[0], done),))
    return Detector(frame.detector.shape, tuple(_amplifier(amplifier, done) for amplifier in amplifiers))


def _amplifier(amplifier: Amplifier, done: frozenset[str]) -> Amplifier:
    if done & {"overscan", "bias"}:
        amplifier = replace(amplifier, overscan=None)
    gain, saturation = amplifier.gain, amplifier.saturation
    if "gain" in done:
        # The level of saturation is in adu, and the numbers are not.
        gain, saturation = 1.0, saturation * (gain or 1.0)
    if "scaled" in done:
        gain, saturation = None if gain is None else gain * FULL_SCALE, saturation / FULL_SCALE
    return replace(amplifier, gain=gain, saturation=saturation)
