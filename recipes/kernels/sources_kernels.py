"""Compiled kernels of `ccdflow.recipes.stars.sources`: the sky's mesh, signal over noise, stars and their shapes.

They are called in the order in which they stand here:

1. `clean` leaves out what is not good; `mesh` measures the sky in boxes, and `subtract` takes it away.
2. `significant` filters signal over noise, and lists the pixels above a threshold.
3. `gather` makes stars of these pixels, from the highest down.
4. `centroids`, `cores`, `widths` and `apertures` measure the stars one by one.

Sums are in float64, pixels in float32. In all kernels `x` counts columns and `y` rows, from 0 at the first's centre.
"""

import numpy as np

from ccdflow.recipes.core.dq import EXCLUDED
from ccdflow.recipes.kernels.compiled import array, compiled, constant

BINS = 512
"""Of the histogram of a box."""
SPAN = 10.0
"""Standard deviations that the histogram covers, half of them on each side."""
STRIDE = 4
"""Every so many values of a box say where its histogram lies."""
START_CLIP = 2.5
"""Standard deviations from the mean within which values say where the histogram lies."""
STANDS = 0.05
"""Where clipping changes a standard deviation by less than this part of it, it is known well enough to place bins."""
CLIPPINGS = 20
"""At most so often are values clipped."""
ENOUGH_ROWS = 32
"""In boxes of so many rows or more, every second row tells the level.

Boxes of 64 x 64 pixels then know it to 5 % of a pixel's noise, the smoothed mesh to 2 %.
"""
CLIP = 3.0
"""Standard deviations from the median within which values make a level."""
CROWDED = 0.3
"""Where mean and median differ by more of a standard deviation, the median is the better guess of the mode."""

COLUMNS = 11
COUNT, FLUX, X, Y, XX, XY, YY, HEIGHT, PEAK, EDGE, TOUCHES = range(COLUMNS)
"""Columns of the table of stars: pixels, sums over them, signal over noise and value of the highest, and whether
one lies on the image's edge or beside another star's."""

HALF_STAMP = 7
"""Pixels from a star's centre to the edge of the stamp in which its width is measured."""
PROFILE = 0.3
"""Pixels above so much of a star's core tell its width."""
CORE_RADIUS_2 = 2.0
"""Square of the radius, in pixels, about a star's centre in which its highest value is looked for."""
FIRST_REACH = 2.5
"""Radius, in pixels, of the first of three fits of a profile."""
LEAST_REACH = 1.5
"""Radius, in pixels, below which too few pixels are left to fit a profile."""
REACH = 0.85
"""Radius of the later fits in units of the width that was found: there the profile is down to 13 % of the peak."""
WINDOW = 32
"""Most pixels from a star's centre to the edge of its window."""
ITERATIONS = 16
"""At most so many steps lead to a centroid."""
ENOUGH = 1e-8
"""Square of the step, in pixels, at which a centroid stands."""
SUBPIXELS = 5
"""A pixel on the edge of an aperture is cut into so many by so many parts, as Source Extractor does."""
DIAGONAL = 0.7072
"""No part of a pixel is farther than that from its centre."""

INF = np.float32(np.inf)
ZERO, ONE, TWO, FOUR = np.float32(0), np.float32(1), np.float32(2), np.float32(4)
EXCLUDING = np.uint16(EXCLUDED)


@compiled()
def _clean_row(data, variance, dq, clean, bad):
    """One row of `clean`; gives the number of good pixels."""
    good = 0
    for x in range(clean.size):
        # Comparing with infinity leaves out NaN as well: it compares as false.
        fine = ((dq[x] & EXCLUDING) == 0) & (abs(data[x]) < INF) & (abs(variance[x]) < INF)
        clean[x] = data[x] if fine else ZERO
        bad[x] = not fine
        good += fine
    return good


@compiled()
def _count_known(variance, bad):
    """Count the good pixels whose noise is stated."""
    known = 0
    for x in range(bad.size):
        known += (variance[x] > ZERO) & (bad[x] == 0)
    return known


