"""Calibrated frames into a stack: ours, Siril's ``register`` and ``stack ... rej``, and SWarp, on the same pixels.

Ours is timed in a process that runs and as a whole command, the peers as whole commands. Ours finds the stars itself,
as Siril does, and gives variance, DQ and the number of values as well; SWarp is told by the headers where the frames
lie.
"""

import functools
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray
from scipy.special import erf

from bench.frames import shape_text
from bench.harness import Figure, Ran, Subject, alternate, command, compared
from bench.peers import installed
from ccdflow.archive.fits.productfile import InputNote, Origin, write_product
from ccdflow.recipes.core.dq import DQ
from ccdflow.recipes.core.image import Image
from ccdflow.recipes.core.recipe import Card, Output
from ccdflow.recipes.stack import RECIPE
from ccdflow.tasks.inputs import JobInputs
from ccdflow.tasks.memory import keep_memory

CCDFLOW = Path(sys.executable).with_name("ccdflow")
CORES = len(os.sched_getaffinity(0))
SIRIL, SWARP = "Siril register, stack rej 3 3", "SWarp CLIPPED, lanczos2"
SKY, READ_NOISE, FWHM, FULL = 200.0, 8.0, 3.0, 90_000.0
"""electron, electron, pixels, electron."""
STARS = 700
"""Per million pixels."""
HALF = 10
SCALE = 1e-4
"""Degrees a pixel."""
KEY = "0" * 64
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """Frames to stack, and whether they are moved by whole pixels or turned too."""

    number: int
    shape: tuple[int, int]
    turned: bool = True
    main: bool = False

    @property
    def name(self) -> str:
        """Such as ``4 x 2048x2048``."""
        how = "dithered and turned" if self.turned else "moved by whole pixels"
        return f"{self.number} x {shape_text(self.shape)}, {how}"


LARGE, SMALL = (2048, 2048), (1024, 1024)
CASES = (Case(4, LARGE, main=True), Case(20, LARGE), Case(4, LARGE, turned=False))
QUICK = (Case(4, SMALL, main=True),)


def measure(quick: bool, folder: Path, repeats: int) -> Iterator[Figure]:
    """Figures of all cases."""
    keep_memory()
    for number, case in enumerate(QUICK if quick else CASES):
        place = folder / str(number)
        yield from _measured(case, _Work(place, _written(case, place)), repeats)
        shutil.rmtree(place)


# Frames


