"""The compiled kernel of `ccdflow.recipes.combine`: a strip of all frames in, its average out.

Pixels go through in blocks that stay in a core's cache. Within a block every step runs along rows of pixels, frame
by frame, so that the compiler turns it into vector instructions; even sorting does, by a network that exchanges
whole rows. Only pixels that miss a value, or of which one was clipped, are then looked at one by one.

Each function, and each call of one within another, takes its time to compile: hence few functions, and loops where
a call would read better. Not more than two arrays are written in a loop, or it does not become vector instructions.
"""

import numpy as np
from numba import types

from ccdflow.recipes.compiled import array, compiled, constant
from ccdflow.recipes.dq import DQ, EXCLUDED
from ccdflow.recipes.statistics import NORMAL_MAD

NONE, MINMAX, SIGMA, MAD, VARIANCE = range(5)
"""Clips, as the kernel knows them."""
SCALE, WEIGHT, INVERSE_RATIO, WIDTH, ONES = range(5)
"""Rows of the table of the frames."""
BLOCK_VALUES = 8192
"""Values in one block of all frames: a few blocks of float32 fit a core's cache."""
CENTRE, COMMON, LIMIT, TOTAL, INDEPENDENT, TOGETHER, SPARE = range(7)
"""Rows of numbers that a block has one of for each pixel."""

INF = np.float32(np.inf)
ZERO, ONE, HALF = np.float32(0), np.float32(1), np.float32(0.5)
MAD_TO_SIGMA = np.float32(NORMAL_MAD)
NO_DATA = np.uint16(DQ.NO_DATA)
REJECTED = np.uint16(DQ.REJECTED)
EXCLUDING = np.uint16(EXCLUDED)


@compiled()
def _load(strip, table, start, w, v, s, c, used, counts):
    """Scale a block of all frames into the cache, and count each pixel's usable values; gives their number."""
    stop, usable, grouped = start + w, 0, c.shape[0] > 0
    for i in range(v.shape[0]):
        scale = table[SCALE, i]
        values, variance, dq = strip[0][i, start:stop], strip[1][i, start:stop], strip[3][i, start:stop]
        shared = strip[2][i if grouped else 0 : i + 1 if grouped else 0]
        row, spread, mark = v[i, :w], s[i, :w], used[i, :w]
        for x in range(w):
            row[x] = values[x] * scale
            spread[x] = variance[x] * (scale * scale)
        for x in range(w):
            finite = (abs(row[x]) < INF) & (abs(spread[x]) < INF)
            mark[x] = finite & ((dq[x] & EXCLUDING) == 0)
        if grouped:
            part, given = c[i, :w], shared[0, start:stop]
            for x in range(w):
                part[x] = given[x] * (scale * scale)
                mark[x] &= abs(part[x]) < INF
        for x in range(w):
            usable += mark[x]
    for x in range(w):
        counts[x] = v.shape[0]
    if usable < v.shape[0] * w:
        for x in range(w):
            counts[x] = 0
        for i in range(v.shape[0]):
            mark = used[i, :w]
            for x in range(w):
                counts[x] += mark[x]
    return usable


