"""`ccdflow report`: what a product is, on one page: picture, quality and its trend, inputs, parameters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ccdflow.archive.fits.productfile import read_image, read_product
from ccdflow.archive.fits.rawfile import open_raw
from ccdflow.archive.foreignfile import UnreadableFrameError, own_fault
from ccdflow.archive.registry.frames.queries import FrameFilter, find_frames
from ccdflow.archive.registry.jobs.lineage import main_frames
from ccdflow.archive.registry.jobs.productdoubts import find_product_doubts
from ccdflow.archive.registry.jobs.products import ProductFilter, ProductRecord, find_products
from ccdflow.archive.registry.jobs.records import JobRecord, find_job
from ccdflow.cascade.records import FrameRecord
from ccdflow.commands.pages import render
from ccdflow.recipes.core.preview import png, preview
from ccdflow.recipes.core.recipe import InputProduct
from ccdflow.tasks.nightlog import data_uri
from ccdflow.tasks.workspace import Workspace

TEMPLATE = "report.html.j2"
MOST_RAW = 12
"""Raw frames that are shown of one product."""
MOST_PRODUCT, MOST_FRAME = 900, 300
"""Rows and columns of the picture of a product, and of a raw frame."""
WIDTH, HEIGHT, MARGIN = 180, 36, 4
"""Pixels of a trend; the mark of this product needs a margin."""


# --- what the page shows ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    """Rows under their names."""

    names: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True)
class Trend:
    """A line through the values of all products of a kind: points in pixels of its drawing, this product's marked."""

    points: Sequence[tuple[float, float]]
    mark: tuple[float, float] | None
    low: float
    high: float
    width: int = WIDTH
    height: int = HEIGHT


@dataclass(frozen=True)
class Quantity:
    """A quality number of the product."""

    name: str
    value: float | None
    trend: Trend | None


@dataclass(frozen=True)
class MadeBy:
    """The job that made the product."""

    job: JobRecord
    inputs: Table
    parameters: Table


@dataclass(frozen=True)
class RawPicture:
    """A raw frame: its picture, or the sentence that says why there is none."""

    id: int
    name: str
    picture: str = ""
    problem: str = ""


@dataclass(frozen=True)
class RawFrames:
    """The first raw frames behind the main input, and how many there are in all."""

    shown: Sequence[RawPicture]
    number: int


@dataclass(frozen=True)
class ProductSection:
    """All that the page says of one product."""

    product: ProductRecord
    subject: str
    doubts: Sequence[str]
    is_there: bool
    picture: str
    table: Table | None
    quality: Sequence[Quantity]
    kin: int
    origin: MadeBy | None
    raw: RawFrames | None


def report(space: Workspace, ids: Sequence[int], *, raw: bool = False) -> str:
    """Return a page of HTML that needs no other file.

    Parameters
    ----------
    space : Workspace
        The project.
    ids : sequence of int
        Products, in the order of the page; those that are not in the registry are left out.
    raw : bool
        Whether the raw frames of the main input are shown too.
    """
    by_id = {one.id: one for one in space.registry.read(find_products, ProductFilter(ids=ids, states=None))}
    products = [by_id[product] for product in ids if product in by_id]
    return render(
        TEMPLATE,
        title=", ".join(f"p{product.id}" for product in products),
        project=space.project.directory.name,
        sections=[_section(space, product, raw=raw) for product in products],
    )


# --- how it is gathered -----------------------------------------------------------------------------------


def _section(space: Workspace, product: ProductRecord, *, raw: bool) -> ProductSection:
    place = (product.telescope, product.camera, product.object, product.filter, product.night)
    path = space.store.absolute(product.path)
    file = read_product(path) if product.state == "done" and path.is_file() else None
    kin = _kin(space, product) if product.quality else []
    doubts = space.registry.read(find_product_doubts, [product.id]).get(product.id, ())
    return ProductSection(
        product=product,
        subject=" ".join(word for word in place if word),
        doubts=[str(doubt) for doubt in doubts],
        is_there=file is not None,
        picture=_picture(file) if file else "",
        table=_content(file) if file else None,
        quality=_quality(product, kin),
        kin=len(kin),
        origin=_origin(space, product),
        raw=_raw_frames(space, product) if raw else None,
    )


