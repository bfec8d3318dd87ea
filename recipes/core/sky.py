"""The sky of a calibrated frame, as its quality numbers tell it."""

from ccdflow.recipes.core.image import Image
from ccdflow.recipes.core.statistics import good_sample, median, without_outliers

SKY_CLIP = 3.0
"""Standard deviations from the sky beyond which a pixel belongs to a star."""


def sky_quality(image: Image) -> dict[str, float]:
    """Return level and scatter of the sky.

    Parameters
    ----------
    image : Image
        In any unit.

    Returns
    -------
    dict of str to float
        ``background`` and ``background_sigma`` in the image's unit; 0 without a good pixel.
    """
    sky = without_outliers(good_sample(image), sigma=SKY_CLIP)
    return {
        "background": float(median(sky)) if sky.size else 0.0,
        "background_sigma": float(sky.std()) if sky.size else 0.0,
    }