@compiled(
    constant(np.float32, 2),
    constant(np.float32, 2),
    constant(np.uint16, 2),
    array(np.float32, 2),
    array(np.uint8, 2),
)
def clean(data, variance, dq, out, bad):
    """Copy what is good, 0 elsewhere.

    Parameters
    ----------
    data, variance : float32 arrays, shape (ny, nx)
        In the image's unit and its square.
    dq : uint16 array, shape (ny, nx)
        Flags; a pixel is good if none excludes it and both numbers are finite.
    out : float32 array, shape (ny, nx)
        Data of good pixels, 0 elsewhere; written.
    bad : uint8 array, shape (ny, nx)
        1 where a pixel is not good, 0 elsewhere; written.

    Returns
    -------
    good, known : int
        How many pixels are good, and of how many of them the variance is above 0.
    """
    good = known = 0
    for y in range(out.shape[0]):
        good += _clean_row(data[y], variance[y], dq[y], out[y], bad[y])
        known += _count_known(variance[y], bad[y])
    return good, known


@compiled()
def _start(values):
    """Give mean and standard deviation of some of the values, clipped until they stand."""
    low, high = -np.inf, np.inf
    # The first round takes all values, bright stars included; each later one those near the mean of the round before.
    mean = deviation = 0.0
    for _ in range(CLIPPINGS):
        # Sums are about one of the values: of a bright sky with little noise the squares would leave no digits.
        count, total, squares, pivot = 0, 0.0, 0.0, np.float64(values[0])
        for i in range(0, values.size, STRIDE):
            value = np.float64(values[i])
            if low <= value <= high:
                count += 1
                total += value - pivot
                squares += (value - pivot) * (value - pivot)
        if count == 0:
            break
        before = deviation
        mean = pivot + total / count
        deviation = np.sqrt(max(squares / count - (total / count) ** 2, 0.0))
        low, high = mean - START_CLIP * deviation, mean + START_CLIP * deviation
        if abs(deviation - before) <= STANDS * deviation:
            break
    return mean, deviation


@compiled()
def _of_histogram(counts):
    """Give median, mean and standard deviation in bins, clipped about the median until they stand."""
    first, last = 0, BINS
    middle = mean = deviation = 0.0
    for _ in range(CLIPPINGS):
        n = total = squares = 0.0
        for i in range(first, last):
            n += counts[i]
            total += counts[i] * (i + 0.5)
            squares += counts[i] * (i + 0.5) * (i + 0.5)
        if n == 0.0:
            break
        mean = total / n
        deviation = np.sqrt(max(squares / n - mean * mean, 0.0))
        below, i = 0.0, first
        while i < last and below + counts[i] <= 0.5 * n:
            below += counts[i]
            i += 1
        # The median lies within bin i, where as much is below it as above, if the bin is filled evenly.
        middle = i + (0.5 * n - below) / counts[i] if i < last and counts[i] > 0 else mean
        # Limits are whole bins, so that they soon stand; once neither moves, another round would give the same.
        left = max(int(middle - CLIP * deviation), 0)
        right = min(int(middle + CLIP * deviation) + 1, BINS)
        if left == first and right == last:
            break
        first, last = left, right
    return middle, mean, deviation


@compiled()
def _level(values, counts):
    """Give the mode of the values and their scatter, as Source Extractor estimates them (Bertin & Arnouts 1996).

    Values are counted in a histogram, and clipped there: that costs one pass over them, and no sorting.
    """
    start, spread = _start(values)
    if not spread > 0.0:
        return start, 0.0
    for i in range(BINS + 2):
        counts[i] = 0.0
    # The first and the last bin take what lies outside, and are not looked at again.
    width = SPAN * spread / BINS
    low, inverse, last = start - SPAN / 2 * spread, 1.0 / width, BINS + 1.0
    for i in range(values.size):
        place = (values[i] - low) * inverse + 1.0
        place = 0.0 if place < 0.0 else place
        place = last if place > last else place
        counts[int(place)] += 1.0
    middle, mean, deviation = _of_histogram(counts[1:])
    # Stars make a tail of high values, which draws the mean further than the median. The mode lies on the other side
    # of the median: 2.5 median - 1.5 mean. In a crowded box that goes too far.
    mode = 2.5 * middle - 1.5 * mean if abs(mean - middle) < CROWDED * deviation else middle
    return low + width * mode, width * deviation


