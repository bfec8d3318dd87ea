"""What a stack tells about itself: header cards and quality numbers."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ccdflow.recipes.alignment.placement import MeasuredFrame, RegisteredFrame
from ccdflow.recipes.alignment.resample import correlation
from ccdflow.recipes.combine.average import Combined
from ccdflow.recipes.core.recipe import Card
from ccdflow.recipes.stars.sources import Detection, find_stars

_WCS_KEY = re.compile(
    r"WCSAXES|(CTYPE|CRVAL|CRPIX|CDELT|CUNIT|CROTA)[12]|(CD|PC)[12]_[12]|(LON|LAT)POLE|RADESYS|EQUINOX|"
    r"P?V[12]_\d+|(A|B|AP|BP)_(ORDER|DMAX|\d_\d)"
)


def cards(
    combined: Combined,
    placed: Sequence[RegisteredFrame],
    reference: MeasuredFrame,
    choices: Mapping[str, Any],
) -> dict[str, Card]:
    """Cards of the stack and of each frame in it; `choices` are the recipe's parameters by name.

    World coordinates are those of the reference, where the product would otherwise inherit them from
    another first frame.
    """
    return {
        **_stack_cards(combined, placed, reference, choices),
        **_frame_cards(placed, reference.source.shape),
        **(_wcs_cards(reference.product.header) if placed[0].frame is not reference else {}),
    }


def _stack_cards(
    combined: Combined,
    placed: Sequence[RegisteredFrame],
    reference: MeasuredFrame,
    choices: Mapping[str, Any],
) -> dict[str, Card]:
    exptimes = [one.frame.product.exptime for one in placed]
    exptime = reference.product.exptime
    if choices["scale"] == "none":
        exptime = float(np.average(exptimes, weights=[one.weight for one in placed]))
    shape = reference.source.shape
    noise = [correlation(one.registration.transform, choices["kernel"], shape) for one in placed]
    return {
        "NCOMBINE": (len(placed), "number of frames combined"),
        "EXPTIME": (exptime, "[s] exposure time that the data are scaled to"),
        "TOTEXP": (float(sum(exptimes)), "[s] sum of the exposure times"),
        "REGISTER": (choices["register"], "how frames were registered"),
        "STACKREF": (reference.name, "frame that the others are placed on"),
        "KERNEL": (choices["kernel"], "interpolation, where pixels are not whole"),
        "SCALEBY": (choices["scale"], "what frames are scaled by"),
        "ZEROBY": (choices["zero"], "how skies are brought to one level"),
        "REGRMS": (_worst_rms(placed), "[pixel] largest rms residual of matched stars"),
        "NOISCORR": (float(np.mean(noise)), "noise in wide apertures / sum of variances"),
        "CLIPUSED": (combined.clip, "clip that was used"),
        "CLIPFALL": (combined.fell_back, "scatter contradicts the stated noise"),
    }


def _frame_cards(placed: Sequence[RegisteredFrame], shape: tuple[int, int]) -> dict[str, Card]:
    """Where each frame lay, seen from the middle of the reference, its factor and its weight."""
    cards: dict[str, Card] = {}
    middle = np.array([[(shape[1] - 1) / 2, (shape[0] - 1) / 2]])
    total = sum(one.weight for one in placed)
    for number, one in enumerate(placed, start=1):
        transform = one.registration.transform
        dx, dy = (transform(middle) - middle)[0].tolist()
        cards |= {
            f"SHFTX{number:03d}": (dx, f"[pixel] frame {number}: x less the reference's"),
            f"SHFTY{number:03d}": (dy, f"[pixel] frame {number}: y less the reference's"),
            f"ROTAT{number:03d}": (transform.rotation, f"[deg] frame {number}: rotation"),
            f"REGBY{number:03d}": (one.registration.method, f"frame {number}: how it was registered"),
            f"SCALE{number:03d}": (one.scale, f"frame {number}: factor"),
            f"WEIGH{number:03d}": (one.weight / total, f"frame {number}: part of the weights"),
        }
    return cards


def _wcs_cards(header: Mapping[str, Any]) -> dict[str, Card]:
    """Cards of a header that give world coordinates."""
    return {key: (value, "") for key, value in header.items() if _WCS_KEY.fullmatch(key)}


def quality(combined: Combined, placed: Sequence[RegisteredFrame], detection: Detection) -> dict[str, float]:
    """Quality numbers of the stack; what could not be measured is not there."""
    stars = find_stars(combined.image, detection)
    numbers = {
        "fwhm": stars.fwhm,
        "ellipticity": stars.median_ellipticity,
        "n_stars": float(len(stars)),
        "background": stars.background,
        "background_sigma": stars.background_sigma,
        "registration_rms": _worst_rms(placed),
        "rejected_fraction": combined.rejected,
        "scatter_ratio": np.nan if combined.scatter_ratio is None else combined.scatter_ratio,
    }
    return {name: float(value) for name, value in numbers.items() if np.isfinite(value)}


def _worst_rms(placed: Sequence[RegisteredFrame]) -> float:
    return max(one.registration.rms for one in placed)
