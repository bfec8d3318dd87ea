"""The compiled kernel of `ccdflow.recipes.combine.average`: a strip of all frames in, its average out.

Pixels go through in blocks that stay in a core's cache. Within a block every step runs along rows of pixels, frame
by frame, so that the compiler turns it into vector instructions. Even sorting does: a sorting network
(`ccdflow.recipes.core.statistics.network`) says beforehand which two places are compared, whatever stands there, so
that whole rows of values are exchanged at once.

Most pixels have a good value in each frame, and none to be clipped. So there are two passes:

1. All blocks are averaged as if each pixel were such a one. Where a value is missing or lies outside the limit (and for
   the clip ``minmax`` everywhere) that is wrong, and the pixel is put on a list. What was read of it is moved to the
   front of the strip, whose values have been used by then.
2. The pixels on the list, side by side now, go through once more in blocks of their own: values that don't count are
   passed over, and clipping goes on until it changes nothing. Their results replace those of the first pass.

Names: `v`, `s`, `c` and `dq` are values, variances, the part of the variance that a frame shares with others by their
masters, and flags, each of shape (n, npix). `n` frames, blocks of `w` pixels from `start` on, `used` tells which values
count, and `counts` how many of each pixel. A value that doesn't count is infinity where values are sorted: it
then stands behind those that do.

Each function, and each call of one within another, takes its time to compile: hence few functions, and loops where
a call would read better. Not more than two arrays are written in a loop, or it does not become vector instructions.
"""

from typing import Any

import numpy as np

from ccdflow.recipes.core import memory
from ccdflow.recipes.core.dq import DQ, EXCLUDED
from ccdflow.recipes.core.statistics import NORMAL_MAD
from ccdflow.recipes.kernels.compiled import array, compiled, constant, stretch

NONE, MINMAX, SIGMA, MAD, VARIANCE = range(5)
"""Clips, as the kernel knows them: in the order of `ccdflow.recipes.combine.average.CLIPS`."""
SCALE, WEIGHT, INVERSE_RATIO, WIDTH, UNIT = range(5)
"""Rows of the table of the frames: factor that scales its values, weight, 1 over its typical variance relative to the
others', factor of its limit of clipping, and 1 (the scale in the second pass, where all is scaled already)."""
BLOCK_VALUES = 8192
"""Values in one block of all frames: a few blocks of float32 fit a core's cache."""
CENTRE, COMMON, LIMIT, TOTAL, INDEPENDENT, TOGETHER, SPARE = range(7)
"""Rows of numbers that a block has one of for each pixel: its median, its typical variance, its limit of clipping, and
sums over frames: of values, of variance that is a frame's own, and of what frames share.

`_average_apart` needs no limit any more, and keeps the sum of weights in its place.
"""

INF = np.float32(np.inf)
ZERO, ONE, HALF = np.float32(0), np.float32(1), np.float32(0.5)
MAD_TO_SIGMA = np.float32(NORMAL_MAD)
NO_DATA = np.uint16(DQ.NO_DATA)
REJECTED = np.uint16(DQ.REJECTED)
EXCLUDING = np.uint16(EXCLUDED)


