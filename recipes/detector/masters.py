"""What the recipes of master calibrations have in common."""

from pydantic import Field

from ccdflow.recipes.combine.average import Combination, Combined, Method
from ccdflow.recipes.combine.clip import Clip
from ccdflow.recipes.core.doubts import SCATTER, Doubt
from ccdflow.recipes.core.recipe import Card, Parameters
from ccdflow.recipes.detector.finished import DONE_FIELD, Done
from ccdflow.recipes.detector.raw import Overscan

# Bias, dark and flat combine in the same way and tell the same about it. The names of cards and of quality numbers are
# what people search by and what thresholds of a night's pages refer to.


class MasterParameters(Parameters):
    """Parameters of every master calibration."""

    overscan: Overscan = Field("level", description="How the overscan is subtracted: level, row or none.")
    method: Method = Field("mean", description="Mean, or median, of the frames.")
    clip: Clip = Field(
        "variance", description="What outliers are told by: variance, mad, sigma, minmax or none."
    )
    sigma: float = Field(3.0, gt=0, description="Standard deviations beyond which values are rejected.")

    done: Done = DONE_FIELD

    @property
    def combination(self) -> Combination:
        """Method and clip by which the frames are combined."""
        return Combination(self.method, self.clip, self.sigma)


def combined_cards(combined: Combined, n: int) -> dict[str, Card]:
    """Return header cards that say how frames were combined.

    Parameters
    ----------
    combined : Combined
        As from `combine`.
    n : int
        Number of frames.

    Returns
    -------
    dict of str to (value, comment)
        ``NCOMBINE``, ``CLIPUSED`` and ``CLIPFALL``.
    """
    return {
        "NCOMBINE": (n, "number of frames combined"),
        "CLIPUSED": (combined.clip, "what outliers were told by"),
        "CLIPFALL": (combined.fell_back, "scatter contradicted the stated noise"),
    }


def combined_quality(combined: Combined) -> dict[str, float]:
    """Return the quality numbers of a combination.

    Parameters
    ----------
    combined : Combined
        As from `combine`.

    Returns
    -------
    dict of str to float
        ``rejected_fraction``, and ``scatter_ratio`` (scatter over stated noise) where it is known.
    """
    quality = {"rejected_fraction": combined.rejected}
    if combined.scatter_ratio is not None:
        quality["scatter_ratio"] = combined.scatter_ratio
    return quality


def combined_warnings(combined: Combined) -> list[Doubt]:
    """Return the doubts about a combination.

    Parameters
    ----------
    combined : Combined
        As from `combine`.

    Returns
    -------
    list of Doubt
        One if the scatter contradicted the stated noise, or none could be stated; else nothing.
    """
    if not combined.fell_back:
        return []
    if combined.scatter_ratio is None:
        sentence = "the frames state no noise: outliers were clipped at 5 sigma of their scatter"
        return [Doubt(SCATTER, sentence)]
    ratio = f"scatter between the frames is {combined.scatter_ratio:.2f} times the stated noise"
    return [Doubt(SCATTER, f"{ratio}: outliers were clipped at 5 sigma of the scatter")]
