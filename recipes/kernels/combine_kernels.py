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
SCALE, WEIGHT, UNIT, PRECISION, SLOPE, RATIO, APART, OWN, OWN_PHOTON, OWN_CHANGE = range(10)
"""Rows of the table of the frames: factor that scales its values, weight in the average, and 1 (the scale in the
second pass, where all is scaled already); and what `ccdflow.recipes.combine.clip.FrameNoise` says: weight in the mean
that values are compared with, growth of the variance with the value, variance relative to the others', and what
shared masters add to it. The last rows hold where all frames have a value: by how much the square of a frame's limit
grows with the common variance, with light above the level, and with the square of a change of light."""
SIGMA_SQUARED, CHANGE, FLOOR, MEDIAN_WIDTH, SLOPES, LEVEL, LEAST, OUTWEIGHS, LIFT = range(9)
"""Numbers of the rule: limit in standard deviations, squared; fraction of the mean that counts as noise; least spread
of the clip ``mad`` in units of the stated noise; width of a typical frame for it; mean growth of the common variance
with the value; level for which the frames' ratios hold; a variance below which none is believed; by how much the
square of a limit grows with the logarithm of a frame's weight over that of all others; and how far, in standard
deviations of a frame of ratio 1, a value that lies at its limit lifts the mean above that of the others."""
UPWARD = np.float32(1 / 0.95**2)
"""Factor of (residual / sigma)² of a value above the mean and outside its limit, when the farthest value is sought: 1
/ 0.95². Of two values that lie about equally far out, the higher one goes first, since cosmic rays and satellites
only add light."""
NO_LIMIT, ABOUT_CENTRE, ONE_FOR_ALL, EACH_ITS_OWN = range(4)
"""How the first pass tells which pixels have a value to be clipped."""
BLOCK_VALUES = 8192
"""Values in one block of all frames: a few blocks of float32 fit a core's cache."""
(
    CENTRE, LIMIT, TOTAL, INDEPENDENT, TOGETHER, SPARE, MEAN, COMMON, ABOVE, WIDER, VARYING, PART, SQUARES, BENT, PAIR,
    SCORE, WORST, OUTSIDE,
) = range(18)  # fmt: skip
"""Rows of numbers that a block has one of for each pixel. Its median (or whatever differences are taken from), its
limit of clipping, and sums over frames: of values, of variance that is a frame's own, and of what frames share. Then,
for values that are compared with the frames' mean: that mean, the variance of a frame of ratio 1 but for photon noise
of light above the level, that light, what noise is wider by than stated, the change of light squared; 1 over the sum
of the weights, sums of their squares and of those times slopes, 1 where two values are left; and of the farthest
value its distance squared in variances, its frame counted from 1, below 0 if it lies within its limit, and how many
of two lie outside.

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
def _scale_uniform(uniform, table):
    """Scale variances of which each is that of all pixels of a frame; gives whether all of them are finite."""
    for i in range(uniform.size):
        if not abs(uniform[i] * (table[SCALE, i] * table[SCALE, i])) < INF:
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
def _find_spread(start, w, clip, complete, exchanges, v, used, counts, ordered, rows):
    """Write to the limits what standard deviation each pixel's values show, for the clips ``mad`` and ``sigma``.

    Where blocks are `complete`, all values of the pixels that matter count, and stand sorted in `ordered`.
    """
    n = v.shape[0]
    centre, limit, total = (
        stretch(rows, CENTRE, 0, w),
        stretch(rows, LIMIT, 0, w),
        stretch(rows, TOTAL, 0, w),
    )
    if clip == MAD:
        if complete:
            _median_distance(v, ordered, rows, w)
        else:
            for i in range(n):
                row, mark, to = stretch(v, i, start, w), stretch(used, i, 0, w), stretch(ordered, i, 0, w)
                for x in range(w):
                    to[x] = abs(row[x] - centre[x]) if mark[x] else INF
            _middle(ordered, exchanges, counts, limit)
        for x in range(w):
            limit[x] *= MAD_TO_SIGMA
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
            limit[x] = np.sqrt(limit[x] / np.float32(counts[x]))


@compiled()
def _clip_by_spread(start, w, clip, complete, iterations, sigma, exchanges, v, used, counts, ordered, rows):
    """Clip gathered pixels by their spread until nothing changes; `used`, `counts` and centres say what is left."""
    # `mark ^ stays` is true of what is clipped now. A value once clipped stays so.
    centre, limit = stretch(rows, CENTRE, 0, w), stretch(rows, LIMIT, 0, w)
    for _ in range(iterations):
        _find_spread(start, w, clip, complete, exchanges, v, used, counts, ordered, rows)
        changed = False
        for i in range(v.shape[0]):
            row, mark = stretch(v, i, start, w), stretch(used, i, 0, w)
            for x in range(w):
                stays = mark[x] & ~(abs(row[x] - centre[x]) > sigma * limit[x])
                counts[x] -= mark[x] ^ stays
                changed |= mark[x] ^ stays
                mark[x] = stays
        if not changed:
            break
        _middle_of_values(start, v, used, ordered, exchanges, counts, centre)


@compiled()
def _mean_of_all(start, w, table, v, rows):
    """Write the frames' mean, each weighted by its precision."""
    mean, weights = stretch(rows, MEAN, 0, w), ZERO
    for x in range(w):
        mean[x] = ZERO
    for i in range(v.shape[0]):
        weight, value = table[PRECISION, i], stretch(v, i, start, w)
        weights += weight
        for x in range(w):
            mean[x] += value[x] * weight
    for x in range(w):
        mean[x] /= weights