@compiled()
def _load(strip, scales, start, w, used, ordered, counts):
    """Scale a block of all frames where it lies, and count each pixel's usable values; gives their number.

    The values, infinity where they don't count, go to `ordered`. A value counts if it and its variances are finite and
    no flag excludes it.
    """
    n, grouped, complete = ordered.shape[0], strip[2].shape[0] > 0, True
    uniform = strip[4].size > 0
    for i in range(n):
        scale = scales[i]
        row, spread, dq = (
            stretch(strip[0], i, start, w),
            stretch(strip[1], i, start, w),
            stretch(strip[3], i, start, w),
        )
        mark, to = stretch(used, i, 0, w), stretch(ordered, i, 0, w)
        bad = False
        # A scale of 1 is common (frames of one exposure time), and costs nothing.
        if scale != ONE:
            for x in range(w):
                row[x] *= scale
        if uniform:
            for x in range(w):
                to[x] = row[x]
                mark[x] = abs(row[x]) < INF
        else:
            if scale != ONE:
                for x in range(w):
                    spread[x] *= scale * scale
            for x in range(w):
                to[x] = row[x]
                mark[x] = (abs(row[x]) < INF) & (abs(spread[x]) < INF) & ((dq[x] & EXCLUDING) == 0)
        if grouped:
            part = stretch(strip[2], i, start, w)
            for x in range(w):
                part[x] *= scale * scale
                mark[x] &= abs(part[x]) < INF
        # Most rows have no gap, and need not be written again.
        for x in range(w):
            bad |= not mark[x]
        if bad:
            complete = False
            for x in range(w):
                to[x] = row[x] if mark[x] else INF
    for x in range(w):
        counts[x] = n if complete else 0
    if complete:
        return n * w
    usable = 0
    for i in range(n):
        mark = stretch(used, i, 0, w)
        for x in range(w):
            counts[x] += mark[x]
    for x in range(w):
        usable += counts[x]
    return usable


@compiled()
def _scale_uniform(uniform, table, alike):
    """Scale variances of which each is that of all pixels of a frame; gives whether they will do, `alike` if wanted.

    They won't if one is not finite, or if frames must be of one noise (`alike`) and are not. Then nothing is changed.
    """
    for i in range(uniform.size):
        scaled = uniform[i] * (table[SCALE, i] * table[SCALE, i])
        first = uniform[0] * (table[SCALE, 0] * table[SCALE, 0])
        if not abs(scaled) < INF:
            return False
        if alike and scaled * table[INVERSE_RATIO, i] != first * table[INVERSE_RATIO, 0]:
            return False
    for i in range(uniform.size):
        uniform[i] *= table[SCALE, i] * table[SCALE, i]
    return True


