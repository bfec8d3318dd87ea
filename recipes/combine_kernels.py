"""The compiled kernel of `ccdflow.recipes.combine`: a strip of all frames in, its average out.

Pixels go through in blocks that stay in a core's cache. Within a block every step runs along rows of pixels, frame
by frame, so that the compiler turns it into vector instructions; even sorting does, by a network that exchanges
whole rows. Only pixels that miss a value, or of which one was clipped, are then looked at one by one.

Each function, and each call of one within another, takes its time to compile: hence few functions, and loops where
a call would read better. Not more than two arrays are written in a loop, or it does not become vector instructions.
"""

from typing import Any

import numpy as np

from ccdflow.recipes.compiled import array, compiled, constant
from ccdflow.recipes.dq import DQ, EXCLUDED
from ccdflow.recipes.statistics import NORMAL_MAD

NONE, MINMAX, SIGMA, MAD, VARIANCE = range(5)
"""Clips, as the kernel knows them."""
SCALE, WEIGHT, INVERSE_RATIO, WIDTH = range(4)
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
def _load(strip, table, start, w, used, ordered, counts):
    """Scale a block of all frames where it lies, and count each pixel's usable values; gives their number.

    The values, infinity where they don't count, go to `ordered`.
    """
    n, stop, grouped, complete = ordered.shape[0], start + w, strip[2].shape[0] > 0, True
    for i in range(n):
        scale = table[SCALE, i]
        row, spread, dq = strip[0][i, start:stop], strip[1][i, start:stop], strip[3][i, start:stop]
        mark, to = used[i, :w], ordered[i, :w]
        bad = False
        if scale != ONE:
            for x in range(w):
                row[x] *= scale
                spread[x] *= scale * scale
        for x in range(w):
            to[x] = row[x]
            mark[x] = (abs(row[x]) < INF) & (abs(spread[x]) < INF) & ((dq[x] & EXCLUDING) == 0)
        if grouped:
            part = strip[2][i, start:stop]
            for x in range(w):
                part[x] *= scale * scale
                mark[x] &= abs(part[x]) < INF
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
        mark = used[i, :w]
        for x in range(w):
            counts[x] += mark[x]
    for x in range(w):
        usable += counts[x]
    return usable


@compiled()
def _sort(ordered, exchanges, out):
    """Sort the columns of a block; `out` becomes the median of all their values."""
    n, w = ordered.shape[0], out.size
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
def _fill_variances(start, s, used, factors, ordered, w):
    """Variances of a frame of typical noise, infinity where they don't count."""
    for i in range(s.shape[0]):
        row, mark, to, factor = s[i, start : start + w], used[i, :w], ordered[i, :w], factors[i]
        for x in range(w):
            to[x] = row[x] * factor if mark[x] else INF


@compiled()
def _all_alike(start, variance, table, w):
    """Whether all frames state the same variance, so that its median need not be looked for."""
    different = False
    first, factor = variance[0, start : start + w], table[INVERSE_RATIO, 0]
    for i in range(1, variance.shape[0]):
        row, own = variance[i, start : start + w], table[INVERSE_RATIO, i]
        for x in range(w):
            different |= first[x] * factor != row[x] * own
        if different:
            break
    return not different