@compiled()
def _find_medians(values, factors, used, exchanges, ordered, out):
    """Median of all values times their factors, which are left sorted in `ordered`: first those that count."""
    n, w = values.shape[0], out.size
    for i in range(n):
        row, mark, to, factor = values[i, :w], used[i, :w], ordered[i, :w], factors[i]
        for x in range(w):
            to[x] = row[x] * factor if mark[x] else INF
    for k in range(exchanges.shape[0]):
        low, high = ordered[exchanges[k, 0], :w], ordered[exchanges[k, 1], :w]
        for x in range(w):
            a, b = low[x], high[x]
            low[x] = b if b < a else a
            high[x] = a if b < a else b
    low, high = ordered[(n - 1) // 2, :w], ordered[n // 2, :w]
    for x in range(w):
        out[x] = (low[x] + high[x]) * HALF


@compiled()
def _all_alike(variance, table, w):
    """Whether all frames state the same variance, so that its median need not be looked for."""
    different = False
    first, factor = variance[0, :w], table[INVERSE_RATIO, 0]
    for i in range(1, variance.shape[0]):
        row, own = variance[i, :w], table[INVERSE_RATIO, i]
        for x in range(w):
            different |= first[x] * factor != row[x] * own
        if different:
            break
    return not different


@compiled()
def _find_limit(clip, numbers, v, ordered, rows, w):
    """Distance from the centre at which a value of a frame of width 1 is clipped, where all values count."""
    n = v.shape[0]
    sigma, relative, floor, median_width = numbers[0], numbers[1], numbers[2], numbers[3]
    centre, common, limit, spare = rows[CENTRE, :w], rows[COMMON, :w], rows[LIMIT, :w], rows[SPARE, :w]
    if clip == VARIANCE:
        for x in range(w):
            change = relative * centre[x]
            limit[x] = sigma * np.sqrt(common[x] + change * change)
        return
    for x in range(w):
        limit[x] = ZERO
    if clip == MAD:
        # The nearest values to a point stand side by side in sorted ones: the distance of the k-th nearest is that
        # of the farther end of the window of k values whose farther end is nearest.
        for k in ((n + 1) // 2, n // 2 + 1):
            for x in range(w):
                spare[x] = INF
            for first in range(n - k + 1):
                low, high = ordered[first, :w], ordered[first + k - 1, :w]
                for x in range(w):
                    below, above = centre[x] - low[x], high[x] - centre[x]
                    farther = below if below > above else above
                    spare[x] = farther if farther < spare[x] else spare[x]
            for x in range(w):
                limit[x] += spare[x] * HALF
        for x in range(w):
            spread, stated = limit[x] * MAD_TO_SIGMA / median_width, floor * np.sqrt(common[x])
            limit[x] = sigma * (stated if stated > spread else spread)
    elif clip == SIGMA:
        for x in range(w):
            spare[x] = ZERO
        for i in range(n):
            row = v[i, :w]
            for x in range(w):
                spare[x] += row[x]
        for i in range(n):
            row = v[i, :w]
            for x in range(w):
                distance = row[x] - spare[x] / np.float32(n)
                limit[x] += distance * distance
        for x in range(w):
            limit[x] = sigma * np.sqrt(limit[x] / np.float32(n))


@compiled()
def _average_block(start, w, clip, median, table, identity, groups, factors, v, s, c, dq, rows, apart, out):
    """Average all values of each pixel, and note of which pixels one must be clipped."""
    n, stop = v.shape[0], start + w
    centre, limit, total, independent = (
        rows[CENTRE, :w],
        rows[LIMIT, :w],
        rows[TOTAL, :w],
        rows[INDEPENDENT, :w],
    )
    together, root, bits = rows[TOGETHER, :w], rows[SPARE, :w], out[3][start:stop]
    for x in range(w):
        total[x], independent[x] = ZERO, ZERO
    for x in range(w):
        together[x], bits[x] = ZERO, 0
    weights = ZERO
    for i in range(n):
        weight = ONE if median else table[WEIGHT, i]
        weights += weight
        squared, width = weight * weight, table[WIDTH, i]
        value, variance, flags = v[i, :w], s[i, :w], dq[i, start:stop]
        if clip >= SIGMA:
            for x in range(w):
                apart[x] |= abs(value[x] - centre[x]) > width * limit[x]
        for x in range(w):
            total[x] += (value[x] - centre[x]) * weight
            independent[x] += variance[x] * squared
        for x in range(w):
            bits[x] |= flags[x]
    for group in range(groups):
        for x in range(w):
            root[x] = ZERO
        for i in range(n):
            if identity[i] == group:
                weight, part = ONE if median else table[WEIGHT, i], c[i, :w]
                for x in range(w):
                    brought = part[x] if part[x] > ZERO else ZERO
                    independent[x] -= brought * (weight * weight)
                    root[x] += np.sqrt(brought) * weight
        for x in range(w):
            together[x] += root[x] * root[x]
    data, variance, shared = out[0][start:stop], out[1][start:stop], out[2][start:stop]
    factor = factors[n] if median else ONE
    for x in range(w):
        data[x] = centre[x] if median else centre[x] + total[x] / weights
    for x in range(w):
        own = independent[x] * factor
        variance[x] = ((own if own > ZERO else ZERO) + together[x]) / (weights * weights)
        shared[x] = together[x] / (weights * weights)


@compiled()
def _middle(column, count):
    return (column[(count - 1) // 2] + column[count // 2]) * HALF if count > 0 else ZERO


@compiled()
def _remove(column, count, value):
    """Take one `value` out of the sorted column."""
    low, high = 0, count - 1
    while low < high:
        middle = (low + high) // 2
        if column[middle] < value:
            low = middle + 1
        else:
            high = middle
    for k in range(low, count - 1):
        column[k] = column[k + 1]


@compiled()
def _limit_of(x, clip, numbers, values, kept, column, count, centre, common):
    """The limit of one pixel, of which `count` values are left."""
    sigma, relative, floor, median_width = numbers[0], numbers[1], numbers[2], numbers[3]
    if clip == VARIANCE:
        change = relative * centre
        return sigma * np.sqrt(common + change * change)
    if clip == MAD:
        distance = ZERO
        for k in ((count + 1) // 2, count // 2 + 1):
            least = INF
            for first in range(count - k + 1):
                below, above = centre - column[first], column[first + k - 1] - centre
                farther = below if below > above else above
                least = farther if farther < least else least
            distance += least * HALF
        spread, stated = (
            distance * MAD_TO_SIGMA / median_width,
            floor * np.sqrt(common) if floor > ZERO else ZERO,
        )
        return sigma * (stated if stated > spread else spread)
    total, squares = ZERO, ZERO
    for i in range(kept.size):
        total += values[i, x] if kept[i] else ZERO
    for i in range(kept.size):
        distance = values[i, x] - total / np.float32(count)
        squares += distance * distance if kept[i] else ZERO
    return sigma * np.sqrt(squares / np.float32(count))


@compiled()
def _clip_pixel(x, count, clip, iterations, numbers, table, values, variance, alike, kept, columns):
    """Clip one pixel until nothing changes; gives how many values are left.

    `columns` holds its values and variances, sorted; what is left of them stays sorted.
    """
    if clip == MINMAX and count >= 3:
        low, high, least, greatest = 0, 0, INF, -INF
        for i in range(kept.size):
            if kept[i] and values[i, x] < least:
                low, least = i, values[i, x]
            if kept[i] and values[i, x] >= greatest:
                high, greatest = i, values[i, x]
        kept[low], kept[high] = False, False
        for k in range(count - 2):
            columns[0, k] = columns[0, k + 1]
        return count - 2
    for _ in range(iterations if clip >= SIGMA else 0):
        if count == 0:
            break
        centre = _middle(columns[0], count)
        common = variance[0, x] * table[INVERSE_RATIO, 0] if alike else _middle(columns[1], count)
        limit = _limit_of(x, clip, numbers, values, kept, columns[0], count, centre, common)
        before = count
        for i in range(kept.size):
            if kept[i] and abs(values[i, x] - centre) > table[WIDTH, i] * limit:
                kept[i] = False
                _remove(columns[0], count, values[i, x])
                if not alike:
                    _remove(columns[1], count, variance[i, x] * table[INVERSE_RATIO, i])
                count -= 1
        if count == before:
            break
    return count


@compiled()
def _take_measured(x, at, values, variance, dq, kept, column):
    """Keep all that was measured at all of a pixel; gives how many that are."""
    count = 0
    for i in range(kept.size):
        value = values[i, x]
        kept[i] = (abs(value) < INF) & (abs(variance[i, x]) < INF) & ((dq[i, at] & NO_DATA) == 0)
        if kept[i]:
            k = count
            while k > 0 and column[k - 1] > value:
                column[k] = column[k - 1]
                k -= 1
            column[k] = value
            count += 1
    return count


@compiled()
def _average_pixel(
    x, at, count, median, table, identity, groups, factors, values, variance, shared, dq, kept, column
):
    """Average of what is kept of one pixel; of all that was measured, where nothing is."""
    bits = np.uint16(0)
    if count == 0:
        count = _take_measured(x, at, values, variance, dq, kept, column)
        bits = REJECTED if count else REJECTED | NO_DATA
        for i in range(kept.size):
            bits |= dq[i, at]
    weights, total, independent, together = ZERO if count else ONE, ZERO, ZERO, ZERO
    pivot = _middle(column, count)
    for i in range(kept.size):
        if kept[i]:
            weight = ONE if median else table[WEIGHT, i]
            bits |= dq[i, at]
            weights += weight
            total += (values[i, x] - pivot) * weight
            independent += variance[i, x] * (weight * weight)
    for group in range(groups):
        root = ZERO
        for i in range(kept.size):
            if kept[i] and identity[i] == group and ZERO < shared[i, x] < INF:
                weight = ONE if median else table[WEIGHT, i]
                independent -= shared[i, x] * (weight * weight)
                root += np.sqrt(shared[i, x]) * weight
        together += root * root
    own = independent * (factors[count] if median else ONE)
    data = pivot if median else pivot + total / weights
    spread = ((own if own > ZERO else ZERO) + together) / (weights * weights)
    return data, spread, together / (weights * weights), bits


_STRIP = (*(constant(types.float32, 2),) * 3, constant(types.uint16, 2))
_OUT = (*(array(types.float32, 1),) * 3, *(array(types.uint16, 1),) * 2)


@compiled(
    types.UniTuple(constant(types.int64, 1), 2),
    constant(types.int64, 2),
    constant(types.float32, 1),
    constant(types.float32, 2),
    constant(types.float32, 1),
    types.Tuple(_STRIP),
    types.Tuple(_OUT),
)
def combine_strip(options, exchanges, numbers, table, factors, strip, out):
    """Clip and average a strip; gives how many values were usable, and how many of them were clipped.

    Parameters
    ----------
    options : (int64[4], int64[n])
        Clip, iterations, whether the median is wanted, number of groups of frames that share their masters;
        and each frame's group, -1 for none.
    exchanges : int64 array, shape (m, 2)
        The network that sorts n values.
    numbers : float32[4]
        Sigma, relative noise, floor of the clip ``mad``, and the width of a typical frame for it.
    table : float32 array, shape (5, n)
        Scale, weight, inverse ratio and width of each frame, and 1.
    factors : float32[n + 1]
        Variance of the median of k values times k.
    strip : (values, variance, shared, dq)
        As read, shape (n, npix); `shared` has no rows where no frame has any.
    out : (data, variance, shared, dq, ngood)
        Shape (npix,); written.
    """
    clip, iterations, median, groups = options[0]
    n, npix = strip[0].shape
    block = BLOCK_VALUES // n // 16 * 16
    block = 128 if block < 128 else 1024 if block > 1024 else block
    v, s = np.empty((n, block), np.float32), np.empty((n, block), np.float32)
    ordered, ordered_s = np.empty((n, block), np.float32), np.empty((n, block), np.float32)
    c = np.empty((n if groups else 0, block), np.float32)
    used, kept = np.empty((n, block), np.bool_), np.empty(n, np.bool_)
    counts, apart = np.empty(block, np.int64), np.empty(block, np.bool_)
    rows, columns = np.empty((7, block), np.float32), np.empty((2, n), np.float32)
    identity, dq = options[1], strip[3]
    data, variance, shared, bits, ngood = out
    needs_variance = clip == VARIANCE or (clip == MAD and numbers[2] > ZERO)
    total_used, total_kept = 0, 0
    for start in range(0, npix, block):
        w = block if start + block < npix else npix - start
        total_used += _load(strip, table, start, w, v, s, c, used, counts)
        for x in range(w):
            apart[x] = (clip == MINMAX) | (counts[x] < n)
        _find_medians(v, table[ONES], used, exchanges, ordered, rows[CENTRE, :w])
        alike = not needs_variance or _all_alike(s, table, w)
        if alike:
            for x in range(w):
                rows[COMMON, x] = s[0, x] * table[INVERSE_RATIO, 0]
        else:
            _find_medians(s, table[INVERSE_RATIO], used, exchanges, ordered_s, rows[COMMON, :w])
        _find_limit(clip, numbers, v, ordered, rows, w)
        _average_block(
            start, w, clip, median, table, identity, groups, factors, v, s, c, dq, rows, apart, out
        )
        for x in range(w):
            at, count = start + x, counts[x]
            if apart[x]:
                for i in range(n):
                    kept[i] = used[i, x]
                for k in range(count):
                    columns[0, k], columns[1, k] = ordered[k, x], ordered_s[k, x]
                count = _clip_pixel(x, count, clip, iterations, numbers, table, v, s, alike, kept, columns)
                data[at], variance[at], shared[at], bits[at] = _average_pixel(
                    x, at, count, median, table, identity, groups, factors, v, s, c, dq, kept, columns[0]
                )
            ngood[at] = count
            total_kept += count
    return total_used, total_used - total_kept
