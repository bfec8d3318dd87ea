"""The figures as a table for the terminal, and as a page and a plot for the manual."""

import importlib
import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from statistics import median
from textwrap import fill
from typing import TYPE_CHECKING

from bench.harness import Figure, cores
from bench.peers import versions

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PACKAGES = ("numpy", "numba", "astropy", "SQLAlchemy", "prefect")
COLUMNS = ("on", "what", "ours", "compared with", "theirs", "ratio", "by CPU", "wanted", "")
ROOM_FOR_TEXT = 0.5
"""Of the axis, right of the longest bar, in parts of what the bars take."""
OURS, THEIRS, MARK = "#2a6f97", "#c9c9c9", "#222222"

HOW = """\
`make bench` measures everything below in one run and writes this page; `make bench ONLY=combine` measures and prints
one part, and `make bench QUICK=1` prints all of it, measured on little. Numbers are medians of several repeats. What is
compared runs in turn, round by round, on the same files in the page cache, so that a slow minute of the machine hits
all alike; one untimed run of each comes first. Each part runs in a process of its own. *Ratio* is how many times better
ours is, in time, memory or rate, *by CPU* the same in seconds of all cores together; *wanted* is the least ratio
(`≥ 50×`), or the most (for rates the least) that our own figure may be. Files lie in memory (tmpfs) where the system
has room there (raw frames of `combine` and all of `calibrate` on the disk, and in its cache), so that the disk is not
what is measured; what fsync costs is stated apart.
"""


def number(value: float) -> str:
    """Three significant digits, without an exponent."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value >= 0.001 or value == 0 else f"{value:.6f}".rstrip("0")


def cells(one: Figure) -> tuple[str, ...]:
    """A figure as text, cell by cell."""
    missing = one.peer and one.theirs is None
    wanted = [] if one.wanted is None else [f"≥ {one.wanted:g}×"]
    if one.limit is not None:
        wanted.append(f"{'≥' if one.higher_is_better else '≤'} {number(one.limit)} {one.unit}")
    return (
        one.name,
        one.what,
        f"{number(one.ours)} {one.unit}",
        one.peer,
        "missing" if missing else "" if one.theirs is None else f"{number(one.theirs)} {one.unit}",
        "" if one.ratio is None else f"{number(one.ratio)}×",
        "" if one.processor_ratio is None else f"{number(one.processor_ratio)}×",
        ", ".join(wanted),
        one.verdict,
    )


def printed(figures: Sequence[Figure]) -> str:
    """Tables for a terminal, one for each benchmark, notes below."""
    return "\n".join(
        "\n".join([f"\n{bench}", *_aligned([COLUMNS, *map(cells, group)]), *_notes(group), _summary(group)])
        for bench, group in _grouped(figures)
    )


def _grouped(figures: Sequence[Figure]) -> list[tuple[str, list[Figure]]]:
    return [(bench, list(group)) for bench, group in groupby(figures, lambda one: one.bench)]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def _notes(figures: Sequence[Figure]) -> list[str]:
    return [f"  {one.name}, {one.what}: {one.note}" for one in figures if one.note]


def _summary(figures: Sequence[Figure]) -> str:
    verdicts = [one.verdict for one in figures if one.verdict]
    return f"  {verdicts.count('OK')} of {len(verdicts)} as wanted" if verdicts else ""


def write_report(
    figures: Sequence[Figure], folder: Path, failed: Sequence[str], paces: Mapping[str, Sequence[float]]
) -> None:
    """Write ``benchmarks.md`` and ``images/benchmarks.png`` into `folder`; `paces`: of each part, see `pace`."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    plotted = write_plot(figures, folder / "images" / "benchmarks.png")
    (folder / "benchmarks.md").write_text(page(figures, plotted, failed, paces), encoding="utf-8")


def page(
    figures: Sequence[Figure], plotted: bool, failed: Sequence[str], paces: Mapping[str, Sequence[float]]
) -> str:
    """The page of the manual, in Markdown."""
    parts = ["# Benchmarks", HOW.strip(), _machine(), _pace(paces)]
    if plotted:
        parts.append("![How many times faster than its peers](images/benchmarks.png)")
    for bench, group in _grouped(figures):
        parts += [f"## {bench.capitalize()}", _explanation(bench), _table(group)]
        if notes := _bullets(group):
            parts.append(notes)
    if failed:
        parts.append(f"Failed, so that figures are missing: {', '.join(failed)}.")
    return "\n\n".join(filter(None, parts)) + "\n"


def _explanation(bench: str) -> str:
    """What a benchmark's module says of itself."""
    return (importlib.import_module(f"bench.{bench}").__doc__ or "").strip().replace("``", "`")