@compiled()
def _find_limit(start, clip, numbers, v, ordered, rows, w):
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
        # Of an even number the two in the middle are sought at once, with windows of k and of k - 1 values.
        k, even = n // 2 + 1, n % 2 == 0
        last = ordered[n - 1, :w]
        for x in range(w):
            limit[x] = last[x] - centre[x] if even else INF
        if even:
            low = ordered[n - k + 1, :w]
            for x in range(w):
                below = centre[x] - low[x]
                limit[x] = below if below > limit[x] else limit[x]
        for x in range(w):
            spare[x] = INF
        for first in range(n - k + 1):
            low, high, before = ordered[first, :w], ordered[first + k - 1, :w], ordered[first + k - 2, :w]
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
        to_sigma = MAD_TO_SIGMA / median_width
        for x in range(w):
            spread, stated = limit[x] * to_sigma, floor * np.sqrt(common[x])
            limit[x] = sigma * (stated if stated > spread else spread)
    elif clip == SIGMA:
        for x in range(w):
            spare[x] = ZERO
        for i in range(n):
            row = v[i, start : start + w]
            for x in range(w):
                spare[x] += row[x]
        for i in range(n):
            row = v[i, start : start + w]
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
        value, variance, flags = v[i, start:stop], s[i, start:stop], dq[i, start:stop]
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
                weight, part = ONE if median else table[WEIGHT, i], c[i, start:stop]
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
def _clip_apart(
    start,
    clip,
    iterations,
    numbers,
    table,
    v,
    s,
    ordered,
    ordered_s,
    alike,
    kept,
    counts,
    chosen,
    rows,
    columns,
):
    """Clip the pixels that were chosen to be looked at apart, one by one, until nothing changes.

    `kept`, `counts` and the centres become what is left of each. What is clipped first of all values, the rows say.
    """
    centres, limits = rows[CENTRE], rows[LIMIT]
    n = v.shape[0]
    sigma, relative, floor, median_width = numbers[0], numbers[1], numbers[2], numbers[3]
    sorted_v, sorted_s, own = columns[0], columns[1], columns[2]
    for x in chosen:
        at, count = start + x, counts[x]
        for k in range(count):
            sorted_v[k] = ordered[k, x]
        for i in range(n):
            own[i] = v[i, at] if kept[i, x] else INF
        if not alike:
            for k in range(count):
                sorted_s[k] = ordered_s[k, x]
        for turn in range(iterations):
            if count == 0:
                break
            centre = (sorted_v[(count - 1) // 2] + sorted_v[count // 2]) * HALF
            common = s[0, at] * table[INVERSE_RATIO, 0]
            if not alike:
                common = (sorted_s[(count - 1) // 2] + sorted_s[count // 2]) * HALF
            if turn == 0 and count == n:
                limit = limits[x]
            elif clip == VARIANCE:
                change = relative * centre
                limit = sigma * np.sqrt(common + change * change)
            elif clip == MAD:
                limit = ZERO
                for rank in range((count + 1) // 2, count // 2 + 2, 1 if count % 2 == 0 else 2):
                    least = INF
                    for first in range(count - rank + 1):
                        below, above = centre - sorted_v[first], sorted_v[first + rank - 1] - centre
                        farther = below if below > above else above
                        least = farther if farther < least else least
                    limit += least if count % 2 else least * HALF
                stated = floor * np.sqrt(common) if floor > ZERO else ZERO
                limit *= MAD_TO_SIGMA / median_width
                limit = sigma * (stated if stated > limit else limit)
            else:
                total, limit = ZERO, ZERO
                for i in range(n):
                    total += own[i] if own[i] < INF else ZERO
                for i in range(n):
                    distance = own[i] - total / np.float32(count)
                    limit += distance * distance if own[i] < INF else ZERO
                limit = sigma * np.sqrt(limit / np.float32(count))
            before = count
            for i in range(n):
                if abs(own[i] - centre) > table[WIDTH, i] * limit and own[i] < INF:
                    for which in range(1 if alike else 2):
                        gone = s[i, at] * table[INVERSE_RATIO, i] if which else own[i]
                        k = 0
                        while columns[which, k] < gone:
                            k += 1
                        for later in range(k, count - 1):
                            columns[which, later] = columns[which, later + 1]
                    kept[i, x], own[i] = False, INF
                    count -= 1
            if count == before:
                break
        counts[x] = count
        centres[x] = (sorted_v[(count - 1) // 2] + sorted_v[count // 2]) * HALF if count else ZERO


@compiled()
def _drop_extremes(start, v, ordered, kept, counts, centres):
    """Drop the lowest and the highest value of each pixel that has three or more."""
    for x in range(counts.size):
        count = counts[x]
        centres[x] = (ordered[(count - 1) // 2, x] + ordered[count // 2, x]) * HALF if count else ZERO
        if count >= 3:
            low, high, least, greatest = 0, 0, INF, -INF
            for i in range(v.shape[0]):
                value = v[i, start + x]
                if kept[i, x] and value < least:
                    low, least = i, value
                if kept[i, x] and value >= greatest:
                    high, greatest = i, value
            kept[low, x], kept[high, x] = False, False
            counts[x] = count - 2


@compiled()
def _take_measured(x, at, v, s, dq, kept, column):
    """Keep all that was measured at all of a pixel; gives how many that are, and their median."""
    count = 0
    for i in range(v.shape[0]):
        kept[i, x] = (abs(v[i, at]) < INF) & (abs(s[i, at]) < INF) & ((dq[i, at] & NO_DATA) == 0)
        if kept[i, x]:
            k = count
            while k > 0 and column[k - 1] > v[i, at]:
                column[k] = column[k - 1]
                k -= 1
            column[k] = v[i, at]
            count += 1
    return count, (column[(count - 1) // 2] + column[count // 2]) * HALF if count else ZERO


@compiled()
def _average_apart(
    start, median, table, identity, groups, factors, v, s, c, dq, kept, counts, chosen, centres, out, columns
):
    """Average what is kept of each pixel that was chosen; all that was measured, where nothing is."""
    n = v.shape[0]
    data, variance, shared, bits = out[0], out[1], out[2], out[3]
    for x in chosen:
        at, count, centre, flags = start + x, counts[x], centres[x], np.uint16(0)
        if count == 0:
            count, centre = _take_measured(x, at, v, s, dq, kept, columns[0])
            flags = REJECTED if count else REJECTED | NO_DATA
            for i in range(n):
                flags |= dq[i, at]
        weights, total, independent, together = ZERO if count else ONE, ZERO, ZERO, ZERO
        for i in range(n):
            if kept[i, x]:
                weight = ONE if median else table[WEIGHT, i]
                flags |= dq[i, at]
                weights += weight
                total += (v[i, at] - centre) * weight
                independent += s[i, at] * (weight * weight)
        for group in range(groups):
            root = ZERO
            for i in range(n):
                if kept[i, x] and identity[i] == group and ZERO < c[i, at] < INF:
                    weight = ONE if median else table[WEIGHT, i]
                    independent -= c[i, at] * (weight * weight)
                    root += np.sqrt(c[i, at]) * weight
            together += root * root
        own = independent * (factors[count] if median else ONE)
        data[at] = centre if median else centre + total / weights
        variance[at] = ((own if own > ZERO else ZERO) + together) / (weights * weights)
        bits[at] = flags
        if groups:
            shared[at] = together / (weights * weights)


_STRIP = (*(array(np.float32, 2),) * 3, constant(np.uint16, 2))
_OUT = (*(array(np.float32, 1),) * 3, *(array(np.uint16, 1),) * 2)
_ROOM = (
    *(array(np.float32, 2),) * 4,
    array(np.bool_, 2),
    array(np.int64, 1),
    array(np.bool_, 1),
    array(np.int64, 1),
)


def room_for(n: int) -> tuple[Any, ...]:
    """Memory that the kernel works in, for `n` frames: a block of each, and rows of numbers for its pixels."""
    block = min(max(BLOCK_VALUES // n // 16 * 16, 128), 1024)
    blocks = np.empty((n, block), np.float32), np.empty((n, block), np.float32)
    rows, columns = np.empty((7, block), np.float32), np.empty((3, n), np.float32)
    marks = np.empty((n, block), np.bool_), np.empty(block, np.int64), np.empty(block, np.bool_)
    return *blocks, rows, columns, *marks, np.empty(block, np.int64)


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
    table : float32 array, shape (4, n)
        Scale, weight, inverse ratio and width of each frame.
    factors : float32[n + 1]
        Variance of the median of k values times k.
    strip : (values, variance, shared, dq)
        As read, shape (n, npix); scaled in place. `shared` has no rows where no frame has any.
    out : (data, variance, shared, dq, ngood)
        Shape (npix,); written. `shared` is empty where no frame has any.
    room : tuple of arrays
        Memory to work in, see `room_for`.
    """
    clip, iterations, median, groups = options[0]
    n, npix = strip[0].shape
    v, s, c, dq = strip
    ordered, ordered_s, rows, columns, used, counts, apart, chosen = room
    block = counts.size
    identity = options[1]
    ngood = out[4]
    needs_variance = clip == VARIANCE or (clip == MAD and numbers[2] > ZERO)
    total_used, total_kept = 0, 0
    for start in range(0, npix, block):
        w = block if start + block < npix else npix - start
        total_used += _load(strip, table, start, w, used, ordered, counts)
        for x in range(w):
            apart[x] = (clip == MINMAX) | (counts[x] < n)
        _sort(ordered, exchanges, rows[CENTRE, :w])
        alike = not needs_variance or _all_alike(start, s, table, w)
        if alike:
            for x in range(w):
                rows[COMMON, x] = s[0, start + x] * table[INVERSE_RATIO, 0]
        else:
            _fill_variances(start, s, used, table[INVERSE_RATIO], ordered_s, w)
            _sort(ordered_s, exchanges, rows[COMMON, :w])
        _find_limit(start, clip, numbers, v, ordered, rows, w)
        _average_block(
            start, w, clip, median, table, identity, groups, factors, v, s, c, dq, rows, apart, out
        )
        number, centres, many = counts[:w], rows[CENTRE, :w], 0
        for x in range(w):
            chosen[many] = x
            many += apart[x]
        if clip == MINMAX:
            _drop_extremes(start, v, ordered, used, number, centres)
        else:
            steps = iterations if clip >= SIGMA else 0
            _clip_apart(
                start,
                clip,
                steps,
                numbers,
                table,
                v,
                s,
                ordered,
                ordered_s,
                alike,
                used,
                number,
                chosen[:many],
                rows,
                columns,
            )
        _average_apart(
            start,
            median,
            table,
            identity,
            groups,
            factors,
            v,
            s,
            c,
            dq,
            used,
            number,
            chosen[:many],
            centres,
            out,
            columns,
        )
        for x in range(w):
            ngood[start + x] = counts[x]
            total_kept += counts[x]
    return total_used, total_used - total_kept
