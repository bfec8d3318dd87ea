"""Masters that other programs have made, as ours: in our units, with what is known of their noise."""

from dataclasses import dataclass, replace

from ccdflow.cascade.headers.classify import Description
from ccdflow.cascade.headers.finished import Finished
from ccdflow.recipes.core.recipe import InputProduct
from ccdflow.recipes.detector.amplifiers import Detector, Section
from ccdflow.recipes.detector.finished import FULL_SCALE
from ccdflow.recipes.detector.foreign import Multiplied, flat_level, states_variance

CATEGORIES = {"bias": "master_bias", "dark": "master_dark", "flat": "master_flat"}
"""Class of the frames to the category of their master."""


@dataclass(frozen=True)
class ForeignMaster:
    """How a master of another program becomes one of ours.

    Parameters
    ----------
    category : str
        ``master_bias``, ``master_dark`` or ``master_flat``.
    unit : str
        Of the data, once they are multiplied.
    factor : float
        What its numbers are multiplied by; a flat is divided by its median besides.
    variance : float or None
        In the square of the unit, of each pixel; None where nobody knows.
    """

    category: str
    unit: str
    factor: float
    variance: float | None

    def applied(self, product: InputProduct) -> InputProduct:
        """Return a master of another program as recipes take masters.

        Parameters
        ----------
        product : InputProduct
            As its file has it.

        Returns
        -------
        InputProduct
            In `unit`; a variance that its file states counts before what is known otherwise. What is not finite is
            ``NO_DATA``.

        Raises
        ------
        ValueError
            If it is a flat whose median is not above 0.
        """
        if product.image is None:
            return product
        factor = self.factor
        if self.category == "master_flat":
            factor /= flat_level(product.image)
        # Once for the whole: a strip without variance of an image that has one is no other noise.
        variance = None if states_variance(product.image) else self.variance or 0.0
        return replace(product, image=Multiplied(product.image, factor, self.unit, variance))

    @property
    def sentence(self) -> str:
        """What a doubt says of it."""
        noise = (
            "its noise is that of the frames in it"
            if self.variance
            else "its noise is not known and left out"
        )
        return f"offered as {self.category} in {self.unit or 'no unit'}; {noise}"


def foreign_master(described: Description, detector: Detector, shape: tuple[int, int]) -> ForeignMaster | str:
    """Return how a master can be taken as one of ours, or why it can't honestly be.

    Parameters
    ----------
    described : Description
        What its header says; it is combined.
    detector : Detector
        As its header describes it.
    shape : tuple of int
        Of its array, ``(ny, nx)``.

    Returns
    -------
    ForeignMaster or str
        Its pixels must be those of trimmed frames, a bias must have lost the overscan if there is one, a dark and a
        flat their bias, and the gain be known where the numbers are adu.
    """
    done = frozenset() if described.finished is None else described.finished.done
    whole = Section.whole(shape)
    if len(detector.amplifiers) > 1 or detector.amplifiers[0].data != whole:
        return "its array still is that of the raw frames"
    if detector.amplifiers[0].overscan is not None and not done & {"overscan", "bias"}:
        return "whether its overscan is subtracted is not told"
    if described.frame_class != "bias" and "bias" not in done:
        return "whether its bias is subtracted is not told"
    if described.frame_class == "flat":
        return ForeignMaster("master_flat", "", 1.0, None)
    gain = 1.0 if "gain" in done else detector.amplifiers[0].gain
    if gain is None:
        return "its numbers are adu, and the gain is not known"
    factor = gain * (FULL_SCALE if "scaled" in done else 1.0)
    noise = detector.amplifiers[0].read_noise
    frames = None if described.finished is None else described.finished.frames
    variance = None if noise is None or frames is None else noise**2 / frames
    seconds = None if described.finished is None else described.finished.seconds
    if described.frame_class == "bias":
        if seconds is not None:
            return "its numbers are those of a second, which a bias has not"
        return ForeignMaster("master_bias", "electron", factor, variance)
    if seconds is None and described.finished is not None and _is_sum(described.finished):
        return "whether its numbers are a sum or a mean is not told"
    exptime = described.exptime
    if not exptime and seconds is None:
        return "its exposure time is not known"
    rate = None if variance is None or not exptime else variance / exptime**2
    # Numbers of a second are no more to be divided by the exposure time.
    return ForeignMaster("master_dark", "electron / s", factor / (seconds or exptime or 1.0), rate)


def _is_sum(finished: Finished) -> bool:
    """Whether EXPTIME is that of all exposures together (SharpCap), while the numbers may be those of one."""
    return any(" of SUBEXP=" in sign for sign in finished.signs)
