"""Write products for a program: one at a time, whole or not at all, twice without a change."""

import hashlib
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ccdflow.archive.fits.productfile import ProductFileError, read_image, read_product
from ccdflow.archive.registry.jobs.products import ProductRecord
from ccdflow.archive.search.parts import fits_header
from ccdflow.recipes.core.recipe import InputProduct
from ccdflow.tasks.exporting.images import WEIGHTED, WRITERS, Given, largest
from ccdflow.tasks.exporting.scripts import SCRIPTS, Frame
from ccdflow.tasks.workspace import Workspace

if TYPE_CHECKING:
    from astropy.io.fits import HDUList, Header

PEERS = tuple(WRITERS)
"""Programs that products can be written for."""
PYTHON = ("sep", "photutils", "ccdproc", "astropy")
"""Packages that take plain files, or products as they are."""
LEAST_SCALE = 65536.0
"""Siril takes numbers of 16 bits over this."""
_STRUCTURE = ("NEXTEND", "CHECKSUM", "DATASUM")
_GRID = re.compile(
    r"(CTYPE|CUNIT|CRVAL|CRPIX|CDELT|CROTA)\d|(CD|PC|PV)\d_\d+|LONPOLE|LATPOLE|RADESYS|EQUINOX|(A|B|AP|BP)_(ORDER|\d_\d)"
)
"""Cards that say where pixels lie on the sky."""
_LONGEST = 50
"""Letters of a name: with more of them IRAF's card of the mask would not fit into one line."""


@dataclass(frozen=True)
class Source:
    """A product that is to be written.

    Parameters
    ----------
    label : str
        What it is called in messages, such as ``p7``.
    path : Path
        Its file.
    category, object, filter, camera : str
        Products that have them alike may be combined, but for masters.
    """

    label: str
    path: Path
    category: str = ""
    object: str = ""
    filter: str = ""
    camera: str = ""

    @property
    def stem(self) -> str:
        """Name of its files without ending, as all programs and shells take it: letters, digits, ``_`` and ``-``."""
        return _short(_plain(self.path.stem))

    def group(self, file: InputProduct) -> str:
        """Return which products may be combined with this one.

        Parameters
        ----------
        file : InputProduct
            Its content, an image.

        Returns
        -------
        str
            Of category, camera, object, filter, exposure time, unit and shape. A master is alone.
        """
        assert file.image is not None
        ny, nx = file.image.shape
        seconds = "" if math.isnan(file.exptime) else f"{file.exptime:g}s"
        unit = "" if file.image.unit in ("electron", "") else file.image.unit
        alone = self.label if self.category.startswith("master_") else ""
        parts = (self.category, self.camera, self.object, self.filter, seconds, unit, f"{nx}x{ny}", alone)
        return _short("-".join(_plain(part) for part in parts if part))


@dataclass(frozen=True)
class Exported:
    """What was written of a product: the names of its files in the folder."""

    source: Source
    files: tuple[str, ...]


def is_frame(product: ProductRecord) -> bool:
    """Tell whether a product is an image of the sky, as far as its name says: no master, and in a FITS file.

    Parameters
    ----------
    product : ProductRecord
        Of any category.
    """
    no_frame = product.category.startswith("master_") or product.category.endswith(("_table", "_mask"))
    return product.path.endswith(".fits") and not no_frame


def export_for(
    space: Workspace,
    products: Sequence[ProductRecord],
    folder: Path,
    peer: str,
    warn: Callable[[str], None] = lambda sentence: None,
) -> list[Exported]:
    """Write products as a program takes them; see `write_for`.

    Parameters
    ----------
    space : Workspace
        The project.
    products : sequence of ProductRecord
        The products.
    folder : Path
        Where they go.
    peer : str
        One of `PEERS`.
    warn : callable
        Told of each product that was not written, in one sentence.

    Returns
    -------
    list of Exported
        Those that were written.
    """
    sources = [
        Source(f"p{one.id}", space.store.root / one.path, one.category, one.object, one.filter, one.camera)
        for one in products
    ]
    return write_for(sources, folder, peer, warn)


def write_for(
    sources: Sequence[Source],
    folder: Path,
    peer: str,
    warn: Callable[[str], None] = lambda sentence: None,
) -> list[Exported]:
    """Write products as a program takes them, and a script ``run.sh`` that runs it on them.

    Parameters
    ----------
    sources : sequence of Source
        The products; images alone can be written.
    folder : Path
        Made if it isn't there. Files of the same names are replaced.
    peer : str
        One of `PEERS`.
    warn : callable
        Told of each product that was not written, in one sentence.

    Returns
    -------
    list of Exported
        Those that were written; no script where there are none.
    """
    readable = list(_readable(sources, warn))
    names = _numbered(readable) if peer == "siril" else _unique(readable)
    scales = _scales(readable) if peer == "siril" else {}
    exported, frames = [], []
    for source in readable:
        file = read_product(source.path)
        stem, group = names[source.path], source.group(file)
        # One product is in memory at a time, however many there are.
        given = Given(read_image(file), _header(file, peer), stem, scales.get(group, 1.0))
        if peer in WEIGHTED and not (given.image.variance > 0).any():
            warn(f"{source.label} states no noise: all its weights are 1, and errors of {peer} mean nothing")
        files = WRITERS[peer](given)
        folder.mkdir(parents=True, exist_ok=True)
        for ending, hdus in files.items():
            _write(hdus, folder / f"{stem}{ending}")
        exported.append(Exported(source, tuple(f"{stem}{ending}" for ending in files)))
        frames.append(Frame(stem, group, _grid(given.header), _matrix(given.header), given.scale))
    if frames:
        if told := _earlier(folder, peer):
            warn(told)
        if peer == "siril":
            _forget_sequences(folder, frames)
        _write_scripts(folder, peer, frames)
    return exported


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "_", text).strip("_-") or "x"


