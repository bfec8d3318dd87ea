"""Pictures of products, as pages and dashboards show them without any other file."""

from base64 import b64encode

from ccdflow.archive.fits.productfile import read_image, read_product
from ccdflow.archive.registry.products import ProductRecord
from ccdflow.recipes.core.preview import png, preview
from ccdflow.tasks.workspace import Workspace

MOST = 480
"""Rows and columns of a picture on a dashboard."""


def data_uri(picture: bytes) -> str:
    """A PNG file as an address that holds it."""
    return f"data:image/png;base64,{b64encode(picture).decode()}"


def picture_of(space: Workspace, one: ProductRecord, most: int = MOST) -> str:
    """The picture of a product's image as an address; empty where it has none, or its file is not there."""
    path = space.store.absolute(one.path)
    if one.state != "done" or not path.is_file():
        return ""
    product = read_product(path)
    if product.image is None:
        return ""
    image = read_image(product)
    return data_uri(png(preview(image.data, image.dq, most=most)))
