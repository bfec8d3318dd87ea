"""Gain, read noise and saturation of a product in the unit of its data: what other programs ask its header for.

A raw header's gain turns adu into electron. Of a product in electron that number would be applied a second time, and of
a mean of frames it would say nothing about its noise. So products state numbers of their own, those with which the
noise of a pixel of value D is what their header says:

    variance = D / GAIN + (RDNOISE / GAIN)²

with ``GAIN`` in electron for each unit of the data and ``RDNOISE`` in electron, as SExtractor, IRAF's daophot and
HOTPANTS take them. Of the mean of n equal frames ``GAIN`` is n, ``RDNOISE`` √n times that of one. ``RDNDATA`` is their
ratio, the read noise in the unit of the data; ``SATURATE`` is in that unit too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, Any

from ccdflow.recipes.core.cardnumbers import positive_card

if TYPE_CHECKING:
    from ccdflow.recipes.core.recipe import Card


@dataclass(frozen=True)
class Response:
    """What a product's numbers mean; None where nobody knows.

    Parameters
    ----------
    gain : float or None
        Electron for each unit of the data.
    read_noise : float or None
        Electron rms.
    saturation : float or None
        Level from which a pixel is saturated, in the unit of the data.
    """

    gain: float | None = None
    read_noise: float | None = None
    saturation: float | None = None

    @property
    def noise_of_data(self) -> float | None:
        """Read noise in the unit of the data."""
        return None if self.gain is None or self.read_noise is None else self.read_noise / self.gain


def response_of(header: Mapping[str, Any], unit: str) -> Response:
    """Return what a product's header says of its response.

    Parameters
    ----------
    header : mapping
        Keyword to value.
    unit : str
        Unit of its data.

    Returns
    -------
    Response
        In electron an unknown gain is 1.
    """
    gain, noise, saturation = (positive_card(header.get(name)) for name in ("GAIN", "RDNOISE", "SATURATE"))
    return Response(1.0 if gain is None and unit == "electron" else gain, noise, saturation)


def combined_response(
    responses: Sequence[Response],
    factors: Sequence[float],
    weights: Sequence[float],
    saturations: Sequence[float | None],
    *,
    spread: float = 1.0,
) -> Response:
    """Return the response of an average of frames.

    Parameters
    ----------
    responses : sequence of Response
        Of each frame.
    factors : sequence of float
        What each frame's light is multiplied by before the average.
    weights : sequence of float
        Each frame's part of the average, of any sum; alike in a median.
    saturations : sequence of float or None
        Each frame's saturation level in the unit of the average, its factor and level applied.
    spread : float
        Variance of the average over that of a mean with these weights: above 1 for the median of equal frames.

    Returns
    -------
    Response
        Its saturation is the lowest of those of the frames: above it, some frame is missing.

    Notes
    -----
    A pixel whose average is D holds D g / f electron in a frame of gain g and factor f: a photon variance of D f / g
    in the average's unit. With weights w of sum 1,

        1 / GAIN = c Σ w² f / g        RDNOISE / GAIN = √(c Σ w² f² (r / g)²)

    and c is `spread`.
    """
    lowest = None if None in saturations else min((s for s in saturations if s is not None), default=None)
    gains = [response.gain for response in responses if response.gain is not None]
    if not responses or len(gains) < len(responses):
        return Response(saturation=lowest)
    parts = [weight / sum(weights) for weight in weights]
    light = [part**2 * factor / gain for part, factor, gain in zip(parts, factors, gains, strict=True)]
    gain = 1 / (spread * sum(light))
    noises = [response.noise_of_data for response in responses if response.noise_of_data is not None]
    if len(noises) < len(responses):
        return Response(gain, saturation=lowest)
    squares = [
        (part * factor * noise) ** 2 for part, factor, noise in zip(parts, factors, noises, strict=True)
    ]
    return Response(gain, gain * sqrt(spread * sum(squares)), lowest)


def response_cards(response: Response, unit: str) -> "dict[str, Card]":
    """Return the cards that say a product's response.

    Parameters
    ----------
    response : Response
        What is not known has no card.
    unit : str
        Unit of the data.

    Returns
    -------
    dict of str to (value, comment)
        ``GAIN``, ``RDNOISE``, ``RDNDATA`` and ``SATURATE``.
    """
    of_data = unit or "unit of the data"
    numbers = {
        "GAIN": (response.gain, f"[electron] for 1 {of_data}: variance = D / GAIN"),
        "RDNOISE": (response.read_noise, "[electron] + (RDNOISE / GAIN)**2"),
        "RDNDATA": (response.noise_of_data, f"[{of_data}] read noise of a pixel"),
        "SATURATE": (response.saturation, f"[{of_data}] some frame is saturated above"),
    }
    return {
        name: (float(f"{value:.7g}"), comment)
        for name, (value, comment) in numbers.items()
        if value is not None
    }