@compiled()
def _common_of_all(start, w, table, level, apart_shared, v, s, c, uniform, rows):
    """Write the variance of a frame of ratio 1 at the mean, or at the level if that is lower, where ratios hold.

    It is the frames' mean, but for the largest of three or more. A variance that grows with the value by a slope p is
    V + p (mean - value) at the mean. So the photon noise of a cosmic ray does not widen the limit that it is held
    against; and where an outlier's variance comes from elsewhere, it is the largest.
    """
    mean, common, most, own = (
        stretch(rows, MEAN, 0, w),
        stretch(rows, COMMON, 0, w),
        stretch(rows, SCORE, 0, w),
        stretch(rows, SPARE, 0, w),
    )
    n, at = v.shape[0], stretch(rows, WORST, 0, w)
    for x in range(w):
        common[x], most[x] = ZERO, ZERO
    for x in range(w):
        at[x] = mean[x] if mean[x] < level else level
    for i in range(n):
        weight, slope = table[PRECISION, i], table[SLOPE, i]
        value, variance = stretch(v, i, start, w), stretch(s, i, start, w)
        if uniform.size:
            for x in range(w):
                own[x] = uniform[i] * weight
        elif apart_shared:
            part = stretch(c, i, start, w)
            for x in range(w):
                brought = part[x] if part[x] > ZERO else ZERO
                own[x] = (variance[x] - brought + slope * (at[x] - value[x])) * weight
        else:
            for x in range(w):
                own[x] = (variance[x] + slope * (at[x] - value[x])) * weight
        # Adding all and taking the largest off again would lose the digits of the others.
        if i == 0:
            for x in range(w):
                most[x] = own[x]
        else:
            for x in range(w):
                common[x] += own[x] if own[x] < most[x] else most[x]
                most[x] = own[x] if own[x] > most[x] else most[x]
    if n > 2:
        for x in range(w):
            common[x] /= np.float32(n - 1)
    else:
        for x in range(w):
            common[x] = (common[x] + most[x]) / np.float32(n)


@compiled()
def _mean_of_used(start, w, table, v, used, counts, rows):
    """Do as `_mean_of_all`, with values that count, and write the sums of their weights that `_farthest` needs."""
    mean, part, squares, bent, pair = (
        stretch(rows, MEAN, 0, w),
        stretch(rows, PART, 0, w),
        stretch(rows, SQUARES, 0, w),
        stretch(rows, BENT, 0, w),
        stretch(rows, PAIR, 0, w),
    )
    for x in range(w):
        mean[x], part[x] = ZERO, ZERO
    for x in range(w):
        squares[x], bent[x] = ZERO, ZERO
    for i in range(v.shape[0]):
        weight, slope = table[PRECISION, i], table[SLOPE, i]
        squared, mark, value = weight * weight, stretch(used, i, 0, w), stretch(v, i, start, w)
        for x in range(w):
            part[x] += weight if mark[x] else ZERO
            mean[x] += value[x] * weight if mark[x] else ZERO
        for x in range(w):
            squares[x] += squared if mark[x] else ZERO
            bent[x] += slope * squared if mark[x] else ZERO
    for x in range(w):
        part[x] = ONE / part[x] if part[x] > ZERO else ZERO
        mean[x] *= part[x]
    for x in range(w):
        squares[x] *= part[x] * part[x]
        bent[x] *= part[x] * part[x]
    for x in range(w):
        pair[x] = ONE if counts[x] == 2 else ZERO


