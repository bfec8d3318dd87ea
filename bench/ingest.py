"""Raw frames and catalogues into the registry: headers a file, files and rows a second.

``python -m bench ingest`` writes raw files with headers as observatories write them: real ones from the tests,
and longer ones whose further cards are pointing, weather and the state of the telescope. From file to file the
time, the temperatures and the pointing differ, as in a night; the rest is the same.
"""

import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from bench.databases import DATABASES, missing, registry
from bench.harness import Figure, alternate
from ccdflow.archive.fits.cards import _card as parsed_card
from ccdflow.archive.fits.filefacts import file_facts
from ccdflow.archive.fits.rawfile import open_raw
from ccdflow.archive.registry.doors import Registry
from ccdflow.archive.registry.frames.files import NewFrame
from ccdflow.archive.registry.transactions import add_catalogue
from ccdflow.cascade.headers.classify import describe
from ccdflow.config.instruments import load_instruments
from ccdflow.config.project import init_project
from ccdflow.config.shipped import shipped
from ccdflow.tasks.ingest import ingest_files
from ccdflow.tasks.workspace import Workspace, open_workspace

HEADERS = Path(__file__).parents[1] / "tests" / "headers"
REAL = "nina_light"
CARDS = (60, 100, 150)
FILES = 40
SHAPE = (500, 512)
"""Half a megabyte of 16 bits."""
SMALL = (50, 51)
START = datetime(2026, 3, 1, 19)
LIMIT_HEADER = 150.0
"""Microseconds of the processor a file."""
LIMIT_FILES = 300.0
LIMIT_ROWS = 5000.0


