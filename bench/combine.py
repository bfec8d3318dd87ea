"""Many frames into one with clipping: ours, ccdproc, astropy, gnuastro and Siril on the same files.

In process, files to pixels in memory, each with the clip nearest to the peer's; in process, files to a product;
and as whole commands, the start of the program included. Ours gives variance, DQ and the number of values as
well, and a product's recipe measures read noise and level besides.
"""

import functools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from bench.frames import shape_text, size_of, write_frames
from bench.harness import Figure, Ran, Samples, Subject, alternate, command, compared, elsewhere, memory_of
from bench.peers import installed
from ccdflow.archive.digest import file_digest
from ccdflow.archive.fits.productfile import InputNote, write_product
from ccdflow.archive.store import Store
from ccdflow.cascade.headers.instrument import Instrument
from ccdflow.config.instruments import load_instruments
from ccdflow.config.shipped import shipped
from ccdflow.recipes.bias import RECIPE
from ccdflow.recipes.combine.average import Combination, combine
from ccdflow.recipes.core.recipe import Output
from ccdflow.recipes.detector.calibrate import raw_frames
from ccdflow.recipes.detector.raw import PreparedFrame
from ccdflow.recipes.detector.readout import readouts
from ccdflow.tasks.inputs import JobInputs
from ccdflow.tasks.memory import keep_memory

CCDFLOW = Path(sys.executable).with_name("ccdflow")
CORES = len(os.sched_getaffinity(0))
MEDIAN_MAD, MEAN_STD = "ccdproc, median/MAD clip", "ccdproc, mean/std clip"
ASTROPY = "astropy sigma_clip, mean"
SIRIL, SIRIL_SIGMA = "Siril stack rej 3 3", "Siril stack rej s 3 3"
GNUASTRO = "gnuastro sigclip-mean"
SCRIPT = "ccdproc script, median/MAD clip"
OURS = "ours"
KEY = "0" * 64


@dataclass(frozen=True)
class Case:
    """Frames to combine, and what they are compared with."""

    number: int
    shape: tuple[int, int]
    kind: str = "uint16"
    peers: tuple[str, ...] = ()
    main: bool = False

    @property
    def name(self) -> str:
        """Such as ``10 x 2048x2048 uint16``."""
        return f"{self.number} x {shape_text(self.shape)} {self.kind}"


LARGE, MIDDLE, SMALL = (2048, 2048), (1024, 1024), (512, 512)
EVERYTHING = (MEDIAN_MAD, MEAN_STD, ASTROPY, SIRIL, SIRIL_SIGMA, GNUASTRO, SCRIPT)
FURTHER = (MEAN_STD, SIRIL, SIRIL_SIGMA)
CASES = (
    Case(10, LARGE, peers=EVERYTHING, main=True),
    Case(4, LARGE, peers=FURTHER),
    Case(50, LARGE, peers=FURTHER),
    Case(200, MIDDLE, peers=FURTHER),
    Case(10, LARGE, "float32", peers=FURTHER),
    Case(10, LARGE, "uint16 .fz", peers=FURTHER),
)
QUICK = (Case(10, MIDDLE, peers=EVERYTHING, main=True), Case(10, SMALL, "uint16 .fz", peers=FURTHER))


def measure(quick: bool, folder: Path, disk: Path, repeats: int) -> Iterator[Figure]:
    """Figures of all cases."""
    keep_memory()
    for case in QUICK if quick else CASES:
        place = folder / re.sub(r"\W+", "-", case.name)
        if case.kind.endswith(".fz") and not installed("fpack"):
            continue
        rounds = repeats if case.main else min(repeats, 2)
        yield from _measured(case, _Work(case, place, disk, _written(case, place, disk)), rounds)
        shutil.rmtree(place)
        shutil.rmtree(disk / place.name)


def _written(case: Case, place: Path, disk: Path) -> list[Path]:
    """The frames, on the disk: page by page, tmpfs is read several times more slowly than the cache of a disk."""
    dtype = case.kind.split()[0]
    place.mkdir()
    (disk / place.name).mkdir()
    (place / "raw").symlink_to(disk / place.name)
    files = write_frames(place / "raw", "bias", case.shape, case.number, dtype)
    if case.kind.endswith(".fz"):
        subprocess.run(["fpack", "-D", "-Y", *files], check=True)
        files = [one.with_name(f"{one.name}.fz") for one in files]
    return files


