"""Where on the detector the pixels lie that were read out."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from ccdflow.cascade.headers.instrument import Instrument
from ccdflow.cascade.headers.keywords import Cards, binned_by, cards_of, look_up, number, text
from ccdflow.cascade.headers.sections import told_section
from ccdflow.cascade.records import Extension
from ccdflow.recipes.detector.amplifiers import Detector, Section


class Place(NamedTuple):
    """Column and row of a first pixel, unbinned, counted from 0."""

    x: int
    y: int


class _Source(NamedTuple):
    """A header, the instrument file that reads it, the raw array's shape, the data in it, and the binning."""

    cards: Cards
    by: Instrument
    shape: tuple[int, int]
    data: Section
    factors: tuple[int, int]

    def sections(self, alternatives: Sequence[str]) -> Iterator[Section]:
        """Find the sections that are told under some keywords; what can't be read hides none behind it."""
        for keyword in alternatives:
            with suppress(ValueError):
                told = told_section(self.cards, [keyword], self.shape)
                if told is not None:
                    yield told.section

    def section(self, alternatives: Sequence[str]) -> Section | None:
        """Return the first section that is told under some keywords, and can be read."""
        return next(self.sections(alternatives), None)

    @property
    def sensitive(self) -> Section:
        """All light-sensitive pixels of the raw array, of which those that are kept may be a part."""
        told = self.section(["DATASEC"])
        ny, nx = self.shape
        return told if told is not None and told.y1 <= ny and told.x1 <= nx else self.data

    def trimmed(self, before: Section) -> Place:
        """Return how far the data begin behind another section of the raw array."""
        x, y = self.factors
        return Place((self.data.x0 - before.x0) * x, (self.data.y0 - before.y0) * y)


def detector_place(
    cards: Cards,
    instrument: Instrument,
    shape: tuple[int, int],
    detector: Detector,
    extensions: Sequence[Extension] = (),
) -> Place | None:
    """Return where on the detector the first pixel of the assembled image lies.

    Parameters
    ----------
    cards : mapping
        The header, see `ccdflow.cascade.headers.keywords.cards_of`.
    instrument : Instrument
        The instrument file that claims the header; its `window` says where to look.
    shape : tuple of int
        Of the raw array, ``(ny, nx)``.
    detector : Detector
        As the header describes it.
    extensions : sequence of Extension
        The images of the file.

    Returns
    -------
    Place or None
        None where it is not told, or the image lies mirrored.

    Notes
    -----
    ``LTVn`` and ``LTMn_n`` (IRAF): image pixel = LTM × detector pixel + LTV.
    """
    factors = binned_by(cards, instrument.keywords.binning)
    several = len(detector.amplifiers) > 1
    source = _Source(cards, instrument, shape, detector.amplifiers[0].data, factors)
    ways = (
        (_of_targets(source, detector, extensions), _of_origin(source, Place(0, 0)))
        if several
        else (
            _of_section(source),
            _of_window_as_data(source),
            _of_origin(source, _trim(source)),
            _of_transform(source),
        )
    )
    place = next((way for way in ways if way is not None), None)
    return place if place is not None and min(place) >= 0 else None


def trim_of(detector: Detector, *, several: bool) -> tuple[int, int]:
    """Return by how much pixels of a frame's first image move when the detector is assembled.

    Parameters
    ----------
    detector : Detector
        As the header describes it.
    several : bool
        Whether its amplifiers are images of their own.

    Returns
    -------
    (int, int)
        Columns and rows that lie before the first pixel that is kept.
    """
    if several:  # of which the first is the one whose header counts
        first_one = detector.amplifiers[0]
        return first_one.data.x0 - first_one.target.x0, first_one.data.y0 - first_one.target.y0
    # In one image with several amplifiers, the one whose pixels come to lie in the lower left corner.
    corner = min(detector.amplifiers, key=lambda amplifier: (amplifier.target.y0, amplifier.target.x0))
    return corner.data.x0, corner.data.y0


def _of_targets(source: _Source, detector: Detector, extensions: Sequence[Extension]) -> Place | None:
    """Return the lowest place of several amplifiers, each of which tells its own."""
    places = list(_targets(source, detector, extensions))
    known = [place for place in places if place is not None]
    if len(known) < len(places):
        return None
    return Place(min(place.x for place in known), min(place.y for place in known))


