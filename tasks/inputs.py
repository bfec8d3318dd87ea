"""Files as recipes take them: raw frames with their detector, products with their header."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ccdflow.archive.digest import file_digest
from ccdflow.archive.fits.productfile import InputNote, Origin, common_cards, read_product
from ccdflow.archive.fits.rawfile import open_raw
from ccdflow.archive.registry.sources import find_sources
from ccdflow.cascade.headers.amplifiers import detector
from ccdflow.cascade.headers.classify import FileFacts, describe
from ccdflow.cascade.headers.instrument import Instrument, find_instrument
from ccdflow.cascade.headers.keywords import cards_of
from ccdflow.cascade.records import CLASSES
from ccdflow.recipes.core.recipe import Inputs
from ccdflow.recipes.detector.amplifiers import Detector, RawFrame
from ccdflow.tasks.masters import MASTERS

# A recipe by hand needs no registry, whose imports would take longer than the recipe.
if TYPE_CHECKING:
    from ccdflow.archive.registry.jobs import JobRecord
    from ccdflow.archive.registry.sources import FrameFile
    from ccdflow.tasks.workspace import Workspace

PRODUCT_CARD = "JOBKEY"
"""Card by which a product of ours is told from a raw frame."""

FROM_THE_FIRST = (
    "DATE-OBS",
    "MJD-OBS",
    "RA",
    "DEC",
    "CTYPE",
    "CRVAL",
    "CRPIX",
    "CDELT",
    "CROTA",
    "CD1_",
    "CD2_",
    "PC1_",
    "PC2_",
)
"""Cards that a combined product takes from its first input, since no two inputs have them alike."""


@dataclass
class JobInputs:
    """All inputs of a job, by role, and what its products' headers say of them."""

    by_role: dict[str, list[Any]] = field(default_factory=dict)
    notes: list[InputNote] = field(default_factory=list)
    headers: list[Mapping[str, Any]] = field(default_factory=list)
    comments: Mapping[str, str] = field(default_factory=dict)
    trim: tuple[int, int] = (0, 0)
    paths: dict[str, list[Path]] = field(default_factory=dict)

    def add_raw(self, role: str, path: Path, instruments: Sequence[Instrument], note: InputNote) -> None:
        """Take a raw file; pixels are read when the recipe cuts them.

        Raises
        ------
        UnreadableFrameError
            If the file is no raw frame.
        ValueError
            If the sections in its header contradict each other.
        """
        file = open_raw(path)
        if PRODUCT_CARD in file.header:
            raise ValueError(f"{path} is a product, wanted a raw frame as {role!r}")
        instrument = find_instrument(cards_of(file.header), instruments)
        made = detector(file.header, instrument, file.shape, file.extensions)
        facts = FileFacts(file.comments, file.extensions)
        exptime = describe(file.header, file.shape, instruments, facts).exptime
        self.by_role.setdefault(role, []).append(RawFrame(file.pixels, made, exptime or 0.0, path.name))
        self.notes.append(note)
        self.paths.setdefault(role, []).append(path)
        if role == "main":
            self.headers.append(file.header)
            self.comments = self.comments or file.comments
            self.trim = _trim(made, several=len(file.extensions) > 1)

    def add_product(self, role: str, path: Path, note: InputNote) -> None:
        """Take a product: one of many to be combined is read row by row, one that many jobs take is kept in memory."""
        product = read_product(path) if role == "main" else MASTERS.product(path)
        self.by_role.setdefault(role, []).append(product)
        self.notes.append(note)
        self.paths.setdefault(role, []).append(path)
        if role == "main":
            self.headers.append(product.header)

    @property
    def recipe_inputs(self) -> Inputs:
        """The inputs as the recipe takes them."""
        return self.by_role

    def origin(self, key: str, recipe: str, version: str) -> Origin:
        """What the headers of the products say of where they came from."""
        first = self.headers[0]
        kept = {name: value for name, value in first.items() if name.startswith(FROM_THE_FIRST)}
        return Origin(
            key=key,
            recipe=recipe,
            version=version,
            inputs=self.notes,
            level=max((one.level for one in self.notes if one.level is not None), default=0),
            header=common_cards(self.headers) | kept,
            comments=self.comments,
            trim=self.trim,
        )


def _trim(made: Detector, *, several: bool) -> tuple[int, int]:
    """Columns and rows by which pixels of the first image move when the detector is assembled."""
    if several:  # of which the first is the one whose header counts
        first = made.amplifiers[0]
        return first.data.x0 - first.target.x0, first.data.y0 - first.target.y0
    first = min(made.amplifiers, key=lambda one: (one.target.y0, one.target.x0))
    return first.data.x0, first.data.y0


def read_inputs(space: "Workspace", job: "JobRecord") -> JobInputs:
    """The inputs of a job of the registry.

    Raises
    ------
    ValueError
        If a raw file's content is no longer what was registered, or a product is not there.
    """
    sources, inputs = space.registry.read(find_sources, job), JobInputs()
    for one in job.inputs:
        if one.job is not None:
            if one.identity not in sources.products:
                raise ValueError(f"the product of job {one.job[:8]}, input {one.role!r}, is not in the store")
            path = sources.products[one.identity]
            note = InputNote(one.role, Path(path).name, one.identity, "product", one.level)
            inputs.add_product(one.role, space.store.absolute(path), note)
        elif one.frame is not None:
            file = sources.frames[one.frame]
            raw = Path(file.path)
            _check_content(raw, file, one.identity)
            note = InputNote(one.role, raw.name, one.identity, "raw", one.level)
            if file.frame_class in CLASSES:
                inputs.add_raw(one.role, raw, space.instruments, note)
            else:  # a product that was made elsewhere
                inputs.add_product(one.role, raw, note)
    return inputs


def _check_content(path: Path, registered: "FrameFile", identity: str) -> None:
    """Refuse a raw file that is not the registered one; one that nobody has touched since need not be read for that."""
    if path.is_file():
        facts = path.stat()
        if (facts.st_size, facts.st_ctime_ns) == (registered.size, registered.changed_ns):
            return
    found = file_digest(path)
    if found != identity:
        raise ValueError(
            f"{path} has changed since it was registered: its sha256 is {found[:12]}..., was {identity[:12]}..."
        )
