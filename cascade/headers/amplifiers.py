"""The detector that a header and an instrument file describe: amplifiers, sections, gain, read noise."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import Any

from ccdflow.cascade.headers.instrument import FixedAmplifier, FixedDetector, Instrument, claims
from ccdflow.cascade.headers.keywords import Cards, binned_by, cards_of, first, look_up, number, text
from ccdflow.cascade.headers.sections import (
    ToldSection,
    binned_section,
    data_beside,
    larger_side,
    lies_inside,
    read_section,
    told_section,
    what_to_write,
)
from ccdflow.cascade.records import Extension
from ccdflow.recipes.detector.amplifiers import Amplifier, Detector, Section

# From the words of a header to the geometry of a detector, in five steps:
#
#   1. which amplifiers there are: of the instrument file, of the header, or the images of the file (`_named`,
#      `_of_extensions`); without any, one that has the whole array;
#   2. the data section of each, in the raw array (`_required`);
#   3. its place in the assembled image (`_targets`): told by the header in unbinned or binned pixels, and of the
#      sensitive area or of the data alone, or else all moved together (`_packed`);
#   4. the part of its overscan that lies beside its data (`_beside`);
#   5. gain, read noise and saturation, of the header and of the instrument file, in the order that is asked for.
#
# A section whose first bound is above its second, [1024:1,1:512], is read from its far end. Its bounds are kept in
# order and the direction apart (`Section.flip_x`, `flip_y`): data and target that differ in it are mirrored when the
# image is assembled.

_NUMBERS = ("gain", "read_noise", "saturation")
"""Numbers of a detector that affect its pixels."""
_NOTHING = FixedAmplifier()
"""Stands for an amplifier of which the instrument file says nothing."""
_ANY = FixedDetector()
"""Stands for a detector of which the instrument file says nothing."""


@dataclass(frozen=True)
class _Source:
    """Header and instrument file of one detector, and the amplifier that is asked about ("" for the only one).

    `shape` is that of the image that the sections speak of, `first_row` where it begins in the raw array, `alone`
    whether the amplifier has the image to itself.
    """

    cards: Cards
    instrument: Instrument
    fixed: FixedDetector
    shape: tuple[int, int]
    name: str = ""
    first_row: int = 0
    alone: bool = False

    @property
    def own(self) -> FixedAmplifier:
        """Part of the instrument file that speaks of this amplifier."""
        named = (amplifier for amplifier in self.fixed.amplifiers if amplifier.name == self.name)
        return next(named, _NOTHING)

    def section(self, kind: str) -> Section | None:
        """Return the data, sensitive, overscan or target section of the amplifier, where one is told."""
        told = self.told(kind)
        # Only a target speaks of the detector, which may be larger than the array; all others are cut from the array,
        # in which an image of several begins at `first_row`.
        if told is None or kind == "target":
            return None if told is None else told.section
        if not lies_inside(told.section, self.shape):
            ny, nx = self.shape
            outside = f"{told} lies outside of the raw array of {nx} columns and {ny} rows"
            raise ValueError(f"{outside}; {what_to_write()}")
        return self._placed(told.section)

    def told(self, kind: str) -> ToldSection | None:
        """Return a section as it is told, in binned pixels, counted from where its image begins."""
        told = self._own_or_header(kind)
        if told is None or kind == "target":
            return told
        if kind == "data" and self.is_window(told.section):
            return replace(told, section=Section.whole(self.shape))
        section = binned_section(told.section, self.unbinned) if self.unbinned else None
        return told if section is None else replace(told, section=section)

    def is_window(self, data: Section) -> bool:
        """Tell whether a data section is that of a window on the detector, all of which the array is."""
        if lies_inside(data, self.shape) or (data.x0, data.y0) == (0, 0):
            return False
        ny, nx = data.shape
        x, y = _factors(self)
        return self.shape in ((ny, nx), (ny // y, nx // x))

    @cached_property
    def unbinned(self) -> tuple[int, int] | None:
        """Binning along x and y, where the header's sections are of unbinned pixels; None where they are not.

        They are where one lies outside of the array, and all are whole numbers of binned pixels that lie inside.
        """
        told = [self._own_or_header(kind) for kind in ("data", "sensitive", "overscan")]
        sections = [section.section for section in told if section is not None]
        settled = self.own.data or self.own.overscan or (told[0] and self.is_window(told[0].section))
        if settled or all(lies_inside(section, self.shape) for section in sections):
            return None
        factors = _factors(self)
        binned = [binned_section(section, factors) for section in sections]
        fits = all(section is not None and lies_inside(section, self.shape) for section in binned)
        return factors if fits else None

    def data(self) -> Section:
        """Return the data section of an amplifier that has its image to itself, told or not."""
        overscan, told = self.told("overscan"), self.section("data")
        whole = Section.whole(self.shape)
        # Some write the whole array as its data, beside an overscan that is part of it.
        if overscan is not None and told in (None, self._placed(whole)) and self.section("overscan"):
            return self._placed(data_beside(overscan, self.shape))
        return told or self._placed(whole)

    def assumptions(self) -> Iterator[str]:
        """Yield a sentence for each thing that had to be assumed of the sections."""
        data, overscan, header = self.told("data"), self.told("overscan"), self._own_or_header("data")
        if header and self.is_window(header.section):
            yield f"{header} is read as a window of the detector, which the raw array is all of"
        if self.unbinned:
            x, y = self.unbinned
            told = ", ".join(f"{section} as {section.section}" for section in (data, overscan) if section)
            yield f"sections are read as of pixels before binning {x}x{y}: {told}"
        if overscan and (data is None or data.section == Section.whole(self.shape)) and not self.name:
            yield f"which pixels are data is not told: of {overscan}, all on its larger side, {self.data()}"

    @cached_property
    def _known(self) -> dict[str, ToldSection | None]:
        """Sections that were looked up already: each is asked for several times, for each frame."""
        return {}

    def _own_or_header(self, kind: str) -> ToldSection | None:
        if kind not in self._known:
            self._known[kind] = self._looked_up(kind)
        return self._known[kind]

    def _looked_up(self, kind: str) -> ToldSection | None:
        # The instrument file goes first: somebody wrote it because the headers of this camera are wrong or silent.
        told = getattr(self.own, kind, None)
        if told is not None:
            return read_section(f"{kind} of the instrument file", told, self.shape)
        return told_section(self.cards, self._alternatives(kind), self.shape, several=kind == "overscan")

    def _placed(self, section: Section) -> Section:
        """Return where a section of one image lies in the array of all of them."""
        if not self.first_row:
            return section
        return replace(section, y0=section.y0 + self.first_row, y1=section.y1 + self.first_row)

    def _alternatives(self, kind: str) -> Sequence[str]:
        if self.name:
            alternatives: Sequence[str] = getattr(self.instrument.amplifiers, kind)
            return [keyword.replace("{amp}", self.name) for keyword in alternatives]
        keywords = self.instrument.keywords
        return {"data": keywords.trim_section, "overscan": keywords.bias_section}.get(kind, ())

    def number(self, field: str) -> float | None:
        """Gain, read noise or saturation, by the order that the instrument file asks for."""
        # Within either, the amplifier's own number goes before that of the whole detector.
        mine = getattr(self.own, field), getattr(self.fixed, field)
        told = [*mine, *self._header(field)] if self.fixed.beats_header else [*self._header(field), *mine]
        return next((value for value in told if value is not None), None)

    def _header(self, field: str) -> Iterator[float | None]:
        if self.name:
            alternatives: Sequence[str] = getattr(self.instrument.amplifiers, field)
            named = [keyword.replace("{amp}", self.name) for keyword in alternatives]
            yield believable(self.cards, named, field, self.instrument)
        yield believable(self.cards, getattr(self.instrument.keywords, field), field, self.instrument)


def detector(
    header: Mapping[str, Any],
    instrument: Instrument,
    shape: tuple[int, int],
    extensions: Sequence[Extension] = (),
) -> Detector:
    """Return the detector of a raw array of shape ``(ny, nx)``.

    Several amplifiers come from the instrument file, else from the header where every amplifier that it names
    has a data section; otherwise there is one, with the trim and bias section of the header, or the whole
    array as its data. Overscan is cut to the rows of the data beside it, or to the columns of the data above
    or below it. The assembled image begins at the lowest target; where no targets are told, amplifiers keep
    their order with no space between them. Gain and read noise that nobody tells are None.

    Of a file with several images each is an amplifier, where the instrument file says so; the raw array is then
    all of them, one above the other.

    Parameters
    ----------
    header : mapping
        Keyword to value; of a file with extensions, those of the primary header.
    instrument : Instrument
        The instrument file that claims the header.
    shape : tuple of int
        Of the raw array, ``(ny, nx)``.
    extensions : sequence of Extension
        The images of the file; of one image, or none, they say no more than the header.

    Returns
    -------
    Detector
        Sections count from 0, rows before columns; gain in electron/adu, read noise in electron rms, saturation in adu.

    Raises
    ------
    ValueError
        If a section can't be read, lies outside of the array, or contradicts another; if there are several
        images, and the instrument file does not say that they are amplifiers.
    """
    return detector_of(cards_of(header, instrument.blanks), instrument, shape, extensions)


def detector_of(
    cards: Cards, instrument: Instrument, shape: tuple[int, int], extensions: Sequence[Extension] = ()
) -> Detector:
    """Return the detector as `detector` does, from cards whose blanks are gone already.

    Parameters
    ----------
    cards : mapping
        The header, see `ccdflow.cascade.headers.keywords.cards_of`.
    instrument : Instrument
        The instrument file that claims the header.
    shape : tuple of int
        Of the raw array, ``(ny, nx)``.
    extensions : sequence of Extension
        The images of the file.

    Returns
    -------
    Detector
        See `detector`.

    Raises
    ------
    ValueError
        See `detector`.
    """
    source = _Source(cards, instrument, _fixed(cards, instrument), shape)
    sources = _of_extensions(source, extensions) if len(extensions) > 1 else _named(source)
    if not sources:
        data = source.data()
        whole = _amplifier(source, data, Section.whole(data.shape))
        return Detector(data.shape, (whole,), tuple(source.assumptions()))
    data_sections = [_required(amplifier) for amplifier in sources]
    targets = _targets(sources, data_sections)
    amplifiers = [_amplifier(*parts) for parts in zip(sources, data_sections, targets, strict=True)]
    # The lowest target begins at 0, so the ends are the size. What no amplifier covers stays without data.
    ny, nx = max(target.y1 for target in targets), max(target.x1 for target in targets)
    assumed = dict.fromkeys(sentence for amplifier in sources for sentence in amplifier.assumptions())
    return Detector((ny, nx), tuple(amplifiers), tuple(assumed))


def believable(cards: Cards, alternatives: Sequence[str], field: str, instrument: Instrument) -> float | None:
    """Return the number of the first alternative that lies within the instrument's limits for `field`.

    Gain, read noise and saturation must be above 0: many programs write 0 or -1 where they know nothing.

    Parameters
    ----------
    cards : mapping
        The header, see `ccdflow.cascade.headers.keywords.cards_of`.
    alternatives : sequence of str
        Keywords and templates, tried in order.
    field : str
        Name of the number in the instrument file.
    instrument : Instrument
        Its `limits` count.

    Returns
    -------
    float or None
        In the unit of the header; None where no alternative has a number that can be believed.
    """
    for alternative in alternatives:
        value = number(look_up(cards, alternative))
        believed = value is not None and not instrument.disbelief(field, value)
        if value is not None and believed and (value > 0 or field not in _NUMBERS):
            return value
    return None


def detector_digest(instrument: Instrument) -> str:
    """Return a digest of everything in an instrument file that affects pixels.

    Parameters
    ----------
    instrument : Instrument
        The instrument file.

    Returns
    -------
    str
        As long as it stays the same, so do the detectors, and no job need be done again.
    """
    # Not the whole file: another keyword for the object's name must not make all frames be reduced again.
    keywords = instrument.keywords.model_dump(
        include={*_NUMBERS, "adc_bits", "trim_section", "bias_section", "binning"}
    )
    window = instrument.window.model_dump()
    limits = {name: instrument.limits[name] for name in _NUMBERS if name in instrument.limits}
    said = {
        "keywords": keywords,
        "window": window,
        "limits": limits,
        "blanks": instrument.blanks,
        "amplifiers": instrument.amplifiers.model_dump(),
        "detectors": [detector.model_dump() for detector in instrument.detectors],
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _fixed(cards: Cards, instrument: Instrument) -> FixedDetector:
    for fixed in instrument.detectors:
        if not fixed.match or any(claims(patterns, cards) for patterns in fixed.match):
            return fixed
    return _ANY


def _of_extensions(source: _Source, extensions: Sequence[Extension]) -> list[_Source]:
    """Return one amplifier for each image of the file."""
    names = ", ".join(image.name for image in extensions)
    if not source.instrument.amplifiers.extensions:
        told = f"the file holds {len(extensions)} images: {names}; instrument {source.instrument.name!r}"
        raise ValueError(
            f"{told} does not say that they are amplifiers of one detector (amplifiers: {{extensions: true}})"
        )
    if len({image.shape[1] for image in extensions}) > 1:
        shapes = ", ".join(f"{image.name} {image.shape}" for image in extensions)
        raise ValueError(f"the images of the file are not of one width: {shapes}")
    own = [cards_of(image.header, source.instrument.blanks) for image in extensions]
    amplifiers = [
        replace(
            source,
            # What an image's own header says goes before the primary header, which speaks of all of them.
            cards={**source.cards, **cards},
            shape=image.shape,
            name=str(number),
            first_row=image.first_row,
            alone=True,
        )
        for number, (image, cards) in enumerate(zip(extensions, own, strict=True), 1)
    ]
    for amplifier, image in zip(amplifiers, extensions, strict=True):
        if amplifier.section("target") is None:
            wanted = ", ".join(source.instrument.amplifiers.target) or "amplifiers.target"
            raise ValueError(f"where {image.name} lies on the detector is not told: no {wanted}")
    return amplifiers


def _named(source: _Source) -> list[_Source]:
    """Return the amplifiers of one image; none where there is only one."""
    return [replace(source, name=name) for name in _names(source)]


def _names(source: _Source) -> list[str]:
    if any(amplifier.data for amplifier in source.fixed.amplifiers):
        return [amplifier.name for amplifier in source.fixed.amplifiers]
    keywords = source.instrument.amplifiers
    listed = first(source.cards, keywords.list_keyword)
    names = text(listed[1]).replace(",", " ").split() if listed else list(keywords.names)
    # A camera may name four amplifiers and have read out through one: names without sections mean nothing.
    told = [replace(source, name=name).section("data") for name in names]
    return names if all(told) else []


def _required(source: _Source) -> Section:
    data = source.data() if source.alone else source.section("data")
    if data is None:
        raise ValueError(
            f"amplifier {source.name!r} has no data section, though others have; {what_to_write()}"
        )
    return data


def _amplifier(source: _Source, data: Section, target: Section) -> Amplifier:
    saturation = source.number("saturation")
    own, fixed = source.own, source.fixed
    amplifier = Amplifier(
        data=data,
        target=target,
        overscan=_beside(source.section("overscan"), data, source.name),
        gain=source.number("gain"),
        read_noise=source.number("read_noise"),
        linearity=own.linearity or fixed.linearity or (),
        nonlinear=own.nonlinear or fixed.nonlinear,
        name=source.name,
        bits=_bits(source),
    )
    if saturation is None:
        return amplifier
    return replace(amplifier, saturation=saturation, saturation_from="header")


def _bits(source: _Source) -> int | None:
    """Return the bits of the converter, where a card states them."""
    bits = believable(source.cards, source.instrument.keywords.adc_bits, "adc_bits", source.instrument)
    return int(bits) if bits is not None and bits.is_integer() else None


def _beside(overscan: Section | None, data: Section, name: str) -> Section | None:
    """Return the part of the overscan that has the rows of `data`, or above and below, its columns."""
    # A bias is subtracted row by row (or column by column), so only rows that the data have can serve. Headers often
    # state overscan over all rows of the array, also beside those that are trimmed.
    if overscan is None:
        return None
    y0, y1 = max(overscan.y0, data.y0), min(overscan.y1, data.y1)
    x0, x1 = max(overscan.x0, data.x0), min(overscan.x1, data.x1)
    if y0 < y1 and x0 < x1:
        which = f" of amplifier {name}" if name else ""
        settled = what_to_write(larger_side(data, overscan), overscan)
        raise ValueError(f"overscan {overscan} and data {data}{which} overlap; {settled}")
    if y0 < y1:
        return Section(y0, y1, overscan.x0, overscan.x1)
    if x0 < x1:
        return Section(overscan.y0, overscan.y1, x0, x1)
    raise ValueError(
        f"overscan {overscan} has no row or column in common with the data {data}"
        f"{f' of amplifier {name}' if name else ''}; {what_to_write()}"
    )


def _targets(sources: Sequence[_Source], data: Sequence[Section]) -> list[Section]:
    told = [source.section("target") for source in sources]
    known = [target for target in told if target is not None]
    # One that is not told makes those that are useless: nothing says where it lies among them.
    if len(known) < len(told):
        return _packed(data)
    fitted = [_fitted(*parts) for parts in zip(sources, data, known, strict=True)]
    # Targets may count from anywhere, as those of a window or a mosaic do: the image begins at the lowest.
    y, x = min(target.y0 for target in fitted), min(target.x0 for target in fitted)
    moved = [_shifted(target, -y, -x) for target in fitted]
    for (i, target), (j, other) in combinations(enumerate(moved), 2):
        if _overlap(target, other):
            raise ValueError(
                f"amplifiers {sources[i].name!r} and {sources[j].name!r} overlap on the detector: {target}, {other}"
            )
    return moved


def _shifted(section: Section, rows: int, columns: int) -> Section:
    return replace(
        section,
        y0=section.y0 + rows,
        y1=section.y1 + rows,
        x0=section.x0 + columns,
        x1=section.x1 + columns,
    )


def _overlap(section: Section, other: Section) -> bool:
    rows = min(section.y1, other.y1) - max(section.y0, other.y0)
    columns = min(section.x1, other.x1) - max(section.x0, other.x0)
    return rows > 0 and columns > 0


def _packed(data: Sequence[Section]) -> list[Section]:
    """Return the data sections moved together until nothing lies between them."""
    # Rows and columns are packed each for itself: four amplifiers in a square have two spans of either.
    rows = _starts({(section.y0, section.y1) for section in data})
    columns = _starts({(section.x0, section.x1) for section in data})
    packed = []
    for section in data:
        y, x = rows[section.y0, section.y1], columns[section.x0, section.x1]
        packed.append(Section(y, y + section.shape[0], x, x + section.shape[1]))
    return packed


def _starts(spans: set[tuple[int, int]]) -> dict[tuple[int, int], int]:
    """Return where each span begins once the gaps between them are closed."""
    starts: dict[tuple[int, int], int] = {}
    position, end = 0, 0
    # Equal spans are one (amplifiers side by side share their rows), different ones must not overlap: then each begins
    # where the one before has ended, and what lay between them, overscan mostly, is gone.
    for low, high in sorted(spans):
        if low < end:
            raise ValueError(
                "data sections neither line up nor lie apart; the instrument file must give targets"
            )
        starts[low, high] = position
        position, end = position + high - low, high
    return starts


def _fitted(source: _Source, data: Section, target: Section) -> Section:
    """Return `target` in binned pixels, and cut as the data are cut from the sensitive area that it speaks of."""
    # Headers don't say whether a target is in binned or unbinned pixels, nor whether it is that of the data to keep or
    # of the whole sensitive area. Its shape tells: whichever reading has the shape of one of the two is meant.
    # Unbinned is tried first; without binning both readings are the same.
    sensitive = source.section("sensitive") or data
    for reading in (target, _binned(source, target)):
        if reading.shape == data.shape:
            return reading
        if reading.shape == sensitive.shape:
            return _cut(reading, sensitive, data)
    raise ValueError(
        f"amplifier {source.name!r} has data {data}, which differs in size from its place on the detector, {target}"
    )


def _binned(source: _Source, section: Section) -> Section:
    x, y = _factors(source)
    # Sizes are divided, not ends: both ends rounded down could give a size that is off by one.
    ny, nx = section.shape
    y0, x0 = section.y0 // y, section.x0 // x
    return replace(section, y0=y0, y1=y0 + ny // y, x0=x0, x1=x0 + nx // x)


def _factors(source: _Source) -> tuple[int, int]:
    """Return the binning along x and y; 1 where it is not known."""
    return binned_by(source.cards, source.instrument.keywords.binning)


def _cut(target: Section, sensitive: Section, data: Section) -> Section:
    """Return the part of `target` that the data are, of which `sensitive` is all."""
    # Rows and columns that are trimmed at the low and at the high end, as the raw array has them. Where the target
    # runs the other way, what is cut at the low end of one is cut at the high end of the other.
    low_y, high_y = data.y0 - sensitive.y0, sensitive.y1 - data.y1
    low_x, high_x = data.x0 - sensitive.x0, sensitive.x1 - data.x1
    if target.flip_y != sensitive.flip_y:
        low_y, high_y = high_y, low_y
    if target.flip_x != sensitive.flip_x:
        low_x, high_x = high_x, low_x
    return replace(
        target, y0=target.y0 + low_y, y1=target.y1 - high_y, x0=target.x0 + low_x, x1=target.x1 - high_x
    )
