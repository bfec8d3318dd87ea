"""One raw frame to a calibrated one with data, variance and DQ: ours, ccdproc and Siril on the same files.

The masters are bias, dark (scaled to the exposure time) and flat. Ours and ccdproc's are loaded before, as a
process that calibrates a night has them; a whole command loads them each time.
"""

import functools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty

from bench.combine import CCDFLOW, CORES, KEY, instruments
from bench.frames import EXPOSURES, GAIN, READ_NOISE, shape_text, write_frame, write_frames
from bench.harness import Figure, Ran, Samples, Subject, alternate, command, compared, elsewhere, memory_of
from bench.peers import installed
from ccdflow.archive.fits.productfile import InputNote, write_product
from ccdflow.archive.store import Store
from ccdflow.recipes.catalogue import RECIPES
from ccdflow.tasks.inputs import JobInputs
from ccdflow.tasks.memory import keep_memory

CCDPROC, SCRIPT, SIRIL = "ccd_process + write", "ccdproc script", "Siril preprocess"
OURS = "ours"
ROLES = ("bias", "dark", "flat")
SEQUENCE = 4
"""Frames of a sequence; Siril takes none of a single one."""
EXPOSED = 3
"""Frames that make a master."""
WANTED_RATIO = 15.0
MEMORY_LIMIT = 400.0
"""MB beyond the shared masters, for one frame of 4096x4096."""
RECIPE = RECIPES["science"]


@dataclass(frozen=True)
class Case:
    """A raw frame, and whether it is the one that was promised something."""

    shape: tuple[int, int]
    kind: str = "uint16"
    main: bool = False

    @property
    def name(self) -> str:
        """Such as ``4096x4096 uint16``."""
        return f"{shape_text(self.shape)} {self.kind}"


CASES = (
    Case((4096, 4096), main=True),
    Case((4096, 4096), "float32"),
    Case((4096, 4096), "uint16 .fz"),
    Case((2048, 2048)),
)
QUICK = (Case((2048, 2048), main=True), Case((1024, 1024), "uint16 .fz"))


def measure(quick: bool, disk: Path, repeats: int) -> Iterator[Figure]:
    """Figures of all cases; on the disk, where new pages of a file take half the time that they take in tmpfs."""
    keep_memory()
    for case in QUICK if quick else CASES:
        if case.kind.endswith(".fz") and not installed("fpack"):
            continue
        place = disk / re.sub(r"\W+", "-", case.name)
        yield from _measured(case, _work(case, place, disk), repeats if case.main else min(repeats, 2))
        shutil.rmtree(place)


def _work(case: Case, place: Path, disk: Path) -> "_Work":
    raw = write_frame(place / "science.fits", "science", case.shape, 99, case.kind.split()[0])
    if case.kind.endswith(".fz"):
        subprocess.run(["fpack", "-D", "-Y", raw], check=True)
        raw = raw.with_name(f"{raw.name}.fz")
    masters: dict[str, Path] = {}
    for role in ROLES:
        files = write_frames(place / role, role, case.shape, EXPOSED)
        masters[role] = _master(role, files, masters, place / f"master_{role}.fits")
        shutil.rmtree(place / role)
    return _Work(place, disk, raw, masters)


def _master(role: str, files: Sequence[Path], masters: dict[str, Path], path: Path) -> Path:
    """A master made by our recipe; what others need of those before it, it gets."""
    recipe = RECIPES[role]
    inputs = JobInputs()
    for file in files:
        inputs.add_raw("main", file, instruments(), InputNote("main", file.name, KEY))
    for other in masters.keys() & recipe.inputs.keys():
        inputs.add_product(other, masters[other], InputNote(other, masters[other].name, KEY, "product", 0))
    (output,) = recipe.run(inputs.recipe_inputs, recipe.parameters()).outputs.values()
    with path.open("wb") as stream:
        write_product(stream, output, inputs.origin(KEY, recipe.name, recipe.version))
    return path