# Ours


@functools.cache
def instruments() -> Sequence[Instrument]:
    """What a worker has loaded before its first job."""
    return load_instruments([shipped("instruments")])


@dataclass(frozen=True)
class _Work:
    """What is measured on the files of a case."""

    case: Case
    place: Path
    disk: Path
    files: Sequence[Path]

    def inputs(self) -> JobInputs:
        """The raw frames as a job takes them, their sha256 known since registration; pixels when asked."""
        inputs = JobInputs()
        for path in self.files:
            inputs.add_raw("main", path, instruments(), InputNote("main", path.name, KEY))
        return inputs

    def only_combined(self, **options: Any) -> None:
        """Files to combined pixels, variance, DQ and NGOOD in memory, without what a job does besides."""
        frames = raw_frames(self.inputs().recipe_inputs, "main")
        sources = [PreparedFrame(*pair) for pair in zip(frames, readouts(frames, None), strict=True)]
        combine(sources, Combination(**options))

    def combined(self, **parameters: Any) -> tuple[Output, JobInputs]:
        """Files to a master in memory, quality numbers and all."""
        inputs = self.inputs()
        made = RECIPE.run(inputs.recipe_inputs, RECIPE.parameters(**parameters))
        return made.outputs["master_bias"], inputs

    def stored(self) -> None:
        """Files to a product in the store, on the disk, fsync and its sha256 included."""
        output, inputs = self.combined()
        origin = inputs.origin(KEY, RECIPE.name, RECIPE.version)
        write = functools.partial(write_product, output=output, origin=origin)
        Store(self.disk / "store").write("master.fits", KEY, write)

    def written(self) -> None:
        """Files to a product where the files are, without fsync, as the peers do."""
        output, inputs = self.combined()
        with (self.place / "master.fits").open("wb") as stream:
            write_product(stream, output, inputs.origin(KEY, RECIPE.name, RECIPE.version))

    def by_command(self, **environment: str) -> Ran:
        """The same as a whole command."""
        argv: list[str | Path] = [
            CCDFLOW,
            "recipe",
            "bias",
            *self.files,
            "-o",
            self.place / "by_command.fits",
            "--force",
        ]
        return command(argv, self.place, environment)

    @functools.cached_property
    def size(self) -> int:
        """Bytes of the product."""
        self.written()
        return (self.place / "master.fits").stat().st_size

    def clean(self) -> None:
        """Delete what was written."""
        for name in (
            "master.fits",
            "by_command.fits",
            "siril.fits",
            "gnuastro.fits",
            "ccdproc.fits",
            "floor",
        ):
            (self.place / name).unlink(missing_ok=True)

    def floor(self, sync: bool) -> None:
        """Merely reading the bytes of the files, and writing as many as the product has."""
        buffer = bytearray(max(one.stat().st_size for one in self.files))
        for path in self.files:
            with path.open("rb", buffering=0) as stream:
                stream.readinto(buffer)
        with ((self.disk if sync else self.place) / "floor").open("wb", buffering=0) as stream:
            left = self.size
            while left > 0:
                left -= stream.write(memoryview(buffer)[:left])
            if sync:
                os.fsync(stream.fileno())

    # Peers

    def ccdproc(self, **options: Any) -> None:
        """Files to a frame in memory by ccdproc, with the memory limit of its guide."""
        from ccdproc import combine

        names = [str(path) for path in self.files]
        hdu = {"hdu": 1} if self.case.kind.endswith(".fz") else {}
        combine(names, unit="adu", method="average", sigma_clip=True, mem_limit=350e6, **hdu, **options)

    def median_mad(self) -> None:
        """As in the CCD guide: 5 sigma of the median absolute deviation around the median."""
        from astropy.stats import mad_std

        self.ccdproc(
            sigma_clip_low_thresh=5,
            sigma_clip_high_thresh=5,
            sigma_clip_func=np.ma.median,
            sigma_clip_dev_func=mad_std,
        )

    def mean_std(self) -> None:
        """The default of ccdproc: standard deviations around the mean."""
        self.ccdproc(sigma_clip_low_thresh=3, sigma_clip_high_thresh=3)

    def astropy(self) -> None:
        """`sigma_clip` of a cube around its mean, and the mean of what is left."""
        from astropy.stats import sigma_clip

        cube = np.stack([fits.getdata(path) for path in self.files]).astype(np.float32)
        clipped = sigma_clip(cube, sigma=3, axis=0, cenfunc="mean", masked=False, copy=False)
        np.nanmean(clipped, axis=0)

    def siril(self, rejection: str) -> Ran:
        """Siril's script: a sequence of links to the files, and a stack of 32 bits; its log is kept."""
        shutil.rmtree(self.place / "process", ignore_errors=True)
        (self.place / "process").mkdir()
        script = self.place / "stack.ssf"
        script.write_text(
            f"requires 1.0.0\nsetcpu {CORES}\nset32bits\nsetext fits\n"
            f"cd raw\nconvert bias -out={self.place}/process\ncd {self.place}/process\n"
            f"stack bias {rejection} -nonorm -out=../siril\n"
        )
        return command(["siril-cli", "-d", self.place, "-s", script], self.place)

    def gnuastro(self) -> Ran:
        """The command of gnuastro."""
        hdu = "-g1" if self.case.kind.endswith(".fz") else "-g0"
        out = self.place / "gnuastro.fits"
        out.unlink(missing_ok=True)
        options = ["3", "0.2", "sigclip-mean", hdu, f"--numthreads={CORES}", "--quiet", f"--output={out}"]
        return command(["astarithmetic", *self.files, str(len(self.files)), *options], self.place)

    def script(self) -> Ran:
        """A script of its own with ccdproc, written product included."""
        return command([sys.executable, "-c", _SCRIPT, *self.files], self.place)


