"""The detector that a header and an instrument file describe: amplifiers, sections, gain, read noise."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations
from typing import Any

from ccdflow.cascade.headers.instrument import FixedAmplifier, FixedDetector, Instrument, claims
from ccdflow.cascade.headers.keywords import Cards, binning, cards_of, first, look_up, number, text
from ccdflow.cascade.records import Extension
from ccdflow.recipes.detector.amplifiers import Amplifier, Detector, Section

_NUMBERS = ("gain", "read_noise", "saturation")
_NOTHING = FixedAmplifier()
_ANY = FixedDetector()
_parsed = lru_cache(2048)(Section.parse)


@dataclass(frozen=True)
class _Source:
    """What there is to ask about one detector, and the amplifier asked about ("" for the only one).

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
        """What the instrument file says of the amplifier."""
        named = (one for one in self.fixed.amplifiers if one.name == self.name)
        return next(named, _NOTHING)

    def section(self, kind: str) -> Section | None:
        """Return the data, sensitive, overscan or target section of the amplifier, where one is told."""
        told = getattr(self.own, kind, None)
        if told is not None:
            return self._inside(kind, _parsed(told), f"{kind} of the instrument file", told)
        found = first(self.cards, self._alternatives(kind))
        if found is None or "0:0" in text(found[1]).replace(" ", ""):
            return None  # [0:0,0:0] is how some cameras write "none"
        keyword, value = found
        try:
            return self._inside(kind, _parsed(text(value)), keyword, text(value))
        except ValueError as doubt:
            raise ValueError(str(doubt) if keyword in str(doubt) else f"{keyword}: {doubt}") from None

    def _alternatives(self, kind: str) -> Sequence[str]:
        if self.name:
            alternatives: Sequence[str] = getattr(self.instrument.amplifiers, kind)
            return [one.replace("{amp}", self.name) for one in alternatives]
        keywords = self.instrument.keywords
        return {"data": keywords.trim_section, "overscan": keywords.bias_section}.get(kind, ())

    def _inside(self, kind: str, section: Section, keyword: str, written: str) -> Section:
        ny, nx = self.shape
        if kind != "target" and (section.y1 > ny or section.x1 > nx):
            raise ValueError(
                f"{keyword}={written!r} lies outside of the raw array of {nx} columns and {ny} rows"
            )
        if kind == "target" or not self.first_row:
            return section
        return replace(section, y0=section.y0 + self.first_row, y1=section.y1 + self.first_row)

    def number(self, field: str) -> float | None:
        """Gain, read noise or saturation, by the order that the instrument file asks for."""
        mine = getattr(self.own, field), getattr(self.fixed, field)
        told = [*mine, *self._header(field)] if self.fixed.beats_header else [*self._header(field), *mine]
        return next((one for one in told if one is not None), None)

    def _header(self, field: str) -> Iterator[float | None]:
        if self.name:
            alternatives: Sequence[str] = getattr(self.instrument.amplifiers, field)
            named = [one.replace("{amp}", self.name) for one in alternatives]
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
    """As `detector`, of cards whose blanks are gone already."""
    source = _Source(cards, instrument, _fixed(cards, instrument), shape)
    sources = _of_extensions(source, extensions) if len(extensions) > 1 else _named(source)
    if not sources:
        data = source.section("data") or Section.whole(shape)
        whole = _amplifier(source, data, Section.whole(data.shape))
        return Detector(data.shape, (whole,))
    data_sections = [_required(one) for one in sources]
    targets = _targets(sources, data_sections)
    made = [_amplifier(*one) for one in zip(sources, data_sections, targets, strict=True)]
    return Detector((max(one.y1 for one in targets), max(one.x1 for one in targets)), tuple(made))


def believable(cards: Cards, alternatives: Sequence[str], field: str, instrument: Instrument) -> float | None:
    """Return the number of the first alternative that lies within the instrument's limits for `field`.

    Gain, read noise and saturation must be above 0: many programs write 0 or -1 where they know nothing.
    """
    low, high = instrument.limits.get(field, (float("-inf"), float("inf")))
    for alternative in alternatives:
        value = number(look_up(cards, alternative))
        if value is not None and low <= value <= high and (value > 0 or field not in _NUMBERS):
            return value
    return None


