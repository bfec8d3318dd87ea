"""Header cards and quality numbers of a stack: what it tells about itself."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ccdflow.recipes.alignment.placement import MeasuredFrame, RegisteredFrame
from ccdflow.recipes.alignment.resample import correlation
from ccdflow.recipes.combine.average import Combined
from ccdflow.recipes.core.recipe import Card
from ccdflow.recipes.core.times import span_of, time_cards
from ccdflow.recipes.stars.sources import Detection, find_stars

# World coordinates as the FITS standard 4.0 has them (section 8, table 22), the older CROTA among them, and the
# polynomials of distortion that headers hold in practice: SIP, and PV of TPV.
_WCS_KEY = re.compile(
    r"WCSAXES|(CTYPE|CRVAL|CRPIX|CDELT|CUNIT|CROTA)[12]|(CD|PC)[12]_[12]|(LON|LAT)POLE|RADESYS|EQUINOX|"
    r"P?V[12]_\d+|(A|B|AP|BP)_(ORDER|DMAX|\d_\d)"
)


def cards(
    combined: Combined,
    members: Sequence[RegisteredFrame],
    reference: MeasuredFrame,
    choices: Mapping[str, Any],
) -> dict[str, Card]:
    """Return the header cards of a stack and of each frame in it.

    Parameters
    ----------
    combined : Combined
        The stack.
    members : sequence of RegisteredFrame
        Its frames, in the order of the inputs.
    reference : MeasuredFrame
        The one that the others were placed on.
    choices : mapping
        The recipe's parameters by name.

    Returns
    -------
    dict of str to (value, comment)
        World coordinates are those of the reference, where the product would otherwise inherit them from another
        first frame.
    """
    return {
        **_stack_cards(combined, members, reference, choices),
        **time_cards([span_of(member.frame.product.header) for member in members]),
        **_frame_cards(members, reference.source.shape),
        **(_wcs_cards(reference.product.header) if members[0].frame is not reference else {}),
    }


def _stack_cards(
    combined: Combined,
    members: Sequence[RegisteredFrame],
    reference: MeasuredFrame,
    choices: Mapping[str, Any],
) -> dict[str, Card]:
    shape = reference.source.shape
    noise = [correlation(member.registration.transform, choices["kernel"], shape) for member in members]
    return {
        "NCOMBINE": (len(members), "number of frames combined"),
        **_exposure_cards(members, reference, choices),
        "REGISTER": (choices["register"], "how frames were registered"),
        "STACKREF": (reference.name, "frame that the others are placed on"),
        "KERNEL": (choices["kernel"], "interpolation, where pixels are not whole"),
        "SCALEBY": (choices["scale"], "what frames are scaled by"),
        "ZEROBY": (choices["zero"], "how skies are brought to one level"),
        "REGRMS": (_worst_rms(members), "[pixel] largest rms residual of matched stars"),
        "NOISCORR": (float(np.mean(noise)), "noise in wide apertures / sum of variances"),
        "CLIPUSED": (combined.clip, "clip that was used"),
        "CLIPFALL": (combined.fell_back, "scatter contradicts the stated noise"),
    }


def _exposure_cards(
    members: Sequence[RegisteredFrame], reference: MeasuredFrame, choices: Mapping[str, Any]
) -> dict[str, Card]:
    """Time that the data are scaled to, and time in which light was taken in; nothing where a time is not known."""
    exptimes = [member.frame.product.exptime for member in members]
    if not all(exptime > 0 for exptime in exptimes):
        return {}
    # Without scaling the data are a mean of frames of different times, as their weights have it.
    exptime = reference.product.exptime
    if choices["scale"] == "none":
        exptime = float(np.average(exptimes, weights=[member.weight for member in members]))
    return {
        "EXPTIME": (exptime, "[s] exposure time that the data are scaled to"),
        "TOTEXP": (float(sum(exptimes)), "[s] sum of the exposure times"),
    }


def _frame_cards(members: Sequence[RegisteredFrame], shape: tuple[int, int]) -> dict[str, Card]:
    """Where each frame lay, seen from the middle of the reference, its factor and its weight."""
    cards: dict[str, Card] = {}
    # Pixels are counted from 0, at their centres, x first.
    middle = np.array([[(shape[1] - 1) / 2, (shape[0] - 1) / 2]])
    total = sum(member.weight for member in members)
    # Three digits: eight characters is all that a FITS keyword has.
    for number, member in enumerate(members, start=1):
        transform = member.registration.transform
        dx, dy = (transform(middle) - middle)[0].tolist()
        cards |= {
            f"SHFTX{number:03d}": (dx, f"[pixel] frame {number}: x less the reference's"),
            f"SHFTY{number:03d}": (dy, f"[pixel] frame {number}: y less the reference's"),
            f"ROTAT{number:03d}": (transform.rotation, f"[deg] frame {number}: rotation"),
            f"REGBY{number:03d}": (_method(member), f"frame {number}: how it was registered"),
            f"SCALE{number:03d}": (member.scale, f"frame {number}: factor"),
            f"WEIGH{number:03d}": (member.weight / total, f"frame {number}: part of the weights"),
        }
    return cards


def _method(member: RegisteredFrame) -> str:
    method = member.registration.method
    return f"{method}, mirrored" if member.registration.transform.is_mirrored else method


def _wcs_cards(header: Mapping[str, Any]) -> dict[str, Card]:
    """Cards of a header that give world coordinates."""
    return {key: (value, "") for key, value in header.items() if _WCS_KEY.fullmatch(key)}


def quality(combined: Combined, members: Sequence[RegisteredFrame], detection: Detection) -> dict[str, float]:
    """Return the quality numbers of a stack.

    Parameters
    ----------
    combined : Combined
        The stack.
    members : sequence of RegisteredFrame
        Its frames.
    detection : Detection
        How stars are found in it.

    Returns
    -------
    dict of str to float
        ``fwhm`` and ``registration_rms`` in pixels, ``background`` and its sigma in the stack's unit, the others
        without unit. What could not be measured is not there.
    """
    # Measured on the stack itself, not taken from its frames: registration that is off shows as a wider fwhm.
    stars = find_stars(combined.image, detection)
    numbers = {
        "fwhm": stars.fwhm,
        "ellipticity": stars.median_ellipticity,
        "n_stars": float(len(stars)),
        "background": stars.background,
        "background_sigma": stars.background_sigma,
        "registration_rms": _worst_rms(members),
        "rejected_fraction": combined.rejected,
        "scatter_ratio": np.nan if combined.scatter_ratio is None else combined.scatter_ratio,
    }
    return {name: float(value) for name, value in numbers.items() if np.isfinite(value)}


def _worst_rms(members: Sequence[RegisteredFrame]) -> float:
    return max(member.registration.rms for member in members)