@compiled()
def _sort(ordered, exchanges, out):
    """Sort the columns of a block; `out` becomes the median of all their values."""
    n, w = ordered.shape[0], out.size
    # `b < a` is false of NaN, but there is none: what is not finite was replaced by infinity.
    for k in range(exchanges.shape[0]):
        low, high = ordered[exchanges[k, 0], :w], ordered[exchanges[k, 1], :w]
        for x in range(w):
            a, b = low[x], high[x]
            low[x] = b if b < a else a
            high[x] = a if b < a else b
    low, high = stretch(ordered, (n - 1) // 2, 0, w), stretch(ordered, n // 2, 0, w)
    for x in range(w):
        out[x] = (low[x] + high[x]) * HALF


@compiled()
def _fill_variances(start, s, used, factors, ordered, w):
    """Write to `ordered` what each variance would be in a frame of typical noise, infinity where it doesn't count."""
    for i in range(s.shape[0]):
        row, mark, to, factor = (
            stretch(s, i, start, w),
            stretch(used, i, 0, w),
            stretch(ordered, i, 0, w),
            factors[i],
        )
        for x in range(w):
            to[x] = row[x] * factor if mark[x] else INF


@compiled()
def _all_alike(start, variance, table, w):
    """Tell whether all frames state the same variance, so that its median need not be looked for."""
    different = False
    first, factor = stretch(variance, 0, start, w), table[INVERSE_RATIO, 0]
    for i in range(1, variance.shape[0]):
        row, own = stretch(variance, i, start, w), table[INVERSE_RATIO, i]
        for x in range(w):
            different |= first[x] * factor != row[x] * own
        if different:
            break
    return not different


@compiled()
def _middle(ordered, exchanges, counts, out):
    """Sort the columns of a block, infinity where a value doesn't count; `out` becomes the median of what counts."""
    _sort(ordered, exchanges, out)
    for x in range(out.size):
        count = counts[x]
        out[x] = (ordered[(count - 1) // 2, x] + ordered[count // 2, x]) * HALF if count else ZERO


@compiled()
def _middle_of_values(start, v, used, ordered, exchanges, counts, out):
    """Write the median of those values of each pixel that count to `out`."""
    for i in range(v.shape[0]):
        row, mark, to = (
            stretch(v, i, start, out.size),
            stretch(used, i, 0, out.size),
            stretch(ordered, i, 0, out.size),
        )
        for x in range(out.size):
            to[x] = row[x] if mark[x] else INF
    _middle(ordered, exchanges, counts, out)


@compiled()
def _median_distance(v, ordered, rows, w):
    """Write the median distance of each pixel's values from its centre to the limits: all values count and are sorted.

    The distances are never sorted, since the values are. The k values nearest to a point stand side by side: so the
    distance of the k-th nearest is that of the farther end of the window of k values whose farther end is nearest.
    One pass over all windows finds it.
    """
    # Of an odd number n the median is the k-th nearest with k = n // 2 + 1. Of an even number it is the mean of the
    # k-th and of the one before, which is found in the same pass with windows of k - 1 values. Of these there is one
    # more, the last, with which `limit` begins. `spare` holds the k-th distance, `limit` the one before (or, if n is
    # odd, the k-th itself).
    n = v.shape[0]
    centre, limit, spare = stretch(rows, CENTRE, 0, w), stretch(rows, LIMIT, 0, w), stretch(rows, SPARE, 0, w)
    k, even = n // 2 + 1, n % 2 == 0
    last = stretch(ordered, n - 1, 0, w)
    for x in range(w):
        limit[x] = last[x] - centre[x] if even else INF
    if even:
        low = stretch(ordered, n - k + 1, 0, w)
        for x in range(w):
            below = centre[x] - low[x]
            limit[x] = below if below > limit[x] else limit[x]
    for x in range(w):
        spare[x] = INF
    for first in range(n - k + 1):
        low, high, before = (
            stretch(ordered, first, 0, w),
            stretch(ordered, first + k - 1, 0, w),
            stretch(ordered, first + k - 2, 0, w),
        )
        if even:
            for x in range(w):
                below, above, inner = centre[x] - low[x], high[x] - centre[x], before[x] - centre[x]
                farther, nearer = below if below > above else above, below if below > inner else inner
                spare[x] = farther if farther < spare[x] else spare[x]
                limit[x] = nearer if nearer < limit[x] else limit[x]
        else:
            for x in range(w):
                below, above = centre[x] - low[x], high[x] - centre[x]
                farther = below if below > above else above
                limit[x] = farther if farther < limit[x] else limit[x]
    if even:
        for x in range(w):
            limit[x] = limit[x] * HALF + spare[x] * HALF


@compiled()
def _find_limit(start, w, clip, complete, numbers, exchanges, v, used, counts, ordered, rows):
    """Write to the limits at what distance from the centre a value of a frame of width 1 is clipped.

    Where blocks are `complete`, all values of the pixels that matter count, and stand sorted in `ordered`. The clips
    are those of `ccdflow.recipes.combine.clip.ClipRule`.
    """
    n = v.shape[0]
    sigma, relative, floor, median_width = numbers[0], numbers[1], numbers[2], numbers[3]
    centre, common, limit, total = (
        stretch(rows, CENTRE, 0, w),
        stretch(rows, COMMON, 0, w),
        stretch(rows, LIMIT, 0, w),
        stretch(rows, TOTAL, 0, w),
    )
    if clip == VARIANCE:
        # The stated noise of a value at the median, and what the sky may have changed by, in quadrature.
        for x in range(w):
            change = relative * centre[x]
            limit[x] = sigma * np.sqrt(common[x] + change * change)
    elif clip == MAD:
        if complete:
            _median_distance(v, ordered, rows, w)
        else:
            for i in range(n):
                row, mark, to = stretch(v, i, start, w), stretch(used, i, 0, w), stretch(ordered, i, 0, w)
                for x in range(w):
                    to[x] = abs(row[x] - centre[x]) if mark[x] else INF
            _middle(ordered, exchanges, counts, limit)
        # A few values often lie close together by chance: hence a floor, in units of the stated noise.
        to_sigma = MAD_TO_SIGMA / median_width
        for x in range(w):
            spread, stated = limit[x] * to_sigma, floor * np.sqrt(common[x]) if floor > ZERO else ZERO
            limit[x] = sigma * (stated if stated > spread else spread)
    elif clip == SIGMA:
        # Two passes, mean and then squares about it: the sum of squares alone would lose its digits in float32.
        for x in range(w):
            total[x], limit[x] = ZERO, ZERO
        for i in range(n):
            row, mark = stretch(v, i, start, w), stretch(used, i, 0, w)
            for x in range(w):
                total[x] += row[x] if mark[x] else ZERO
        for x in range(w):
            total[x] /= np.float32(counts[x])
        for i in range(n):
            row, mark = stretch(v, i, start, w), stretch(used, i, 0, w)
            for x in range(w):
                distance = row[x] - total[x]
                limit[x] += distance * distance if mark[x] else ZERO
        for x in range(w):
            limit[x] = sigma * np.sqrt(limit[x] / np.float32(counts[x]))


@compiled()
def _clip(
    start, w, clip, complete, iterations, numbers, table, exchanges, alike, v, s, used, counts, ordered, rows
):
    """Clip the pixels that were gathered, until nothing changes; `used`, `counts` and the centres say what is left."""
    # `mark ^ stays` is true of what is clipped now. A value once clipped stays so.
    n = v.shape[0]
    centre, common, limit = (
        stretch(rows, CENTRE, 0, w),
        stretch(rows, COMMON, 0, w),
        stretch(rows, LIMIT, 0, w),
    )
    for _ in range(iterations):
        if alike:
            for x in range(w):
                common[x] = s[0, start + x] * table[INVERSE_RATIO, 0]
        else:
            _fill_variances(start, s, used, table[INVERSE_RATIO], ordered, w)
            _middle(ordered, exchanges, counts, common)
        _find_limit(start, w, clip, complete, numbers, exchanges, v, used, counts, ordered, rows)
        changed = False
        for i in range(n):
            row, mark, width = stretch(v, i, start, w), stretch(used, i, 0, w), table[WIDTH, i]
            for x in range(w):
                stays = mark[x] & ~(abs(row[x] - centre[x]) > width * limit[x])
                counts[x] -= mark[x] ^ stays
                changed |= mark[x] ^ stays
                mark[x] = stays
        if not changed:
            break
        _middle_of_values(start, v, used, ordered, exchanges, counts, centre)


@compiled()
def _average_block(
    start, w, clip, median, table, identity, groups, factors, v, s, c, dq, uniform, rows, apart, out
):
    """Average all values of each pixel, and note in `apart` of which pixels one must be clipped.

    The mean is median + sum(w_i (v_i - median)) / sum(w_i): differences from the median are small, so that sums in
    float32 keep their digits. Its variance is sum(w_i^2 V_i) / sum(w_i)^2. Of frames that share a master, the master's
    part C_i of V_i is no independent noise: it is taken out of that sum, and (sum(w_i sqrt(C_i)))^2 of each such group
    is added instead. A median has the variance of a mean of equal weights times a factor that depends on n.
    """
    n, stop = v.shape[0], start + w
    centre, limit, total, independent = (
        stretch(rows, CENTRE, 0, w),
        stretch(rows, LIMIT, 0, w),
        stretch(rows, TOTAL, 0, w),
        stretch(rows, INDEPENDENT, 0, w),
    )
    together, root, bits = stretch(rows, TOGETHER, 0, w), stretch(rows, SPARE, 0, w), out[3][start:stop]
    for x in range(w):
        total[x], independent[x] = ZERO, ZERO
    for x in range(w):
        together[x], bits[x] = ZERO, 0
    weights, same = ZERO, ZERO
    for i in range(n):
        weight = ONE if median else table[WEIGHT, i]
        weights += weight
        squared, width = weight * weight, table[WIDTH, i]
        value, variance, flags = stretch(v, i, start, w), stretch(s, i, start, w), stretch(dq, i, start, w)
        if clip >= SIGMA:
            for x in range(w):
                apart[x] |= abs(value[x] - centre[x]) > width * limit[x]
        for x in range(w):
            total[x] += (value[x] - centre[x]) * weight
        if uniform.size:
            same += uniform[i] * squared
        else:
            for x in range(w):
                independent[x] += variance[x] * squared
                bits[x] |= flags[x]
    if uniform.size:
        for x in range(w):
            independent[x] = same
    for group in range(groups):
        for x in range(w):
            root[x] = ZERO
        for i in range(n):
            if identity[i] == group:
                weight, part = ONE if median else table[WEIGHT, i], stretch(c, i, start, w)
                for x in range(w):
                    brought = part[x] if part[x] > ZERO else ZERO
                    independent[x] -= brought * (weight * weight)
                    root[x] += np.sqrt(brought) * weight
        for x in range(w):
            together[x] += root[x] * root[x]
    data, variance = out[0][start:stop], out[1][start:stop]
    factor = factors[n] if median else ONE
    for x in range(w):
        data[x] = centre[x] if median else centre[x] + total[x] / weights
    for x in range(w):
        own = independent[x] * factor
        variance[x] = ((own if own > ZERO else ZERO) + together[x]) / (weights * weights)
    shared = out[2][start:stop]
    for x in range(shared.size):
        shared[x] = together[x] / (weights * weights)


@compiled()
def _gather(to, chosen, strip):
    """Move the pixels that were chosen to the front of the strip, behind those that are there.

    It reads at `chosen[k]` and writes at ``to + k``, which is never behind it: nothing is lost that is still needed.
    """
    v, s, c, dq, uniform = strip
    for i in range(v.shape[0]):
        values, variance, flags = v[i], s[i], dq[i]
        for k in range(chosen.size):
            values[to + k] = values[chosen[k]]
        if uniform.size:
            for k in range(chosen.size):
                variance[to + k], flags[to + k] = uniform[i], 0
        else:
            for k in range(chosen.size):
                variance[to + k], flags[to + k] = variance[chosen[k]], flags[chosen[k]]
    for i in range(c.shape[0]):
        part = c[i]
        for k in range(chosen.size):
            part[to + k] = part[chosen[k]]


@compiled()
def _drop_extremes(start, v, used, counts):
    """Drop the lowest and the highest value of each pixel that was gathered and has three or more."""
    # `<` for the lowest, `>=` for the highest: of equal values the first and the last go, never one of them twice.
    for x in range(counts.size):
        if counts[x] >= 3:
            low, high, least, greatest = 0, 0, INF, -INF
            for i in range(v.shape[0]):
                value = v[i, start + x]
                if used[i, x] and value < least:
                    low, least = i, value
                if used[i, x] and value >= greatest:
                    high, greatest = i, value
            used[low, x], used[high, x] = False, False
            counts[x] -= 2


@compiled()
def _take_measured(start, v, s, dq, used, counts, flags):
    """Keep all that was measured at all of pixels of which nothing is left; gives whether there are such.

    Such a pixel, as the core of a saturated star, gets the average of what was measured, the flags of all its values
    and ``REJECTED``: it is excluded, but one sees what is there. With nothing measured it is ``NO_DATA`` too.
    """
    gone = False
    for x in range(counts.size):
        flags[x] = 0
        if counts[x] == 0:
            gone = True
            for i in range(v.shape[0]):
                at = start + x
                used[i, x] = (abs(v[i, at]) < INF) & (abs(s[i, at]) < INF) & ((dq[i, at] & NO_DATA) == 0)
                counts[x] += used[i, x]
                flags[x] |= dq[i, at]
            flags[x] |= REJECTED if counts[x] else REJECTED | NO_DATA
    return gone


@compiled()
def _average_apart(
    start, median, table, identity, groups, factors, v, s, c, dq, used, counts, chosen, rows, flags, out
):
    """Average what is left of each pixel that was gathered, and write it where it belongs.

    The formulae are those of `_average_block`, with sums over values that count.
    """
    n, w = v.shape[0], counts.size
    centre, weights, total, independent = (
        stretch(rows, CENTRE, 0, w),
        stretch(rows, LIMIT, 0, w),
        stretch(rows, TOTAL, 0, w),
        stretch(rows, INDEPENDENT, 0, w),
    )
    together, root = stretch(rows, TOGETHER, 0, w), stretch(rows, SPARE, 0, w)
    for x in range(w):
        weights[x], total[x] = ZERO, ZERO
    for x in range(w):
        independent[x], together[x] = ZERO, ZERO
    for i in range(n):
        weight = ONE if median else table[WEIGHT, i]
        squared, mark = weight * weight, stretch(used, i, 0, w)
        value, variance, bits = stretch(v, i, start, w), stretch(s, i, start, w), stretch(dq, i, start, w)
        for x in range(w):
            weights[x] += weight if mark[x] else ZERO
            total[x] += (value[x] - centre[x]) * weight if mark[x] else ZERO
        for x in range(w):
            independent[x] += variance[x] * squared if mark[x] else ZERO
            flags[x] |= bits[x] if mark[x] else 0
    for group in range(groups):
        for x in range(w):
            root[x] = ZERO
        for i in range(n):
            if identity[i] == group:
                weight, part, mark = (
                    ONE if median else table[WEIGHT, i],
                    stretch(c, i, start, w),
                    stretch(used, i, 0, w),
                )
                for x in range(w):
                    brought = part[x] if mark[x] & (part[x] > ZERO) & (part[x] < INF) else ZERO
                    independent[x] -= brought * (weight * weight)
                    root[x] += np.sqrt(brought) * weight
        for x in range(w):
            together[x] += root[x] * root[x]
    data, variances, shared, dqs = out[0], out[1], out[2], out[3]
    for x in range(w):
        at, weight = chosen[x], weights[x] if counts[x] else ONE
        own = independent[x] * (factors[counts[x]] if median else ONE)
        data[at] = centre[x] if median else centre[x] + total[x] / weight
        variances[at] = ((own if own > ZERO else ZERO) + together[x]) / (weight * weight)
        dqs[at] = flags[x]
        if groups:
            shared[at] = together[x] / (weight * weight)


_STRIP = (*(array(np.float32, 2),) * 3, array(np.uint16, 2), array(np.float32, 1))
_OUT = (*(array(np.float32, 1),) * 3, *(array(np.uint16, 1),) * 2)
_ROOM = (
    *(array(np.float32, 2),) * 3,
    array(np.bool_, 2),
    array(np.int64, 1),
    array(np.bool_, 1),
    array(np.int64, 1),
    array(np.uint16, 1),
)


def room_for(n: int, npix: int) -> tuple[Any, ...]:
    """Return the memory that `combine_strip` works in.

    Parameters
    ----------
    n : int
        Number of frames.
    npix : int
        Pixels of a strip.

    Returns
    -------
    tuple of arrays
        For its argument `room`: a block of each frame, numbers for the block's pixels, and a list of pixels. Nothing
        of it is set.
    """
    # A multiple of 64 pixels, so that a row is whole vectors; not less than 128, or the loops would be too short.
    block = min(max(BLOCK_VALUES // n // 64 * 64, 128), 1024)
    floats = ((n, block), np.float32), ((n, block), np.float32), ((7, block), np.float32)
    marks = ((n, block), np.bool_), (block, np.int64), (block, np.bool_)
    return tuple(memory.empty(*kind) for kind in (*floats, *marks, (npix, np.int64), (block, np.uint16)))


@compiled(
    (constant(np.int64, 1),) * 2,
    constant(np.int64, 2),
    constant(np.float32, 1),
    constant(np.float32, 2),
    constant(np.float32, 1),
    _STRIP,
    _OUT,
    _ROOM,
)
def combine_strip(options, exchanges, numbers, table, factors, strip, out, room):
    """Clip and average a strip.

    Parameters
    ----------
    options : (int64[4], int64[n])
        Clip, iterations, whether the median is wanted, number of groups of frames that share their masters;
        and each frame's group, -1 for none.
    exchanges : int64 array, shape (m, 2)
        The network that sorts n values: places that are compared, the lower value to the first.
    numbers : float32[4]
        Sigma, relative noise, floor of the clip ``mad``, and the width of a typical frame for it.
    table : float32 array, shape (5, n)
        Scale, weight, inverse ratio and width of each frame, and 1.
    factors : float32[n + 1]
        Variance of the median of k values times k.
    strip : (values, variance, shared, dq, uniform)
        As read, shape (n, npix) or more, of which npix count; overwritten. `shared` has no rows where no frame has
        any. Where `uniform` is not empty, it is the variance of all pixels of each frame, no pixel is flagged, and
        variance and dq were not read.
    out : (data, variance, shared, dq, ngood)
        Shape (npix,); written. `shared` is empty where no frame has any.
    room : tuple of arrays
        Memory to work in, see `room_for`.

    Returns
    -------
    usable, clipped : int
        How many values were usable, and how many of them were clipped.
    """
    clip, iterations, median, groups = options[0]
    ngood = out[4]
    n, npix = strip[0].shape[0], ngood.size
    v, s, c, dq, uniform = strip
    ordered, ordered_s, rows, used, counts, apart, chosen, flags = room
    block = counts.size
    identity = options[1]
    needs_variance = clip == VARIANCE or (clip == MAD and numbers[2] > ZERO)
    total_used, total_kept, many = 0, 0, np.int64(0)  # a literal 0 would be a type of its own
    if not _scale_uniform(uniform, table, needs_variance):
        for i in range(n):
            for x in range(npix):
                s[i, x], dq[i, x] = uniform[i], 0
        uniform = uniform[:0]
    planes = v, s, c, dq, uniform
    # First pass: all pixels, as if all their values counted.
    complete = n > 0  # a literal True would be a type of its own
    for start in range(0, npix, block):
        w = block if start + block < npix else npix - start
        total_used += _load(planes, table[SCALE], start, w, used, ordered, counts)
        for x in range(w):
            apart[x] = (clip == MINMAX) | (counts[x] < n)
        _sort(ordered, exchanges, stretch(rows, CENTRE, 0, w))
        if uniform.size:
            for x in range(w):
                rows[COMMON, x] = uniform[0] * table[INVERSE_RATIO, 0]
        elif not needs_variance or _all_alike(start, s, table, w):
            for x in range(w):
                rows[COMMON, x] = s[0, start + x] * table[INVERSE_RATIO, 0]
        else:
            _fill_variances(start, s, used, table[INVERSE_RATIO], ordered_s, w)
            _sort(ordered_s, exchanges, stretch(rows, COMMON, 0, w))
        _find_limit(start, w, clip, complete, numbers, exchanges, v, used, counts, ordered, rows)
        _average_block(
            start, w, clip, median, table, identity, groups, factors, v, s, c, dq, uniform, rows, apart, out
        )
        before = many
        for x in range(w):
            ngood[start + x] = n
            chosen[many] = start + x
            many += apart[x]
        total_kept += n * (w - many + before)
        _gather(before, chosen[before:many], planes)
    # Second pass: the pixels that were gathered. Their values are scaled, and their variances are all written out.
    complete = n < 0
    for start in range(0, many, block):
        w = block if start + block < many else many - start
        known = v, s, c, dq, uniform[:0]
        left, where, centre = counts[:w], chosen[start : start + w], stretch(rows, CENTRE, 0, w)
        _load(known, table[UNIT], start, w, used, ordered, counts)
        if clip == MINMAX:
            _drop_extremes(start, v, used, left)
            _middle_of_values(start, v, used, ordered, exchanges, left, centre)
        else:
            _middle(ordered, exchanges, left, centre)
        if clip >= SIGMA:
            alike = not needs_variance or _all_alike(start, s, table, w)
            _clip(
                start,
                w,
                clip,
                complete,
                iterations,
                numbers,
                table,
                exchanges,
                alike,
                v,
                s,
                used,
                left,
                ordered,
                rows,
            )
        for x in range(w):
            ngood[where[x]] = left[x]
            total_kept += left[x]
        if _take_measured(start, v, s, dq, used, left, flags):
            _middle_of_values(start, v, used, ordered, exchanges, left, centre)
        _average_apart(
            start, median, table, identity, groups, factors, v, s, c, dq, used, left, where, rows, flags, out
        )
    return total_used, total_used - total_kept