_SCRIPT = """
import sys, warnings
warnings.simplefilter("ignore")
import numpy as np
from astropy.stats import mad_std
from ccdproc import combine
combine(sys.argv[1:], unit="adu", method="average", sigma_clip=True, sigma_clip_low_thresh=5,
        sigma_clip_high_thresh=5, sigma_clip_func=np.ma.median, sigma_clip_dev_func=mad_std,
        mem_limit=350e6).write("ccdproc.fits", overwrite=True)
"""


# Figures


def _measured(case: Case, work: _Work, repeats: int) -> Iterator[Figure]:
    work.written()
    yield from _in_memory(case, work, repeats)
    yield from _commands(case, work, repeats)
    if case.main:
        yield from _clips(case, work, min(repeats, 3))
        yield from _first_run(case, work)


def _in_memory(case: Case, work: _Work, repeats: int) -> Iterator[Figure]:
    """Against the Python packages: files to pixels in memory, each with the clip nearest to theirs."""
    pairs: tuple[tuple[str, str, Subject, float, str, float | None], ...] = (
        (MEDIAN_MAD, "ccdproc", work.median_mad, 5.0, "mad", 50.0),
        (MEAN_STD, "ccdproc", work.mean_std, 3.0, "sigma", 15.0),
        (ASTROPY, "astropy", work.astropy, 3.0, "sigma", None),
    )
    for peer, package, theirs, sigma, clip, wanted in pairs:
        if peer not in case.peers:
            continue
        ours = functools.partial(work.only_combined, clip=clip, sigma=sigma)
        with elsewhere() as other:
            subjects: dict[str, Subject] = {OURS: ours}
            if installed(package):
                subjects[peer] = other(theirs)
            found = alternate(subjects, repeats)
        yield compared(
            case.name,
            f"files to memory, clip {clip} {sigma:g}",
            found[OURS],
            peer,
            found.get(peer),
            wanted=wanted if case.main else None,
            plot=case.main,
        )


def _commands(case: Case, work: _Work, repeats: int) -> Iterator[Figure]:
    """Against whole commands: files to a product, in process and as a command."""
    peers: dict[str, tuple[str, Callable[[], Ran]]] = {
        SIRIL: ("Siril", lambda: work.siril("rej 3 3")),
        SIRIL_SIGMA: ("Siril", lambda: work.siril("rej s 3 3")),
        GNUASTRO: ("gnuastro", work.gnuastro),
        SCRIPT: ("ccdproc", work.script),
    }
    chosen = {peer: run for peer, (name, run) in peers.items() if peer in case.peers and installed(name)}
    subjects: dict[str, Subject] = {
        "stored": work.stored,
        "written": work.written,
        "command": work.by_command,
        "floor": lambda: work.floor(sync=False),
        "floor, fsync": lambda: work.floor(sync=True),
        "sha256": lambda: [file_digest(one) for one in work.files],
        "combined": work.only_combined,
        "recipe": work.combined,
        **chosen,
    }
    found = alternate(subjects, repeats, before=work.clean)
    for peer in (SIRIL, SIRIL_SIGMA):
        if peer in case.peers:
            yield from _against_siril(case, found, peer)
    for peer in (GNUASTRO, SCRIPT):
        if peer in case.peers:
            what = "whole command"
            yield compared(case.name, what, found["command"], peer, found.get(peer), plot=case.main)
    yield from _shares(case, work, found)
    yield from _memory(case, work, found)


