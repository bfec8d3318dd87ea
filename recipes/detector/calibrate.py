"""A raw frame without what the detector added: the steps that darks, flats and science frames share.

Order of the steps, for each row that is asked for: flag saturated, subtract overscan, trim, gain (`PreparedFrame`),
then subtract bias, add photon variance, correct linearity, subtract dark, divide by flat.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ccdflow.recipes.core.arithmetic import Applied, apply_masters, check_master, dark_factor
from ccdflow.recipes.core.cardnumbers import card_number
from ccdflow.recipes.core.cutting import CutSource
from ccdflow.recipes.core.doubts import OTHER, Doubt
from ccdflow.recipes.core.image import FloatArray, Image, ImageSource, Planes, empty_planes
from ccdflow.recipes.core.recipe import InputProduct, Inputs
from ccdflow.recipes.detector.amplifiers import RawFrame
from ccdflow.recipes.detector.noise import with_own_noise
from ccdflow.recipes.detector.raw import Overscan, PreparedFrame, amplifier_region, correct_linearity
from ccdflow.recipes.detector.readout import Readout, gains_disagree, readouts
from ccdflow.recipes.kernels.threads import in_threads

STRIP_PIXELS = 65_536
"""Pixels of a frame that go through all steps together: its planes, and those of three masters, are 3 MB then, and stay
in the cache between the steps."""
MOST_SERIAL_STRIPS = 4
"""Strips that one thread does alone, at most: another would take longer to begin."""
BIAS_LEVEL = "BIASLV"
"""Beginning of the cards of a dark that still holds its bias, one for each amplifier: how high that bias is."""
HOLDS_BIAS = "electron"
"""Unit of such a dark; one that is a rate has lost its bias."""


@dataclass(frozen=True)
class Masters:
    """Masters that are applied to a frame; each may be missing.

    Parameters
    ----------
    bias : InputProduct or None
        In electron.
    dark : InputProduct or None
        In electron / s; or in electron, if bias is still in it.
    flat : InputProduct or None
        Without unit, 1 on average.
    same_bias : bool
        True if `bias` was also subtracted from the exposures that made `dark`: their errors then are one.
    bias_levels : tuple of float or None
        Electron, for each amplifier: how high the bias is in frames from which none is subtracted, so that it does not
        count as light in their photon noise. None where a bias is subtracted, or nobody knows.
    doubts : tuple of Doubt
        One for each thing that is odd about them.
    """

    bias: InputProduct | None = None
    dark: InputProduct | None = None
    flat: InputProduct | None = None
    same_bias: bool = False
    bias_levels: tuple[float, ...] | None = None
    doubts: tuple[Doubt, ...] = ()

    @property
    def named(self) -> list[tuple[str, InputProduct | None]]:
        """Name and product of bias, dark and flat."""
        return [("master bias", self.bias), ("master dark", self.dark), ("master flat", self.flat)]

    @property
    def present(self) -> list[tuple[str, InputProduct]]:
        """Name and product of each master that is there."""
        return [(name, product) for name, product in self.named if product is not None]

    @property
    def dark_holds_bias(self) -> bool:
        """True if the dark still holds its bias: it takes both from a frame of its own exposure time."""
        return self.dark is not None and pixels_of(self.dark, "master dark").unit == HOLDS_BIAS

    @property
    def bias_from(self) -> str:
        """What takes the bias from a frame: ``bias``, ``dark``, or nothing but its overscan."""
        return "bias" if self.bias is not None else "dark" if self.dark_holds_bias else "overscan"


def fingerprint(master: ImageSource) -> str:
    """Return a short text that tells a master by its pixels, wherever its file lies.

    Parameters
    ----------
    master : ImageSource
        Read whole, if it is no `Image`.

    Returns
    -------
    str
        CRC-32 of its data, in eight hexadecimal digits; of a part of a master, that of the whole, so that a frame and
        the dark that it takes know their bias as one.
    """
    if isinstance(master, CutSource):
        return fingerprint(master.source)
    return (master if isinstance(master, Image) else master.rows(slice(0, master.shape[0]))).fingerprint


def masters_of(inputs: Inputs) -> Masters:
    """Return the masters among a recipe's inputs.

    Parameters
    ----------
    inputs : Inputs
        Roles ``bias``, ``dark`` and ``flat`` are looked at; each may be missing or empty.

    Returns
    -------
    Masters
        `Masters.same_bias` is found by the dark's card ``BIASID``, which names the pixels of the master bias that its
        exposures lost. A dark without that card shares nothing. Beside a dark that still holds its bias, the master
        bias is left out: it would be subtracted twice.

    Raises
    ------
    ValueError
        If a role holds more than one, or a raw frame.
    """
    bias, dark, flat = (one_product(inputs, role) for role in ("bias", "dark", "flat"))
    if dark is not None and pixels_of(dark, "master dark").unit == HOLDS_BIAS:
        return _with_bias_in_dark(bias, dark, flat)
    # Without a bias of its own the frame shares none with the dark, whatever the dark has lost.
    same = False
    if bias is not None and dark is not None:
        same = dark.header.get("BIASID") == fingerprint(pixels_of(bias, "master bias"))
    return Masters(bias, dark, flat, same)


def _with_bias_in_dark(bias: InputProduct | None, dark: InputProduct, flat: InputProduct | None) -> Masters:
    """Masters with a dark that takes the bias from a frame along with the dark signal."""
    doubts, holds = [], f"{dark.name or 'the master dark'} still holds its bias"
    if bias is not None:
        doubts.append(f"{holds}: no master bias is subtracted besides")
    levels = _bias_levels(dark.header)
    if levels is None:
        unknown = f"{holds} and does not say how much of it is bias"
        doubts.append(f"{unknown}: the noise of the dark current is not in the variance")
    told = tuple(Doubt(OTHER, sentence) for sentence in doubts)
    return Masters(None, dark, flat, bias_levels=levels, doubts=told)


def _bias_levels(header: Mapping[str, Any]) -> tuple[float, ...] | None:
    """Levels of the bias of each amplifier, from the cards of a dark that holds it; None where it does not say."""
    levels: list[float] = []
    while (level := card_number(header.get(f"{BIAS_LEVEL}{len(levels) + 1:02d}"))) is not None:
        levels.append(level)
    return tuple(levels) or None


def one_product(inputs: Inputs, role: str) -> InputProduct | None:
    """Return the product in a role.

    Parameters
    ----------
    inputs : Inputs
        Of a recipe.
    role : str
        As the recipe declares it.

    Returns
    -------
    InputProduct or None
        None where the role is missing or empty.

    Raises
    ------
    ValueError
        If there is more than one, or it is a raw frame.
    """
    products = inputs.get(role, ())
    if len(products) > 1:
        raise ValueError(f"found {len(products)} inputs as {role}, one is needed")
    for product in products:
        if not isinstance(product, InputProduct):
            raise ValueError(f"{product.name} is a raw frame, as {role} a product is needed")
        return product
    return None


def raw_frames(inputs: Inputs, role: str) -> list[RawFrame]:
    """Return the raw frames in a role.

    Parameters
    ----------
    inputs : Inputs
        Of a recipe.
    role : str
        As the recipe declares it.

    Returns
    -------
    list of RawFrame
        Empty where the role is missing or empty.

    Raises
    ------
    ValueError
        If one of them is a product.
    """
    frames = [frame for frame in inputs.get(role, ()) if isinstance(frame, RawFrame)]
    if len(frames) != len(inputs.get(role, ())):
        raise ValueError(f"products were given as {role}, raw frames are needed")
    return frames


def pixels_of(product: InputProduct, name: str) -> ImageSource:
    """Return the pixels of a product.

    Parameters
    ----------
    product : InputProduct
        Any.
    name : str
        Name of its kind, for the message: ``master bias``.

    Returns
    -------
    ImageSource

    Raises
    ------
    ValueError
        If it has none.
    """
    if product.image is None:
        raise ValueError(f"{name} {product.name} has no pixels")
    return product.image


NO_EXPTIME = "its exposure time is not known, so that no dark can be scaled to it"
"""Why a frame can't be calibrated that there is a dark for; a time of 0 would leave the dark in it."""