def _table(figures: Sequence[Figure]) -> str:
    rows = [COLUMNS, ("---", "---", "--:", "---", "--:", "--:", "--:", "--:", "---"), *map(cells, figures)]
    return "\n".join("| " + " | ".join(_markdown(text) for text in row) + " |" for row in rows)


def _markdown(text: str) -> str:
    return text.replace("|", "\\|")


def _bullets(figures: Sequence[Figure]) -> str:
    """Notes, each once, with the lines that it stands for."""
    notes: dict[str, list[str]] = {}
    for one in figures:
        if one.note:
            notes.setdefault(one.note, []).append(f"{one.name}, {one.what}")
    return "\n".join(f"- {'; '.join(dict.fromkeys(lines))}: {note}." for note, lines in notes.items())


def _machine() -> str:
    """Processor, memory, and versions of what was measured; no name of the machine."""
    ours = {name: importlib.metadata.version(name) for name in PACKAGES}
    peers = versions()
    there = [f"{name} {version}" for name, version in peers.items() if version is not None]
    lacking = [name for name, version in peers.items() if version is None]
    python = f"{platform.python_implementation()} {platform.python_version()}"
    lines = [
        f"Measured on {datetime.now(UTC):%Y-%m-%d}: {_processor()}, {cores()} cores, {_memory():.0f} GB, "
        f"{platform.system()}; {python}, {', '.join(f'{name} {version}' for name, version in ours.items())}.",
        f"Compared with {', '.join(there)}.",
    ]
    if lacking:
        lines.append(f"Not installed, so missing: {', '.join(lacking)}.")
    return "\n".join(lines)


def _pace(paces: Mapping[str, Sequence[float]]) -> str:
    """How fast the machine was from part to part."""
    least = min(map(min, paces.values()))
    told = [
        f"{name} {median(found) / least:.2f} to {max(found) / least:.2f}" for name, found in paces.items()
    ]
    return fill(
        "Others may use the machine too. A piece of plain Python, always the same, took so many times the least time "
        f"that it needs here ({least:.1f} ms), median to most: {', '.join(told)}. Ratios are taken in turn and hold; "
        "what is compared with a fixed limit is to be read with that.",
        120,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _processor() -> str:
    return _value("/proc/cpuinfo", "model name") or platform.processor() or platform.machine()


def _memory() -> float:
    kilobytes = _value("/proc/meminfo", "MemTotal").split()
    return float(kilobytes[0]) / 1024**2 if kilobytes else float("nan")


def _value(path: str, name: str) -> str:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")


def write_plot(figures: Sequence[Figure], path: Path) -> bool:
    """Bars of how many times faster ours is, on a logarithmic axis; False if there is nothing to plot."""
    chosen = [one for one in figures if one.plot and one.ratio is not None]
    if not chosen:
        return False
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    height = 0.9 + 0.4 * len(chosen) + 0.5 * len(_grouped(chosen))
    figure, axes = pyplot.subplots(figsize=(10, height))
    figure.subplots_adjust(left=0.36, right=0.985, top=1 - 0.1 / height, bottom=0.6 / height)
    places, labels, place = [], [], 0.0
    for bench, group in _grouped(chosen):
        place += 0.3
        axes.text(
            -0.015, place, bench, weight="bold", transform=axes.get_yaxis_transform(), va="center", ha="right"
        )
        for one in group:
            place += 1.0
            _bar(axes, place, one)
            places.append(place)
            labels.append(_label(one))
        place += 1.0
    axes.set_yticks(places, labels, fontsize=9)
    axes.set_xscale("log")
    ratios = [value for one in chosen for value in (one.ratio, one.wanted) if value]
    low, high = min(0.5, 0.7 * min(ratios)), 1.2 * max(ratios)
    axes.set_xlim(low, high * (high / low) ** ROOM_FOR_TEXT)
    axes.set_ylim(place, -0.4)
    axes.axvline(1.0, color=MARK, linewidth=0.8)
    axes.set_xlabel("times as fast as the peer named (bar), and as wanted (mark)")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}×")
    axes.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
    return True


def _bar(axes: "Axes", place: float, one: Figure) -> None:
    ratio = one.ratio or 1.0
    axes.barh(place, ratio - 1.0, left=1.0, height=0.62, color=OURS if ratio >= 1 else THEIRS)
    told = f"{number(ratio)}×   {number(one.theirs or 0)} → {number(one.ours)} {one.unit}"
    axes.annotate(
        told,
        (max(ratio, one.wanted or 1.0, 1.0), place),
        (6, 0),
        textcoords="offset points",
        va="center",
        size=9,
    )
    if one.wanted is not None:
        axes.plot([one.wanted] * 2, [place - 0.42, place + 0.42], color=MARK, linewidth=2.0)


def _label(one: Figure) -> str:
    return fill(f"{one.what} vs {one.peer}", 48)
