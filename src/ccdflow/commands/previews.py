"""Pictures of a reduction: one frame raw, calibrated, and the stack that it went into."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ccdflow.archive.fits.productfile import read_image, read_product
from ccdflow.archive.fits.rawfile import open_raw
from ccdflow.archive.registry.frames.queries import FrameFilter, find_frames
from ccdflow.archive.registry.jobs.lineage import keys_of_frames, main_frames
from ccdflow.archive.registry.jobs.products import ProductFilter, ProductRecord, find_products
from ccdflow.recipes.core.image import FloatArray
from ccdflow.recipes.core.mosaic import places
from ccdflow.recipes.core.preview import colour_preview, png, preview
from ccdflow.tasks.workspace import open_workspace


def write_previews(project: Path, directory: Path) -> list[Path]:
    """Write PNG pictures of the first frame of the largest stack: raw, calibrated, stacked; gives their paths."""
    space = open_workspace(project)
    stacks = space.registry.read(find_products, ProductFilter(category="stack"))
    if not stacks:
        return []
    frames = {stack.id: space.registry.read(main_frames, stack.job_key) for stack in stacks}
    largest = max(stacks, key=lambda stack: (len(frames[stack.id]), -stack.id))
    (frame,) = space.registry.read(find_frames, FrameFilter(ids=frames[largest.id][:1]))
    keys = space.registry.read(keys_of_frames, [frame.id])
    science = space.registry.read(find_products, ProductFilter(category="science", job_keys=keys))[0]
    raw = np.asarray(open_raw(Path(frame.path or "")).pixels)
    pictures = {
        "1-raw": png(preview(raw.astype(np.float32))),
        "2-calibrated": _picture(space.store.absolute(science.path)),
        "3-stack": _picture(space.store.absolute(largest.path)),
    }
    directory.mkdir(parents=True, exist_ok=True)
    return [
        _written(directory / f"{name}-{_label(largest)}.png", picture) for name, picture in pictures.items()
    ]


def draw(files: Sequence[Path], picture: Path) -> None:
    """Write the picture of one product, or of three in colour: red, green, blue, or by filters R, G, B."""
    products = {file: read_product(file) for file in files}
    if len(files) not in (1, 3):
        raise ValueError(f"found {len(files)} products; wanted one, or three as red, green and blue")
    if len(files) == 1:
        picture.write_bytes(_picture(files[0]))
        return
    filters = {str(product.header.get("FILTER", "")): file for file, product in products.items()}
    ordered = [filters[name] for name in "RGB"] if set(filters) == set("RGB") else files
    images = [read_image(products[file]) for file in ordered]
    planes = [
        _centred(image.data, products[file].header) for file, image in zip(ordered, images, strict=True)
    ]
    picture.write_bytes(png(colour_preview(planes, [image.dq for image in images])))


def _centred(plane: FloatArray, header: Mapping[str, Any]) -> FloatArray:
    """Return a mosaic's plane as it is in the middle of its cells, where green is: else stars have coloured edges."""
    pattern, colour = str(header.get("MOSAICOF", "")), str(header.get("FILTER", ""))
    cells = places(pattern, colour)
    if len(cells) != 1:
        return plane
    for axis, place in enumerate(cells[0]):
        # A quarter of a cell's way to the next one, which lies behind where the pixel is the cell's first.
        plane = np.float32(0.75) * plane + np.float32(0.25) * np.roll(plane, 1 if place else -1, axis)
    return plane


def _picture(path: Path) -> bytes:
    image = read_image(read_product(path))
    return png(preview(image.data, image.dq))


def _label(stack: ProductRecord) -> str:
    """Return camera, object and filter as a part of a file name."""
    return "-".join(word for word in (stack.camera, stack.object, stack.filter) if word).replace("/", "_")


def _written(path: Path, picture: bytes) -> Path:
    path.write_bytes(picture)
    return path
