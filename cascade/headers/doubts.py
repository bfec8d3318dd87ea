"""The kinds of doubts about frames and products, and what is done about each: note it, refuse for it, ignore it."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Literal

from ccdflow.recipes.core.doubts import (
    GAIN_ASSUMED,
    GAIN_CONFLICT,
    LEFT_OUT,
    OTHER,
    READ_NOISE_UNKNOWN,
    REGISTRATION,
    SCATTER,
)

Policy = Literal["note", "refuse", "ignore"]
"""``note``: the doubt is kept with the frame or product; ``refuse``: the frame is not used, the product not made."""

REMADE = "remade"

KINDS: Mapping[str, str] = {
    "class": "What the frame is can't be told from its header.",
    "class_conflict": "Class and other cards don't go together: a bias of 60 s, a dark of 0 s, a light in filter Dark.",
    "shutter_conflict": "A light or a flat with a closed shutter, a bias or a dark with an open one.",
    "checksum": "A FITS CHECKSUM or DATASUM no longer holds, though the pixels may be as they were: an edited header.",
    "damaged": "The content contradicts the file's own checks: gzip's CRC, DATASUM, tiles that don't decompress.",
    "date": "The date is a guess: of a second card, with a year of two digits, of a clock never set, local.",
    "date_conflict": "Two cards say that the exposure began at different times, or its file is older.",
    "exptime": "The exposure time is not known, or a guess: of one or of all coadds, taken from beginning and end.",
    "exptime_conflict": "Two cards state different exposure times, or one that is longer than what passed meanwhile.",
    "binning_conflict": "Two cards state different binnings.",
    "filter_conflict": "The filter of one card is none of those that the wheels' own cards name.",
    "temperature_conflict": "The sensor is more than 5 K from its set point.",
    GAIN_CONFLICT: "The header's gain differs from the one measured on the same night, or its comment is against it.",
    "processed": "Another program has calibrated or combined it, and it is taken all the same, as somebody has said.",
    "fractions": "Its numbers are not whole, as a converter's are, and no card tells what was done to them.",
    "unit": "The unit of its numbers is none of counts or electrons that is known: they are taken as adu.",
    "images": "Its file holds more images than the one that is read, or rows in another order than it says.",
    "mosaic": "Its pixels have colours, but in a pattern that can't be taken apart, or that is not told.",
    "sections": "Which pixels are data or overscan is told in part, or in pixels before binning.",
    GAIN_ASSUMED: "Neither header nor flats tell the gain: 1 electron/adu was taken, and variances are guesses.",
    READ_NOISE_UNKNOWN: "Neither header nor biases tell the read noise: variances lack it.",
    SCATTER: "The scatter between the frames that were combined is not the stated noise.",
    LEFT_OUT: "A frame was left out of what was combined: `refuse` makes no product without it.",
    REGISTRATION: "A frame was placed by a way other than the one that was asked for.",
    "association": "A calibration fits less than planned, or something else serves in its place, as the plan says.",
    REMADE: "It was made again, and is not the same: by other versions of programs, or by a recipe that varies.",
    OTHER: "Any other warning of a recipe.",
    "amendment": "Somebody has corrected it with SQL to something that can't be: what its header says counts.",
    "sequence": "The number of the exposure in its sequence can't be.",
    "value": "A number is not understood or not believable: it counts as unknown. Or a card stands twice.",
}
"""Kind to the sentence that says what it is."""

REFUSED_UNLESS_SAID = frozenset({"damaged"})
"""Kinds that refuse a frame where the instrument file says nothing; all others are noted."""


def policy_of(kind: str, chosen: Mapping[str, Policy]) -> Policy:
    """Return what is done about a doubt of a kind.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    chosen : mapping
        What an instrument file says, kind to policy.

    Returns
    -------
    {'note', 'refuse', 'ignore'}
        The instrument file's word, else the kind's own.

    Raises
    ------
    ValueError
        If there is no such kind.
    """
    if kind not in KINDS:
        raise ValueError(unknown_kind(kind))
    return chosen.get(kind, "refuse" if kind in REFUSED_UNLESS_SAID else "note")


def unknown_kind(kind: Any) -> str:
    """Return the sentence about a kind that does not exist, with those that do.

    Parameters
    ----------
    kind : object
        As somebody wrote it.
    """
    near = get_close_matches(str(kind), KINDS, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"unknown kind of doubt {kind!r}; known: {', '.join(KINDS)}{hint}"
