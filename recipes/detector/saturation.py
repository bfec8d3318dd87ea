"""Where a camera's numbers end, where no header says it: by the bits of its converter, or by what its pixels show.

Cameras of 12 or 14 bits write numbers of 16, some times 16 or 4: their highest is 65520, 65532, 4095, 16383 or, of old
drivers, 32767. A pixel there looks like any other to who waits for 65535, and an overexposed flat looks perfect.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ccdflow.recipes.core.doubts import OTHER, Doubt
from ccdflow.recipes.core.recipe import Card
from ccdflow.recipes.core.statistics import median, robust_sigma
from ccdflow.recipes.detector.amplifiers import Amplifier, Detector, Pixels, RawFrame, Section, are_stored
from ccdflow.recipes.kernels.threads import in_threads

ASSUMED = Amplifier.saturation
"""adu; the top of 16 bits, where nobody knows better. A header that states it says no more than that."""
KNOWN_TOPS = frozenset({2**bits - 1 for bits in range(10, 17)} | {2**16 - 2**step for step in range(9)})
"""Highest numbers of converters of 10 to 16 bits, as they are and times a power of 2 that makes 16 bits of them."""
TYPE_TOPS = {"u1": 255.0, "i2": 32767.0, "u2": ASSUMED}
"""Highest numbers that files can hold, by the type of their pixels: of no use is a header that states more."""
LEAST_PILE = 5
"""Pixels at the highest value, below which they may have come there by chance."""
LEAST_ALONE = 4095
"""adu; the lowest of `KNOWN_TOPS` at which a single pixel says that the converter ends there."""
PILE = 3
"""How many times more frequent the highest value is than any other near it, where something has cut the others off."""
NEAR = 64
"""The part of the highest value, 1 / 64, that is near it; at least `LEAST_NEAR`."""
LEAST_NEAR = 256
FAR = 20
"""Standard deviations from the typical pixel beyond which a pile is none of the sky's own steps."""
BURNT, MANY = 0.05, 64
"""Part of the pixels in a pile, and different numbers below it, by which light and not a coarse converter made it."""
UNIFORM = 2_000
"""Pixels that are never of one number where light has fallen on them."""
BANDS = 16
"""Bands of rows, evenly spread, where not all pixels are looked at."""
_BYTES_OF_INTEGERS = 2  # of `StoredNumbers`, whose reals have 4
STRIP = 500_000
"""Pixels that are looked at together."""
TYPICAL = 20_000
"""Pixels that tell the level and scatter of a frame."""


@dataclass(frozen=True)
class Top:
    """The highest number of an amplifier in a frame.

    Parameters
    ----------
    value : float
        adu; -inf where no pixel is finite.
    count : int
        Pixels that have it.
    step : int
        The power of 2 of which all numbers are multiples; 1 for reals.
    limit : float or None
        adu; the highest number that the file can hold, None where that tells nothing (`TYPE_TOPS`).
    is_pile : bool
        Whether the pixels that have it would be higher if they could.
    is_uniform : bool
        Whether thousands of pixels were looked at, and all have it.
    """

    value: float
    count: int
    step: int
    limit: float | None = None
    is_pile: bool = False
    is_uniform: bool = False


