"""`ccdflow report`: what a product is, on one page: picture, quality and its trend, inputs, parameters."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from ccdflow.archive.fits.productfile import read_image, read_product
from ccdflow.archive.fits.rawfile import UnreadableFrameError, open_raw
from ccdflow.archive.registry.jobs import find_job
from ccdflow.archive.registry.lineage import main_frames
from ccdflow.archive.registry.products import ProductFilter, ProductRecord, find_products
from ccdflow.archive.registry.queries import FrameFilter, find_frames
from ccdflow.recipes.core.preview import png, preview
from ccdflow.tasks.nightlog import data_uri
from ccdflow.tasks.workspace import Workspace

MOST_RAW = 12
"""Raw frames that are shown of one product."""
WIDTH, HEIGHT = 180, 36
"""Pixels of a trend."""
STYLE = """
body { font: 14px/1.5 system-ui, sans-serif; color: #222; margin: 2em auto; max-width: 60em; padding: 0 1em; }
h2 { border-top: 1px solid #ddd; padding-top: 1em; margin-top: 2em; }
table { border-collapse: collapse; margin: 0.6em 0 1.2em; } td, th { padding: 0.1em 1.2em 0.1em 0; text-align: left; }
td.number { text-align: right; font-variant-numeric: tabular-nums; } .pale { color: #888; }
svg { vertical-align: middle; }
img { max-width: 100%; background: #000; } .raw { display: flex; flex-wrap: wrap; gap: 0.6em; }
.raw figure { margin: 0; width: 13em; } figcaption { font-size: 12px; color: #666; overflow-wrap: anywhere; }
"""


def report(space: Workspace, ids: Sequence[int], *, raw: bool = False) -> str:
    """A page of HTML that needs no other file.

    Parameters
    ----------
    ids : sequence of int
        Products.
    raw : bool
        Whether the raw frames of the main input are shown too.
    """
    by_id = {one.id: one for one in space.registry.read(find_products, ProductFilter(ids=ids, states=None))}
    found = [by_id[one] for one in ids if one in by_id]
    title = ", ".join(f"p{one.id}" for one in found)
    body = "\n".join(part for one in found for part in _section(space, one, raw=raw))
    head = f'<!doctype html><meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
    return f"{head}\n<h1>{escape(space.project.directory.name)}</h1>\n{body}\n"


def _section(space: Workspace, one: ProductRecord, *, raw: bool) -> Iterator[str]:
    where = " ".join(word for word in (one.telescope, one.camera, one.object, one.filter, one.night) if word)
    yield f"<h2>p{one.id} {escape(one.category)}</h2><p>{escape(where)} <span class=pale>{escape(one.path)}</span></p>"
    path = space.store.absolute(one.path)
    if one.state != "done" or not path.is_file():
        yield f"<p>Its file is not there ({one.state}).</p>"
    else:
        yield from _picture(path)
    if one.superseded_by is not None:
        yield f"<p>p{one.superseded_by} has taken its place.</p>"
    yield from _quality(space, one)
    yield from _made_by(space, one)
    if raw:
        yield from _raw_frames(space, one)


def _picture(path: Path) -> Iterator[str]:
    product = read_product(path)
    if product.image is not None:
        image = read_image(product)
        yield _img(png(preview(image.data, image.dq, most=900)))
    elif product.table is not None:
        yield _table(list(product.table), list(zip(*product.table.values(), strict=True)))


def _img(picture: bytes) -> str:
    return f'<img alt="" src="{data_uri(picture)}">'


def _quality(space: Workspace, one: ProductRecord) -> Iterator[str]:
    """Quality numbers, each with those of the products of its kind, in order of time."""
    if not one.quality:
        return
    kin = [
        other
        for other in space.registry.read(find_products, ProductFilter(category=one.category))
        if (other.telescope, other.camera, other.filter) == (one.telescope, one.camera, one.filter)
    ]
    kin.sort(key=lambda other: (other.obsdate, other.id))
    rows = []
    for name, value in one.quality.items():
        values = [other.quality.get(name) for other in kin]
        place = next((number for number, other in enumerate(kin) if other.id == one.id), None)
        rows.append(f"<tr><td>{escape(name)}<td class=number>{_number(value)}<td>{_trend(values, place)}")
    among = f"among {len(kin)} of its kind" if len(kin) > 1 else ""
    head = f"<tr><th>number<th>value<th>{among}"
    yield f"<h3>Quality</h3><table>{head}{''.join(rows)}</table>"


def _trend(values: Sequence[float | None], place: int | None) -> str:
    """A line through the values of all products of a kind, this one marked."""
    known = [(number, value) for number, value in enumerate(values) if value is not None]
    if len(known) < 2:
        return ""
    low, high = min(value for _, value in known), max(value for _, value in known)
    span, last = (high - low) or 1.0, max(len(values) - 1, 1)
    points = {
        number: (4 + number / last * (WIDTH - 8), 4 + (high - value) / span * (HEIGHT - 8))
        for number, value in known
    }
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points.values())
    mark = ""
    if place in points:
        x, y = points[place]
        mark = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="#c33"/>'
    svg = f'<svg width="{WIDTH}" height="{HEIGHT}"><polyline points="{line}" fill="none" stroke="#789"/>{mark}</svg>'
    return f"{svg} <span class=pale>{_number(low)} to {_number(high)}</span>"


def _made_by(space: Workspace, one: ProductRecord) -> Iterator[str]:
    job = space.registry.read(find_job, one.job_key)
    if job is None:
        return
    ids = [each.frame for each in job.inputs if each.frame is not None]
    paths = {
        frame.id: frame.path or ""
        for frame in space.registry.read(find_frames, FrameFilter(status=None, ids=ids))
    }
    keys = [each.job for each in job.inputs if each.job is not None]
    made = {
        each.job_key: each
        for each in space.registry.read(find_products, ProductFilter(job_keys=keys, states=None))
    }
    rows: list[tuple[Any, ...]] = []
    for each in job.inputs:
        product = made.get(each.job or "")
        name = (
            f"p{product.id} {product.path}"
            if product
            else f"f{each.frame} {Path(paths.get(each.frame or 0, '')).name}"
        )
        rows.append((each.role, name, "" if each.level is None else each.level))
    yield f"<h3>Made by</h3><p>{escape(job.step)}, recipe {escape(job.recipe)} {escape(job.version)}, "
    yield f"{escape(job.finished_at[:19])}, worst level {job.worst_level}</p>"
    yield _table(("input", "what", "level"), rows)
    yield _table(("parameter", "value", "origin"), _parameters(job.parameters))


def _parameters(found: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    return [(name, one["value"], one["origin"]) for name, one in found.items()]


def _raw_frames(space: Workspace, one: ProductRecord) -> Iterator[str]:
    ids = space.registry.read(main_frames, one.job_key)
    frames = space.registry.read(find_frames, FrameFilter(status=None, ids=ids))
    yield f"<h3>Raw frames</h3><p>{min(len(frames), MOST_RAW)} of {len(frames)}</p><div class=raw>"
    for frame in frames[:MOST_RAW]:
        try:
            pixels = np.asarray(open_raw(Path(frame.path or "")).pixels)
            shown = _img(png(preview(pixels.astype(np.float32), most=300)))
        except (UnreadableFrameError, OSError) as error:
            shown = escape(str(error))
        yield f"<figure>{shown}<figcaption>f{frame.id} {escape(Path(frame.path or '').name)}</figcaption></figure>"
    yield "</div>"


def _number(value: Any) -> str:
    return "" if value is None else f"{value:.6g}"


def _table(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    head = "".join(f"<th>{escape(name)}" for name in names)
    cells = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}" for cell in row) for row in rows)
    return f"<table><tr>{head}{cells}</table>"
