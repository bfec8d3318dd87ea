"""Interpolation in numpy, plainly: what the compiled kernel of `ccdflow.recipes.alignment.resample` must agree with."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ccdflow.recipes.alignment.resample import Interpolation
from ccdflow.recipes.alignment.transform import Transform
from ccdflow.recipes.core.dq import DQ, BoolArray, DQArray, excluded
from ccdflow.recipes.core.image import FloatArray, Image, ImageSource

Floats = NDArray[np.float64]

INFLUENCE, EXCLUDING = 0.01, 0.1


def resampled(source: ImageSource, at: Transform, shape: tuple[int, int], kernel: Interpolation) -> Image:
    """`source` interpolated where the pixels of a grid of `shape` lie in it, as `Resampled` states it."""
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float64)
    return _interpolate(source, kernel, at, at.a * x + at.b * y + at.dx, at.c * x + at.d * y + at.dy)


def _interpolate(source: ImageSource, kernel: Interpolation, at: Transform, x: Floats, y: Floats) -> Image:
    taps, weigh = _KERNELS[kernel]
    ny, nx = source.shape
    # The window is as many pixels larger on each side as the kernel has taps: whoever falls there meets
    # nothing but NO_DATA.
    low = int(np.clip(np.floor(y.min()) - taps, -taps, ny))
    high = int(np.clip(np.floor(y.max()) + 1 + taps, low + 2 * taps, max(ny, low + taps) + taps))
    window = _window(source, (low, high), (-taps, nx + taps))
    left, below = np.floor(x), np.floor(y)
    weights = weigh(x - left), weigh(y - below)
    column = np.clip(left + 1 - taps // 2 + taps, 0, nx + taps).astype(np.intp)
    row = np.clip(below + 1 - taps // 2 - low, 0, high - low - taps).astype(np.intp)
    return _gather(window, row * (nx + 2 * taps) + column, weights, at.area)


def _window(source: ImageSource, y: tuple[int, int], x: tuple[int, int]) -> Image:
    """Rows ``y[0]:y[1]`` and columns ``x[0]:x[1]``, which may reach beyond the source: ``NO_DATA`` there."""
    ny, nx = source.shape
    shape = (max(y[1] - y[0], 0), max(x[1] - x[0], 0))
    data, variance = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    dq = np.full(shape, int(DQ.NO_DATA), np.uint16)
    y0, y1, x0, x1 = max(y[0], 0), min(y[1], ny), max(x[0], 0), min(x[1], nx)
    if y0 < y1 and x0 < x1:
        strip = source.rows(slice(y0, y1))
        inside = (slice(y0 - y[0], y1 - y[0]), slice(x0 - x[0], x1 - x[0]))
        data[inside] = strip.data[:, x0:x1]
        variance[inside] = strip.variance[:, x0:x1]
        dq[inside] = strip.dq[:, x0:x1]
    return Image(data, variance, dq, source.unit)


def _gather(
    window: Image, first: NDArray[np.intp], weights: tuple[list[FloatArray], list[FloatArray]], area: float
) -> Image:
    """Weighted sums over the taps that begin at the flat indices `first` of the window."""
    finite = np.isfinite(window.data) & np.isfinite(window.variance)
    dq = np.where(finite, window.dq, window.dq | np.uint16(DQ.NO_DATA))
    measured = (dq & np.uint16(DQ.NO_DATA)) == 0
    width = window.shape[1]
    taps = [(j * width + i, wx, wy) for j, wy in enumerate(weights[1]) for i, wx in enumerate(weights[0])]
    sums = _sums(window, measured, first, taps)
    bits = np.zeros(first.shape, np.uint16)
    # Few pixels touch a flagged one: only those need bits, and sums over good pixels alone.
    touched = np.nonzero(_any_flag(dq, len(weights[0])).take(first))
    near = [(step, wx[touched], wy[touched]) for step, wx, wy in taps]
    missing = np.zeros(len(touched[0]), np.bool_)
    for step, wx, wy in near:
        tap, weight = dq.take(first[touched] + step), np.abs(wx * wy)
        bits[touched] |= np.where(weight > np.where(excluded(tap), EXCLUDING, INFLUENCE), tap, np.uint16(0))
        missing |= excluded(tap) & (weight > INFLUENCE)
    spoilt = excluded(bits[touched])
    bits[touched] |= np.where(missing & ~spoilt, np.uint16(DQ.INTERPOLATED), np.uint16(0))
    good = _sums(window, measured & ~excluded(dq), first[touched], near)
    for total, other in zip(sums, good, strict=True):
        total[touched] = np.where(spoilt, total[touched], other)
    value, noise, norm = sums
    empty = norm < 0.5
    bits[empty] |= np.uint16(DQ.NO_DATA)
    norm[empty] = np.inf
    factor = np.float32(area) / norm
    return Image(value * factor, noise * factor**2, bits, window.unit)


def _sums(
    window: Image, taken: BoolArray, first: NDArray[np.intp], taps: list[tuple[int, FloatArray, FloatArray]]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Σ w d, Σ w² v and Σ w over the taps where `taken` is true."""
    data = np.where(taken, window.data, np.float32(0))
    variance = np.where(taken, window.variance, np.float32(0))
    counted = taken.astype(np.float32)
    value, noise, norm = (np.zeros(first.shape, np.float32) for _ in range(3))
    for step, wx, wy in taps:
        weight, at = wx * wy, first + step
        value += weight * data.take(at)
        noise += weight * weight * variance.take(at)
        norm += weight * counted.take(at)
    return value, noise, norm


def _any_flag(dq: DQArray, taps: int) -> BoolArray:
    """Whether any of the `taps` × `taps` pixels that begin at each pixel has a flag."""
    flagged: BoolArray = dq != 0
    result = flagged.copy()
    for step in range(1, taps):
        result[:, :-step] |= flagged[:, step:]
    across = result.copy()
    for step in range(1, taps):
        result[:-step] |= across[step:]
    return result


def _bilinear(f: Floats) -> list[FloatArray]:
    return [(1 - f).astype(np.float32), f.astype(np.float32)]


def _bicubic(f: Floats) -> list[FloatArray]:
    """Catmull-Rom (Keys 1981, a = −1/2): exact for quadratics."""
    weights = (
        ((-0.5 * f + 1) * f - 0.5) * f,
        (1.5 * f - 2.5) * f * f + 1,
        ((-1.5 * f + 2) * f + 0.5) * f,
        (0.5 * f - 0.5) * f * f,
    )
    return [weight.astype(np.float32) for weight in weights]


def _lanczos3(f: Floats) -> list[FloatArray]:
    """Lanczos window of three lobes, normalised so that a constant stays constant."""
    distances = [f + 2, f + 1, f, f - 1, f - 2, f - 3]
    weights = [np.sinc(distance) * np.sinc(distance / 3) for distance in distances]
    total = np.sum(weights, axis=0)
    return [(weight / total).astype(np.float32) for weight in weights]


_KERNELS: dict[Interpolation, tuple[int, Callable[[Floats], list[FloatArray]]]] = {
    "bilinear": (2, _bilinear),
    "bicubic": (4, _bicubic),
    "lanczos3": (6, _lanczos3),
}
