"""Forms in which a calibrated frame could be written: which planes, in which order, as what kind of HDU.

`FORMS` has them by a letter and what is in them. They are made of frames that were written as products and read again,
so that their headers are those of products.
"""

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from bench.peeruses import Wanted
from ccdflow.archive.fits.productfile import Origin, read_image, read_product, write_product
from ccdflow.recipes.core.dq import DQ, excluded
from ccdflow.recipes.core.image import Image
from ccdflow.recipes.core.recipe import Card, Output
from ccdflow.tasks.provenance.process import process_notes

SHAPE = (256, 256)
FRAMES = 3
SKY, READ_NOISE, MASTERS = 200.0, 8.0, 2.0
"""electron; electron; electron squared, the part of the variance that the masters brought."""
FLUX, FWHM, STEP, EDGE = 20_000.0, 3.0, 32, 20
"""Stars: electron, pixels, pixels from one to the next, pixels from the border to the first."""
STUCK, HOT = 77, 9000.0
"""Column of bad pixels, and what stands in them: electron above the sky."""
LEAST_SHARE = 1e-5
"""Share of the masters in the variance below which it counts as none, where it is written as 8 bits."""
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Frame:
    """A calibrated frame in memory, and what its header says."""

    image: Image
    masters: Floats
    header: fits.Header
    provenance: fits.BinTableHDU
    product: Path

    @property
    def deviation(self) -> Floats:
        """Standard deviation of each pixel, electron."""
        return np.sqrt(self.image.variance)


# Frames


def made_frames(folder: Path) -> list[Frame]:
    """Calibrated frames as the recipe ``science`` gives them, written and read again so that the header is ours."""
    return [_read_back(_product(folder / f"product_{number}.fits", number)) for number in range(FRAMES)]


def _light() -> NDArray[np.float64]:
    light = np.full(SHAPE, SKY)
    y, x = np.indices(SHAPE)
    sigma = FWHM / 2.3548
    for j in range(EDGE, SHAPE[0] - EDGE, STEP):
        for i in range(EDGE, SHAPE[1] - EDGE, STEP):
            light += FLUX / (2 * math.pi * sigma**2) * np.exp(-((x - i) ** 2 + (y - j) ** 2) / (2 * sigma**2))
    return light


def _product(path: Path, number: int) -> Path:
    rng = np.random.default_rng(number)
    light = _light()
    data = rng.poisson(light) + rng.normal(0, READ_NOISE, SHAPE)
    dq = np.zeros(SHAPE, np.uint16)
    data[:, STUCK] += HOT
    dq[:, STUCK] = DQ.BAD_PIXEL
    # Of all pixels alike, so that the error of a sum is known without the noise of its own estimate.
    variance = light + READ_NOISE**2 + MASTERS
    image = Image(data.astype(np.float32), variance.astype(np.float32), dq, "electron")
    world: dict[str, float | str] = {
        "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.0, "CRVAL2": 2.0,
        "CRPIX1": 128.5, "CRPIX2": 128.5, "CD1_1": -1e-4, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 1e-4,
    }  # fmt: skip
    cards: dict[str, Card] = {
        "EXPTIME": (60.0, "[s]"),
        "GAIN": (1.0, "[electron/electron]"),
        "RDNOISE": (READ_NOISE, "[electron]"),
        "CALIBID": ("masters", "identity of the masters"),
    }
    masters = np.full(SHAPE, MASTERS, np.float32)
    notes = process_notes({"overscan": {"value": "level", "origin": "recipe"}})
    # As frames of a run have them, before their GAIN.
    sources: dict[str, Card] = {"GAINSRC": ("header", ""), "GAIN01": (9.0, ""), "SATSRC": ("header", "")}
    told = {**world, "OBJECT": "field"}
    origin = Origin("0" * 64, "science", "1", header=told, cards=sources, process=notes)
    with path.open("wb") as stream:
        write_product(stream, Output(image, calibration_variance=masters, cards=cards), origin)
    return path


def _read_back(path: Path) -> Frame:
    product = read_product(path)
    image = read_image(product)
    # The truth, since a product has it rounded.
    masters = np.full(SHAPE, MASTERS, np.float32)
    with fits.open(path) as hdus:
        header = hdus[0].header.copy(strip=True)
        provenance = fits.BinTableHDU(hdus["PROVENANCE"].data.copy(), name="PROVENANCE")
    for card in ("CHECKSUM", "DATASUM", "NEXTEND"):
        header.remove(card, ignore_missing=True)
    return Frame(image, masters, header, provenance, path)