def detector_digest(instrument: Instrument) -> str:
    """Digest of all in an instrument file that decides about pixels: the same text, the same detectors."""
    keywords = instrument.keywords.model_dump(include={*_NUMBERS, "trim_section", "bias_section", "binning"})
    limits = {name: instrument.limits[name] for name in _NUMBERS if name in instrument.limits}
    said = {
        "keywords": keywords,
        "limits": limits,
        "blanks": instrument.blanks,
        "amplifiers": instrument.amplifiers.model_dump(),
        "detectors": [one.model_dump() for one in instrument.detectors],
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _fixed(cards: Cards, instrument: Instrument) -> FixedDetector:
    for one in instrument.detectors:
        if not one.match or any(claims(patterns, cards) for patterns in one.match):
            return one
    return _ANY


def _of_extensions(source: _Source, extensions: Sequence[Extension]) -> list[_Source]:
    """One amplifier for each image of the file."""
    names = ", ".join(one.name for one in extensions)
    if not source.instrument.amplifiers.extensions:
        told = f"the file holds {len(extensions)} images: {names}; instrument {source.instrument.name!r}"
        raise ValueError(
            f"{told} does not say that they are amplifiers of one detector (amplifiers: {{extensions: true}})"
        )
    if len({one.shape[1] for one in extensions}) > 1:
        shapes = ", ".join(f"{one.name} {one.shape}" for one in extensions)
        raise ValueError(f"the images of the file are not of one width: {shapes}")
    own = [cards_of(one.header, source.instrument.blanks) for one in extensions]
    made = [
        replace(
            source,
            cards={**source.cards, **cards},
            shape=one.shape,
            name=str(number),
            first_row=one.first_row,
            alone=True,
        )
        for number, (one, cards) in enumerate(zip(extensions, own, strict=True), 1)
    ]
    for one, extension in zip(made, extensions, strict=True):
        if one.section("target") is None:
            wanted = ", ".join(source.instrument.amplifiers.target) or "amplifiers.target"
            raise ValueError(f"where {extension.name} lies on the detector is not told: no {wanted}")
    return made


def _named(source: _Source) -> list[_Source]:
    """The amplifiers of one image; none where there is only one."""
    return [replace(source, name=name) for name in _names(source)]


def _names(source: _Source) -> list[str]:
    if any(one.data for one in source.fixed.amplifiers):
        return [one.name for one in source.fixed.amplifiers]
    keywords = source.instrument.amplifiers
    listed = first(source.cards, keywords.list_keyword)
    names = text(listed[1]).replace(",", " ").split() if listed else list(keywords.names)
    told = [replace(source, name=name).section("data") for name in names]
    return names if all(told) else []


def _required(source: _Source) -> Section:
    data = source.section("data")
    if data is None and source.alone:
        ny, nx = source.shape
        return Section(source.first_row, source.first_row + ny, 0, nx)
    if data is None:
        raise ValueError(f"amplifier {source.name!r} has no data section, though others have")
    return data


def _amplifier(source: _Source, data: Section, target: Section) -> Amplifier:
    saturation = source.number("saturation")
    own, fixed = source.own, source.fixed
    made = Amplifier(
        data=data,
        target=target,
        overscan=_beside(source.section("overscan"), data, source.name),
        gain=source.number("gain"),
        read_noise=source.number("read_noise"),
        linearity=own.linearity or fixed.linearity or (),
        nonlinear=own.nonlinear or fixed.nonlinear,
        name=source.name,
    )
    return made if saturation is None else replace(made, saturation=saturation)


def _beside(overscan: Section | None, data: Section, name: str) -> Section | None:
    """Return the part of the overscan that has the rows of `data`, or above and below, its columns."""
    if overscan is None:
        return None
    y0, y1 = max(overscan.y0, data.y0), min(overscan.y1, data.y1)
    x0, x1 = max(overscan.x0, data.x0), min(overscan.x1, data.x1)
    if y0 < y1 and x0 < x1:
        raise ValueError(f"overscan and data overlap{f' in amplifier {name}' if name else ''}")
    if y0 < y1:
        return Section(y0, y1, overscan.x0, overscan.x1)
    if x0 < x1:
        return Section(overscan.y0, overscan.y1, x0, x1)
    raise ValueError(
        f"overscan has no row or column in common with the data{f' of amplifier {name}' if name else ''}"
    )


def _targets(sources: Sequence[_Source], data: Sequence[Section]) -> list[Section]:
    told = [source.section("target") for source in sources]
    known = [one for one in told if one is not None]
    if len(known) < len(told):
        return _packed(data)
    placed = [_placed(*one) for one in zip(sources, data, known, strict=True)]
    y, x = min(one.y0 for one in placed), min(one.x0 for one in placed)
    moved = [replace(one, y0=one.y0 - y, y1=one.y1 - y, x0=one.x0 - x, x1=one.x1 - x) for one in placed]
    for (i, one), (j, other) in combinations(enumerate(moved), 2):
        if min(one.y1, other.y1) > max(one.y0, other.y0) and min(one.x1, other.x1) > max(one.x0, other.x0):
            raise ValueError(
                f"amplifiers {sources[i].name!r} and {sources[j].name!r} overlap on the detector"
            )
    return moved


def _packed(data: Sequence[Section]) -> list[Section]:
    """Return the data sections moved together until nothing lies between them."""
    rows = _starts({(one.y0, one.y1) for one in data})
    columns = _starts({(one.x0, one.x1) for one in data})
    placed = []
    for one in data:
        y, x = rows[one.y0, one.y1], columns[one.x0, one.x1]
        placed.append(Section(y, y + one.shape[0], x, x + one.shape[1]))
    return placed


def _starts(spans: set[tuple[int, int]]) -> dict[tuple[int, int], int]:
    starts: dict[tuple[int, int], int] = {}
    position, end = 0, 0
    for low, high in sorted(spans):
        if low < end:
            raise ValueError(
                "data sections neither line up nor lie apart; the instrument file must give targets"
            )
        starts[low, high] = position
        position, end = position + high - low, high
    return starts


def _placed(source: _Source, data: Section, target: Section) -> Section:
    """`target` in binned pixels, and cut as the data are cut from the sensitive area that it speaks of."""
    sensitive = source.section("sensitive") or data
    for one in (target, _binned(source, target)):
        if one.shape == data.shape:
            return one
        if one.shape == sensitive.shape:
            return _cut(one, sensitive, data)
    raise ValueError(
        f"amplifier {source.name!r} has data of shape {data.shape}, its place on the detector {target.shape}"
    )


def _binned(source: _Source, section: Section) -> Section:
    found = first(source.cards, source.instrument.keywords.binning)
    factors = binning(found[1]).split("x") if found else []
    x, y = (int(one) for one in factors) if len(factors) == 2 and all(map(str.isdigit, factors)) else (1, 1)
    if not (x and y):
        return section
    ny, nx = section.shape
    y0, x0 = section.y0 // y, section.x0 // x
    return replace(section, y0=y0, y1=y0 + ny // y, x0=x0, x1=x0 + nx // x)


def _cut(target: Section, sensitive: Section, data: Section) -> Section:
    low_y, high_y = data.y0 - sensitive.y0, sensitive.y1 - data.y1
    low_x, high_x = data.x0 - sensitive.x0, sensitive.x1 - data.x1
    if target.flip_y != sensitive.flip_y:
        low_y, high_y = high_y, low_y
    if target.flip_x != sensitive.flip_x:
        low_x, high_x = high_x, low_x
    return replace(
        target, y0=target.y0 + low_y, y1=target.y1 - high_y, x0=target.x0 + low_x, x1=target.x1 - high_x
    )
