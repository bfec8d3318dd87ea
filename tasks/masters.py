"""Products that many jobs take: loaded once, for all jobs and threads of the process."""

import os
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Protocol

import numpy as np

from ccdflow.archive.fits.productfile import read_product
from ccdflow.archive.patience import in_time
from ccdflow.recipes.core.image import Image, ImageSource
from ccdflow.recipes.core.recipe import InputProduct

BYTES_PER_PIXEL = 10
"""Data and variance are float32, DQ is uint16."""


class Conversion(Protocol):
    """Makes a product of ours of what a file holds; of equal ones each makes the same."""

    def __hash__(self) -> int:
        """Return the same number for equal conversions."""
        ...

    def applied(self, product: InputProduct) -> InputProduct:
        """Return the product as recipes take it.

        Parameters
        ----------
        product : InputProduct
            As its file has it, its pixels on demand.
        """
        ...


Identity = tuple[str, int, int, int, Conversion | None]
"""Path, inode, size and time of the last change of a file (another content has another), and what is made of it."""


class ProductCache:
    """Products in memory, whole; those that were not asked for longest are forgotten when they take too much.

    Parameters
    ----------
    budget : int
        Bytes that all products together may take. One that takes more by itself is not loaded: its rows are
        read when they are asked for.
    read : callable
        Reads a product, its pixels on demand.
    """

    def __init__(self, budget: int, read: Callable[[Path], InputProduct] = read_product) -> None:
        self.budget = budget
        self._read = read
        self._lock = Lock()
        self._known: OrderedDict[Identity, Future[tuple[InputProduct, int]]] = OrderedDict()

    def product(self, path: Path, conversion: Conversion | None = None) -> InputProduct:
        """Return the product in a file: the same object, as long as the file is the same and the product is kept.

        Threads that ask for the same product at the same time wait for one to load it.

        Parameters
        ----------
        path : Path
            The file.
        conversion : Conversion, optional
            What makes a product of ours of it, once for all jobs.

        Returns
        -------
        InputProduct
            Its pixels are read-only, since many jobs share them.

        Raises
        ------
        ProductFileError
            If the file is no product, or a damaged one.
        """
        facts = in_time(path, lambda: path.stat() if path.is_file() else None)
        if facts is None:
            return self._converted(path, conversion)
        identity = str(path), facts.st_ino, facts.st_size, facts.st_ctime_ns, conversion
        # The lock is held for looking only. Whoever puts the promise in loads; all others wait for the promise, not for
        # the lock, so that other masters are loaded meanwhile.
        with self._lock:
            known = self._known.get(identity)
            mine = known is None
            if known is None:
                known = self._known[identity] = Future()
            self._known.move_to_end(identity)
        if mine:
            self._load(path, identity, known)
        return known.result()[0]

    def _converted(self, path: Path, conversion: Conversion | None) -> InputProduct:
        product = self._read(path)
        return product if conversion is None else conversion.applied(product)

    def _load(self, path: Path, identity: Identity, wanted: Future[tuple[InputProduct, int]]) -> None:
        try:
            product, size = loaded(self._converted(path, identity[-1]), self.budget)
        except BaseException as error:  # those who wait must hear of an interrupt, too
            with self._lock:
                del self._known[identity]
            wanted.set_exception(error)
            return
        wanted.set_result((product, size))
        self._forget(identity)

    def _forget(self, newest: Identity) -> None:
        with self._lock:
            # In the order in which they were asked for last: the first have rested longest.
            sizes = {identity: known.result()[1] for identity, known in self._known.items() if known.done()}
            total = sum(sizes.values())
            for identity, size in sizes.items():
                if total <= self.budget:
                    break
                if identity != newest:
                    del self._known[identity]
                    total -= size


def loaded(product: InputProduct, budget: int) -> tuple[InputProduct, int]:
    """Load the pixels of a product, unless they take more than a budget.

    Parameters
    ----------
    product : InputProduct
        Its image, if it has one, has the shape ``(ny, nx)``.
    budget : int
        Bytes.

    Returns
    -------
    InputProduct, int
        The product with its pixels in memory, read-only, and the bytes that they take; as it was, and 0, where it has
        no image or that is larger than the budget.
    """
    if product.image is None:
        return product, 0
    ny, nx = product.image.shape
    size = ny * nx * BYTES_PER_PIXEL
    if size > budget:
        return product, 0
    image = in_memory(product.image)
    for plane in (image.data, image.variance, image.dq):
        plane.flags.writeable = False
    return replace(product, image=image), size


def in_memory(source: ImageSource) -> Image:
    """Read all pixels of an image source.

    Parameters
    ----------
    source : ImageSource
        Of the shape ``(ny, nx)``.

    Returns
    -------
    Image
        Data and variance as float32, DQ as uint16, in the machine's byte order and contiguous, as kernels take them.
    """
    image = source.rows(slice(0, source.shape[0]))
    return Image(
        np.ascontiguousarray(image.data, np.float32),
        np.ascontiguousarray(image.variance, np.float32),
        np.ascontiguousarray(image.dq, np.uint16),
        image.unit,
    )


def _quarter_of_memory() -> int:
    """Bytes; the rest is for what jobs work on."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4


MASTERS = ProductCache(_quarter_of_memory())
"""The cache of this process, of all its jobs and threads."""