@compiled()
def _common_of_used(start, w, table, level, apart_shared, v, s, c, used, counts, rows):
    """Do as `_common_of_all`, with values that count."""
    mean, common, most, own = (
        stretch(rows, MEAN, 0, w),
        stretch(rows, COMMON, 0, w),
        stretch(rows, SCORE, 0, w),
        stretch(rows, SPARE, 0, w),
    )
    at = stretch(rows, WORST, 0, w)
    for x in range(w):
        common[x], most[x] = ZERO, -INF
    for x in range(w):
        at[x] = mean[x] if mean[x] < level else level
    for i in range(v.shape[0]):
        weight, slope, mark = table[PRECISION, i], table[SLOPE, i], stretch(used, i, 0, w)
        value, variance = stretch(v, i, start, w), stretch(s, i, start, w)
        for x in range(w):
            own[x] = (variance[x] + slope * (at[x] - value[x])) * weight if mark[x] else -INF
        if apart_shared:
            part = stretch(c, i, start, w)
            for x in range(w):
                own[x] -= part[x] * weight if mark[x] & (part[x] > ZERO) else ZERO
        for x in range(w):
            lower = own[x] if own[x] < most[x] else most[x]
            most[x] = own[x] if own[x] > most[x] else most[x]
            common[x] += lower if lower > -INF else ZERO
    for x in range(w):
        count = counts[x]
        largest = most[x] if (count < 3) & (count > 0) else ZERO
        divisor = np.float32(count - 1) if count > 2 else (np.float32(count) if count else ONE)
        common[x] = (common[x] + largest) / divisor


@compiled()
def _light_of_mean(w, numbers, rows):
    """Write the light above the level, whose photon noise the common variance does not hold, and the change of light.

    An outlier lifts the mean, so that much is taken off the light: too low a limit here costs a second look
    (`_farthest`) and nothing else.
    """
    mean, common, above, wider, varying = (
        stretch(rows, MEAN, 0, w),
        stretch(rows, COMMON, 0, w),
        stretch(rows, ABOVE, 0, w),
        stretch(rows, WIDER, 0, w),
        stretch(rows, VARYING, 0, w),
    )
    change, level, least = numbers[CHANGE], numbers[LEVEL], numbers[LEAST]
    lift, slopes = numbers[LIFT], numbers[SLOPES]
    for x in range(w):
        common[x] = common[x] if common[x] > least else least
        light = mean[x] - level if mean[x] > level else ZERO
        light -= lift * np.sqrt(common[x] + slopes * light)
        above[x] = light if light > ZERO else ZERO
        wider[x] = ONE
    for x in range(w):
        light = change * mean[x]
        varying[x] = light * light


@compiled()
def _widen_by_spread(w, numbers, rows):
    """Let the values' own spread take the place of the stated variance, where noise is not what frames state."""
    common, above, wider, limit = (
        stretch(rows, COMMON, 0, w),
        stretch(rows, ABOVE, 0, w),
        stretch(rows, WIDER, 0, w),
        stretch(rows, LIMIT, 0, w),
    )
    floor, typical, slopes = numbers[FLOOR], numbers[MEDIAN_WIDTH], numbers[SLOPES]
    for x in range(w):
        # A few values often lie close together by chance: hence a floor, in units of the stated noise.
        stated = common[x] + above[x] * slopes
        spread, least = limit[x] / typical, floor * np.sqrt(stated)
        spread = spread if spread > least else least
        factor = spread * spread / stated if stated > ZERO else ONE
        common[x] = common[x] * factor if stated > ZERO else spread * spread
        # By spread a value at its limit may lift the mean by more than the noise tells: light counts in a second look.
        above[x] = ZERO
        wider[x] = factor