def _targets(source: _Source, detector: Detector, extensions: Sequence[Extension]) -> Iterator[Place | None]:
    own = [cards_of(image.header, source.by.blanks) for image in extensions] if len(extensions) > 1 else []
    for place, amplifier in enumerate(detector.amplifiers):
        cards = {**source.cards, **own[place]} if place < len(own) else source.cards
        names = [keyword.replace("{amp}", amplifier.name) for keyword in source.by.amplifiers.target]
        told = source._replace(cards=cards, data=amplifier.data).section(names)
        yield None if told is None else _unbinned(told, amplifier.data, source.factors)


def _unbinned(told: Section, data: Section, factors: tuple[int, int]) -> Place:
    """Return where a section of the detector begins; it is of binned pixels where it has the size of binned data."""
    (ny, nx), (x, y) = data.shape, factors
    is_binned = told.shape == (ny, nx) and (x, y) != (1, 1)
    return Place(told.x0 * x, told.y0 * y) if is_binned else Place(told.x0, told.y0)


def _of_section(source: _Source) -> Place | None:
    """Return the place by the first section of the detector that the data are."""
    told = map(partial(_of_told, source), source.sections(source.by.window.section))
    return next((place for place in told if place is not None), None)


def _of_told(source: _Source, told: Section) -> Place | None:
    """Return the place by a section of the detector; None where it is mirrored, or has another size than the data."""
    if told.flip_x or told.flip_y:
        return None
    # It speaks of all light-sensitive pixels (DATASEC), of which TRIMSEC may keep fewer, of those that are kept, or of
    # the whole array with its prescan, as NOT counts.
    x, y = source.factors
    for part in (source.sensitive, source.data, Section.whole(source.shape)):
        ny, nx = part.shape
        if told.shape in ((ny * y, nx * x), (ny, nx)):
            place, trimmed = _unbinned(told, part, source.factors), source.trimmed(part)
            return Place(place.x + trimmed.x, place.y + trimmed.y)
    return None


def _of_window_as_data(source: _Source) -> Place | None:
    """Return the place of a data section that lies outside of the array: some write the window on the detector so."""
    told = source.section(source.by.keywords.trim_section)
    (ny, nx), (x, y) = source.shape, source.factors
    if told is None or (told.y1 <= ny and told.x1 <= nx) or told.shape not in ((ny * y, nx * x), (ny, nx)):
        return None
    return _unbinned(told, Section.whole(source.shape), source.factors)


def _trim(source: _Source) -> Place:
    """Return the light-sensitive columns and rows that are cut off; what lies before DATASEC is no detector."""
    told = source.section(["DATASEC"])
    return source.trimmed(source.sensitive if told is not None else Section.whole(source.shape))


def _of_origin(source: _Source, trimmed: Place) -> Place | None:
    """Return the place by the first column and row."""
    window = source.by.window
    if (start := _two_numbers(source.cards, window.origin)) is not None:
        x, y = (1, 1) if window.unbinned else source.factors
        return Place(round(start[0]) * x + trimmed.x, round(start[1]) * y + trimmed.y)
    if (start := _two_numbers(source.cards, window.first)) is not None:
        return Place(round(start[0]) - 1 + trimmed.x, round(start[1]) - 1 + trimmed.y)
    return None


def _of_transform(source: _Source) -> Place | None:
    """Return the place by IRAF's linear transform from detector to image."""
    starts = []
    for axis, edge, factor in zip((1, 2), (source.data.x0, source.data.y0), source.factors, strict=True):
        shift = number(source.cards.get(f"LTV{axis}"))
        scale = number(source.cards.get(f"LTM{axis}_{axis}")) or 1 / factor
        if shift is None or scale <= 0:
            return None
        # From the edge of the first pixel, since its centre is not that of the first unbinned one.
        starts.append(round((edge + 0.5 - shift) / scale - 0.5))
    return Place(*starts)


def _two_numbers(cards: Cards, alternatives: Sequence[str]) -> tuple[float, float] | None:
    """Return the first two numbers that are told under some keywords."""
    for alternative in alternatives:
        words = text(look_up(cards, alternative)).replace(",", " ").split()
        values = [value for word in words if (value := number(word)) is not None]
        if len(words) == len(values) == 2:
            return values[0], values[1]
    return None