def _picture(file: InputProduct) -> str:
    if file.image is None:
        return ""
    image = read_image(file)
    return data_uri(png(preview(image.data, image.dq, most=MOST_PRODUCT)))


def _content(file: InputProduct) -> Table | None:
    if file.image is not None or file.table is None:
        return None
    return Table(list(file.table), list(zip(*file.table.values(), strict=True)))


def _kin(space: Workspace, one: ProductRecord) -> list[ProductRecord]:
    """The products of the same kind, this one among them, in order of time."""
    kin = [
        other
        for other in space.registry.read(find_products, ProductFilter(category=one.category))
        if (other.telescope, other.camera, other.filter) == (one.telescope, one.camera, one.filter)
    ]
    return sorted(kin, key=lambda other: (other.obsdate, other.id))


def _quality(product: ProductRecord, kin: Sequence[ProductRecord]) -> list[Quantity]:
    """Quality numbers, each with those of the products of its kind."""
    place = next((number for number, other in enumerate(kin) if other.id == product.id), None)
    return [
        Quantity(name, value, _trend([other.quality.get(name) for other in kin], place))
        for name, value in product.quality.items()
    ]


def _trend(values: Sequence[float | None], place: int | None) -> Trend | None:
    """A line through those values that are known, the one at `place` marked; none through less than two."""
    known = {number: value for number, value in enumerate(values) if value is not None}
    if len(known) < 2:
        return None
    low, high = min(known.values()), max(known.values())
    # Values that are all the same make a line at the upper edge.
    span, last = (high - low) or 1.0, max(len(values) - 1, 1)
    points = {
        number: (
            MARGIN + number / last * (WIDTH - 2 * MARGIN),
            MARGIN + (high - value) / span * (HEIGHT - 2 * MARGIN),
        )
        for number, value in known.items()
    }
    mark = None if place is None else points.get(place)
    return Trend(list(points.values()), mark, low, high)


def _origin(space: Workspace, one: ProductRecord) -> MadeBy | None:
    job = space.registry.read(find_job, one.job_key)
    if job is None:
        return None
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
    for taken in job.inputs:
        product = made.get(taken.job or "")
        name = (
            f"p{product.id} {product.path}"
            if product
            else f"f{taken.frame} {Path(paths.get(taken.frame or 0, '')).name}"
        )
        rows.append((taken.role, name, "" if taken.level is None else taken.level))
    return MadeBy(job, Table(("input", "what", "level"), rows), _parameters(job.parameters))


def _parameters(parameters: Mapping[str, Any]) -> Table:
    rows = [(name, resolved["value"], resolved["origin"]) for name, resolved in parameters.items()]
    return Table(("parameter", "value", "origin"), rows)


def _raw_frames(space: Workspace, one: ProductRecord) -> RawFrames:
    ids = space.registry.read(main_frames, one.job_key)
    frames = space.registry.read(find_frames, FrameFilter(status=None, ids=ids))
    return RawFrames([_raw_picture(frame) for frame in frames[:MOST_RAW]], len(frames))


def _raw_picture(frame: FrameRecord) -> RawPicture:
    path = Path(frame.path or "")
    try:
        with own_fault(path):
            pixels = np.asarray(open_raw(path).pixels)
            picture = data_uri(png(preview(pixels.astype(np.float32), most=MOST_FRAME)))
    except (UnreadableFrameError, OSError) as error:
        return RawPicture(frame.id, path.name, problem=str(error))
    return RawPicture(frame.id, path.name, picture)