def lacks_exptime(frame: RawFrame) -> bool:
    """Return whether the exposure time of a frame is not known, which is not the same as 0.

    Parameters
    ----------
    frame : RawFrame
        Its exposure time is NaN where no card tells it.
    """
    return math.isnan(frame.exptime)


class CalibratedFrame:
    """A raw frame as an image source in electron, calibrated row by row as it is asked for.

    Subtract bias, add photon variance, correct linearity, subtract dark, divide by flat; each where there is
    a master. The formulas are those of `ccdflow.recipes.core.arithmetic`.

    Parameters
    ----------
    prepared : PreparedFrame
        The raw frame in electron, overscan subtracted.
    masters : Masters
        What is applied to it.

    Raises
    ------
    ValueError
        If a master has no pixels, or its shape or unit does not fit, or there is a dark and nobody knows for which
        time it is to be subtracted.
    """

    def __init__(self, prepared: PreparedFrame, masters: Masters) -> None:
        self.prepared = prepared
        self.masters = masters
        if masters.dark is not None and lacks_exptime(prepared.frame):
            raise ValueError(f"{self.name}: {NO_EXPTIME}")
        # All masters are checked before the first pixel is read: a job that can't be done fails at once.
        for name, product in masters.present:
            pixels = pixels_of(product, name)
            check_master(
                name, (pixels.shape, pixels.unit), (prepared.shape, self._unit_of(name, pixels.unit))
            )

    def _unit_of(self, name: str, unit: str) -> str:
        """Unit that a master must have; a dark may be a rate or not."""
        if name == "master dark" and unit != self.unit:
            return f"{self.unit} / s"
        return "" if name == "master flat" else self.unit

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
        """Return some rows, calibrated.

        Parameters
        ----------
        rows : slice
            Consecutive rows of the assembled detector, counted from 0.

        Returns
        -------
        Image
            In electron; new memory.
        """
        start, stop, _ = rows.indices(self.shape[0])
        planes = empty_planes((stop - start, self.shape[1]))
        self.fill(rows, planes)
        return Image(planes.data, planes.variance, planes.dq, self.unit)

    def fill(self, rows: slice, planes: Planes) -> None:
        """Write some rows, calibrated.

        Parameters
        ----------
        rows : slice
            Consecutive rows of the assembled detector, counted from 0.
        planes : Planes
            Written; to `Planes.masters` goes the part of the variance that the masters brought, in electron².
        """
        rows = slice(*rows.indices(self.shape[0])[:2])
        self.prepared.fill(rows, planes)
        bias, dark, flat = self._master_rows(rows)
        detector = self.prepared.frame.detector
        level = self._level_rows(rows)
        # A linear detector needs one pass. For others linearity stands in the middle: it holds for light and dark
        # signal, so bias must be gone and dark still be there; photons made their noise before the amplifier bent it.
        if detector.linear and level is None and not self._bias_of_unknown_level:
            apply_masters(planes, replace(dark, bias=bias, flat=flat), photons=True)
            return
        if self._bias_of_unknown_level:
            # With the bias goes the dark signal: what is left to count as photons is the light alone.
            apply_masters(planes, dark)
            dark = Applied()
        if level is not None:
            planes.data[:] -= level
        apply_masters(planes, Applied(bias=bias), photons=True)
        correct_linearity(planes, detector, first_row=rows.start)
        # The dark holds its bias pixel by pixel, and takes away both.
        if level is not None:
            planes.data[:] += level
        apply_masters(planes, replace(dark, flat=flat))

    @property
    def _bias_of_unknown_level(self) -> bool:
        """True if the dark takes the bias away, and nobody says how much of it is bias."""
        levels = self.masters.bias_levels
        known = levels is not None and len(levels) == len(self.prepared.frame.detector.amplifiers)
        return self.masters.dark_holds_bias and not known

    def _level_rows(self, rows: slice) -> FloatArray | None:
        """Level of the bias in each pixel of some rows, in electron; None where it is subtracted or not known."""
        levels, detector = self.masters.bias_levels, self.prepared.frame.detector
        if levels is None or len(levels) != len(detector.amplifiers) or not any(levels):
            return None
        plane = np.zeros((rows.stop - rows.start, self.shape[1]), np.float32)
        for level, amplifier in zip(levels, detector.amplifiers, strict=True):
            inside, columns = amplifier_region(amplifier)
            plane[max(inside.start - rows.start, 0) : max(inside.stop - rows.start, 0), columns] = level
        return plane

    def _master_rows(self, rows: slice) -> tuple[Image | None, Applied, Image | None]:
        """Rows of bias, dark and flat; the dark with its factor."""
        bias, dark, flat = (
            None if product is None else pixels_of(product, name).rows(rows)
            for name, product in self.masters.named
        )
        product = self.masters.dark
        if dark is None or product is None:
            return bias, Applied(), flat
        # The shape was checked for the whole master; these are the same rows of both.
        factor = dark_factor((dark.shape, dark.unit), (dark.shape, self.unit), self.exptime, product.exptime)
        # A dark in electron still holds its bias, so there is nothing that both have lost.
        if bias is None or not self.masters.same_bias or dark.unit == self.unit or not product.exptime > 0:
            return bias, Applied(dark=dark, dark_factor=factor), flat
        # The frame lost the bias that the dark's exposures lost: see the notes of `subtract_dark`.
        cancelled = 2 * self.exptime / product.exptime
        return bias, Applied(dark=dark, dark_factor=factor, shared=bias.variance, cancelled=cancelled), flat


