"""What a product's header says of its raw frames is what the first of them says; those that differ are named."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ccdflow.cascade.headers.instrument import Instrument
from ccdflow.recipes.core.recipe import Card
from ccdflow.tasks.rawfiles.windows import ReadArea

NAMED = 3
"""Frames that a sentence names; of more it tells how many there are."""


@dataclass(frozen=True)
class MainFrame:
    """What was found of a raw frame of a job's main input.

    Parameters
    ----------
    name : str
        Of its file.
    instrument : Instrument
        The instrument file that claims it.
    area : ReadArea
        What it has read out.
    trim : tuple of int
        Columns and rows by which pixels of its first image move when the detector is assembled.
    settings : mapping of str to Card
        Cards that tell what its camera was set to.
    comments : mapping of str to str
        Comments of its header's cards.
    row_order : str
        Whether its first row is the picture's uppermost, as ``ROWORDER`` says it: see `row_order`.
    """

    name: str
    instrument: Instrument
    area: ReadArea
    trim: tuple[int, int]
    settings: Mapping[str, Card]
    comments: Mapping[str, str]
    row_order: str = ""

    @property
    def told(self) -> dict[str, str]:
        """What its product tells of it, by what people call it."""
        window = {} if self.area.window is None else {"window": str(self.area.window)}
        ny, nx = self.area.shape
        cards = {name: str(value) for name, (value, _) in self.settings.items()}
        place = {"size": f"{nx}x{ny}", "trim": "{}x{}".format(*self.trim)}
        order = {"ROWORDER": self.row_order} if self.row_order else {}
        return {"instrument file": self.instrument.name} | window | place | order | cards


def row_order(header: Mapping[str, Any]) -> str:
    """Return which of the picture's rows a file begins with, as its header says.

    Parameters
    ----------
    header : mapping
        Keyword to value.

    Returns
    -------
    str
        ``TOP-DOWN``, ``BOTTOM-UP``, or nothing.
    """
    told = re.sub(r"[^A-Z]", "", str(header.get("ROWORDER", "")).upper())
    return {"TOPDOWN": "TOP-DOWN", "BOTTOMUP": "BOTTOM-UP"}.get(told, "")


def upside_down(frames: Sequence[MainFrame], masters: Mapping[str, str]) -> Iterator[str]:
    """Say which masters lie the other way up than the frames: another program may have turned them.

    Parameters
    ----------
    frames : sequence of MainFrame
        Those of a job.
    masters : mapping of str to str
        Name of a master's file to its row order, see `row_order`.

    Yields
    ------
    str
        A sentence for each; nothing where either side does not say how it lies.
    """
    order = frames[0].row_order if frames else ""
    for name, theirs in masters.items():
        if order and theirs and theirs != order:
            yield (
                f"{name} has ROWORDER {theirs} and {frames[0].name} {order}: one of them was saved upside down, and "
                "their pixels are not those of the same places"
            )


def differences(frames: Sequence[MainFrame]) -> Iterator[str]:
    """Say which frames are not as the first.

    Parameters
    ----------
    frames : sequence of MainFrame
        Those of a job, in order.

    Yields
    ------
    str
        A sentence for each thing and value in which some differ.
    """
    if not frames:
        return
    first, *others = frames
    expected = first.told
    odd: dict[tuple[str, str], list[str]] = {}
    for frame in others:
        told = frame.told
        for thing in dict.fromkeys([*expected, *told]):
            if told.get(thing) != expected.get(thing):
                odd.setdefault((thing, told.get(thing, "unknown")), []).append(frame.name)
    for (thing, value), names in odd.items():
        shown = ", ".join(names) if len(names) <= NAMED else f"{len(names)} frames, for instance {names[0]},"
        verb = "has" if len(names) == 1 else "have"
        counts = f"the first, {first.name}, has {expected.get(thing, 'unknown')}, and counts"
        yield f"{shown} {verb} {thing} {value}; {counts}"
