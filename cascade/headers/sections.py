"""Sections as headers write them: which card tells one, whether it tells one at all, and in which pixels."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod

from ccdflow.cascade.headers.keywords import Cards, look_up, text
from ccdflow.recipes.detector.amplifiers import Section

_NONE = re.compile(r"(?<!\d)(?:0+|1):0+(?!\d)")
"""[0:0,0:0] and [1:0,1:0] are how some cameras write "none"; [0010:0050,...] is a section."""
_BOUNDS = re.compile(r"(\d+):(\d+)")
_BARE = re.compile(r"\d+:\d+,\d+:\d+")
"""A section without its brackets."""
_SEVERAL = re.compile(r"(?<=\])[,;]?(?=\[)")
"""Between sections, where a card tells several: a prescan and an overscan."""
_OTHER_SIGNS = str.maketrans({"(": "[", ")": "]", "{": "[", "}": "]", ";": ","})
_CORNERS = re.compile(r"\[(\d+),(\d+):(\d+),(\d+)\]")
"""Corners in place of ranges, [501,1:1500,2048], as Calar Alto writes sections."""
_NO_SECTION = frozenset(
    {"", "[]", "none", "no", "null", "n/a", "unknown", "undefined", "full", "whole", "all", "off", "0"}
)
"""Words, in lower case, that tell no section."""
_ALL = re.compile(r"\[([^,]*),([^,]*?)(?:,1:1)?\]")
"""The two bounds of a section, of a cube of one plane too, blanks being gone."""
_LARGER_SIDE = 4
"""A side of the overscan is taken for the data where it is as many times larger than the other."""


@dataclass(frozen=True)
class ToldSection:
    """A section, and the card or line of an instrument file that tells it: `keyword`, and what is `written` there."""

    keyword: str
    written: str
    section: Section

    def __str__(self) -> str:
        return f"{self.keyword}={self.written!r}"


def told_section(
    cards: Cards, alternatives: Sequence[str], shape: tuple[int, int], *, several: bool = False
) -> ToldSection | None:
    """Return the section that the first card tells which tells one.

    Parameters
    ----------
    cards : mapping
        The header, see `ccdflow.cascade.headers.keywords.cards_of`.
    alternatives : sequence of str
        Keywords, tried in order. ``[0:0,0:0]``, and words such as ``NONE``, tell no section.
    shape : tuple of int
        Of the raw array, ``(ny, nx)``, which ``*`` stands for.
    several : bool
        Whether a card may tell several, of which the largest serves: of two overscans one is enough.

    Returns
    -------
    ToldSection or None
        None where no card tells one.

    Raises
    ------
    ValueError
        If a card can't be read.
    """
    for keyword in alternatives:
        written = _widest(text(look_up(cards, keyword))) if several else text(look_up(cards, keyword))
        told = read_section(keyword, written, shape) if says_section(written) else None
        # One pixel is a placeholder, [1024:1024,4096:4096]: nobody means that.
        if told is not None and told.section.shape != (1, 1):
            return told
    return None


def _widest(written: str) -> str:
    """Return the largest of the sections that a text holds, the text itself where it holds one or none."""
    parts = _SEVERAL.split(_ranges(written))
    if len(parts) == 1:
        return written
    sizes = [[abs(int(end) - int(start)) + 1 for start, end in _BOUNDS.findall(part)] for part in parts]
    return max(zip(sizes, parts, strict=True), key=lambda pair: prod(pair[0]))[1]


def says_section(written: str) -> bool:
    """Tell whether a text says a section, rightly or wrongly written, and not that there is none.

    Parameters
    ----------
    written : str
        Value of a card.
    """
    bare = _ranges(written)
    return bare.casefold() not in _NO_SECTION and not _NONE.search(bare)


def _ranges(written: str) -> str:
    """Return a section without blanks, by ranges of columns and rows, in brackets."""
    bare = written.replace(" ", "").replace("..", ":").translate(_OTHER_SIGNS)
    return _CORNERS.sub(r"[\1:\3,\2:\4]", f"[{bare}]" if _BARE.fullmatch(bare) else bare)


def read_section(keyword: str, written: str, shape: tuple[int, int]) -> ToldSection:
    """Return the section that a text says.

    Parameters
    ----------
    keyword : str
        Where it stands, for messages.
    written : str
        Such as ``[1:1024,1:512]``, ``[51:1074,*]``.
    shape : tuple of int
        Of the raw array, ``(ny, nx)``.

    Returns
    -------
    ToldSection
        Counted from 0.

    Raises
    ------
    ValueError
        If it is no section.
    """
    try:
        return ToldSection(keyword, written, _parsed(written, *shape))
    except ValueError as error:
        raise ValueError(f"{keyword}: {error}") from None


@lru_cache(2048)  # the frames of a camera have the same few sections
def _parsed(written: str, ny: int, nx: int) -> Section:
    bounds = _ALL.fullmatch(_ranges(written))
    if bounds is None:
        return Section.parse(written)
    # IRAF's star, and its minus for backwards, are all columns or rows; so is a colon alone.
    ends = [
        {"*": f"1:{size}", ":": f"1:{size}", "-*": f"{size}:1"}.get(bound, bound)
        for bound, size in zip(bounds.groups(), (nx, ny), strict=True)
    ]
    return Section.parse(f"[{','.join(ends)}]")


def lies_inside(section: Section, shape: tuple[int, int]) -> bool:
    """Tell whether a section is part of an array.

    Parameters
    ----------
    section : Section
        Counted from 0.
    shape : tuple of int
        ``(ny, nx)``.
    """
    return section.y1 <= shape[0] and section.x1 <= shape[1]


def binned_section(section: Section, factors: tuple[int, int]) -> Section | None:
    """Return a section of unbinned pixels in binned ones.

    Parameters
    ----------
    section : Section
        Counted from 0, in unbinned pixels.
    factors : tuple of int
        Binning along x and along y.

    Returns
    -------
    Section or None
        None where its bounds lie within binned pixels.
    """
    x, y = factors
    if any(bound % x for bound in (section.x0, section.x1)) or any(
        bound % y for bound in (section.y0, section.y1)
    ):
        return None
    return replace(section, y0=section.y0 // y, y1=section.y1 // y, x0=section.x0 // x, x1=section.x1 // x)


def data_beside(overscan: ToldSection, shape: tuple[int, int]) -> Section:
    """Return the pixels that are data where only the overscan is told: all that lie on its larger side.

    Parameters
    ----------
    overscan : ToldSection
        Counted from 0, inside of the array.
    shape : tuple of int
        Of the raw array, ``(ny, nx)``.

    Returns
    -------
    Section
        All rows on one side of an overscan that is rather as high as the array, else all columns above or below it.

    Raises
    ------
    ValueError
        If the overscan lies across the array, or has about as much on either side: then it may lie between
        two amplifiers.
    """
    (ny, nx), section = shape, overscan.section
    if section.shape[0] * nx >= section.shape[1] * ny:
        sides = Section(0, ny, 0, section.x0), Section(0, ny, section.x1, nx)
    else:
        sides = Section(0, section.y0, 0, nx), Section(section.y1, ny, 0, nx)
    small, large = sorted(sides, key=lambda side: side.shape[0] * side.shape[1])
    if large.shape[0] * large.shape[1] <= _LARGER_SIDE * small.shape[0] * small.shape[1]:
        told = f"{overscan} does not tell which pixels of the raw array {Section.whole(shape)} are data"
        raise ValueError(f"{told}; {what_to_write()}")
    return large


def larger_side(data: Section, overscan: Section) -> Section:
    """Return the largest part of the data that lies on one side of an overscan.

    Parameters
    ----------
    data, overscan : Section
        Counted from 0; they overlap.

    Returns
    -------
    Section
        Columns left or right of the overscan, or rows below or above it.
    """
    sides = (
        replace(data, x1=min(data.x1, overscan.x0)),
        replace(data, x0=max(data.x0, overscan.x1)),
        replace(data, y1=min(data.y1, overscan.y0)),
        replace(data, y0=max(data.y0, overscan.y1)),
    )
    return max(sides, key=lambda side: max(side.shape[0], 0) * max(side.shape[1], 0))


def what_to_write(data: Section | None = None, overscan: Section | None = None) -> str:
    """Return the line of an instrument file that settles the sections of a camera.

    Parameters
    ----------
    data, overscan : Section or None
        What is proposed; without, a place to be filled in.
    """
    places: Mapping[str, Section | None] = {"data": data, "overscan": overscan}
    parts = [f'{name}: "{section or "[x1:x2,y1:y2]"}"' for name, section in places.items()]
    return f"say it in the instrument file, detectors: [{{amplifiers: [{{{', '.join(parts)}}}]}}]"
