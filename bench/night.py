"""A night from raw frames to stacks, as whole commands: ours, a Siril script, and the way of ccdproc's guide.

Ten biases, five flats of one filter, and science frames in sequences of four with small shifts between them.
Ours is ``ccdflow init`` and ``ccdflow run NIGHT --target stack``, Prefect with its server included; it gives variance
and mask with every pixel. Siril's script makes the masters, calibrates, registers and stacks each sequence with the
same rejection. The guide's way is ccdproc's: `ccd_process`, `wcs_project` by the headers' coordinates, `combine`; it is
measured on a part of the frames and scaled.

``python -m bench.night --frames 8 --side 512`` is a small one.
"""

import argparse
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from bench.harness import Figure, Ran, command, cores, scratch
from bench.peers import installed

FRAMES, SIDE = 100, 2048
QUICK = 8, 512
BIASES, FLATS, STACK = 10, 5, 4
GAIN, READ_NOISE, LEVEL = 1.5, 6.0, 1000.0
"""electron/adu, electron, adu."""
SKY, LAMP = 300.0, 20_000.0
"""electron per pixel."""
STARS = 400
RERUN = 5.0
"""Seconds that a finished night of GOTO may take to be run again."""
GUIDED = 4
"""Science frames on which the guide's way is measured."""


# --- the night --------------------------------------------------------------------------------------------