@dataclass(frozen=True)
class _Work:
    """What is measured on a raw frame and its masters."""

    place: Path
    disk: Path
    raw: Path
    masters: dict[str, Path]

    def inputs(self) -> JobInputs:
        """The frame and its masters as a job takes them."""
        inputs = JobInputs()
        note = InputNote("main", self.raw.name, KEY)  # known since its registration
        inputs.add_raw("main", self.raw, instruments(), note)
        for role, path in self.masters.items():
            inputs.add_product(role, path, InputNote(role, path.name, KEY, "product", 0))
        return inputs

    def written(self, name: str = "ours.fits") -> None:
        """Raw file to product where the file is, without fsync, as the peers do."""
        inputs = self.inputs()
        made = RECIPE.run(inputs.recipe_inputs, RECIPE.parameters())
        with (self.place / name).open("wb") as stream:
            write_product(stream, made.outputs["science"], inputs.origin(KEY, RECIPE.name, RECIPE.version))

    def stored(self) -> None:
        """Raw file to product in the store, on the disk, fsync and its sha256 included."""
        inputs = self.inputs()
        output = RECIPE.run(inputs.recipe_inputs, RECIPE.parameters()).outputs["science"]
        origin = inputs.origin(KEY, RECIPE.name, RECIPE.version)
        write = functools.partial(write_product, output=output, origin=origin)
        Store(self.disk / "store").write("science.fits", KEY, write)

    def clean(self) -> None:
        """Delete what was written."""
        for path in (*self.place.glob("*ours*.fits"), self.place / "floor", self.disk / "floor"):
            path.unlink(missing_ok=True)
        for name in ("ccdproc.fits", "by_command.fits"):
            (self.place / name).unlink(missing_ok=True)

    def calibrated(self) -> None:
        """Raw file to pixels in memory."""
        RECIPE.run(self.inputs().recipe_inputs, RECIPE.parameters())

    def by_command(self) -> Ran:
        """The same as a whole command, masters read again."""
        options = [f"--with={role}={path}" for role, path in self.masters.items()]
        out = self.place / "by_command.fits"
        return command([CCDFLOW, "recipe", "science", self.raw, *options, "-o", out, "--force"], self.place)

    @functools.cached_property
    def size(self) -> int:
        """Bytes of the product."""
        self.written()
        return (self.place / "ours.fits").stat().st_size

    def floor(self, sync: bool) -> None:
        """Merely reading the bytes of the raw file, and writing as many as the product has."""
        content = memoryview(self.raw.read_bytes())
        with ((self.disk if sync else self.place) / "floor").open("wb", buffering=0) as stream:
            left = self.size
            while left > 0:
                left -= stream.write(content[:left])
            if sync:
                os.fsync(stream.fileno())

    # Peers

    def ccdproc(self) -> None:
        """As the CCD guide has it, with uncertainties and the mask, and written."""
        from ccdproc import ccd_process

        masters = {role: _as_ccd(path) for role, path in self.masters.items()}
        ccd = CCDData.read(self.raw, unit="adu", hdu=1 if self.raw.suffix == ".fz" else 0)
        bad = masters["flat"].mask
        ccd_process(
            ccd,
            error=True,
            gain=GAIN * units.electron / units.adu,
            readnoise=READ_NOISE * units.electron,
            bad_pixel_mask=np.zeros(ccd.shape, bool) if bad is None else bad,
            master_bias=masters["bias"],
            dark_frame=masters["dark"],
            master_flat=masters["flat"],
            dark_exposure=masters["dark"].header["EXPTIME"] * units.s,
            data_exposure=EXPOSURES["science"] * units.s,
            dark_scale=True,
        ).write(self.place / "ccdproc.fits", overwrite=True)

    def script(self) -> Ran:
        """A script of its own with ccdproc, which has to load the masters."""
        masters = self.masters.values()
        argv: list[str | Path] = [sys.executable, "-m", "bench.calibrate", self.place, self.raw, *masters]
        folder = Path(__file__).parent.parent
        return command(argv, self.place, {"PYTHONPATH": os.pathsep.join([str(folder), *sys.path[1:]])})

    def siril(self) -> Ran:
        """Siril's script for a sequence of `SEQUENCE` links to the frame; 32 bits, neither variance nor mask."""
        for folder in ("links", "process"):
            shutil.rmtree(self.place / folder, ignore_errors=True)
            (self.place / folder).mkdir()
        for i in range(SEQUENCE):
            (self.place / "links" / f"light{i}{''.join(self.raw.suffixes)}").symlink_to(self.raw)
        script = self.place / "calibrate.ssf"
        script.write_text(
            f"requires 1.0.0\nsetcpu {CORES}\nset32bits\nsetext fits\n"
            "cd links\nconvert light -out=../process\ncd ../process\n"
            "preprocess light -bias=../siril_bias -dark=../siril_dark -flat=../siril_flat\n"
        )
        return command(["siril-cli", "-d", self.place, "-s", script], self.place)

    def siril_masters(self) -> None:
        """Our masters as Siril takes them: full range 1, for the dark the counts of this exposure."""
        dark = EXPOSURES["science"] / GAIN / 65535
        for role, factor in (("bias", 1 / GAIN / 65535), ("dark", dark), ("flat", 0.2)):
            pixels = np.float32(factor) * fits.getdata(self.masters[role])
            fits.writeto(self.place / f"siril_{role}.fits", pixels, overwrite=True)

    def sequence(self) -> None:
        """As many frames as Siril's, by as many threads as there are cores, in one process."""
        with ThreadPoolExecutor(CORES) as pool:
            list(pool.map(self.written, [f"ours{i}.fits" for i in range(SEQUENCE)]))