@compiled(
    constant(np.float32, 2),
    constant(np.uint8, 2),
    array(np.float64, 2),
    array(np.float64, 2),
    array(np.float32, 1),
    array(np.float64, 1),
)
def mesh(data, bad, level, sigma, values, counts):
    """Measure level and scatter of the sky in boxes.

    Parameters
    ----------
    data : float32 array, shape (ny, nx)
        In the image's unit.
    bad : uint8 array, shape (ny, nx)
        1 where a pixel doesn't count.
    level, sigma : float64 arrays, shape (rows, columns)
        Of boxes, which divide the image as evenly as whole pixels allow; in the image's unit. Written; NaN where less
        than half of a box is good.
    values : float32 array
        Room for the pixels of a box; written.
    counts : float64 array
        Room for ``BINS + 2`` numbers; written.
    """
    rows, columns = level.shape
    height = data.shape[0] // rows + 1
    step = 2 if height > ENOUGH_ROWS else 1
    for j in range(rows):
        top, bottom = j * data.shape[0] // rows, (j + 1) * data.shape[0] // rows
        for i in range(columns):
            left, right = i * data.shape[1] // columns, (i + 1) * data.shape[1] // columns
            n, lines = 0, 0
            for y in range(top, bottom, step):
                lines += 1
                # What is bad is written too, and overwritten by the next: a loop without a branch is faster.
                for x in range(left, right):
                    values[n] = data[y, x]
                    n += 1 - bad[y, x]
            if 2 * n < lines * (right - left):
                level[j, i], sigma[j, i] = np.nan, np.nan
            else:
                level[j, i], sigma[j, i] = _level(values[:n], counts)


@compiled()
def _subtract_line(bad, start, slope, out):
    for x in range(out.size):
        out[x] = ZERO if bad[x] else out[x] - (start + slope * np.float32(x))


@compiled(
    constant(np.float64, 2),
    constant(np.float64, 1),
    constant(np.float64, 1),
    constant(np.uint8, 2),
    array(np.float32, 2),
)
def subtract(level, at_y, at_x, bad, data):
    """Subtract a mesh of levels, interpolated linearly between the boxes' centres; excluded pixels become 0.

    Beyond the outermost centres the slope goes on.

    Parameters
    ----------
    level : float64 array, shape (rows, columns)
        Of the boxes, in the image's unit.
    at_y, at_x : float64 arrays, shapes (rows,) and (columns,)
        Centres of the boxes, in pixels.
    bad : uint8 array, shape (ny, nx)
        1 where a pixel becomes 0.
    data : float32 array, shape (ny, nx)
        In the image's unit; changed.
    """
    rows, columns = level.shape
    j = 0
    for y in range(data.shape[0]):
        while j < rows - 2 and y > at_y[j + 1]:
            j += 1
        # Boxes j and `below` lie around row y, t of the way down from one to the other.
        below = min(j + 1, rows - 1)
        t = (y - at_y[j]) / (at_y[below] - at_y[j]) if below > j else 0.0
        end = 0
        # Between two centres the level is a straight line: one start and one slope for a run of pixels.
        for i in range(max(columns - 1, 1)):
            right, begin = min(i + 1, columns - 1), end
            end = data.shape[1] if right == columns - 1 else int(np.ceil(at_x[right]))
            here = level[j, i] + t * (level[below, i] - level[j, i])
            there = level[j, right] + t * (level[below, right] - level[j, right])
            slope = (there - here) / (at_x[right] - at_x[i]) if right > i else 0.0
            start = np.float32(here + slope * (begin - at_x[i]))
            _subtract_line(bad[y, begin:end], start, np.float32(slope), data[y, begin:end])


@compiled()
def _weigh_row(data, variance, bad, flat, weight, weighted):
    """Write 1/v and d/v of each pixel of a row; both are 0 where a pixel doesn't count."""
    for x in range(data.size):
        noise = flat if flat > ZERO else variance[x]
        w = ONE / noise if (noise > ZERO) & (bad[x] == 0) else ZERO
        weight[x] = w
        weighted[x] = data[x] * w


@compiled()
def _down(a, b, c, factor, out):
    """Add three rows, the middle one times a factor: the filter along y."""
    for x in range(out.size):
        out[x] = a[x] + factor * b[x] + c[x]


@compiled()
def _across(signal, noise, bad, out):
    """Filter along x, and divide signal by noise; squares of 1 2 1 are 1 4 1."""
    for x in range(out.size):
        total = signal[x] + TWO * signal[x + 1] + signal[x + 2]
        squares = noise[x] + FOUR * noise[x + 1] + noise[x + 2]
        out[x] = total / np.sqrt(squares) if (squares > ZERO) & (bad[x] == 0) else ZERO