@compiled()
def _farthest(start, w, numbers, table, v, used, counts, rows):
    """Write which frame's value lies farthest out, how far, and whether it lies outside its limit.

    The residual of frame i about the mean with weights w, sum 1, has the variance V_i (1 - 2 w_i) + sum(w_j² V_j):
    that is the comparison of its value with the mean of all the others, whose own error is in the limit. Of two
    values only such count as lie outside their limits.
    """
    mean, common, wider, varying = (
        stretch(rows, MEAN, 0, w),
        stretch(rows, COMMON, 0, w),
        stretch(rows, WIDER, 0, w),
        stretch(rows, VARYING, 0, w),
    )
    part, squares, bent, pair = (
        stretch(rows, PART, 0, w),
        stretch(rows, SQUARES, 0, w),
        stretch(rows, BENT, 0, w),
        stretch(rows, PAIR, 0, w),
    )
    score, worst, outside = (
        stretch(rows, SCORE, 0, w),
        stretch(rows, WORST, 0, w),
        stretch(rows, OUTSIDE, 0, w),
    )
    variance, limit = stretch(rows, SPARE, 0, w), stretch(rows, LIMIT, 0, w)
    sigma_squared, outweighs, level = numbers[SIGMA_SQUARED], numbers[OUTWEIGHS], numbers[LEVEL]
    pairs = False
    for x in range(w):
        pairs |= pair[x] > ZERO
    for x in range(w):
        score[x], worst[x] = ZERO, ZERO
    for x in range(w):
        outside[x], limit[x] = ZERO, sigma_squared
    for i in range(v.shape[0]):
        weight, ratio, slope, apart = table[PRECISION, i], table[RATIO, i], table[SLOPE, i], table[APART, i]
        value, mark, number = stretch(v, i, start, w), stretch(used, i, 0, w), np.float32(i + 1)
        heavy = False
        for x in range(w):
            share = weight * part[x]
            heavy |= share > HALF
            lost, odds = ONE - share - share, share / (ONE - share) if share < ONE else ZERO
            # Light is that of the others: were the value an outlier, it would widen its own limit.
            light = mean[x] - odds * (value[x] - mean[x]) - level
            light = light * wider[x] if light > ZERO else ZERO
            # Precision is 1 over the ratio: sum(w_j² r_j) is 1 / sum(w_j).
            variance[x] = (
                common[x] * (ratio * lost + part[x] + apart)
                + varying[x] * (lost + squares[x])
                + light * (slope * lost + bent[x])
            )
        # A frame outweighs all others in few blocks, and two values are left in few pixels.
        if heavy:
            for x in range(w):
                share = weight * part[x]
                odds = share / (ONE - share) if share < ONE else ZERO
                limit[x] = sigma_squared + (outweighs * np.log(odds) if odds > ONE else ZERO)
        if pairs:
            for x in range(w):
                share = weight * part[x]
                odds = share / (ONE - share) if share < ONE else ZERO
                limit[x] += pair[x] * sigma_squared * (odds if odds < ONE else ONE)
        for x in range(w):
            distance = value[x] - mean[x]
            squared = distance * distance
            out = mark[x] & (squared > variance[x] * limit[x])
            far = squared / variance[x] if variance[x] > ZERO else INF
            far = far * UPWARD if out & (distance > ZERO) else far
            farther = mark[x] & (far > score[x]) & (squared > ZERO) & (out | (pair[x] == ZERO))
            score[x] = far if farther else score[x]
            worst[x] = (number if out else -number) if farther else worst[x]
        if pairs:
            for x in range(w):
                distance = value[x] - mean[x]
                out = mark[x] & (distance * distance > variance[x] * limit[x])
                outside[x] += pair[x] if out else ZERO
        if heavy | pairs:
            for x in range(w):
                limit[x] = sigma_squared