def with_saturation(
    frames: Sequence[RawFrame], *, pixels: int | None = None, lit: bool = False
) -> tuple[list[RawFrame], list[Doubt]]:
    """Return frames of one detector with the saturation that their pixels show, where no header states it.

    Parameters
    ----------
    frames : sequence of RawFrame
        Of one job. Nothing is read of those whose saturation is stated, below 65535.
    pixels : int, optional
        About how many pixels of each amplifier are looked at, in bands of rows; by default all.
    lit : bool
        The frames are flats: light has noise, so that one of a single number has been cut off by something.

    Returns
    -------
    (list of RawFrame, list of Doubt)
        The frames in their order, their amplifiers with `Amplifier.saturation` and `Amplifier.saturation_from`; and a
        doubt for each level that was taken from a pile of pixels and that nobody would have known.

    Notes
    -----
    By each amplifier: a header that states the bits b < 16 of the converter makes 2^b - 1 the top, or
    (2^b - 1) 2^(16 - b) where all numbers are multiples of 2^(16 - b). Without bits such multiples say it by
    themselves. Else the highest number is the top where pixels pile up at it (`pile_up`), and none of the job's frames
    has a higher one; or at last the highest that the file can hold.
    """
    if not frames or all(_is_stated(amplifier) for amplifier in frames[0].detector.amplifiers):
        return list(frames), []
    looks = [_look(frame, pixels, lit=lit) for frame in frames]
    kept = [frame for frame, _ in looks]
    said: list[Doubt] = []
    detectors = [list(frame.detector.amplifiers) for frame in kept]
    for number in range(min(map(len, detectors))):
        tops = [tops[number] for _, tops in looks]
        for frame, amplifiers in zip(kept, detectors, strict=True):
            amplifiers[number] = _resolved(amplifiers[number], tops)
            said += _news(frame, amplifiers[number], tops)
    resolved = [
        replace(frame, detector=Detector(frame.detector.shape, tuple(amplifiers)))
        for frame, amplifiers in zip(kept, detectors, strict=True)
    ]
    return resolved, list(dict.fromkeys(said))


def saturation_cards(detector: Detector) -> dict[str, Card]:
    """Return header cards that say from which raw number on pixels are saturated, and who says so.

    Parameters
    ----------
    detector : Detector
        As from `with_saturation`.

    Returns
    -------
    dict of str to (value, comment)
        ``SATSRC``, and ``SATUR01``, ... for each amplifier.
    """
    trust = ("header", "bits", "pixels", "assumed")
    least = max((amplifier.saturation_from for amplifier in detector.amplifiers), key=trust.index)
    cards: dict[str, Card] = {"SATSRC": (least, "who says saturation: header, bits, pixels, assumed")}
    for number, amplifier in enumerate(detector.amplifiers, start=1):
        cards[f"SATUR{number:02d}"] = (amplifier.saturation, f"[adu] saturation used, amplifier {number}")
    return cards


def pile_up(adu: NDArray[Any], value: float, count: int) -> bool:
    """Tell whether pixels stand at a frame's highest value because they could get no higher.

    Parameters
    ----------
    adu : array, shape (pixels,)
        Numbers of a frame.
    value : float
        The highest of them.
    count : int
        How many have it.

    Returns
    -------
    bool
        True where it is thrice as frequent as any number near below it, and is a number at which converters end, or
        far from the typical pixel, or where a twentieth of the frame has it and light of many levels lies below; and
        for any pixel far above the others that stands at 4095 or a higher number at which converters end. A coarse
        converter, by which the sky of a frame without stars comes to two or three numbers, makes no pile.
    """
    is_top, is_far = value in KNOWN_TOPS, _is_far(adu, value)
    # That the peak of a star comes to stand at such a number by chance happens to one in thousands of frames.
    if is_top and is_far and value >= LEAST_ALONE:
        return True
    if count < LEAST_PILE:
        return False
    below = adu[adu < value]
    near = below[below >= value - max(value / NEAR, LEAST_NEAR)]
    if count <= PILE * _most_frequent(near)[0]:
        return False
    if is_top or is_far:
        return True
    most, different = _most_frequent(below)
    return count >= BURNT * adu.size and different >= MANY and count > PILE * most