@compiled()
def _collect(values, threshold, first, n, places, heights):
    """Append values above the threshold and their flat places, as far as there is room; gives how many there are."""
    for x in range(values.size):
        if values[x] > threshold:
            if n < places.size:
                places[n], heights[n] = first + x, values[x]
            n += 1
    return n


@compiled(
    constant(np.float32, 2),
    constant(np.float32, 2),
    constant(np.uint8, 2),
    np.float32,
    np.float32,
    array(np.int64, 1),
    array(np.float32, 1),
    array(np.float32, 2),
)
def significant(data, variance, bad, flat, threshold, places, heights, lines):
    """Find pixels of enough signal over noise, by the filter k = 1 2 1, 2 4 2, 1 2 1: sum(k d/v) / sqrt(sum(k^2/v)).

    For noise alone that has the standard deviation 1 everywhere. Excluded pixels count for nothing, and get 0.

    Parameters
    ----------
    data, variance : float32 arrays, shape (ny, nx)
        d and v: less the sky, in the image's unit and its square.
    bad : uint8 array, shape (ny, nx)
        1 where a pixel doesn't count.
    flat : float32
        Stands for all variances if it is above 0.
    threshold : float32
        In standard deviations.
    places : int64 array
        Flat places of the pixels above the threshold, in order; written, as many as there is room for.
    heights : float32 array
        Their signal over noise; written.
    lines : float32 array, shape (9, nx + 2)
        Of 0; written.

    Returns
    -------
    int
        How many there are, which may be more than there was room for.
    """
    rows, columns = data.shape
    weight, weighted, signal, noise = lines[:3], lines[3:6], lines[6], lines[7]
    # The best fit of a profile A k to the data, weighted by 1/v, has A = sum(k d/v) / sum(k^2/v) with the variance
    # 1 / sum(k^2/v). Their ratio, A over its error, is what is compared with the threshold. k is near a Gaussian of
    # 1.7 pixels FWHM, and a product of 1 2 1 along x and along y, so that each axis is done by itself.
    out, n = lines[8, :columns], 0
    # Three rows of d/v and of 1/v are kept, in turn: `here` is row y, `before` row y - 1, and `last` row y - 2. Row
    # y - 1 is filtered when row y has come. There is a pixel of 0 at each end, and a row of 0 before the first and
    # after the last: pixels outside the image count for nothing.
    for y in range(rows + 1):
        here, before, last = y % 3, (y + 2) % 3, (y + 1) % 3
        if y < rows:
            _weigh_row(data[y], variance[y], bad[y], flat, weight[here, 1:], weighted[here, 1:])
        else:
            for x in range(columns + 2):
                weight[here, x], weighted[here, x] = ZERO, ZERO
        if y > 0:
            _down(weighted[last], weighted[before], weighted[here], TWO, signal)
            _down(weight[last], weight[before], weight[here], FOUR, noise)
            _across(signal, noise, bad[y - 1], out)
            n = _collect(out, threshold, (y - 1) * columns, n, places, heights)
    return n


@compiled()
def _root(parents, label):
    """Give the star that a label has become part of, and shorten the way to it (union-find, path halving)."""
    while parents[label] != label:
        parents[label] = parents[parents[label]]
        label = parents[label]
    return label


@compiled()
def _absorb(table, parents, weak, strong):
    """Make a star part of another: sums are added, of heights and marks the highest stays."""
    parents[weak] = strong
    for column in (COUNT, FLUX, X, Y, XX, XY, YY):
        table[strong, column] += table[weak, column]
    for column in (HEIGHT, PEAK, EDGE, TOUCHES):
        table[strong, column] = max(table[strong, column], table[weak, column])
    table[weak, COUNT] = 0.0


@compiled()
def _add_pixel(row, x, y, value, height, edge):
    """Add a pixel to the sums of a star; a value below 0 counts as 0, or a barycentre could lie outside its pixels."""
    flux = max(np.float64(value), 0.0)
    row[COUNT] += 1.0
    row[FLUX] += flux
    row[X] += flux * x
    row[Y] += flux * y
    row[XX] += flux * x * x
    row[XY] += flux * x * y
    row[YY] += flux * y * y
    row[HEIGHT] = max(row[HEIGHT], height)
    row[PEAK] = max(row[PEAK], flux)
    if edge:
        row[EDGE] = 1.0