@compiled()
def _to_front(start, w, again, planes, used, counts, where, mean):
    """Let pixels that are looked at again change places with others, so that they stand first; give their number.

    Which place a gathered pixel has does not matter: `where` says whose it is.
    """
    v, s, c, dq, _ = planes
    first, last = 0, w - 1
    while True:
        while first <= last and again[first] > ZERO:
            first += 1
        while first <= last and not again[last] > ZERO:
            last -= 1
        if first > last:
            return first
        a, b = start + first, start + last
        for i in range(v.shape[0]):
            v[i, a], v[i, b] = v[i, b], v[i, a]
            s[i, a], s[i, b] = s[i, b], s[i, a]
            dq[i, a], dq[i, b] = dq[i, b], dq[i, a]
            used[i, first], used[i, last] = used[i, last], used[i, first]
        for i in range(c.shape[0]):
            c[i, a], c[i, b] = c[i, b], c[i, a]
        counts[first], counts[last] = counts[last], counts[first]
        where[first], where[last] = where[last], where[first]
        mean[first], mean[last] = mean[last], mean[first]
        again[first], again[last] = ONE, ZERO


@compiled()
def _clip_by_noise(
    start,
    w,
    clip,
    complete,
    iterations,
    numbers,
    table,
    exchanges,
    apart_shared,
    planes,
    used,
    counts,
    where,
    ordered,
    rows,
):
    """Clip of each gathered pixel the value that lies farthest out, and look again, until none lies outside its limit.

    Only pixels that lost a value are looked at again, which after two looks are few. Of two values that contradict
    each other neither can be told to be the wrong one: both go, unless one weighs so much more than the other that it
    stays within its limit.
    """
    v, s, c, _, _ = planes
    outside, worst, mean = stretch(rows, OUTSIDE, 0, w), stretch(rows, WORST, 0, w), stretch(rows, MEAN, 0, w)
    for _ in range(iterations):
        left = counts[:w]
        _mean_of_used(start, w, table, v, used, left, rows)
        _common_of_used(start, w, table, numbers[LEVEL], apart_shared, v, s, c, used, left, rows)
        _light_of_mean(w, numbers, rows)
        if clip == MAD:
            _middle_of_values(start, v, used, ordered, exchanges, left, stretch(rows, CENTRE, 0, w))
            _find_spread(start, w, clip, complete, exchanges, v, used, left, ordered, rows)
            _widen_by_spread(w, numbers, rows)
        _farthest(start, w, numbers, table, v, used, left, rows)
        for x in range(w):
            if (worst[x] > ZERO) & (left[x] > 1):
                if outside[x] > ONE:
                    for i in range(v.shape[0]):
                        used[i, x] = False
                    left[x] = 0
                else:
                    used[int(worst[x]) - 1, x] = False
                    left[x] -= 1
            else:
                worst[x] = ZERO
        w = _to_front(start, w, worst, planes, used, counts, where, mean)
        if w == 0:
            break


