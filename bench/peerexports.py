"""Exports proved by use: each program runs its own ``run.sh``, and what it measures is held against the truth.

Frames of a field of stars, from limited by the sky to limited by their own photons, with a column of bad pixels, a
pixel without data and a saturated star. Fluxes and errors of source-extractor, sep and photutils are held against
the light that was put in; images that SWarp, Siril and IRAF combine, against the stack by our own recipe.
"""

import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.nddata import CCDData
from numpy.typing import NDArray

from bench.peeruses import PATIENCE, ready
from ccdflow.archive.fits.productfile import Origin, read_product, write_product
from ccdflow.recipes.combine.average import Combination, combine
from ccdflow.recipes.core.dq import DQ, excluded
from ccdflow.recipes.core.image import Image
from ccdflow.recipes.core.recipe import Card, Output
from ccdflow.tasks.exporting.scripts import APERTURE
from ccdflow.tasks.exporting.writing import Source, write_for

SIDE, FRAMES, STEP, EDGE = 512, 20, 56, 40
"""Pixels; frames; pixels from a star to the next, and from the border."""
SKY, READ_NOISE, FWHM, FULL = 200.0, 8.0, 3.0, 60_000.0
"""electron, electron, pixels, electron of a saturated pixel."""
STUCK = 77
"""Column of bad pixels."""
RADIUS = APERTURE / 2
NEAR = 2.0
"""Pixels within which a row of a catalogue is taken for a star."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Field:
    """Products of one field, and the light that was put in."""

    folder: Path
    light: Floats
    stars: Floats
    files: tuple[Path, ...]

    @cached_property
    def images(self) -> list[Image]:
        """The products' pixels, as any reader has them."""
        images = [read_product(path).image for path in self.files]
        return [image.rows(slice(None)) for image in images if image is not None]

    @cached_property
    def saturated(self) -> tuple[float, float]:
        """Place of the saturated star."""
        x, y, _ = self.stars[SATURATED]
        return float(x), float(y)

    def measured(self) -> Iterator[tuple[float, float]]:
        """Places of stars that nothing is wrong with."""
        for number, (x, y, _) in enumerate(self.stars):
            if number != SATURATED and abs(x - STUCK) > 3 * FWHM and math.dist((x, y), HOLE[::-1]) > 3 * FWHM:
                yield float(x), float(y)

    def truth(self, x: float, y: float) -> float:
        """Light of the aperture above the sky, electron."""
        return float((self.light - SKY)[self.inside(x, y)].sum())

    @staticmethod
    def inside(x: float, y: float) -> NDArray[np.bool_]:
        """Pixels whose centres are in the aperture."""
        rows, columns = np.indices((SIDE, SIDE))
        inside: NDArray[np.bool_] = np.hypot(columns - x, rows - y) <= RADIUS
        return inside


SATURATED = 10
"""Number of the saturated star."""
HOLE = (211, 150)
"""Row and column of the pixel without data."""


def made_field(folder: Path) -> Field:
    """Simulate the field, and write its products."""
    random = np.random.default_rng(1)
    light, stars = _light(random)
    paths = [_product(folder / f"light_{number:02d}.fits", light, stars, random) for number in range(FRAMES)]
    return Field(folder, light, stars, tuple(paths))


def _light(random: np.random.Generator) -> tuple[Floats, Floats]:
    rows, columns = np.indices((SIDE, SIDE))
    light, sigma = np.full((SIDE, SIDE), SKY), FWHM / 2.3548
    stars = []
    for row in range(EDGE, SIDE - EDGE, STEP):
        for column in range(EDGE, SIDE - EDGE, STEP):
            x, y = column + random.uniform(-8, 8), row + random.uniform(-8, 8)
            flux = 10 ** random.uniform(3.2, 5.3)
            distance = (columns - x) ** 2 + (rows - y) ** 2
            light += flux / (2 * math.pi * sigma**2) * np.exp(-distance / (2 * sigma**2))
            stars.append((x, y, flux))
    return light, np.array(stars)


def _product(path: Path, light: Floats, stars: Floats, random: np.random.Generator) -> Path:
    data = random.poisson(light) + random.normal(0, READ_NOISE, light.shape)
    variance, dq = light + READ_NOISE**2, np.zeros(light.shape, np.uint16)
    data[:, STUCK], dq[:, STUCK] = 9000, DQ.BAD_PIXEL
    data[HOLE], dq[HOLE] = np.nan, DQ.NO_DATA
    x, y, _ = stars[SATURATED]
    rows, columns = np.indices(light.shape)
    core = np.hypot(columns - x, rows - y) < 2.5
    data[core], dq[core] = FULL, DQ.SATURATED
    image = Image(data.astype(np.float32), variance.astype(np.float32), dq, "electron")
    world = {
        "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.0, "CRVAL2": 2.0, "CRPIX1": 256.5, "CRPIX2": 256.5,
        "CD1_1": -1e-4, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 1e-4,
    }  # fmt: skip
    cards: dict[str, Card] = {
        "EXPTIME": (60.0, "[s]"),
        "GAIN": (1.0, "[electron/electron]"),
        "RDNOISE": (READ_NOISE, "[electron]"),
        "SATURATE": (FULL - 1, "[electron]"),
        "DATE-OBS": ("2026-03-01T20:00:00", ""),
        "MJD-OBS": (61100.8333, ""),
    }
    # As frames of a run have them, before their GAIN.
    sources: dict[str, Card] = {"GAINSRC": ("header", ""), "GAIN01": (9.0, "")}
    origin = Origin("0" * 64, "science", "1", header={**world, "OBJECT": "field"}, cards=sources)
    with path.open("wb") as stream:
        write_product(stream, Output(image, cards=cards), origin)
    return path