# Forms: each gives the files of one frame, by their names' endings


Hdus = Sequence[fits.PrimaryHDU | fits.ImageHDU | fits.CompImageHDU | fits.BinTableHDU]
Form = Callable[[Frame], Mapping[str, Hdus]]


def _plane(name: str, pixels: NDArray[np.generic], **cards: str) -> fits.ImageHDU:
    return fits.ImageHDU(pixels, fits.Header(cards), name=name)


def _data(frame: Frame) -> fits.PrimaryHDU:
    return fits.PrimaryHDU(frame.image.data, frame.header)


def _variance(frame: Frame, dtype: str = "f4") -> fits.ImageHDU:
    kind = {"UTYPE": "VarianceUncertainty", "BUNIT": "electron2"}
    return _plane("UNCERT", frame.image.variance.astype(dtype), **kind)


def _deviation(frame: Frame, dtype: str = "f4") -> fits.ImageHDU:
    """Standard deviations; as integers the range between 0 and the largest one is divided evenly."""
    kind = {"UTYPE": "StdDevUncertainty", "BUNIT": "electron"}
    hdu = _plane("UNCERT", frame.deviation, **kind)
    if dtype != "f4":
        limits = np.iinfo(dtype)
        step = float(frame.deviation.max()) / (int(limits.max) - int(limits.min) - 2)
        # In double precision, or the largest of 32 bits would be rounded to a number beyond them.
        hdu.data = frame.deviation.astype(np.float64)
        hdu.scale(dtype, bscale=step, bzero=-(limits.min + 1) * step)
    return hdu


def _share(frame: Frame) -> fits.BinTableHDU:
    """Logarithm of the masters' share of the variance in 8 bits, right within 2.3 %, where no program looks for images.

    A column's TSCAL and TZERO make decimal logarithms of the numbers 1 to 255; 0 says that masters brought nothing.
    """
    step = -math.log10(LEAST_SHARE) / 254
    share = frame.masters / frame.image.variance
    steps = np.rint(np.log10(np.maximum(share, LEAST_SHARE)) / step) + 255
    hdu = _table(_plane("CALVAR", np.where(share > 0, steps, 0).astype(np.uint8)))
    hdu.header.update({"TSCAL1": step, "TZERO1": -255 * step, "TNULL1": 0})
    return hdu


def _bits(frame: Frame) -> fits.ImageHDU:
    """Bits that exclude a pixel, by name of what `astropy.nddata` looks for: not 0 is masked."""
    return _plane("MASK", np.where(excluded(frame.image.dq), frame.image.dq, 0).astype(np.uint16))


def _flags(frame: Frame) -> fits.ImageHDU:
    return _plane("MASK", excluded(frame.image.dq).astype(np.uint8))


def _alone(frame: Frame) -> Mapping[str, Hdus]:
    return {"": [_data(frame)]}


def _today(frame: Frame) -> Mapping[str, Hdus]:
    dq = _plane("DQ", frame.image.dq)
    masters = _plane("CALVAR", frame.masters, BUNIT="electron2")
    return {"": [_data(frame), _variance(frame), _flags(frame), dq, masters]}


def _bits_in_mask(frame: Frame) -> Mapping[str, Hdus]:
    return {"": [_data(frame), _variance(frame), _bits(frame)]}


def _mask_first(frame: Frame) -> Mapping[str, Hdus]:
    return {"": [_data(frame), _bits(frame), _variance(frame)]}


def _empty_primary(frame: Frame) -> Mapping[str, Hdus]:
    header = frame.header.copy()
    science = fits.ImageHDU(
        frame.image.data, fits.Header({"BUNIT": "electron"}) + world_of(header), name="SCI"
    )
    del header["BUNIT"]
    return {"": [fits.PrimaryHDU(None, header), science, _variance(frame), _bits(frame)]}


def world_of(header: fits.Header) -> fits.Header:
    """Cards of the world coordinates."""
    return fits.Header([card for card in header.cards if card.keyword[:2] in ("CT", "CR", "CD")])


def _world_in_planes(frame: Frame) -> Mapping[str, Hdus]:
    hdus = _bits_in_mask(frame)[""]
    for hdu in hdus[1:]:
        hdu.header.update(world_of(frame.header))
        hdu.header["INHERIT"] = True
    return {"": hdus}