@compiled(
    constant(np.float32, 2),
    constant(np.int64, 1),
    constant(np.float32, 1),
    np.float64,
    array(np.int32, 2),
    array(np.int64, 1),
    array(np.int64, 1),
    array(np.float64, 2),
)
def gather(data, places, heights, prominence, turns, owners, parents, table):
    """Gather pixels into stars, from the highest down, as water that falls uncovers peaks and then saddles.

    A pixel belongs to the star of its highest neighbour; without one it is a new peak. Where two stars meet, the lower
    one becomes part of the higher if its peak stands less than `prominence` above the place where they meet.

    Parameters
    ----------
    data : float32 array, shape (ny, nx)
        Less the sky, in the image's unit.
    places, heights : int64 and float32 arrays, shape (n,)
        Flat places of pixels and their signal over noise, the highest first.
    prominence : float64
        In the unit of `heights`.
    turns : int32 array, shape (ny, nx)
        Of 0; number of each pixel in `places`, from 1; written.
    owners, parents : int64 arrays, shapes (n,) and (n + 1,)
        Star of each pixel, and star that each has become part of; written.
    table : float64 array, shape (n + 1, COLUMNS)
        Of 0; sums over the pixels of each star; written. Row 0 is not used, and rows of stars that became part of
        others have the count 0.

    Returns
    -------
    int
        Number of rows of the table that are used.
    """
    rows, columns = data.shape
    used = 1
    for turn in range(places.size):
        y, x, s = places[turn] // columns, places[turn] % columns, heights[turn]
        # Among the neighbours that have had their turn, and so are higher: `main` is the star with the highest peak,
        # `nearest` that of the highest neighbour. 0 is no star.
        main, nearest, first, several = 0, 0, turn, False
        for v in range(max(y - 1, 0), min(y + 2, rows)):
            for u in range(max(x - 1, 0), min(x + 2, columns)):
                if turns[v, u] > 0:
                    neighbour = turns[v, u] - 1
                    root = _root(parents, owners[neighbour])
                    several |= main > 0 and root != main
                    if main == 0 or table[root, HEIGHT] > table[main, HEIGHT]:
                        main = root
                    if neighbour < first:
                        nearest, first = root, neighbour
        if main == 0:
            # No higher neighbour: a summit, which the water has just uncovered.
            main = nearest = used
            parents[used] = used
            used += 1
        # This pixel is the saddle between stars that meet here: no later pixel between them is higher.
        for v in range(max(y - 1, 0), min(y + 2, rows) if several else 0):
            for u in range(max(x - 1, 0), min(x + 2, columns)):
                if turns[v, u] > 0:
                    root = _root(parents, owners[turns[v, u] - 1])
                    if root != main and table[root, HEIGHT] - s < prominence:
                        _absorb(table, parents, root, main)
                    elif root != main:
                        table[root, TOUCHES] = table[main, TOUCHES] = 1.0
        # It may have become part of `main` a moment ago. The pixel goes to the star of its highest neighbour, not to
        # the highest star: so the border of two stars runs along the valley between them.
        nearest = _root(parents, nearest)
        owners[turn], turns[y, x] = nearest, turn + 1
        edge = y == 0 or x == 0 or y == rows - 1 or x == columns - 1
        _add_pixel(table[nearest], x, y, data[y, x], s, edge)
    return used


@compiled()
def _centroid(data, bad, x, y, sigma, weights):
    """Give the windowed centroid (as XWIN_IMAGE of Source Extractor), or what came in where the window ran away.

    Pixels are weighted by a Gaussian as wide as the star, about the centre found so far. Each step goes twice as far as
    the weighted mean lies away, since a window that stands at the wrong place halves the way to a Gaussian star.
    """
    cx, cy, reach = x, y, min(4.0 * sigma, WINDOW - 1.0)
    for _ in range(ITERATIONS):
        left, right = max(int(np.ceil(cx - reach)), 0), min(int(cx + reach) + 1, data.shape[1])
        top, bottom = max(int(np.ceil(cy - reach)), 0), min(int(cy + reach) + 1, data.shape[0])
        # The Gaussian is a product of one along x and one along y: an exponential for each column, not for each pixel.
        for u in range(left, right):
            weights[u - left] = np.exp(-((u - cx) ** 2) / (2 * sigma * sigma))
        total = along = up = 0.0
        for v in range(top, bottom):
            down = np.exp(-((v - cy) ** 2) / (2 * sigma * sigma))
            for u in range(left, right):
                if (u - cx) ** 2 + (v - cy) ** 2 <= reach * reach and bad[v, u] == 0:
                    share = down * weights[u - left] * data[v, u]
                    total += share
                    along += share * (u - cx)
                    up += share * (v - cy)
        if not total > 0.0:
            return x, y
        along, up = 2 * along / total, 2 * up / total
        cx, cy = cx + along, cy + up
        # More than a pixel from the barycentre: a neighbour has drawn it away. NaN ends here too.
        if not (cx - x) ** 2 + (cy - y) ** 2 < 1.0:
            return x, y
        if along * along + up * up < ENOUGH:
            break
    return cx, cy


