"""``python -m bench``: all benchmarks, or those that are named, one process each; a table, and with all of them docs/.

``python -m bench combine calibrate --quick`` runs two of them, on little.
"""

import argparse
import importlib
import inspect
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from bench.harness import Figure, as_figure, pace, scratch
from bench.report import printed, write_report

HERE = Path(__file__).parent
NO_BENCHMARK = {"__init__", "__main__", "harness", "peers", "frames", "report"}
FIRST = ("combine", "calibrate", "stack", "store", "ingest", "grouping", "planning")
REPEATS = 5


def benchmarks() -> list[str]:
    """Names of all benchmarks, in the order in which they are reported."""
    found = {one.stem for one in HERE.glob("*.py") if "def measure(" in one.read_text()} - NO_BENCHMARK
    first = [name for name in FIRST if name in found]
    return first + sorted(found - set(first))


def measured(name: str, quick: bool, repeats: int, frames: int | None = None) -> Iterator[Figure]:
    """The figures of a benchmark, measured in this process."""
    measure = importlib.import_module(f"bench.{name}").measure
    with (
        tempfile.TemporaryDirectory(prefix="bench-", dir=scratch()) as folder,
        tempfile.TemporaryDirectory(prefix="bench-") as disk,
    ):
        given = {"quick": quick, "folder": Path(folder), "disk": Path(disk), "repeats": repeats}
        given |= {} if frames is None else {"frames": frames}
        taken = [one for one in inspect.signature(measure).parameters if one in given]
        for one in measure(**{one: given[one] for one in taken}):
            yield as_figure(one, name)


def measure_into(out: Path, figures: Iterator[Figure]) -> None:
    """Write the figures into a file; also, if one fails, those before it."""
    found = []
    try:
        for one in figures:
            found.append(asdict(one))
    finally:
        out.write_text(json.dumps(found))


def in_a_process(
    name: str, quick: bool, repeats: int, frames: int | None = None
) -> tuple[list[Figure], bool]:
    """The figures of a benchmark, measured in a process of its own, and whether they are all."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        out = Path(folder) / "figures.json"
        options = ["--quick"] if quick else []
        options += [] if frames is None else ["--frames", str(frames)]
        argv = [sys.executable, "-m", "bench", "--into", str(out), "--repeats", str(repeats), *options, name]
        start = time.perf_counter()
        environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
        # With it, each of our commands would compile our modules when it starts.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        ran = subprocess.run(argv, cwd=HERE.parent, env=environment, check=False)
        took = f"{time.perf_counter() - start:.0f} s"
        print(
            f"{name}: {took if ran.returncode == 0 else 'failed after ' + took}", file=sys.stderr, flush=True
        )
        figures = [Figure(**one) for one in json.loads(out.read_text())] if out.exists() else []
        return figures, ran.returncode == 0


def main(arguments: Sequence[str] | None = None) -> int:
    known = benchmarks()
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="BENCHMARK", help=f"of {', '.join(known)}; else all")
    parser.add_argument("--quick", action="store_true", help="small inputs and few repeats")
    parser.add_argument("--repeats", type=int, default=None, help=f"rounds of each pair, else {REPEATS}")
    parser.add_argument("--frames", type=int, default=None, help="size of the longest table of grouping")
    parser.add_argument("--docs", type=Path, help="write the table and the plot into this folder")
    parser.add_argument("--json", type=Path, help="write the figures into this file")
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if wrong := [name for name in given.names if name not in known]:
        parser.error(f"unknown benchmark {wrong[0]!r}; known: {', '.join(known)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that scratch folders are deleted
    repeats = given.repeats or (2 if given.quick else REPEATS)
    if given.into:
        measure_into(given.into, measured(given.names[0], given.quick, repeats, given.frames))
        return 0
    chosen = given.names or known
    figures: list[Figure] = []
    failed: list[str] = []
    paces: dict[str, list[float]] = {}
    for name in chosen:
        with pace() as paces[name]:
            found, complete = in_a_process(name, given.quick, repeats, given.frames)
        print(printed(found), flush=True)
        figures += found
        failed += [] if complete else [name]
    if given.json:
        given.json.write_text(json.dumps([asdict(one) for one in figures], indent=1))
    for name in failed:
        print(f"{name} failed: what is missing above was not measured", file=sys.stderr)
    if given.docs:
        write_report(figures, given.docs, failed, paces)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