@dataclass(frozen=True)
class _Pointing:
    """Where a frame lies on the sky: shift in pixels, and angle in radians about the first pixel."""

    dx: float = 0.0
    dy: float = 0.0
    angle: float = 0.0

    def __call__(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        c, s = np.cos(self.angle), np.sin(self.angle)
        return c * x - s * y + self.dx, s * x + c * y + self.dy

    @property
    def header(self) -> dict[str, float | str]:
        """World coordinates."""
        c, s = float(np.cos(self.angle)), float(np.sin(self.angle))
        return {
            "CTYPE1": "RA---TAN",
            "CTYPE2": "DEC--TAN",
            "CRVAL1": 150.0,
            "CRVAL2": 2.0,
            "CRPIX1": 1 + self.dx,
            "CRPIX2": 1 + self.dy,
            "CD1_1": -SCALE * c,
            "CD1_2": -SCALE * s,
            "CD2_1": -SCALE * s,
            "CD2_2": SCALE * c,
        }


def _written(case: Case, place: Path) -> list[Path]:
    """Calibrated frames as the recipe ``science`` writes them, and their planes each for itself, for SWarp."""
    rng = np.random.default_rng(1)
    ny, nx = case.shape
    number = STARS * ny * nx // 1_000_000
    x, y = rng.uniform(-HALF, nx + HALF, number), rng.uniform(-HALF, ny + HALF, number)
    stars = x, y, np.minimum(10 ** (2.7 + rng.exponential(0.55, number)), 2e6)
    bad = rng.random(case.shape) < 5e-4
    bad[:, nx // 3] = True
    for name in ("frames", "planes"):
        (place / name).mkdir(parents=True)
    files = []
    for i in range(case.number):
        shift = rng.uniform(-8, 8, 2) if i else np.zeros(2)
        angle = np.radians(0.03) * rng.normal() if i and case.turned else 0.0
        dx, dy = (shift if case.turned else np.rint(shift)).tolist()
        pointing = _Pointing(dx, dy, angle)
        files.append(_write(place, i + 1, _frame(stars, pointing, bad, rng), pointing))
    return files


def _frame(
    stars: tuple[Floats, Floats, Floats], at: _Pointing, bad: NDArray[np.bool_], rng: np.random.Generator
) -> Image:
    light = _light(bad.shape, *at(*stars[:2]), stars[2])
    data = rng.poisson(light) + rng.normal(0, READ_NOISE, light.shape)
    hits = rng.integers(0, light.size, light.size // 100_000)
    data.ravel()[hits] += rng.exponential(5000.0, len(hits))
    dq = np.where(bad, np.uint16(DQ.BAD_PIXEL), np.uint16(0))
    dq[light > FULL] |= np.uint16(DQ.SATURATED)
    variance = np.maximum(data, 0) + READ_NOISE**2
    return Image(data.astype(np.float32), variance.astype(np.float32), dq, "electron")


def _light(shape: tuple[int, ...], x: Floats, y: Floats, flux: Floats) -> Floats:
    """Sky, and Gaussian stars integrated over the pixels."""
    width = FWHM / 2.3548 * np.sqrt(2)
    padded = np.full([size + 4 * HALF for size in shape], SKY)
    for a, b, electrons in zip(x + 2 * HALF, y + 2 * HALF, flux, strict=True):
        i, j = round(a), round(b)
        profiles = [
            0.5 * np.diff(erf((np.arange(k - HALF, k + HALF + 2) - 0.5 - c) / width))
            for k, c in ((j, b), (i, a))
        ]
        window = padded[max(j - HALF, 0) : j + HALF + 1, max(i - HALF, 0) : i + HALF + 1]
        if window.shape == (2 * HALF + 1, 2 * HALF + 1):
            window += electrons * np.outer(*profiles)
    return padded[2 * HALF : -2 * HALF, 2 * HALF : -2 * HALF]


def _write(place: Path, number: int, image: Image, at: _Pointing) -> Path:
    masters = np.full(image.shape, 2, np.float32)
    cards: dict[str, Card] = {"EXPTIME": (60.0, "[s]"), "CALIBID": ("masters", "identity of the masters")}
    origin = Origin(KEY, "science", "1", inputs=[], header={**at.header, "OBJECT": "field"})
    path = place / "frames" / f"light_{number:05d}.fits"
    with path.open("wb") as stream:
        write_product(stream, Output(image, calibration_variance=masters, cards=cards), origin)
    header = fits.Header(at.header)
    fits.writeto(place / "planes" / f"data_{number:05d}.fits", image.data, header)
    variance = np.where(image.dq == 0, image.variance, np.float32(1e30))
    fits.writeto(place / "planes" / f"noise_{number:05d}.fits", variance, header)
    return path


# What is measured


@dataclass(frozen=True)
class _Work:
    place: Path
    files: Sequence[Path]

    def stacked(self) -> tuple[Output, JobInputs]:
        """Files to a stack in memory, quality numbers and all."""
        inputs = JobInputs()
        for path in self.files:
            inputs.add_product("main", path, InputNote("main", path.name, KEY, "product"))
        made = RECIPE.run(inputs.recipe_inputs, RECIPE.parameters())
        return made.outputs["stack"], inputs

    def written(self) -> None:
        """Files to a product beside them."""
        output, inputs = self.stacked()
        with (self.place / "stack.fits").open("wb") as stream:
            write_product(stream, output, inputs.origin(KEY, RECIPE.name, RECIPE.version))

    def by_command(self) -> Ran:
        """The same as a whole command."""
        argv: list[str | Path] = [
            CCDFLOW,
            "recipe",
            "stack",
            *self.files,
            "-o",
            self.place / "by_command.fits",
            "--force",
        ]
        return command(argv, self.place)

    def siril(self) -> Ran:
        """Siril's script: a sequence of links to the files, registered by stars and stacked in 32 bits."""
        process = self.place / "process"
        shutil.rmtree(process, ignore_errors=True)
        process.mkdir()
        for path in self.files:
            (process / path.name).symlink_to(path)
        script = self.place / "stack.ssf"
        script.write_text(
            f"requires 1.0.0\nsetcpu {CORES}\nset32bits\nsetext fits\ncd process\n"
            "register light_\nstack r_light_ rej 3 3 -norm=add -out=../siril\n"
        )
        return command(["siril-cli", "-d", self.place, "-s", script], self.place)

    def swarp(self) -> Ran:
        """SWarp with variance maps, placed by world coordinates."""
        planes = self.place / "planes"
        options = {
            "COMBINE_TYPE": "CLIPPED",
            "CLIP_SIGMA": "3",
            "RESAMPLING_TYPE": "LANCZOS2",
            "WEIGHT_TYPE": "MAP_VARIANCE",
            "WEIGHT_IMAGE": ",".join(str(one) for one in sorted(planes.glob("noise_*"))),
            "IMAGEOUT_NAME": str(self.place / "swarp.fits"),
            "WEIGHTOUT_NAME": str(self.place / "swarp_weight.fits"),
            "RESAMPLE_DIR": str(self.place),
            "NTHREADS": str(CORES),
            "WRITE_XML": "N",
            "VERBOSE_TYPE": "QUIET",
        }
        given = [word for name, value in options.items() for word in (f"-{name}", value)]
        return command(["SWarp", *sorted(planes.glob("data_*")), *given], self.place)


def _measured(case: Case, work: _Work, repeats: int) -> Iterator[Figure]:
    peers: dict[str, Subject] = {
        peer: run for peer, run in ((SIRIL, work.siril), (SWARP, work.swarp)) if installed(peer.split()[0])
    }
    subjects: dict[str, Subject] = {"written": work.written, "command": work.by_command, **peers}
    found = alternate(subjects, repeats)
    for peer in (SIRIL, SWARP):
        line = functools.partial(compared, case.name, peer=peer, theirs=found.get(peer), plot=case.main)
        wanted = (3.0, 1.0) if case.main and peer == SIRIL else (None, None)
        note = "the peer as a whole command, ours in a process that runs"
        yield line(what="files to product", ours=found["written"], wanted=wanted[0], note=note)
        yield line(what="whole command", ours=found["command"], wanted=wanted[1])
        if peer in found:
            peaks = found["command"].peak, found[peer].peak
            yield Figure(case.name, "peak memory, whole command", peaks[0], "MB", peer, peaks[1])
    busy = found["written"].busy
    note = f"{busy:.2f} s of the processor, {busy / found['written'].median:.1f} cores busy"
    yield Figure(case.name, "files to product", found["written"].median, note=note)