@compiled(
    constant(np.float32, 2),
    constant(np.uint8, 2),
    constant(np.float64, 1),
    array(np.float64, 1),
    array(np.float64, 1),
    array(np.float64, 1),
)
def centroids(data, bad, sigma, x, y, weights):
    """Replace barycentres by windowed centroids.

    Parameters
    ----------
    data : float32 array, shape (ny, nx)
        Less the sky, in the image's unit.
    bad : uint8 array, shape (ny, nx)
        1 where a pixel doesn't count.
    sigma : float64 array, shape (n,)
        Of the Gaussian window of each star, in pixels.
    x, y : float64 arrays, shape (n,)
        Positions in pixels; changed.
    weights : float64 array
        Room for ``2 * WINDOW + 2`` numbers; written.
    """
    for i in range(x.size):
        x[i], y[i] = _centroid(data, bad, x[i], y[i], sigma[i], weights)


@compiled()
def _core(data, x, y, column, row):
    """Give the highest value at less than 1.4 pixels from a star's centre, or 0."""
    # The centre lies up to half a pixel beside the middle of its pixel: two pixels around that hold the whole circle.
    core = 0.0
    for v in range(max(row - 2, 0), min(row + 3, data.shape[0])):
        for u in range(max(column - 2, 0), min(column + 3, data.shape[1])):
            if (u - x) ** 2 + (v - y) ** 2 < CORE_RADIUS_2:
                core = max(core, np.float64(data[v, u]))
    return core


@compiled()
def _gaussian_fwhm(r2, value, logarithm, reach):
    """Give the FWHM from a straight line through ln I against r^2, weighted by I^2; NaN where it does not fall.

    Of a Gaussian ln I = const - r^2 / (2 sigma^2). The variance of ln I is that of I over I^2: hence the weight.
    """
    total = mean_r2 = mean_log = 0.0
    for i in range(r2.size):
        if r2[i] < reach * reach:
            w = value[i] * value[i]
            total += w
            mean_r2 += w * r2[i]
            mean_log += w * logarithm[i]
    if not total > 0.0:
        return np.nan
    # The slope of a weighted line, about the means: with sums about 0 digits would be lost in their differences.
    mean_r2, mean_log = mean_r2 / total, mean_log / total
    slope = spread = 0.0
    for i in range(r2.size):
        if r2[i] < reach * reach:
            w = value[i] * value[i]
            slope += w * (r2[i] - mean_r2) * (logarithm[i] - mean_log)
            spread += w * (r2[i] - mean_r2) ** 2
    # One pixel alone, or a ring of them at one distance, has no spread; a saturated top or a plateau does not fall.
    if not (slope < 0.0 and spread > 0.0):
        return np.nan
    return 2.0 * np.sqrt(2.0 * np.log(2.0)) * np.sqrt(-spread / (2.0 * slope))


