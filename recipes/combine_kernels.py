"""The compiled kernel of `ccdflow.recipes.combine`: a strip of all frames in, its average out.

Pixels go through in blocks that stay in a core's cache. Within a block every step runs along rows of pixels, frame
by frame, so that the compiler turns it into vector instructions; even sorting does, by a network that exchanges
whole rows. Only pixels that miss a value, or of which one was clipped, are then looked at one by one.
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

INF = np.float32(np.inf)
ZERO, ONE, HALF = np.float32(0), np.float32(1), np.float32(0.5)
MAD_TO_SIGMA = np.float32(NORMAL_MAD)
NO_DATA = np.uint16(DQ.NO_DATA)
REJECTED = np.uint16(DQ.REJECTED)
EXCLUDING = np.uint16(EXCLUDED)


@compiled()
def _scale(values, factor, out):
    for x in range(out.size):
        out[x] = values[x] * factor


@compiled()
def _mark_used(values, variance, dq, out):
    """Mark what neither bits nor missing numbers exclude; gives how many there are."""
    count = 0
    for x in range(out.size):
        good = ((dq[x] & EXCLUDING) == 0) & (abs(values[x]) < INF) & (abs(variance[x]) < INF)
        out[x] = good
        count += good
    return count


@compiled()
def _and_finite(values, out):
    count = 0
    for x in range(out.size):
        good = out[x] & (abs(values[x]) < INF)
        out[x] = good
        count += good
    return count


@compiled()
def _count(used, counts):
    for x in range(counts.size):
        counts[x] += used[x]


@compiled()
def _fill_unused(values, used, out):
    """Values, and infinity where there is none: sorted, they stand last."""
    for x in range(out.size):
        out[x] = values[x] if used[x] else INF


@compiled()
def _exchange(low, high):
    for x in range(low.size):
        a, b = low[x], high[x]
        low[x] = b if b < a else a
        high[x] = a if b < a else b


@compiled()
def _sorted_medians(block, exchanges, out):
    """Sort the columns of the block; `out` becomes the median of all their values."""
    n, w = block.shape[0], out.size
    for k in range(exchanges.shape[0]):
        _exchange(block[exchanges[k, 0], :w], block[exchanges[k, 1], :w])
    low, high = block[(n - 1) // 2, :w], block[n // 2, :w]
    for x in range(w):
        out[x] = (low[x] + high[x]) * HALF


@compiled()
def _differ(a, b, factor_a, factor_b):
    different = 0
    for x in range(a.size):
        different |= a[x] * factor_a != b[x] * factor_b
    return different != 0


@compiled()
def _all_alike(variance, table, w):
    """Whether all frames state the same variance, so that its median need not be looked for."""
    first = variance[0, :w]
    for i in range(1, variance.shape[0]):
        if _differ(first, variance[i, :w], table[INVERSE_RATIO, 0], table[INVERSE_RATIO, i]):
            return False
    return True


@compiled()
def _variance_limit(common, centre, sigma, relative, out):
    for x in range(out.size):
        change = relative * centre[x]
        out[x] = sigma * np.sqrt(common[x] + change * change)


@compiled()
def _window(low, high, centre, out):
    for x in range(out.size):
        below, above = centre[x] - low[x], high[x] - centre[x]
        farther = below if below > above else above
        out[x] = farther if farther < out[x] else out[x]


@compiled()
def _add_distance(ordered, rank, centre, spare, out):
    """Add half of the `rank`-th smallest distance from the centre.

    The nearest values to a point stand side by side in sorted ones: of all windows of `rank` values that whose
    farther end is nearest.
    """
    w = out.size
    spare[:] = INF
    for first in range(ordered.shape[0] - rank + 1):
        _window(ordered[first, :w], ordered[first + rank - 1, :w], centre, spare)
    for x in range(w):
        out[x] += spare[x] * HALF


@compiled()
def _mad_limit(common, sigma, floor, median_width, out):
    """`out` holds the median distance from the median, and becomes the limit."""
    for x in range(out.size):
        spread = out[x] * MAD_TO_SIGMA / median_width
        stated = floor * np.sqrt(common[x])
        out[x] = sigma * (stated if stated > spread else spread)


@compiled()
def _add(values, out):
    for x in range(out.size):
        out[x] += values[x]


@compiled()
def _add_squares(values, mean, out):
    for x in range(out.size):
        distance = values[x] - mean[x]
        out[x] += distance * distance


@compiled()
def _scatter_limit(values, sigma, mean, out):
    """Population standard deviation of the values of each column, times sigma."""
    n, w = values.shape[0], out.size
    mean[:] = ZERO
    for i in range(n):
        _add(values[i, :w], mean)
    for x in range(w):
        mean[x] /= np.float32(n)
    out[:] = ZERO
    for i in range(n):
        _add_squares(values[i, :w], mean, out)
    for x in range(w):
        out[x] = sigma * np.sqrt(out[x] / np.float32(n))


@compiled()
def _note_outliers(values, centre, limit, width, apart):
    for x in range(apart.size):
        apart[x] |= abs(values[x] - centre[x]) > width * limit[x]


@compiled()
def _add_weighted(values, pivot, weight, out):
    for x in range(out.size):
        out[x] += (values[x] - pivot[x]) * weight


@compiled()
def _add_scaled(values, factor, out):
    for x in range(out.size):
        out[x] += values[x] * factor


@compiled()
def _add_root(shared, weight, out):
    for x in range(out.size):
        out[x] += np.sqrt(shared[x] if shared[x] > ZERO else ZERO) * weight


@compiled()
def _take_part(shared, factor, out):
    for x in range(out.size):
        out[x] -= (shared[x] if shared[x] > ZERO else ZERO) * factor


@compiled()
def _add_square(root, out):
    for x in range(out.size):
        out[x] += root[x] * root[x]


@compiled()
def _join_bits(dq, out):
    for x in range(out.size):
        out[x] |= dq[x]


@compiled()
def _finish(pivot, total, weights, out):
    for x in range(out.size):
        out[x] = pivot[x] + total[x] / weights


@compiled()
def _finish_variance(independent, together, factor, squared, out):
    for x in range(out.size):
        own = independent[x] * factor
        out[x] = ((own if own > ZERO else ZERO) + together[x]) / squared


@compiled()
def _middle_of(column, count):
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
def _half_distance(column, count, rank, centre):
    least = INF
    for first in range(count - rank + 1):
        least = min(least, max(centre - column[first], column[first + rank - 1] - centre))
    return least * HALF


@compiled()
def _scatter_of(values, kept, x, count):
    total, squares = ZERO, ZERO
    for i in range(values.shape[0]):
        if kept[i]:
            total += values[i, x]
    mean = total / np.float32(count)
    for i in range(values.shape[0]):
        if kept[i]:
            squares += (values[i, x] - mean) * (values[i, x] - mean)
    return np.sqrt(squares / np.float32(count))


@compiled()
def _clip_pixel(x, count, clip, iterations, numbers, table, values, variance, alike, kept, columns):
    """Clip one pixel until nothing changes; gives how many values are left.

    `columns` holds its values and variances, sorted; what is left of them stays sorted.
    """
    sigma, relative, floor, median_width = numbers[0], numbers[1], numbers[2], numbers[3]
    for _ in range(iterations):
        if count == 0:
            break
        centre = _middle_of(columns[0], count)
        common = variance[0, x] * table[INVERSE_RATIO, 0] if alike else _middle_of(columns[1], count)
        if clip == VARIANCE:
            change = relative * centre
            limit = sigma * np.sqrt(common + change * change)
        elif clip == MAD:
            distance = _half_distance(columns[0], count, (count + 1) // 2, centre)
            distance += _half_distance(columns[0], count, count // 2 + 1, centre)
            stated = floor * np.sqrt(common) if floor > ZERO else ZERO
            limit = sigma * max(distance * MAD_TO_SIGMA / median_width, stated)
        else:
            limit = sigma * _scatter_of(values, kept, x, count)
        before = count
        for i in range(values.shape[0]):
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
def _drop_extremes(x, count, values, kept, column):
    low, high = -1, -1
    for i in range(values.shape[0]):
        if kept[i]:
            if low < 0 or values[i, x] < values[low, x]:
                low = i
            if high < 0 or values[i, x] >= values[high, x]:
                high = i
    kept[low], kept[high] = False, False
    for k in range(count - 2):
        column[k] = column[k + 1]
    return count - 2


@compiled()
def _take_measured(x, at, values, variance, dq, kept, column):
    """Keep all that was measured at all; gives how many that are."""
    count = 0
    for i in range(values.shape[0]):
        value = values[i, x]
        kept[i] = abs(value) < INF and abs(variance[i, x]) < INF and (dq[i, at] & NO_DATA) == 0
        if kept[i]:
            k = count
            while k > 0 and column[k - 1] > value:
                column[k] = column[k - 1]
                k -= 1
            column[k] = value
            count += 1
    return count


@compiled()
def _average_pixel(x, at, count, median, table, identity, groups, factors, planes, kept, column, out):
    """Average of what is kept of one pixel, and its variance."""
    values, variance, shared, dq = planes
    bits = np.uint16(0)
    weights, total, independent, together = ZERO, ZERO, ZERO, ZERO
    pivot = _middle_of(column, count)
    for i in range(values.shape[0]):
        if kept[i]:
            weight = ONE if median else table[WEIGHT, i]
            bits |= dq[i, at]
            weights += weight
            total += (values[i, x] - pivot) * weight
            independent += variance[i, x] * (weight * weight)
    for group in range(groups):
        root = ZERO
        for i in range(values.shape[0]):
            if kept[i] and identity[i] == group and ZERO < shared[i, x] < INF:
                weight = ONE if median else table[WEIGHT, i]
                independent -= shared[i, x] * (weight * weight)
                root += np.sqrt(shared[i, x]) * weight
        together += root * root
    if count == 0:
        weights = ONE
    own = max(independent * (factors[count] if median else ONE), ZERO)
    out[0][at] = pivot if median else pivot + total / weights
    out[1][at] = (own + together) / (weights * weights)
    out[2][at] = together / (weights * weights)
    out[3][at] = bits


@compiled()
def _all_bits(dq, at, measured):
    """Bits of a pixel of which no value is left."""
    bits = REJECTED if measured else REJECTED | NO_DATA
    for i in range(dq.shape[0]):
        bits |= dq[i, at]
    return bits


@compiled()
def _set(value, out):
    for x in range(out.size):
        out[x] = value


@compiled()
def _copy(values, out):
    for x in range(out.size):
        out[x] = values[x]


@compiled()
def _load(strip, table, start, w, v, s, c, used):
    """Scale a block of all frames into the cache; gives how many values are usable."""
    values, variance, shared, dq = strip
    stop, usable = start + w, 0
    for i in range(v.shape[0]):
        scale = table[SCALE, i]
        row, spread, mark = v[i, :w], s[i, :w], used[i, :w]
        _scale(values[i, start:stop], scale, row)
        _scale(variance[i, start:stop], scale * scale, spread)
        marked = _mark_used(row, spread, dq[i, start:stop], mark)
        if c.shape[0]:
            part = c[i, :w]
            _scale(shared[i, start:stop], scale * scale, part)
            marked = _and_finite(part, mark)
        usable += marked
    return usable


@compiled()
def _count_used(used, counts, apart):
    """Count each column's values; a column that misses one is looked at apart."""
    n = used.shape[0]
    for i in range(n):
        _count(used[i, : counts.size], counts)
    for x in range(counts.size):
        apart[x] |= counts[x] < n