@compiled()
def _average_block(
    start, w, limits, median, table, sigma, identity, groups, factors, v, s, c, dq, uniform, rows, apart, out
):
    """Average all values of each pixel, and note in `apart` of which pixels one must be clipped.

    `limits` says how: not at all, about the centre by the limit, about the mean by one limit for all frames, or about
    the mean by each frame's own.

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
    mean, common, above, varying = (
        stretch(rows, MEAN, 0, w),
        stretch(rows, COMMON, 0, w),
        stretch(rows, ABOVE, 0, w),
        stretch(rows, VARYING, 0, w),
    )
    for x in range(w):
        total[x], independent[x] = ZERO, ZERO
    for x in range(w):
        together[x], bits[x] = ZERO, 0
    weights, same = ZERO, ZERO
    for i in range(n):
        weight = ONE if median else table[WEIGHT, i]
        weights += weight
        squared = weight * weight
        value, variance, flags = stretch(v, i, start, w), stretch(s, i, start, w), stretch(dq, i, start, w)
        if limits == ABOUT_CENTRE:
            for x in range(w):
                apart[x] |= abs(value[x] - centre[x]) > sigma * limit[x]
        elif limits == ONE_FOR_ALL:
            for x in range(w):
                distance = value[x] - mean[x]
                apart[x] |= distance * distance > limit[x]
        elif limits == EACH_ITS_OWN:
            own, own_photon, own_change = table[OWN, i], table[OWN_PHOTON, i], table[OWN_CHANGE, i]
            for x in range(w):
                distance = value[x] - mean[x]
                apart[x] |= (
                    distance * distance > common[x] * own + above[x] * own_photon + varying[x] * own_change
                )
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
def _one_limit(table):
    """Tell whether the frames' limits are one and the same."""
    for row in (OWN, OWN_PHOTON, OWN_CHANGE):
        for i in range(1, table.shape[1]):
            if table[row, i] != table[row, 0]:
                return False
    return True


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
    *(array(np.float32, 2),) * 2,
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
    floats = ((n, block), np.float32), ((OUTSIDE + 1, block), np.float32)
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
    options : (int64[6], int64[n])
        Clip, iterations, whether the median is wanted, number of groups of frames that share their masters, whether
        values are compared with the frames' mean by their noise, and whether all frames share masters, whose part of
        the variance is none of the noise between them; and each frame's group, -1 for none.
    exchanges : int64 array, shape (m, 2)
        The network that sorts n values: places that are compared, the lower value to the first.
    numbers : float32[9]
        See `SIGMA_SQUARED` and what follows it.
    table : float32 array, shape (10, n)
        See `SCALE` and what follows it.
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
    clip, iterations, median, groups, by_noise, apart_shared = options[0]
    ngood = out[4]
    n, npix = strip[0].shape[0], ngood.size
    v, s, c, dq, uniform = strip
    ordered, rows, used, counts, apart, chosen, flags = room
    block = counts.size
    identity = options[1]
    sigma = np.sqrt(numbers[SIGMA_SQUARED])
    # Values are sorted where their median or its kin is wanted; beside that the mean is a centre as good.
    sorts = median | (clip == SIGMA) | (clip == MAD)
    limits = NO_LIMIT
    if by_noise:
        limits = ONE_FOR_ALL if _one_limit(table) else EACH_ITS_OWN
    elif clip >= SIGMA:
        limits = ABOUT_CENTRE
    total_used, total_kept, many = 0, 0, np.int64(0)  # a literal 0 would be a type of its own
    if not _scale_uniform(uniform, table):
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
        if sorts:
            _sort(ordered, exchanges, stretch(rows, CENTRE, 0, w))
        if (clip == SIGMA) | (clip == MAD):
            _find_spread(start, w, clip, complete, exchanges, v, used, counts, ordered, rows)
        if by_noise | (not sorts):
            _mean_of_all(start, w, table, v, rows)
        if by_noise:
            _common_of_all(start, w, table, numbers[LEVEL], apart_shared, v, s, c, uniform, rows)
            _light_of_mean(w, numbers, rows)
            if clip == MAD:
                _widen_by_spread(w, numbers, rows)
            if limits == ONE_FOR_ALL:
                for x in range(w):
                    rows[LIMIT, x] = (
                        rows[COMMON, x] * table[OWN, 0]
                        + rows[ABOVE, x] * table[OWN_PHOTON, 0]
                        + rows[VARYING, x] * table[OWN_CHANGE, 0]
                    )
        if not sorts:
            for x in range(w):
                rows[CENTRE, x] = rows[MEAN, x]
        _average_block(
            start,
            w,
            limits,
            median,
            table,
            sigma,
            identity,
            groups,
            factors,
            v,
            s,
            c,
            dq,
            uniform,
            rows,
            apart,
            out,
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
        elif by_noise:
            _clip_by_noise(
                start,
                w,
                clip,
                complete,
                iterations,
                numbers,
                table,
                exchanges,
                apart_shared,
                known,
                used,
                left,
                where,
                ordered,
                rows,
            )
            if median:
                _middle_of_values(start, v, used, ordered, exchanges, left, centre)
            else:
                for x in range(w):
                    centre[x] = rows[MEAN, x]
        else:
            _middle(ordered, exchanges, left, centre)
            if clip >= SIGMA:
                _clip_by_spread(
                    start, w, clip, complete, iterations, sigma, exchanges, v, used, left, ordered, rows
                )
        for x in range(w):
            ngood[where[x]] = left[x]
            total_kept += left[x]
        if _take_measured(start, v, s, dq, used, left, flags):
            # Only these get another centre: what others are averaged about must not depend on their neighbours.
            spare = stretch(rows, SPARE, 0, w)
            _middle_of_values(start, v, used, ordered, exchanges, left, spare)
            for x in range(w):
                centre[x] = spare[x] if flags[x] & REJECTED else centre[x]
        _average_apart(
            start, median, table, identity, groups, factors, v, s, c, dq, used, left, where, rows, flags, out
        )
    return total_used, total_used - total_kept
