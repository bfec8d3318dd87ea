"""Products written: ours into the store, astropy and CCDData; and what sha256 and bare writing take alone."""

import functools
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty
from numpy.typing import NDArray

from bench.harness import Figure, alternate, compared, memory_above
from ccdflow.archive.fits.productfile import InputNote, Origin, write_product
from ccdflow.archive.fits.shares import coded_shares
from ccdflow.archive.store import Store
from ccdflow.recipes.core.dq import excluded
from ccdflow.recipes.core.image import Image
from ccdflow.recipes.core.recipe import Output

SIZES = ((1024, 1024), (2048, 2048), (4096, 4096))
KEY = "0123456789abcdef" * 4
CARDS = 100
"""Cards of a raw header that still hold."""


@dataclass(frozen=True)
class _Work:
    """One product, written in each way."""

    folder: Path
    disk: Path
    output: Output
    origin: Origin
    shares: NDArray[np.uint8]

    @classmethod
    def of(cls, shape: tuple[int, int], folder: Path, disk: Path) -> "_Work":
        random = np.random.default_rng(6)
        data = random.normal(100, 10, shape).astype(np.float32)
        dq = (random.random(shape) < 1e-3).astype(np.uint16)
        header = {f"KEY{number:04d}": number * 1.25 for number in range(CARDS)}
        origin = Origin(KEY, "science", "2", [InputNote("main", "a.fits", KEY)] * 4, header=header)
        image = Image(data, np.abs(data) + 9, dq, "electron")
        masters = data * np.float32(0.01)
        shares = coded_shares(masters, image.variance).codes
        return cls(folder, disk, Output(image, calibration_variance=masters), origin, shares)

    def write(self) -> None:
        """As the peers do: neither sha256 nor fsync."""
        with (self.folder / "ours.fits").open("wb") as stream:
            write_product(stream, self.output, self.origin)

    def store(self) -> None:
        """Into the store, on the disk: sha256, fsync and rename."""
        write = functools.partial(write_product, output=self.output, origin=self.origin)
        Store(self.disk).write("ours.fits", KEY, write)

    def astropy(self) -> None:
        """The same planes as HDUs with checksums."""
        image = self.output.image
        assert image is not None
        planes = {
            "MASK": image.dq.astype(np.uint8),
            "UNCERT": np.sqrt(image.variance),
            "CALVAR": self.shares,
        }
        primary = fits.PrimaryHDU(image.data)
        primary.header.update(self.origin.header)
        hdus = fits.HDUList([primary, *(fits.ImageHDU(plane, name=name) for name, plane in planes.items())])
        hdus.writeto(self.folder / "astropy.fits", overwrite=True, checksum=True)

    def ccddata(self) -> None:
        """Data, uncertainty and mask."""
        image = self.output.image
        assert image is not None
        ccd = CCDData(
            image.data,
            uncertainty=StdDevUncertainty(np.sqrt(image.variance)),
            mask=excluded(image.dq),
            unit="electron",
        )
        ccd.header.update(self.origin.header)
        ccd.write(self.folder / "ccddata.fits", overwrite=True)

    def digest(self) -> None:
        """sha256 of as many bytes, and no more."""
        hashlib.sha256((self.folder / "ours.fits").read_bytes()).hexdigest()

    def bare(self) -> None:
        """As many bytes to the disk, with fsync, and no more."""
        content = memoryview((self.folder / "ours.fits").read_bytes())
        with (self.disk / "bare").open("wb", buffering=0) as stream:
            while content:
                content = content[stream.write(content) :]
            os.fsync(stream.fileno())


def measure(quick: bool, folder: Path, disk: Path, repeats: int) -> Iterator[Figure]:
    """Figures of all sizes."""
    for shape in SIZES[:2] if quick else SIZES:
        work = _Work.of(shape, folder, disk)
        name = f"{shape[0]}x{shape[1]} product"
        work.write()
        with memory_above() as peak:
            work.store()
        subjects = (work.write, work.store, work.astropy, work.ccddata, work.digest, work.bare)
        found = alternate({one.__name__: one for one in subjects}, repeats)
        for peer, label in (("astropy", "astropy HDUList + checksum"), ("ccddata", "CCDData.write, no DQ")):
            yield compared(name, "planes to file, no fsync", found["write"], label, found[peer])
        yield compared(
            name, "into the store, fsync and sha256", found["store"], "sha256 alone", found["digest"]
        )
        yield compared(
            name, "into the store, fsync and sha256", found["store"], "bare write + fsync", found["bare"]
        )
        yield Figure(name, "memory above the planes", peak[0], "MB")