# --- programs ------------------------------------------------------------------------------------------------------


def exported(field: Field, peer: str) -> Path:
    """Write the products for a program, and run its script; the folder."""
    folder = field.folder / peer
    sources = [Source(path.stem, path, "science", "field", "R") for path in field.files]
    write_for(sources, folder, peer)
    # The packages that a script of Python wants are this Python's.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    done = subprocess.run(
        [folder / "run.sh"],
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(
            f"run.sh of {peer} ended with {done.returncode}: {(done.stderr or done.stdout)[-300:]}"
        )
    return folder


@dataclass(frozen=True)
class Measured:
    """What a program measured of a star: flux, its error, and whether it tells that something is wrong."""

    flux: float
    error: float
    flagged: bool


def pulls(
    field: Field, catalogues: Sequence[Floats], flagged: Callable[[Floats], bool]
) -> Iterator[tuple[str, float]]:
    """Mean and width of (flux - truth) / error, and how many frames' saturated star is flagged, in parts of all.

    Columns of catalogues: x and y from 0, flux, error, flags.
    """
    errors, saturated = [], []
    for catalogue in catalogues:
        for x, y in field.measured():
            if (row := _nearest(catalogue, x, y)) is not None:
                errors.append((row[2] - field.truth(x, y)) / row[3])
        row = _nearest(catalogue, *field.saturated)
        saturated.append(row is not None and flagged(row))
    yield "stars", len(errors)
    yield "pull: mean", float(np.mean(errors))
    yield "pull: width", float(np.std(errors))
    yield "saturated star is flagged, part of the frames", float(np.mean(saturated))


def _nearest(catalogue: Floats, x: float, y: float) -> Floats | None:
    distances = np.hypot(catalogue[:, 0] - x, catalogue[:, 1] - y)
    place = int(np.argmin(distances))
    return catalogue[place] if distances[place] < NEAR else None


def by_sextractor(field: Field) -> Iterator[tuple[str, float]]:
    """Catalogues of source-extractor."""
    paths = sorted(exported(field, "sextractor").glob("*.cat"))
    tables = [np.loadtxt(path) for path in paths]
    # NUMBER X Y RA DEC FLUX_APER FLUXERR_APER FLUX_AUTO FLUXERR_AUTO FLAGS IMAFLAGS_ISO; pixels count from 1.
    rows = [
        np.column_stack([table[:, 1] - 1, table[:, 2] - 1, table[:, 5:7], table[:, 9]]) for table in tables
    ]
    yield from pulls(field, rows, lambda row: bool(int(row[4]) & 4))


def by_sep(field: Field) -> Iterator[tuple[str, float]]:
    """Catalogues of the example beside the plain files, by sep."""
    paths = sorted(exported(field, "plain").glob("*.cat"))
    # 32: a masked pixel is in the aperture (SEP_APER_HASMASKED).
    yield from pulls(field, [np.loadtxt(path) for path in paths], lambda row: bool(int(row[4]) & 32))


def by_photutils(field: Field) -> Iterator[tuple[str, float]]:
    """Photutils on products as they are, through `CCDData.read`."""
    from photutils.aperture import CircularAperture, aperture_photometry
    from photutils.background import Background2D, BiweightLocationBackground

    catalogues = []
    for path in field.files:
        ccd = CCDData.read(path)
        places = [*field.measured(), field.saturated]
        apertures = CircularAperture(places, RADIUS)
        background = Background2D(ccd.data, 64, mask=ccd.mask, bkg_estimator=BiweightLocationBackground())
        sky = ccd.subtract(background.background * ccd.unit, handle_meta="first_found")
        table = aperture_photometry(sky, apertures, method="center")
        masked = [bool(ccd.mask[field.inside(x, y)].any()) for x, y in places]
        columns = [table[name].value for name in ("aperture_sum", "aperture_sum_err")]
        catalogues.append(np.column_stack([np.array(places), *columns, masked]))
    yield from pulls(field, catalogues, lambda row: bool(row[4]))


def _against_ours(
    field: Field, combined: NDArray[np.generic], scale: float = 1.0
) -> Iterator[tuple[str, float]]:
    """An image that a program has combined, against our own of the same frames."""
    ours = combine(field.images, Combination(clip="none")).image
    good = ~excluded(ours.dq)
    difference = (combined.astype(float) * scale - ours.data)[good] / np.sqrt(ours.variance[good])
    yield "less ours, in our noise: rms", float(np.sqrt(np.mean(difference**2)))
    errors = (combined.astype(float) * scale - field.light)[good] / np.sqrt(ours.variance[good])
    yield "pull against the light: width", float(np.std(errors))