class Scene:
    """A field of stars, the response of the detector, and noise that is drawn once and moved about."""

    def __init__(self, side: int) -> None:
        rng = np.random.default_rng(7)
        self.side, self.rng = side, rng
        self.noise = rng.standard_normal((side + 64, side + 64), np.float32)
        y, x = np.mgrid[:side, :side].astype(np.float32) / side - 0.5
        self.response = (1.1 - 0.6 * (x * x + y * y)).astype(np.float32)
        self.places = rng.uniform(20, side - 20, (STARS, 2))
        self.fluxes = 10 ** rng.uniform(3.3, 5.3, STARS)

    def frame(self, light: NDArray[np.float32] | float) -> NDArray[np.uint16]:
        """Pixels of a raw frame in adu, from electrons per pixel."""
        dy, dx = self.rng.integers(0, 64, 2)
        noise = self.noise[dy : dy + self.side, dx : dx + self.side]
        pixels = LEVEL + (light + noise * np.sqrt(light + READ_NOISE**2)) / GAIN
        hits = self.rng.integers(0, pixels.size, pixels.size // 20_000)
        pixels.ravel()[hits] += 2000
        made: NDArray[np.uint16] = np.clip(np.rint(pixels), 0, 65535).astype(np.uint16)
        return made

    def sky(self, shift: NDArray[np.float64]) -> NDArray[np.float32]:
        """Electrons of the field, moved by `shift` pixels in y and x."""
        light = np.full((self.side, self.side), SKY, np.float32)
        box = np.arange(-9, 10)
        for (y, x), flux in zip(self.places + shift, self.fluxes, strict=True):
            cy, cx = round(y), round(x)
            rows, columns = cy + box, cx + box
            star = np.exp(-((rows[:, None] - y) ** 2 + (columns - x) ** 2) / (2 * 1.6**2))
            inside = np.ix_((rows >= 0) & (rows < self.side), (columns >= 0) & (columns < self.side))
            light[np.ix_(rows[inside[0].ravel()], columns[inside[1].ravel()])] += (
                flux / (2 * np.pi * 1.6**2) * star[inside]
            ).astype(np.float32)
        light *= self.response
        return light


def write_night(folder: Path, frames: int, side: int) -> None:
    """Raw frames in folders ``bias``, ``flat`` and ``light/NN``, one for each sequence."""
    scene = Scene(side)
    for number in range(BIASES):
        _write(folder / "bias" / f"bias_{number + 1:05d}.fits", scene.frame(0.0), number, "bias")
    for number in range(FLATS):
        _write(
            folder / "flat" / f"flat_{number + 1:05d}.fits",
            scene.frame(LAMP * scene.response),
            20 + number,
            "flat",
        )
    for number in range(frames):
        group, place = divmod(number, STACK)
        shift = scene.rng.uniform(-4, 4, 2)
        light = scene.sky(shift)
        path = folder / "light" / f"{group:03d}" / f"light_{place + 1:05d}.fits"
        cards = {"OBJECT": f"Field{group:03d}", "IOBS": place + 1, "NOBS": min(STACK, frames - group * STACK)}
        cards |= _coordinates(side, shift)
        _write(path, scene.frame(light), 60 + number, "science", cards)


def _coordinates(side: int, shift: NDArray[np.float64]) -> dict[str, Any]:
    """World coordinates of a frame whose stars are moved by `shift` pixels in y and x."""
    down, right = shift.tolist()
    return {
        "CTYPE1": "RA---TAN",
        "CTYPE2": "DEC--TAN",
        "CRVAL1": 150.0,
        "CRVAL2": 2.0,
        "CRPIX1": side / 2 + right,
        "CRPIX2": side / 2 + down,
        "CD1_1": -1e-4,
        "CD1_2": 0.0,
        "CD2_1": 0.0,
        "CD2_2": 1e-4,
    }


def _write(
    path: Path, pixels: NDArray[np.uint16], minute: int, kind: str, more: dict[str, Any] | None = None
) -> None:
    cards = {
        "IMAGETYP": kind,
        "EXPTIME": {"bias": 0.0, "flat": 5.0, "science": 60.0}[kind],
        "DATE-OBS": (datetime(2026, 3, 1, 18) + timedelta(minutes=1.5 * minute)).isoformat(),
        "TELESCOP": "T1",
        "INSTRUME": "CAM1",
        "GAIN": GAIN,
        "RDNOISE": READ_NOISE,
        "SATURATE": 65000,
    }
    cards |= {} if kind == "bias" else {"FILTER": "R"}
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.PrimaryHDU(pixels, fits.Header(cards | (more or {}))).writeto(path)


# --- ours -------------------------------------------------------------------------------------------------


def ours(night: Path, folder: Path) -> tuple[Ran, list[float]]:
    """The two commands, as people type them; also how busy the cores were, in steps of half a second."""
    program = Path(sys.executable).with_name("ccdflow")
    project = folder / "project"
    shutil.rmtree(project, ignore_errors=True)
    with _Busy() as busy:
        first = command([program, "init", project], folder)
        ran = command([program, "-C", project, "run", night, "--target", "stack", "--json"], folder)
    return Ran(first.seconds + ran.seconds, first.processor + ran.processor, ran.peak, ran.said), busy.shares


def again(folder: Path, quick: bool) -> Figure:
    """What it takes to run a night that is finished: GOTO's of 2018-09-09, of small frames, since none is read."""
    program, project, night = Path(sys.executable).with_name("ccdflow"), folder / "finished", folder / "goto"
    name = "small" if quick else "goto"
    make: list[str | Path] = [program, "simulate", night, "--night", name, "--shape", "128x128"]
    command(make, folder)
    command([program, "init", project], folder)
    run: list[str | Path] = [program, "-C", project, "run", night / "raw", "--target", "stack", "--json"]
    first = command(run, folder)
    later = sorted((command(run, folder) for _ in range(3)), key=lambda one: one.seconds)
    jobs = json.loads(later[1].said)["jobs"]
    if jobs["new"] or not jobs["reused"]:
        raise RuntimeError(f"a finished night was run again: {jobs}")
    what = f"a finished night again, {jobs['reused']} jobs ({'a small one' if quick else 'GOTO, 788 science frames'})"
    note = f"its first run {first.seconds:.1f} s"
    return Figure("night", what, later[1].seconds, limit=RERUN, ours_processor=later[1].processor, note=note)


class _Busy:
    """Share of the cores that the children of this process use, in steps of half a second."""

    STEP = 0.5

    def __enter__(self) -> "_Busy":
        self.shares: list[float] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _sample(self) -> None:
        before, then = _used(os.getpid()), time.perf_counter()
        while not self._end.wait(self.STEP):
            used, now = _used(os.getpid()), time.perf_counter()
            spent = sum(ticks - before.get(pid, 0) for pid, ticks in used.items())
            self.shares.append(spent / os.sysconf("SC_CLK_TCK") / (now - then) / cores())
            before, then = used, now


def _used(pid: int) -> dict[int, int]:
    """Ticks of the processor of all processes below `pid`, each by its id."""
    found: dict[int, int] = {}
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:
            continue
        for child in map(int, children):
            try:
                fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            found[child] = int(fields[11]) + int(fields[12])
            found |= _used(child)
    return found


PARTS = {
    "ingest": ["ccdflow.commands.reduction:ingest_files"],
    "planning": [
        "ccdflow.commands.reduction:planned",
        "ccdflow.commands.reduction:planned_again",
        "ccdflow.flows.stages:planned_again",
        "ccdflow.tasks.rounds:write_plan",
    ],
    "grouping and links": [
        "ccdflow.flows.stages:group_frames",
        "ccdflow.tasks.rounds:group_sets",
        "ccdflow.tasks.rounds:link_sets",
    ],
    "waiting for the server": ["ccdflow.flows.embedded:EmbeddedServer.wait"],
    "running jobs": ["ccdflow.flows.stages:execute"],
    "jobs: claim, read, recipe, write, finish": ["ccdflow.tasks.running:_do_or_find_done"],
    "jobs: read, recipe, write": ["ccdflow.tasks.running:_do"],
    "jobs: opening inputs": ["ccdflow.tasks.running:read_inputs"],
    "jobs: writing": ["ccdflow.tasks.running:store_result"],
}
"""What is timed inside our command; the parts of jobs are summed over all threads."""


def inside(night: Path, project: Path) -> dict[str, float]:
    """Run our command in this process; gives the seconds that each of its parts took."""
    began = time.perf_counter()
    from ccdflow import cli

    for one in ("ccdflow.commands.reduction", "ccdflow.flows.embedded"):
        importlib.import_module(one)
    spent = {"all": 0.0, **dict.fromkeys(PARTS, 0.0)}
    turn = threading.Lock()
    for part, places in PARTS.items():
        for place in places:
            module, _, name = place.partition(":")
            _patch(module, name, partial(_timed, part=part, spent=spent, turn=turn))
    cli.app(["init", str(project)], standalone_mode=False)
    cli.app(["-C", str(project), "run", str(night), "--target", "stack", "--json"], standalone_mode=False)
    spent["all"] = time.perf_counter() - began
    return spent


def _patch(module: str, name: str, wrap: Callable[[Any], Any]) -> None:
    """Put a wrapped function in the place of one."""
    place: Any = importlib.import_module(module)
    *path, last = name.split(".")
    for one in path:
        place = getattr(place, one)
    setattr(place, last, wrap(getattr(place, last)))


def _timed(call: Callable[..., Any], part: str, spent: dict[str, float], turn: Any) -> Callable[..., Any]:
    def timed(*arguments: Any, **named: Any) -> Any:
        start = time.perf_counter()
        try:
            return call(*arguments, **named)
        finally:
            with turn:
                spent[part] += time.perf_counter() - start

    return timed


# --- Siril ------------------------------------------------------------------------------------------------


def siril_script(night: Path, work: Path) -> str:
    """The same work for Siril, with its own names of things."""
    lines = ["requires 1.0.0", "setext fits", "set32bits"]
    lines += [*_linked(night / "bias", work, "bias"), "stack bias rej 3 3 -nonorm -out=bias_stacked"]
    lines += [*_linked(night / "flat", work, "flat"), "preprocess flat -bias=bias_stacked"]
    lines += ["stack pp_flat rej 3 3 -norm=mul -out=flat_stacked"]
    for group in sorted((night / "light").iterdir()):
        name = f"light{group.name}_"
        lines += [*_linked(group, work, name), f"preprocess {name} -bias=bias_stacked -flat=flat_stacked"]
        lines += [f"register pp_{name}", f"stack r_pp_{name} rej 3 3 -nonorm -out=stack_{group.name}"]
    return "\n".join([*lines, "close", ""])


def _linked(folder: Path, work: Path, name: str) -> list[str]:
    return [f"cd {folder}", f"link {name} -out={work}", f"cd {work}"]


def siril(night: Path, folder: Path) -> Ran:
    """Siril's command with the script."""
    work = folder / "siril"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    script = folder / "night.ssf"
    script.write_text(siril_script(night, work))
    ran = command(["siril-cli", "-s", script], folder)
    made, wanted = len(list(work.glob("stack_*.fits"))), len(list((night / "light").iterdir()))
    if made != wanted:
        raise RuntimeError(f"Siril made {made} of {wanted} stacks: {ran.said[-800:]}")
    return ran


# --- ccdproc's guide --------------------------------------------------------------------------------------


def guide(night: Path, folder: Path, guided: int) -> dict[str, float]:
    """The guide's way on a part of the night: seconds for the masters, for each frame, and for each stack."""
    import ccdproc
    from astropy import units
    from astropy.nddata import CCDData
    from astropy.stats import mad_std

    def combine(images: Sequence[Any], path: Path, **how: Any) -> Any:
        made = ccdproc.combine(
            images,
            method="average",
            sigma_clip=True,
            sigma_clip_low_thresh=5,
            sigma_clip_high_thresh=5,
            sigma_clip_func=np.ma.median,
            sigma_clip_dev_func=mad_std,
            mem_limit=350e6,
            **how,
        )
        made.write(path, overwrite=True)
        return made

    folder.mkdir(exist_ok=True)
    start = time.perf_counter()
    bias = combine([str(one) for one in sorted((night / "bias").iterdir())], folder / "bias.fits", unit="adu")
    flats = []
    for path in sorted((night / "flat").iterdir()):
        made = ccdproc.subtract_bias(CCDData.read(path, unit="adu"), bias)
        made.write(folder / path.name, overwrite=True)
        flats.append(str(folder / path.name))
    flat = combine(flats, folder / "flat.fits", scale=lambda pixels: 1 / np.median(pixels))
    masters = time.perf_counter() - start
    start = time.perf_counter()
    gain, noise = GAIN * units.electron / units.adu, READ_NOISE * units.electron
    bias = ccdproc.gain_correct(bias, gain)
    lights = sorted((night / "light").rglob("*.fits"))[:guided]
    reduced = []
    for path in lights:
        raw = CCDData.read(path, unit="adu")
        made = ccdproc.ccd_process(
            raw, error=True, gain=gain, readnoise=noise, master_bias=bias, master_flat=flat
        )
        made.write(folder / path.name.replace("light", path.parent.name), overwrite=True)
        reduced.append(folder / path.name.replace("light", path.parent.name))
    each = (time.perf_counter() - start) / len(lights)
    start = time.perf_counter()
    projected = []
    target = CCDData.read(reduced[0]).wcs
    for path in reduced:
        projected.append(str(path.with_name(f"projected_{path.name}")))
        ccdproc.wcs_project(CCDData.read(path), target).write(projected[-1], overwrite=True)
    registered = (time.perf_counter() - start) / len(lights)
    start = time.perf_counter()
    combine(projected[:STACK], folder / "stack.fits")
    return {
        "masters": masters,
        "frame": each,
        "projection": registered,
        "stack": time.perf_counter() - start,
    }


# --- together ---------------------------------------------------------------------------------------------


def _child(what: str, *arguments: object) -> dict[str, float]:
    """Run a part of this module in a process of its own."""
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        argv = [sys.executable, "-m", "bench.night", "--part", what, out.name, *map(str, arguments)]
        where = Path(__file__).parent.parent
        subprocess.run(
            argv,
            check=True,
            cwd=where,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
        )
        found: dict[str, float] = json.loads(Path(out.name).read_text())
    return found


def measure(quick: bool = False, frames: int | None = None, side: int | None = None) -> list[Figure]:
    """Seconds of the whole night for each way, what share of the cores ours kept busy, and where its time went."""
    frames, side = (
        frames or (QUICK if quick else (FRAMES, SIDE))[0],
        side or (QUICK if quick else (FRAMES, SIDE))[1],
    )
    with tempfile.TemporaryDirectory(prefix="bench-night-", dir=scratch()) as name:
        folder = Path(name)
        write_night(folder / "night", frames, side)
        return [*_figures(folder / "night", folder, frames, side), again(folder, quick)]


def _figures(night: Path, folder: Path, frames: int, side: int) -> Iterator[Figure]:
    what = f"{BIASES} biases, {FLATS} flats, {frames} science frames {side}x{side} to stacks of {STACK}"
    first, _ = ours(night, folder)
    best, shares = min((ours(night, folder) for _ in range(2)), key=lambda one: one[0].seconds)
    shutil.rmtree(folder / "project")
    peer = siril(night, folder) if installed("Siril") else None
    shutil.rmtree(folder / "siril", ignore_errors=True)
    jobs = json.loads(best.said)["jobs"]
    note = f"{jobs['new']} jobs, peak {best.peak:.0f} MB; first run {first.seconds:.1f} s"
    yield Figure(
        "night",
        f"{what}, whole commands",
        best.seconds,
        peer="Siril",
        theirs=peer.seconds if peer else None,
        wanted=1.0,
        ours_processor=best.processor,
        theirs_processor=peer.processor if peer else None,
        note=note,
        plot=True,
    )
    guided = min(GUIDED, frames)
    if installed("ccdproc"):
        part = _child("guide", night, folder / "guide", guided)
        plain = part["masters"] + frames * part["frame"] + frames / STACK * part["stack"]
        scaled = "masters {masters:.1f} s, frame {frame:.2f} s, projecting it {projection:.2f} s, stack {stack:.1f} s"
        yield Figure(
            "night",
            f"{what}, both registered",
            best.seconds,
            peer="ccdproc's guide",
            theirs=plain + frames * part["projection"],
            wanted=10.0,
            note=f"{scaled.format(**part)}, scaled from {guided} frames; without projection {plain:.0f} s",
            plot=True,
        )
    steps = " ".join(f"{100 * one:.0f}" for one in shares)
    mean = 100 * best.processor / best.seconds / cores()
    yield Figure(
        "night",
        f"share of {cores()} cores in use, command without server",
        mean,
        unit="%",
        note=f"each half second, with server: {steps}",
    )
    parts = _child("inside", night, folder / "inside")
    for name, seconds in parts.items():
        yield Figure(
            "night, a run that is timed",
            name,
            seconds,
            note=f"{100 * seconds / parts['all']:.0f} % of the wall",
        )


def main() -> None:
    """Measure with the given numbers, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=FRAMES)
    parser.add_argument("--side", type=int, default=SIDE)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--part", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part:
        part, out, night, folder, *rest = given.part
        made = (
            guide(Path(night), Path(folder), int(rest[0]))
            if part == "guide"
            else inside(Path(night), Path(folder))
        )
        Path(out).write_text(json.dumps(made))
        return
    found = measure(frames=given.frames, side=given.side)
    if given.json:
        print(json.dumps([asdict(one) for one in found]))
        return
    for one in found:
        peer = f"{one.peer} {one.theirs:.2f}, {one.ratio:.2f} times" if one.theirs and one.ratio else ""
        if one.processor_ratio:
            peer += f"; processor {one.ours_processor:.1f} and {one.theirs_processor:.1f} s"
        print(f"{one.what:<90} {one.ours:8.2f} {one.unit}  {peer} ({one.note})")


if __name__ == "__main__":
    main()