@functools.cache
def _as_ccd(path: Path) -> CCDData:
    """A master with a standard deviation, loaded once; a dark as an exposure, which ccdproc scales itself."""
    ccd = CCDData.read(path)
    deviation = np.sqrt(ccd.uncertainty.array)
    if ccd.unit == units.electron / units.s:
        exptime = ccd.header["EXPTIME"]
        ccd = CCDData(ccd.data * exptime, unit=units.electron, mask=ccd.mask, header=ccd.header)
        deviation = deviation * exptime
    ccd.uncertainty = StdDevUncertainty(deviation)
    return ccd


def _measured(case: Case, work: _Work, repeats: int) -> Iterator[Figure]:
    work.siril_masters()
    subjects: dict[str, Subject] = {
        OURS: work.written,
        "stored": work.stored,
        "memory": work.calibrated,
        "floor": lambda: work.floor(sync=False),
        "floor, fsync": lambda: work.floor(sync=True),
        "command": work.by_command,
        "sequence": work.sequence,
    }
    subjects |= {SCRIPT: work.script} if installed("ccdproc") and case.main else {}
    subjects |= {SIRIL: work.siril} if installed("Siril") else {}
    with elsewhere() as other:
        subjects |= {CCDPROC: other(work.ccdproc)} if installed("ccdproc") else {}
        found = alternate(subjects, repeats, before=work.clean)
    yield from _times(case, found)
    yield from _shares(case, work, found)
    if case.main:
        yield from _memory(case, work, found)


def _times(case: Case, found: dict[str, Samples]) -> Iterator[Figure]:
    wanted = WANTED_RATIO if case.main else None
    options: dict[str, Any] = {"plot": case.main}
    what = "raw file to product"
    yield compared(case.name, what, found[OURS], CCDPROC, found.get(CCDPROC), wanted=wanted, **options)
    if case.main:
        yield compared(case.name, "whole command", found["command"], SCRIPT, found.get(SCRIPT), **options)
    ours = found["sequence"]
    note = f"{CORES} threads, {ours.busy / ours.median:.1f} cores busy; Siril as a whole command"
    name = f"{SEQUENCE} x {case.name}"
    yield compared(name, "raw files to products", ours, SIRIL, found.get(SIRIL), note=note, **options)


def _shares(case: Case, work: _Work, found: dict[str, Samples]) -> Iterator[Figure]:
    """What of our time merely moving the bytes takes."""
    megabytes = (work.raw.stat().st_size + work.size) / 1e6
    for what, floor, sync in (
        (OURS, "floor", "without fsync"),
        ("stored", "floor, fsync", "on disk with fsync"),
    ):
        mere, samples = found[floor].median, found[what]
        note = f"of it {100 * mere / samples.median:.0f} % ({mere:.3f} s) is the mere moving of the bytes:"
        yield Figure(
            case.name,
            f"raw file to product, {sync}",
            samples.median,
            ours_range=samples.range,
            note=f"{note} {megabytes:.0f} MB read, and written {sync}",
        )
    memory = found["memory"]
    yield Figure(case.name, "raw file to memory", memory.median, ours_range=memory.range)


def _memory(case: Case, work: _Work, found: dict[str, Samples]) -> Iterator[Figure]:
    """Peak above what the process had with masters loaded and one frame done."""
    what = "peak memory of a frame, beyond the masters"
    peak = found[CCDPROC].peak if CCDPROC in found else None
    yield Figure(case.name, what, memory_of(work.written), "MB", CCDPROC, peak, limit=MEMORY_LIMIT)
    if SCRIPT in found:
        what = "peak memory, whole command"
        yield Figure(case.name, what, found["command"].peak, "MB", SCRIPT, found[SCRIPT].peak)


def main(place: str, raw: str, *masters: str) -> None:
    """Calibrate one frame by ccdproc; what the script of a user would do."""
    _Work(Path(place), Path(place), Path(raw), dict(zip(ROLES, map(Path, masters), strict=True))).ccdproc()


if __name__ == "__main__":
    main(*sys.argv[1:])