def _short(name: str) -> str:
    """A name that is not too long; of a long one the beginning, and a few digits that tell it apart."""
    if len(name) <= _LONGEST:
        return name
    return f"{name[: _LONGEST - 8].rstrip('_-')}_{hashlib.sha256(name.encode()).hexdigest()[:7]}"


def _earlier(folder: Path, peer: str) -> str:
    """Say that a folder holds what was written for another program; nothing where it does not."""
    script = folder / "run.sh"
    before = (
        re.search(r"^# for (\w+)$", script.read_text(errors="replace"), re.M) if script.exists() else None
    )
    if before is None or before[1] == peer:
        return ""
    return f"{folder} holds an export for {before[1]}: its run.sh is replaced by that for {peer}, its frames stay"


def _forget_sequences(folder: Path, frames: Sequence[Frame]) -> None:
    """Delete frames of these groups that an earlier export has left: Siril takes all numbers for one sequence."""
    written = {f"{frame.stem}.fits" for frame in frames}
    for group in {frame.group for frame in frames}:
        for path in folder.glob(f"{group}_[0-9][0-9][0-9][0-9][0-9].fits"):
            if path.name not in written and _is_ours(path):
                path.unlink()


def _is_ours(path: Path) -> bool:
    from astropy.io import fits

    try:
        return "EXPFOR" in fits.getheader(path)
    except OSError:
        return False


def _readable(sources: Sequence[Source], warn: Callable[[str], None]) -> Iterator[Source]:
    """Products whose file is there and holds an image."""
    for source in sources:
        try:
            if read_product(source.path).image is not None:
                yield source
            else:
                warn(f"{source.label} is left out: {source.path.name} holds a table, no image")
        except ProductFileError as error:
            warn(f"{source.label} is left out: {error}")


def _unique(sources: Sequence[Source]) -> dict[Path, str]:
    """Names of files; of several alike all but the first say which product they are."""
    names: dict[Path, str] = {}
    for source in sources:
        is_taken = source.stem in names.values()
        names[source.path] = f"{source.stem}_{_plain(source.label)}" if is_taken else source.stem
    return names


def _numbered(sources: Sequence[Source]) -> dict[Path, str]:
    """Names of files, numbered in each group, as Siril wants the frames of a sequence."""
    counts: Counter[str] = Counter()
    names: dict[Path, str] = {}
    for source in sources:
        group = source.group(read_product(source.path))
        counts[group] += 1
        names[source.path] = f"{group}_{counts[group]:05d}"
    return names


def _scales(sources: Sequence[Source]) -> dict[str, float]:
    """What the data of each group are divided by: a power of 2, above all that stands in them."""
    most: dict[str, float] = {}
    for source in sources:
        file = read_product(source.path)
        group = source.group(file)
        most[group] = max(most.get(group, 0.0), largest(read_image(file)))
    return {group: max(LEAST_SCALE, 2.0 ** math.ceil(math.log2(value + 1))) for group, value in most.items()}


def _header(file: InputProduct, peer: str) -> "Header":
    cards = {
        name: value for name, value in file.header.items() if name not in _STRUCTURE and not _is_axis(name)
    }
    header = fits_header(cards, file.comments)
    header["EXPFOR"] = peer, "the program that ccdflow wrote this for"
    return header


def _is_axis(name: str) -> bool:
    return name in ("SIMPLE", "BITPIX", "EXTEND", "END") or name.startswith("NAXIS")


def _grid(header: "Header") -> str:
    if not header.get("CTYPE1"):
        return ""
    return " ".join(f"{card}={header[card]}" for card in sorted({*header}) if _GRID.fullmatch(card))


def _matrix(header: "Header") -> tuple[float, ...]:
    """Degrees of a step along each axis of pixels; empty without coordinates."""
    if not header.get("CTYPE1"):
        return ()
    from astropy.io.fits import Header
    from astropy.wcs import WCS

    # Nothing but coordinates: dates that it mends are none of its business here.
    world = Header([card for card in header.cards if _GRID.fullmatch(card.keyword)])
    matrix = WCS(world).pixel_scale_matrix
    return tuple(float(number) for number in matrix.reshape(-1))


def _write(hdus: "HDUList", path: Path) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        hdus.writeto(temporary, overwrite=True)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _write_scripts(folder: Path, peer: str, frames: Sequence[Frame]) -> None:
    for name, text in SCRIPTS[peer](frames).items():
        path = folder / name
        if name.endswith(".sh"):
            shell, rest = text.split("\n", 1)
            text = f"{shell}\n# for {peer}\n{rest}"
        path.write_text(text, encoding="utf-8")
        if name.endswith(".sh"):
            path.chmod(0o755)
