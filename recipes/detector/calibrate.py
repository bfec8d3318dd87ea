"""A raw frame without what the detector added: the steps that darks, flats and science frames share."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ccdflow.recipes.core.arithmetic import Applied, apply_masters, check_master, dark_factor
from ccdflow.recipes.core.image import Image, ImageSource, Planes, empty_planes
from ccdflow.recipes.core.recipe import InputProduct, Inputs
from ccdflow.recipes.detector.amplifiers import RawFrame
from ccdflow.recipes.detector.raw import Overscan, PreparedFrame, correct_linearity
from ccdflow.recipes.detector.readout import gains_disagree, readouts
from ccdflow.recipes.kernels.threads import in_threads

STRIP_PIXELS = 65_536
"""Pixels of a frame that go through all steps together."""


@dataclass(frozen=True)
class Masters:
    """Masters that are applied to a frame; each may be missing.

    `same_bias` says that `bias` was also subtracted from the exposures that made `dark`.
    """

    bias: InputProduct | None = None
    dark: InputProduct | None = None
    flat: InputProduct | None = None
    same_bias: bool = False

    @property
    def named(self) -> list[tuple[str, InputProduct | None]]:
        """Name and product of bias, dark and flat."""
        return [("master bias", self.bias), ("master dark", self.dark), ("master flat", self.flat)]

    @property
    def present(self) -> list[tuple[str, InputProduct]]:
        """Name and product of each master that is there."""
        return [(name, product) for name, product in self.named if product is not None]


def fingerprint(master: ImageSource) -> str:
    """Short text that tells a master by its pixels, wherever its file lies."""
    return (master if isinstance(master, Image) else master.rows(slice(0, master.shape[0]))).fingerprint


def masters_of(inputs: Inputs) -> Masters:
    """Masters among a recipe's inputs.

    The dark's card ``BIASID`` says which master bias its exposures lost.
    """
    bias, dark, flat = (one_product(inputs, role) for role in ("bias", "dark", "flat"))
    same = False
    if bias is not None and dark is not None:
        same = dark.header.get("BIASID") == fingerprint(pixels_of(bias, "master bias"))
    return Masters(bias, dark, flat, same)


def one_product(inputs: Inputs, role: str) -> InputProduct | None:
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
        if not isinstance(product, InputProduct):
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


def pixels_of(product: InputProduct, name: str) -> ImageSource:
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
        """Calibrated rows `rows`."""
        start, stop, _ = rows.indices(self.shape[0])
        planes = empty_planes((stop - start, self.shape[1]))
        self.fill(rows, planes)
        return Image(planes.data, planes.variance, planes.dq, self.unit)

    def fill(self, rows: slice, planes: Planes) -> None:
        """Write calibrated rows `rows`; to `masters` goes the part of the variance that the masters brought."""
        rows = slice(*rows.indices(self.shape[0])[:2])
        self.prepared.fill(rows, planes)
        bias, dark, flat = self._master_rows(rows)
        detector = self.prepared.frame.detector
        if detector.linear:
            apply_masters(planes, replace(dark, bias=bias, flat=flat), photons=True)
            return
        apply_masters(planes, Applied(bias=bias), photons=True)
        correct_linearity(planes, detector, first_row=rows.start)
        apply_masters(planes, replace(dark, flat=flat))

    def _master_rows(self, rows: slice) -> tuple[Image | None, Applied, Image | None]:
        """Rows of bias, dark and flat; the dark with its factor."""
        bias, dark, flat = (
            None if product is None else pixels_of(product, name).rows(rows)
            for name, product in self.masters.named
        )
        product = self.masters.dark
        if dark is None or product is None:
            return bias, Applied(), flat
        factor = dark_factor((dark.shape, dark.unit), (dark.shape, self.unit), self.exptime, product.exptime)
        if bias is None or not self.masters.same_bias or dark.unit == self.unit:
            return bias, Applied(dark=dark, dark_factor=factor), flat
        cancelled = 2 * self.exptime / product.exptime
        return bias, Applied(dark=dark, dark_factor=factor, shared=bias.variance, cancelled=cancelled), flat


def calibrated_planes(frame: CalibratedFrame) -> Planes:
    """All rows of a calibrated frame, made strip by strip in threads; `masters` is None if it has none."""
    ny, nx = frame.shape
    whole = empty_planes((ny, nx), masters=bool(frame.masters.present))

    def work(parts: Iterator[slice]) -> None:
        for rows in parts:
            brought = None if whole.masters is None else whole.masters[rows]
            frame.fill(rows, Planes(whole.data[rows], whole.variance[rows], whole.dq[rows], brought))

    height = max(1, STRIP_PIXELS // nx)
    parts = [slice(start, min(start + height, ny)) for start in range(0, ny, height)]
    in_threads(work, parts, threads=None if len(parts) > 4 else 1)
    return whole


def calibrated_frames(
    frames: Sequence[RawFrame], masters: Masters, gain_table: InputProduct | None, overscan: Overscan
) -> tuple[list[CalibratedFrame], list[str]]:
    """Frames with their masters, and one sentence for each doubt about gain and read noise."""
    found = readouts(frames, gain_table, masters.bias)
    warnings = [sentence for readout in found for sentence in readout.warnings]
    warnings += [gains_disagree(product, readout) for readout in found for _, product in masters.present[:2]]
    made = [
        CalibratedFrame(PreparedFrame(frame, readout, overscan=overscan), masters)
        for frame, readout in zip(frames, found, strict=True)
    ]
    return made, [sentence for sentence in dict.fromkeys(warnings) if sentence]