def _against_siril(case: Case, found: dict[str, Samples], peer: str) -> Iterator[Figure]:
    theirs, main = found.get(peer), case.main
    wanted, equal = (3.0, 1.0) if main else (None, None)
    note = "Siril as a whole command, ours in a process that runs" + _own_time(theirs)
    yield compared(
        case.name, "files to product", found["written"], peer, theirs, wanted=wanted, note=note, plot=main
    )
    yield compared(case.name, "whole command", found["command"], peer, theirs, wanted=equal, plot=main)


def _own_time(siril: Samples | None) -> str:
    """What Siril says of itself, without its start."""
    found = re.search(r"Total execution time: ([\d.]+ m?s)", "" if siril is None else siril.said)
    return f"; Siril's log says {found[1]}" if found else ""


def _shares(case: Case, work: _Work, found: dict[str, Samples]) -> Iterator[Figure]:
    """What of our time merely moving the bytes takes."""
    megabytes = (size_of(work.files) + work.size) / 1e6
    for what, floor, note in (
        ("written", "floor", f"{megabytes:.0f} MB read and written in memory"),
        ("stored", "floor, fsync", f"{megabytes:.0f} MB read, and written to disk with fsync"),
    ):
        share = 100 * found[floor].median / found[what].median
        name = f"files to product, {'on disk with fsync' if 'fsync' in note else 'in memory'}"
        yield Figure(
            case.name,
            name,
            found[what].median,
            ours_range=found[what].range,
            note=f"of it {share:.0f} % ({found[floor].median:.3f} s) is the mere moving of the bytes: {note}",
        )
    parts = {"reading and combining": "combined", "recipe with its quality numbers": "recipe"}
    told = ", ".join(f"{part} {found[name].median:.3f} s" for part, name in parts.items())
    yield Figure(
        case.name,
        "files to memory, clip variance",
        found["combined"].median,
        ours_range=found["combined"].range,
        note=f"{told}, the sha256 of the files {found['sha256'].median:.3f} s (not within)",
    )


def _memory(case: Case, work: _Work, found: dict[str, Samples]) -> Iterator[Figure]:
    """Of a process that runs, beyond what it had; and of whole commands."""
    theirs = memory_of(work.mean_std) if case.main and installed("ccdproc") else None
    peer = MEAN_STD if case.main else ""
    yield Figure(case.name, "peak memory of combining", memory_of(work.only_combined), "MB", peer, theirs)
    command_ = found["command"]
    for peer in (SIRIL, GNUASTRO, SCRIPT):
        if peer in found:
            yield Figure(case.name, "peak memory, whole command", command_.peak, "MB", peer, found[peer].peak)


def _clips(case: Case, work: _Work, repeats: int) -> Iterator[Figure]:
    """Our ways to combine, each from files to memory."""
    ways = [("mean", clip) for clip in ("variance", "mad", "sigma", "minmax", "none")] + [("median", "none")]
    subjects = {
        f"files to memory, {method}, clip {clip}": functools.partial(
            work.only_combined, method=method, clip=clip
        )
        for method, clip in ways
    }
    for what, samples in alternate(subjects, repeats).items():
        yield Figure(case.name, what, samples.median, ours_range=samples.range)


def _first_run(case: Case, work: _Work) -> Iterator[Figure]:
    """What the first command after installation costs more than those that follow."""

    def cold() -> Ran:
        empty = work.place / "code"
        shutil.rmtree(empty, ignore_errors=True)
        return work.by_command(CCDFLOW_CACHE_DIR=str(empty))

    found = alternate({"cold": cold, "warm": work.by_command}, 2, warm=False)
    more = found["cold"].median - found["warm"].median
    note = f"{found['cold'].median:.2f} s with nothing compiled yet, {found['warm'].median:.2f} s after that"
    yield Figure(
        case.name, "first command after installation, more than later ones", more, limit=5.0, note=note
    )