def cards(number: int, wanted: int) -> list[str]:
    """The cards of the header of one frame: `wanted` of them, or as many as the real header has if that is more."""
    chance = np.random.default_rng(number)
    date = (START + timedelta(seconds=70 * number)).isoformat()
    own = {"DATE-OBS", "CCD-TEMP", "RA", "DEC", "AIRMASS", "SIMPLE", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2"}
    own |= {"BZERO", "BSCALE", "EXTEND", "END"}
    lines = (HEADERS / f"{REAL}.txt").read_text(encoding="utf-8").splitlines()
    made = [line for line in lines if line[:8].strip() not in own]
    made += [f"DATE-OBS= '{date}' / UTC", f"CCD-TEMP= {chance.normal(-20, 0.1):20.3f} / [degC]"]
    made += [
        f"RA      = {chance.uniform(0, 360):20.6f} / [deg]",
        f"DEC     = {chance.uniform(-9, 9):20.6f} / [deg]",
    ]
    made += [f"AIRMASS = {chance.uniform(1, 2):20.4f} / airmass"]
    for place in range(wanted - len(made) - 7):
        measured, name = chance.normal(), f"STATE{place:03d}"
        text = (f"{measured:20.8f}", f"'constant {place:2d}'", f"{place:20d}", f"{'T':>20}", f"{place:20.3E}")
        made.append(f"{name:8s}= {text[place % 5]} / what this card says of the telescope")
    return made


def write_raw(path: Path, number: int, wanted: int, shape: tuple[int, int]) -> Path:
    """A raw frame of 16 bits, written as a camera's program does, byte by byte."""
    ny, nx = shape
    layout = {"SIMPLE": "T", "BITPIX": 16, "NAXIS": 2, "NAXIS1": nx, "NAXIS2": ny, "BZERO": 32768}
    lines = [f"{name:8s}= {value:>20}" for name, value in layout.items()]
    lines += ["BSCALE  =                    1", *cards(number, wanted), "END"]
    header = "".join(line[:80].ljust(80) for line in lines).encode("latin-1")
    pixels = np.random.default_rng(number).integers(-99, 99, shape).astype(">i2").tobytes()
    blocks = [one + filling * (-len(one) % 2880) for one, filling in ((header, b" "), (pixels, b"\0"))]
    path.write_bytes(b"".join(blocks))
    return path


def by_astropy(path: Path) -> None:
    """All keywords of a header with their values; `open_raw` gives the comments too."""
    with fits.open(path) as opened:
        dict(opened[0].header)


def headers(folder: Path, repeats: int) -> Iterator[Figure]:
    """Microseconds of the processor for the header of a file, and for all that ingest makes of it."""
    instruments = load_instruments([shipped("instruments")])

    def described(path: Path) -> None:
        file = open_raw(path)
        facts = file_facts(file)
        describe(file.header, file.shape, instruments, facts)

    def anew(path: Path) -> None:
        parsed_card.cache_clear()  # as a new process, which has not read any
        open_raw(path)

    works = {"open": open_raw, "describe": described, "anew": anew, "astropy": by_astropy}

    def over(work: Callable[[Path], Any], paths: list[Path]) -> Callable[[], list[Any]]:
        return lambda: [work(path) for path in paths]

    for wanted in CARDS:
        paths = [write_raw(folder / f"{wanted}-{one}.fits", one, wanted, SMALL) for one in range(FILES)]
        subjects = {name: over(work, paths) for name, work in works.items()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = alternate(subjects, repeats)
        took = {name: 1e6 * samples.busy / FILES for name, samples in found.items()}
        on = f"header of {wanted} cards"
        yield Figure(
            on, "open_raw, CPU", took["open"], "µs", "astropy", took["astropy"], limit=LIMIT_HEADER,
            note=f"{took['anew']:.0f} µs where no card was ever seen before",
        )  # fmt: skip
        yield Figure(on, "open_raw and describe, CPU", took["describe"], "µs")


def space_on(opened: Registry, folder: Path) -> Workspace:
    """A project that keeps its frames in `opened`."""
    init_project(folder)
    made = open_workspace(folder)
    made.registry.close()
    return Workspace(made.project, opened, made.store, made.cascade, made.instruments)


def ingested(opened: Registry, folder: Path, number: int) -> tuple[float, float]:
    """Files a second by the clock, and a second of the processor, each in a transaction of its own."""
    raw = folder / "raw"
    raw.mkdir(parents=True)
    for one in range(number):
        write_raw(raw / f"{one:05d}.fits", one, 100, SHAPE)
    space = space_on(opened, folder / "project")
    start, used = time.perf_counter(), time.process_time()
    report = ingest_files(space, [raw])
    seconds, processor = time.perf_counter() - start, time.process_time() - used
    if report.counts["new"] != number:
        raise RuntimeError(report.sentence())
    return number / seconds, number / processor


def catalogued(opened: Registry, number: int) -> tuple[float, float]:
    """Rows of a catalogue a second by the clock, and a second of this process."""
    rows = [
        NewFrame(
            frame_class="science", telescope="T", camera="C", instrument="I", filter="L", object="M 13",
            exptime=60.0, obsdate=(START + timedelta(seconds=70 * one)).isoformat(), iobs=1, nobs=1,
            night="2026-03-01", keywords={"seeing": 1 + one / number, "airmass": 1.5},
        )
        for one in range(number)
    ]  # fmt: skip
    start, used = time.perf_counter(), time.process_time()
    if add_catalogue(opened, rows) != number:
        raise RuntimeError("rows of the catalogue were passed over")
    return number / (time.perf_counter() - start), number / (time.process_time() - used)


def measure(quick: bool, folder: Path, repeats: int) -> Iterator[Figure]:
    yield from headers(folder, repeats)
    for name in DATABASES:
        if missing(name):
            continue
        with registry(name, folder / name) as opened, tempfile.TemporaryDirectory(dir=folder) as scratch:
            wall, busy = ingested(opened, Path(scratch), 100 if quick else 600)
            yield Figure(
                f"files of 0.5 MB, {name}", "ingest, a transaction each, sha256", wall, "files/s",
                limit=LIMIT_FILES, note=f"{busy:.0f} a second of CPU",
            )  # fmt: skip
            wall, busy = catalogued(opened, 5000 if quick else 50_000)
            yield Figure(
                f"rows of a catalogue, two keywords each, {name}", "add_catalogue", wall, "rows/s",
                limit=LIMIT_ROWS, note=f"{busy:.0f} a second of CPU",
            )  # fmt: skip
