"""A raw frame without what the detector added: the steps that darks, flats and science frames share."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from zlib import crc32

import numpy as np

from ccdflow.recipes.arithmetic import (
    add_photon_variance,
    flat_correct,
    subtract_bias,
    subtract_dark,
)
from ccdflow.recipes.detector import RawFrame
from ccdflow.recipes.image import Image, ImageSource
from ccdflow.recipes.raw import Overscan, PreparedFrame, correct_linearity
from ccdflow.recipes.readout import gains_disagree, readouts
from ccdflow.recipes.recipe import Inputs, Product


@dataclass(frozen=True)
class Masters:
    """Masters that are applied to a frame; each may be missing.

    `same_bias` says that `bias` was also subtracted from the exposures that made `dark`.
    """

    bias: Product | None = None
    dark: Product | None = None
    flat: Product | None = None
    same_bias: bool = False

    @property
    def given(self) -> list[tuple[str, Product]]:
        """Name and product of each master that is there."""
        named = (("master bias", self.bias), ("master dark", self.dark), ("master flat", self.flat))
        return [(name, product) for name, product in named if product is not None]


def fingerprint(master: ImageSource) -> str:
    """Short text that tells a master by its pixels, wherever its file lies."""
    return f"{crc32(master.rows(slice(0, master.shape[0])).data.tobytes()):08x}"


def masters_of(inputs: Inputs) -> Masters:
    """Masters among a recipe's inputs.

    The dark's card ``BIASID`` says which master bias its exposures lost.
    """
    bias, dark, flat = (one_product(inputs, role) for role in ("bias", "dark", "flat"))
    same = False
    if bias is not None and dark is not None:
        same = dark.header.get("BIASID") == fingerprint(pixels_of(bias, "master bias"))
    return Masters(bias, dark, flat, same)


def one_product(inputs: Inputs, role: str) -> Product | None:
    """Product in a role, None where the role is empty.

    Raises
    ------
    ValueError
        If there is more than one, or it is a raw frame.
    """
    found = inputs.get(role, ())
    if len(found) > 1:
        raise ValueError(f"found {len(found)} inputs as {role}, one is needed")
    for product in found:
        if not isinstance(product, Product):
            raise ValueError(f"{product.name} is a raw frame, as {role} a product is needed")
        return product
    return None


def raw_frames(inputs: Inputs, role: str) -> list[RawFrame]:
    """Raw frames in a role.

    Raises
    ------
    ValueError
        If one of them is a product.
    """
    frames = [frame for frame in inputs.get(role, ()) if isinstance(frame, RawFrame)]
    if len(frames) != len(inputs.get(role, ())):
        raise ValueError(f"products were given as {role}, raw frames are needed")
    return frames


def pixels_of(product: Product, name: str) -> ImageSource:
    """Pixels of a product.

    Raises
    ------
    ValueError
        If it has none.
    """
    if product.image is None:
        raise ValueError(f"{name} {product.name} has no pixels")
    return product.image


class CalibratedFrame:
    """A raw frame as an image source in electron, calibrated row by row as it is asked for.

    Subtract bias, add photon variance, correct linearity, subtract dark, divide by flat; each where there is
    a master.
    """

    def __init__(self, prepared: PreparedFrame, masters: Masters) -> None:
        self.prepared = prepared
        self.masters = masters
        for name, product in masters.given:
            shape = pixels_of(product, name).shape
            if shape != prepared.shape:
                raise ValueError(f"{name} has shape {shape}, image has {prepared.shape}")

    @property
    def name(self) -> str:
        """Name of the raw frame, for messages."""
        return self.prepared.frame.name

    @property
    def exptime(self) -> float:
        """Exposure time in seconds."""
        return self.prepared.frame.exptime

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and columns ``(ny, nx)``."""
        return self.prepared.shape

    @property
    def unit(self) -> str:
        """Always ``electron``."""
        return self.prepared.unit

    def rows(self, rows: slice) -> Image:
        """Calibrated rows `rows`."""
        return self._calibrate(self.prepared.rows(rows), rows, photons=True)

    def masters_variance(self, rows: slice) -> Image:
        """As data, the part of the variance of the rows that the masters brought.

        The same steps on a frame without noise of its own.
        """
        raw = self.prepared.rows(rows)
        noiseless = replace(raw, variance=np.zeros_like(raw.variance))
        brought = self._calibrate(noiseless, rows, photons=False)
        return Image(brought.variance, np.zeros_like(brought.variance), brought.dq, f"{self.unit}2")

    def _calibrate(self, image: Image, rows: slice, *, photons: bool) -> Image:
        bias, dark, flat = self.masters.bias, self.masters.dark, self.masters.flat
        detector = self.prepared.frame.detector
        master_bias = pixels_of(bias, "master bias").rows(rows) if bias is not None else None
        if master_bias is not None:
            image = subtract_bias(image, master_bias)
        if photons:
            image = add_photon_variance(image)
        image = correct_linearity(image, detector, first_row=rows.indices(self.shape[0])[0])
        if dark is not None:
            image = subtract_dark(
                image,
                pixels_of(dark, "master dark").rows(rows),
                exptime=self.exptime,
                dark_exptime=dark.exptime,
                bias_variance=master_bias.variance
                if master_bias is not None and self.masters.same_bias
                else None,
            )
        if flat is not None:
            image = flat_correct(image, pixels_of(flat, "master flat").rows(rows))
        return image


@dataclass(frozen=True)
class MastersVariance:
    """What the masters brought to a frame's variance, as an image source."""

    frame: CalibratedFrame

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and columns ``(ny, nx)``."""
        return self.frame.shape

    @property
    def unit(self) -> str:
        """Unit of the frame, squared."""
        return f"{self.frame.unit}2"

    def rows(self, rows: slice) -> Image:
        """Rows `rows`, as data."""
        return self.frame.masters_variance(rows)


def calibrated_frames(
    frames: Sequence[RawFrame], masters: Masters, gain_table: Product | None, overscan: Overscan
) -> tuple[list[CalibratedFrame], list[str]]:
    """Frames with their masters, and one sentence for each doubt about gain and read noise."""
    found = readouts(frames, gain_table, masters.bias)
    warnings = [sentence for readout in found for sentence in readout.warnings]
    warnings += [gains_disagree(product, readout) for readout in found for _, product in masters.given[:2]]
    made = [
        CalibratedFrame(PreparedFrame(frame, readout, overscan=overscan), masters)
        for frame, readout in zip(frames, found, strict=True)
    ]
    return made, [sentence for sentence in dict.fromkeys(warnings) if sentence]