def _is_far(adu: NDArray[Any], value: float) -> bool:
    sample = adu[:: max(1, adu.size // TYPICAL)]
    return bool(value - median(sample) > FAR * max(robust_sigma(sample), 1.0))


def _most_frequent(numbers: NDArray[Any]) -> tuple[int, int]:
    """How often the most frequent number occurs, and how many different ones there are."""
    if not numbers.size:
        return 0, 0
    counts = np.unique(numbers, return_counts=True)[1]
    return int(counts.max()), int(counts.size)


def _is_stated(amplifier: Amplifier) -> bool:
    return amplifier.saturation < ASSUMED


def _resolved(amplifier: Amplifier, tops: Sequence[Top]) -> Amplifier:
    """Return the amplifier with the best that is known of its saturation."""
    if _is_stated(amplifier):
        return amplifier
    # Of all frames of the job: a number that another frame has exceeded is no top.
    highest, step = max(top.value for top in tops), min(top.step for top in tops)
    ceiling = _ceiling(tops)
    bits = None if amplifier.bits is None else _by_bits(amplifier.bits, highest, step)
    # 16 bits are as many as the file has: programs state them for cameras of 12 and 14, too.
    if bits is not None and bits < ceiling:
        return replace(amplifier, saturation=bits, saturation_from="bits")
    is_pile = any(top.is_pile and top.value == highest for top in tops)
    if is_pile and (highest < ceiling or highest > ASSUMED):
        return replace(amplifier, saturation=highest, saturation_from="pixels")
    if amplifier.saturation_from == "header" and (amplifier.saturation <= ceiling or _are_wide(tops)):
        return amplifier
    if highest > ASSUMED:
        # Sums of several readouts: nobody knows where they end, but 16 bits are not it.
        return replace(amplifier, saturation=float(2 ** int(np.ceil(np.log2(highest + 1))) - 1))
    if step > 1 or (is_pile and bits is None):
        return replace(amplifier, saturation=ceiling + 1 - step, saturation_from="pixels")
    return replace(amplifier, saturation=ceiling, saturation_from="assumed" if bits is None else "bits")


def _ceiling(tops: Sequence[Top]) -> float:
    """The highest number that files of 16 bits and fewer can hold."""
    return min([ASSUMED, *(top.limit for top in tops if top.limit is not None)])


def _are_wide(tops: Sequence[Top]) -> bool:
    """Whether files can hold higher numbers than 16 bits do."""
    return all(top.limit is None for top in tops)


def _by_bits(bits: int, highest: float, step: int) -> float | None:
    """Top of a converter of so many bits; None where numbers contradict it."""
    factor = 2 ** max(16 - bits, 0)
    plain, scaled = float(2**bits - 1), float((2**bits - 1) * factor)
    top = scaled if step % factor == 0 else plain
    return top if highest <= top else None


def _news(frame: RawFrame, amplifier: Amplifier, tops: Sequence[Top]) -> Iterator[Doubt]:
    """Say that a level was found that neither header nor bits nor steps had told."""
    is_new = amplifier.saturation_from == "pixels" and amplifier.saturation not in (
        _ceiling(tops),
        _ceiling(tops) + 1 - min(top.step for top in tops),
    )
    if is_new:
        name = f" of amplifier {amplifier.name}" if amplifier.name else ""
        pile = f"pixels{name} pile up at {amplifier.saturation:g} adu"
        yield Doubt(OTHER, f"{pile}: taken as saturation, which no header states")


def _look(frame: RawFrame, pixels: int | None, *, lit: bool) -> tuple[RawFrame, list[Top]]:
    """Return the frame, its pixels unpacked where they were not, and the top of each amplifier."""
    # What had to be decompressed for a look is not decompressed again for the work.
    if pixels is None and getattr(frame.pixels, "compressed", False):
        frame = replace(frame, pixels=_unpacked(frame.pixels))
    tops = [_top(frame, amplifier, pixels) for amplifier in frame.detector.amplifiers]
    return frame, [replace(top, is_pile=top.is_pile or (lit and top.is_uniform)) for top in tops]


def _unpacked(pixels: Pixels) -> NDArray[Any]:
    """Return all pixels in memory, decompressed by as many threads as there are cores."""
    ny, nx = pixels.shape
    height = max(1, STRIP // max(1, nx))
    parts = [slice(start, min(start + height, ny)) for start in range(0, ny, height)]
    whole = np.empty((ny, nx), np.asarray(pixels[parts[0], slice(0, 1)]).dtype)

    def work(strips: Iterator[slice]) -> None:
        for strip in strips:
            whole[strip] = pixels[strip, slice(None)]

    in_threads(work, parts, threads=None if len(parts) > 1 else 1)
    return whole


def _parts(data: Section, pixels: int | None) -> list[slice]:
    """Rows of an amplifier's data that are looked at, in pieces."""
    height = max(1, STRIP // data.shape[1])
    starts = list(range(data.y0, data.y1, height))
    if pixels is not None and pixels < data.shape[0] * data.shape[1]:
        height = max(1, pixels // data.shape[1] // BANDS)
        starts = sorted(set(np.linspace(data.y0, data.y1 - height, BANDS).astype(int).tolist()))
    return [slice(start, min(start + height, data.y1)) for start in starts]


def _top(frame: RawFrame, amplifier: Amplifier, pixels: int | None) -> Top:
    columns = slice(amplifier.data.x0, amplifier.data.x1)
    parts = _parts(amplifier.data, pixels)
    found: dict[int, tuple[float, int, float | None]] = {}

    def work(strips: Iterator[slice]) -> None:
        # One mapping for all threads: to set one of its items is one step of the interpreter.
        for strip in strips:
            found[strip.start] = _highest(frame.pixels, strip, columns)

    in_threads(work, parts, threads=None if len(parts) > 1 else 1)
    value = max(highest for highest, *_ in found.values())
    # Of most frames a single strip has the highest number: only there is it counted.
    with_it = [part for part in parts if found[part.start][0] == value]
    count = sum(int((np.asarray(frame.pixels[part, columns]) == value).sum()) for part in with_it)
    bits = int(np.bitwise_or.reduce([bits for _, bits, _ in found.values()]))
    top = Top(value, count, _step(bits), found[parts[0].start][2])
    ceiling = _ceiling([top])
    # The end of 16 bits, or of their multiples of a step, is the top whether pixels pile up there or not.
    if ceiling + 1 - top.step <= value <= ceiling:
        return replace(top, is_pile=count > 1)
    # Only few frames have several pixels at their highest number: all of their pixels are looked at once more.
    if count < LEAST_PILE and value not in KNOWN_TOPS:
        return top
    adu = np.concatenate([np.ravel(frame.pixels[part, columns]) for part in parts])
    finite = adu if adu.dtype.kind in "iu" else adu[np.isfinite(adu)]
    uniform = count == adu.size and count >= UNIFORM and value > 0
    return replace(top, is_pile=pile_up(finite, value, count), is_uniform=uniform)


def _highest(pixels: Pixels, rows: slice, columns: slice) -> tuple[float, int, float | None]:
    """Return the highest number, all bits that are set in any, and the highest that the file can hold."""
    # LLVM takes a twentieth of a second to load, and most commands never need it.
    from ccdflow.recipes.kernels.calibrate_kernels import highest_integers

    stored = pixels.stored(rows) if are_stored(pixels) else None
    if stored is not None and stored.numbers.dtype.itemsize == _BYTES_OF_INTEGERS:
        told = np.zeros(2, np.uint16)
        highest_integers(stored.numbers, columns.start, columns.stop, told)
        return float(told[0]) + stored.zero, int(told[1]), ASSUMED + stored.zero
    adu = np.asarray(pixels[rows, columns])
    is_integer = adu.dtype.kind in "iu"
    finite = adu if is_integer else adu[np.isfinite(adu)]
    limit = TYPE_TOPS.get(adu.dtype.str[1:])
    if not finite.size:
        return -np.inf, 0, limit
    return float(finite.max()), int(np.bitwise_or.reduce(finite, axis=None)) if is_integer else 1, limit


def _step(bits: int) -> int:
    """The lowest bit that is set in any number; 1 where none is."""
    lowest = bits & -bits
    # Beyond 8 bits it is no converter, but a frame without light.
    return lowest if 0 < lowest <= 2**8 else 1