@compiled(
    constant(np.float32, 2),
    constant(np.float64, 1),
    constant(np.float64, 1),
    array(np.float64, 1),
    array(np.float64, 2),
)
def widths(data, x, y, out, spare):
    """Measure the full width at half maximum of each star.

    Parameters
    ----------
    data : float32 array, shape (ny, nx)
        Less the sky, in the image's unit; 0 where a pixel doesn't count.
    x, y : float64 arrays, shape (n,)
        Positions in pixels.
    out : float64 array, shape (n,)
        Widths in pixels, NaN for a lone hot pixel; written.
    spare : float64 array, shape (3, m)
        Room for three numbers of each pixel of a stamp, ``2 * HALF_STAMP + 1`` wide; written.
    """
    r2, value, logarithm = spare[0], spare[1], spare[2]
    for i in range(x.size):
        column, row = int(np.rint(x[i])), int(np.rint(y[i]))
        core = _core(data, x[i], y[i], column, row)
        n = 0
        for v in range(max(row - HALF_STAMP, 0), min(row + HALF_STAMP + 1, data.shape[0])):
            for u in range(max(column - HALF_STAMP, 0), min(column + HALF_STAMP + 1, data.shape[1])):
                # Pixels that do not count are 0, and no logarithm is taken of them.
                if data[v, u] > PROFILE * core and core > 0.0:
                    r2[n] = (u - x[i]) ** 2 + (v - y[i]) ** 2
                    value[n] = data[v, u]
                    logarithm[n] = np.log(value[n])
                    n += 1
        # The radius of the fit follows the width, so that a neighbour stays outside.
        reach = FIRST_REACH
        for _ in range(3):
            out[i] = _gaussian_fwhm(r2[:n], value, logarithm, reach)
            reach = min(max(REACH * out[i], LEAST_REACH), HALF_STAMP) if out[i] > 0.0 else FIRST_REACH


@compiled(
    constant(np.uint8, 2),
    constant(np.uint16, 2),
    np.uint16,
    constant(np.float64, 1),
    constant(np.float64, 1),
    constant(np.int64, 1),
    array(np.uint8, 2),
)
def cores(bad, dq, bit, x, y, half, out):
    """Look in the core of each star for excluded pixels, and for those with a bit.

    Parameters
    ----------
    bad : uint8 array, shape (ny, nx)
        1 where a pixel is excluded.
    dq : uint16 array, shape (ny, nx)
        Flags.
    bit : uint16
        Looked for in `dq`.
    x, y : float64 arrays, shape (n,)
        Positions in pixels.
    half : int64 array, shape (n,)
        Half the side of each core, in pixels.
    out : uint8 array, shape (2, n)
        1 in row 0 where one is excluded, in row 1 where one has the bit; else left as it is.
    """
    for i in range(x.size):
        column, row = int(np.rint(x[i])), int(np.rint(y[i]))
        for v in range(max(row - half[i], 0), min(row + half[i] + 1, bad.shape[0])):
            for u in range(max(column - half[i], 0), min(column + half[i] + 1, bad.shape[1])):
                out[0, i] |= bad[v, u]
                if dq[v, u] & bit:
                    out[1, i] = 1


@compiled()
def _covered(u, v, radius):
    """Give the part of the pixel at the distances u and v that lies in a circle."""
    distance = np.sqrt(u * u + v * v)
    # Only pixels that the circle may cut are looked at in parts: a few dozen of an aperture.
    if abs(distance - radius) > DIAGONAL:
        return 1.0 if distance < radius else 0.0
    inside = 0
    for j in range(SUBPIXELS):
        for i in range(SUBPIXELS):
            a = u + (i + 0.5) / SUBPIXELS - 0.5
            b = v + (j + 0.5) / SUBPIXELS - 0.5
            inside += a * a + b * b <= radius * radius
    return inside / (SUBPIXELS * SUBPIXELS)


@compiled(
    constant(np.float32, 2),
    constant(np.uint8, 2),
    constant(np.float64, 1),
    constant(np.float64, 1),
    np.float64,
    array(np.float64, 1),
)
def apertures(data, bad, x, y, radius, out):
    """Sum up the pixels in a circle about each star.

    What an excluded pixel would hold is taken as the mean of the others.

    Parameters
    ----------
    data : float32 array, shape (ny, nx)
        Less the sky, in the image's unit.
    bad : uint8 array, shape (ny, nx)
        1 where a pixel doesn't count.
    x, y : float64 arrays, shape (n,)
        Positions in pixels.
    radius : float64
        Of all circles, in pixels.
    out : float64 array, shape (n,)
        Sums in the image's unit; written. 0 where no pixel counts.
    """
    reach = int(radius) + 2
    for i in range(x.size):
        column, row = int(np.rint(x[i])), int(np.rint(y[i]))
        total = area = circle = 0.0
        for v in range(max(row - reach, 0), min(row + reach + 1, data.shape[0])):
            for u in range(max(column - reach, 0), min(column + reach + 1, data.shape[1])):
                part = _covered(u - x[i], v - y[i], radius)
                circle += part
                if bad[v, u] == 0:
                    area += part
                    total += part * data[v, u]
        out[i] = total * circle / area if area > 0.0 else 0.0