def calibrated_planes(frame: CalibratedFrame) -> Planes:
    """Return all rows of a calibrated frame, made strip by strip in threads.

    Parameters
    ----------
    frame : CalibratedFrame
        Read from the first row to the last.

    Returns
    -------
    Planes
        Shape ``(ny, nx)``, in electron; `Planes.masters` is None if the frame has no masters.
    """
    ny, nx = frame.shape
    planes = empty_planes((ny, nx), masters=bool(frame.masters.present))

    def work(parts: Iterator[slice]) -> None:
        for rows in parts:
            brought = None if planes.masters is None else planes.masters[rows]
            frame.fill(rows, Planes(planes.data[rows], planes.variance[rows], planes.dq[rows], brought))

    # Threads take the next strip each when they are done with one; what a strip holds does not depend on the others.
    height = max(1, STRIP_PIXELS // nx)
    parts = [slice(start, min(start + height, ny)) for start in range(0, ny, height)]
    in_threads(work, parts, threads=None if len(parts) > MOST_SERIAL_STRIPS else 1)
    return planes


def known_readouts(
    frames: Sequence[RawFrame], masters: Masters, gain_table: InputProduct | None
) -> tuple[list[Readout], list[Doubt]]:
    """Return gain and read noise of each frame, as headers, gain table, master bias or its own overscan tell them.

    Parameters
    ----------
    frames : sequence of RawFrame
        Nothing but overscans is read from them.
    masters : Masters
        What is applied to each.
    gain_table : InputProduct or None
        Product of the recipe ``gain``.

    Returns
    -------
    (list of Readout, list of Doubt)
        In the same order, and what is odd about gain and read noise.

    Raises
    ------
    ValueError
        If the gain table does not fit a frame.
    """
    known, doubts = with_own_noise(frames, readouts(frames, gain_table, masters.bias))
    return known, [doubt for readout in known for doubt in readout.warnings] + doubts


def calibrated_frames(
    frames: Sequence[RawFrame], masters: Masters, gain_table: InputProduct | None, overscan: Overscan
) -> tuple[list[CalibratedFrame], list[Doubt]]:
    """Return raw frames with what is known of their readout, and with their masters.

    Parameters
    ----------
    frames : sequence of RawFrame
        Nothing is read from them yet.
    masters : Masters
        What is applied to each.
    gain_table : InputProduct or None
        Product of the recipe ``gain``, for gains and read noises that no header states.
    overscan : {'level', 'row', 'none'}
        How the overscan is subtracted.

    Returns
    -------
    (list of CalibratedFrame, list of Doubt)
        The frames in the same order, and the doubts about gain and read noise.

    Raises
    ------
    ValueError
        If a master or the gain table does not fit a frame.
    """
    known, doubts = known_readouts(frames, masters, gain_table)
    doubts += masters.doubts
    # Bias and dark are in electron, and wrong with another gain. A flat is a ratio and does not mind, but for the
    # ratio of its amplifiers; where bias and dark are missing, it is among the first two and gets looked at.
    for readout in known:
        for _, product in masters.present[:2]:
            doubts += gains_disagree(product, readout)
    calibrated = [
        CalibratedFrame(PreparedFrame(frame, readout, overscan=overscan), masters)
        for frame, readout in zip(frames, known, strict=True)
    ]
    # Frames of one camera have the same doubts: each is said once, in the order in which they came up.
    return calibrated, list(dict.fromkeys(doubts))