@compiled()
def _find_medians(values, factors, used, exchanges, ordered, out):
    """Median of the values times their factors, which are left sorted in `ordered`."""
    w = out.size
    for i in range(values.shape[0]):
        row = ordered[i, :w]
        _scale(values[i, :w], factors[i], row)
        _fill_unused(row, used[i, :w], row)
    _sorted_medians(ordered, exchanges, out)


@compiled()
def _find_limit(clip, numbers, v, ordered, common, centre, spare, out):
    """Distance from the centre at which a frame of width 1 is clipped."""
    n = v.shape[0]
    if clip == VARIANCE:
        _variance_limit(common, centre, numbers[0], numbers[1], out)
    elif clip == MAD:
        _set(ZERO, out)
        for rank in (n + 1) // 2, n // 2 + 1:
            _add_distance(ordered, rank, centre, spare, out)
        _mad_limit(common, numbers[0], numbers[2], numbers[3], out)
    elif clip == SIGMA:
        _scatter_limit(v, numbers[0], spare, out)


@compiled()
def _average_block(start, w, clip, median, table, identity, groups, factors, planes, dq, rows, apart, out):
    """Average all values of each column, and note in which of them some must be clipped."""
    v, s, c = planes
    n, stop = v.shape[0], start + w
    centre, limit, total = rows[0, :w], rows[2, :w], rows[3, :w]
    independent, together, root = rows[4, :w], rows[5, :w], rows[6, :w]
    bits = out[3][start:stop]
    weights = ZERO
    _set(ZERO, total)
    _set(ZERO, independent)
    _set(ZERO, together)
    _set(0, bits)
    for i in range(n):
        weight = ONE if median else table[WEIGHT, i]
        weights += weight
        row = v[i, :w]
        if clip >= SIGMA:
            _note_outliers(row, centre, limit, table[WIDTH, i], apart)
        _add_weighted(row, centre, weight, total)
        _add_scaled(s[i, :w], weight * weight, independent)
        _join_bits(dq[i, start:stop], bits)
    for group in range(groups):
        _set(ZERO, root)
        for i in range(n):
            if identity[i] == group:
                weight = ONE if median else table[WEIGHT, i]
                _take_part(c[i, :w], weight * weight, independent)
                _add_root(c[i, :w], weight, root)
        _add_square(root, together)
    factor = ONE
    if median:
        _set(ZERO, total)
        factor = factors[n]
    _finish(centre, total, weights, out[0][start:stop])
    _finish_variance(independent, together, factor, weights * weights, out[1][start:stop])
    _scale(together, ONE / (weights * weights), out[2][start:stop])


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
    identity = options[1]
    dq = strip[3]
    n, npix = strip[0].shape
    block = max(128, min(1024, BLOCK_VALUES // n // 16 * 16))
    shape = n, block
    v, s = np.empty(shape, np.float32), np.empty(shape, np.float32)
    ordered, ordered_s = np.empty(shape, np.float32), np.empty(shape, np.float32)
    c = np.empty((n if groups else 0, block), np.float32)
    used = np.empty(shape, np.bool_)
    kept = np.empty(n, np.bool_)
    all_counts = np.empty(block, np.int32)
    all_apart = np.empty(block, np.bool_)
    rows = np.empty((7, block), np.float32)
    columns = np.empty((2, n), np.float32)
    needs_variance = clip == VARIANCE or (clip == MAD and numbers[2] > ZERO)
    total_used, total_kept = 0, 0
    for start in range(0, npix, block):
        w = min(block, npix - start)
        counts, apart = all_counts[:w], all_apart[:w]
        usable = _load(strip, table, start, w, v, s, c, used)
        total_used += usable
        _set(clip == MINMAX, apart)
        _set(n, counts)
        if usable < n * w:
            _set(0, counts)
            _count_used(used, counts, apart)
        centre, common = rows[0, :w], rows[1, :w]
        _find_medians(v, table[ONES], used, exchanges, ordered, centre)
        alike = not needs_variance or _all_alike(s, table, w)
        if not alike:
            _find_medians(s, table[INVERSE_RATIO], used, exchanges, ordered_s, common)
        else:
            _scale(s[0, :w], table[INVERSE_RATIO, 0], common)
        _find_limit(clip, numbers, v, ordered, common, centre, rows[6, :w], rows[2, :w])
        _average_block(
            start, w, clip, median, table, identity, groups, factors, (v, s, c), dq, rows, apart, out
        )
        planes = (v, s, c, dq)
        for x in range(w):
            count = counts[x]
            if apart[x]:
                for i in range(n):
                    kept[i] = used[i, x]
                for k in range(count):
                    columns[0, k] = ordered[k, x]
                    columns[1, k] = ordered_s[k, x]
                if clip == MINMAX and count >= 3:
                    count = _drop_extremes(x, count, v, kept, columns[0])
                elif clip >= SIGMA:
                    count = _clip_pixel(x, count, clip, iterations, numbers, table, v, s, alike, kept, columns)
                empty = count == 0
                if empty:
                    count = _take_measured(x, start + x, v, s, dq, kept, columns[0])
                _average_pixel(
                    x, start + x, count, median, table, identity, groups, factors, planes, kept, columns[0], out
                )
                if empty:
                    out[3][start + x] = _all_bits(dq, start + x, count)
                    count = 0
            out[4][start + x] = count
            total_kept += count
    return total_used, total_used - total_kept