def _cards(path: Path) -> Iterator[tuple[str, float]]:
    """What the header of a combined image says: a number, or whether a card is still there."""
    header = fits.getheader(path)
    for name in ("EXPTIME", "GAIN", "SATURATE"):
        yield f"{name} of the result", float(header.get(name, math.nan))
    for name in ("BUNIT", "MJD-OBS", "CTYPE1"):
        yield f"{name} is kept", float(name in header)


def by_swarp(field: Field) -> Iterator[tuple[str, float]]:
    """SWarp's coadd, and its weights against our variance."""
    (path,) = exported(field, "swarp").glob(f"coadd_*x{SIDE}.fits")
    yield from _against_ours(field, fits.getdata(path))
    yield from _cards(path)
    weights = fits.getdata(path.with_suffix(".weight.fits"))
    ours = combine(field.images, Combination(clip="none")).image
    good = ~excluded(ours.dq)
    yield "variance / ours", float(np.median(1 / weights[good] / ours.variance[good]))


def by_siril(field: Field) -> Iterator[tuple[str, float]]:
    """Siril's registered stack."""
    folder = exported(field, "siril")
    (path,) = folder.glob("stack_*.fits")
    scale = fits.getheader(next(folder.glob("science*_00001.fits")))["CCDSCALE"]
    yield from _against_ours(field, fits.getdata(path), scale)
    yield from _cards(path)


def by_iraf(field: Field) -> Iterator[tuple[str, float]]:
    """IRAF's mean."""
    (path,) = exported(field, "iraf").glob("mean_*.fits")
    yield from _against_ours(field, fits.getdata(path))
    yield from _cards(path)


def by_gnuastro(field: Field) -> Iterator[tuple[str, float]]:
    """Gnuastro's median of its export without an option, and its catalogue's errors."""
    folder = exported(field, "gnuastro")
    found = subprocess.run(
        ["aststatistics", str(next(folder.glob("light_*[0-9].fits"))), "--median"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    good = ~excluded(field.images[0].dq)
    yield "median / ours", float(found.stdout) / float(np.median(field.images[0].data[good]))
    yield "catalogues", float(len(list(folder.glob("*_catalogue.fits"))))


PROOFS: Mapping[tuple[str, str], Callable[[Field], Iterator[tuple[str, float]]]] = {
    ("source-extractor", "export --for sextractor"): by_sextractor,
    ("sep", "export --for plain"): by_sep,
    ("photutils", "CCDData.read(product)"): by_photutils,
    ("SWarp", "export --for swarp"): by_swarp,
    ("Siril", "export --for siril"): by_siril,
    ("IRAF", "export --for iraf"): by_iraf,
    ("gnuastro", "export --for gnuastro"): by_gnuastro,
}
"""Peer, and what was handed out to it, to what it measured."""


WANTED: Mapping[str, tuple[float, float]] = {
    "pull: mean": (0.0, 0.05),
    "pull: width": (1.0, 0.05),
    "saturated star is flagged, part of the frames": (1.0, 0.0),
    "less ours, in our noise: rms": (0.0, 0.5),
    "pull against the light: width": (1.0, 0.1),
    "variance / ours": (1.0, 0.01),
    "median / ours": (1.0, 0.001),
}
"""Quantity to what it should be, and by how much it may differ. A stack that was registered on its stars was resampled,
and its noise is another than ours by up to half of it."""


@dataclass(frozen=True)
class Proof:
    """What a program measured or wrote.

    Parameters
    ----------
    peer, how, quantity : str
        The program, what was handed out to it, and what was looked at.
    number : float
        What came out.
    """

    peer: str
    how: str
    quantity: str
    number: float

    @property
    def row(self) -> str:
        """A line of the page; a number that is not what it should be is bold."""
        shown = f"{self.number:.2f}".replace("-0.00", "0.00").removesuffix(".00")
        wanted, within = WANTED.get(self.quantity, (self.number, 0.0))
        is_right = math.isnan(self.number) or abs(self.number - wanted) <= within
        told = f"{wanted:g} ± {within:g}" if within else f"{wanted:g}" if self.quantity in WANTED else ""
        cells = (self.peer, self.how, self.quantity, shown if is_right else f"**{shown}**", told)
        return f"| {' | '.join(cells)} |".replace("nan", "none")


def proofs(folder: Path, only: str = "") -> Iterator[Proof]:
    """Yield what each installed peer makes of what is handed out to it.

    Parameters
    ----------
    folder : Path
        Where products and exports are written.
    only : str
        How the names of the peers begin.

    Yields
    ------
    Proof
        In the order of `PROOFS`.
    """
    field = made_field(folder)
    for (peer, how), prove in PROOFS.items():
        if ready(peer) and peer.lower().startswith(only.lower()):
            for quantity, number in prove(field):
                yield Proof(peer, how, quantity, number)