def _beside(frame: Frame) -> Mapping[str, Hdus]:
    planes = [_variance(frame), _bits(frame)]
    return {"": [_data(frame)], ".planes": [fits.PrimaryHDU(), *planes]}


def _as_tables(frame: Frame) -> Mapping[str, Hdus]:
    return {"": [_data(frame), *(_table(hdu) for hdu in (_variance(frame), _flags(frame)))]}


def _table(hdu: fits.ImageHDU) -> fits.BinTableHDU:
    code = {"f": "E", "u": "B"}[hdu.data.dtype.kind]
    shape = hdu.data.shape
    column = fits.Column("PLANE", f"{hdu.data.size}{code}", dim=str(shape[::-1]), array=hdu.data[None])
    return fits.BinTableHDU.from_columns([column], name=hdu.name)


def _compressed_mask(frame: Frame) -> Mapping[str, Hdus]:
    mask = fits.CompImageHDU(_bits(frame).data, name="MASK", compression_type="GZIP_1")
    return {"": [_data(frame), mask, _deviation(frame), _share(frame)]}


def _deviations(frame: Frame) -> Mapping[str, Hdus]:
    return {"": [_data(frame), _deviation(frame), _bits(frame)]}


def _integers(dtype: str) -> Form:
    return lambda frame: {"": [_data(frame), _bits(frame), _deviation(frame, dtype), _share(frame)]}


def _small_mask_first(frame: Frame) -> Mapping[str, Hdus]:
    """The bits as 8-bit numbers where they are: those above 128 are of stacks, and of edges that are cut off."""
    bits = _bits(frame).data
    mask = _plane("MASK", bits.astype(np.uint8 if bits.max() < 256 else np.uint16))
    return {"": [_data(frame), mask, _deviation(frame), _share(frame)]}


def _ours(frame: Frame) -> Mapping[str, Hdus]:
    """What the product's file holds: IRAF asks which extension only where the first is an image, gnuastro takes it."""
    return {"": fits.open(frame.product)}


FORMS: Mapping[str, Form] = {
    "data alone": _alone,
    "a: UNCERT, MASK, DQ, CALVAR": _today,
    "b: DQ's bits in MASK": _bits_in_mask,
    "b2: MASK before UNCERT": _mask_first,
    "c: empty primary, SCI": _empty_primary,
    "d: WCS in planes": _world_in_planes,
    "d2: EXTEND = F": _bits_in_mask,
    "e: planes beside": _beside,
    "f: planes as tables": _as_tables,
    "g: deviation": _deviations,
    "h: deviation, 32-bit integers": _integers("int32"),
    "i: deviation, 16-bit integers": _integers("int16"),
    "j: MASK compressed and first": _compressed_mask,
    "k: 8-bit MASK first, deviation": _small_mask_first,
    "l: as we write, PROVENANCE before": _ours,
}


def write_form(name: str, frames: Sequence[Frame], folder: Path) -> list[Path]:
    """Write frames in a form; the paths of their main files."""
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames):
        if FORMS[name] is _ours:
            shutil.copyfile(frame.product, folder / f"light_{number + 1:05d}.fits")
            continue
        for ending, hdus in FORMS[name](frame).items():
            path = folder / f"light_{number + 1:05d}{ending}.fits"
            last = [] if FORMS[name] is _alone else [frame.provenance]
            fits.HDUList([*hdus, *last]).writeto(path, checksum=True)
            if "EXTEND = F" in name:
                path.write_bytes(_without_extend(path.read_bytes()))
    return [folder / f"light_{number + 1:05d}.fits" for number in range(len(frames))]


def _without_extend(content: bytes) -> bytes:
    stated = b"EXTEND  =                    T"
    return content.replace(stated, stated[:-1] + b"F", 1)


def wanted_of(frames: Sequence[Frame]) -> Wanted:
    """The truth that peers are held against."""
    image = frames[0].image
    bad = excluded(image.dq)
    good = image.variance[~bad].astype(float)
    return Wanted(
        median=float(np.median(image.data)),
        masked=int(bad.sum()),
        variance=float(np.median(image.variance)),
        mean_error=math.sqrt(float(good.sum())) / good.size,
        position=(float(EDGE + STEP), float(EDGE + STEP)),
        sum_error=lambda inside: math.sqrt(float((image.variance * inside).sum())),
    )
