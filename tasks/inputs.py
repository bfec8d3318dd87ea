"""Files as recipes take them: raw frames with their detector, products with their header."""

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ccdflow.archive.digest import DamagedFrameError, UnreadableFrameError, file_digest
from ccdflow.archive.fits.filefacts import file_facts
from ccdflow.archive.fits.productfile import InputNote, Origin, common_cards, read_product
from ccdflow.archive.fits.rawfile import RawFile, open_raw
from ccdflow.cascade.headers.amended import amended_detector, amended_header
from ccdflow.cascade.headers.amplifiers import detector
from ccdflow.cascade.headers.classify import Description, describe
from ccdflow.cascade.headers.doubts import Policy
from ccdflow.cascade.headers.instrument import Instrument, find_instrument
from ccdflow.cascade.headers.keywords import cards_of
from ccdflow.cascade.headers.mosaic import is_bottom_up
from ccdflow.cascade.headers.place import trim_of
from ccdflow.cascade.headers.setting import Header
from ccdflow.cascade.planning.jobs import AMENDED, amended_digest
from ccdflow.cascade.records import CATEGORY, CLASSES, Value
from ccdflow.recipes.core.mosaic import PATTERNS
from ccdflow.recipes.core.recipe import Card, InputProduct, Inputs
from ccdflow.recipes.core.times import Span, moment, span_of, time_cards
from ccdflow.recipes.detector.amplifiers import RawFrame
from ccdflow.tasks.masters import MASTERS
from ccdflow.tasks.provenance.software import software
from ccdflow.tasks.rawfiles.amendedcards import Amended, amended_before, amended_cards, without_amended
from ccdflow.tasks.rawfiles.foreign import foreign_master
from ccdflow.tasks.rawfiles.mainframes import MainFrame, differences, row_order, upside_down
from ccdflow.tasks.rawfiles.places import facts_in_time
from ccdflow.tasks.rawfiles.rawheaders import (
    Registered,
    holding_cards,
    mosaic_cards,
    raw_span,
    setting_cards,
)
from ccdflow.tasks.rawfiles.windows import ReadArea, cut_to, placed

# A recipe by hand needs no registry, whose imports would take longer than the recipe.
if TYPE_CHECKING:
    from ccdflow.archive.registry.jobs.inputs import FrameFile
    from ccdflow.archive.registry.jobs.records import JobRecord
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
"""Beginnings of the names of cards that a combined product takes from its first input: no two have them alike.

The time, and where the telescope pointed: a stack's pixels lie as those of the frame on which the others were put.
"""


class Correction(Protocol):
    """What was corrected of a frame, whoever tells it; as a text, the sentence that products' headers have of it."""

    @property
    def name(self) -> str:
        """Column or keyword."""

    @property
    def value(self) -> Value | None:
        """What counts; None for unknown."""


@dataclass
class JobInputs:
    """All inputs of a job, by role, and what its products' headers say of them.

    `headers`, `spans` and `amended` have one item for each main input. `finished` has a sentence for each raw file on
    which another program has worked already. `frames` are the raw frames of the main input: the first of them tells
    what the instrument file says about kinds of doubts, what was read out (masters of more of the detector are cut to
    it), and what the camera was set to; `differences` names the others. `orders` has by name which way up masters lie.
    `corrected` has each correction of a raw file, of any role, with the file's sha256.
    """

    by_role: dict[str, list[Any]] = field(default_factory=dict)
    notes: list[InputNote] = field(default_factory=list)
    headers: list[Mapping[str, Any]] = field(default_factory=list)
    paths: dict[str, list[Path]] = field(default_factory=dict)
    spans: list[Span] = field(default_factory=list)
    amended: list[Sequence[Amended]] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)
    frames: list[MainFrame] = field(default_factory=list)
    orders: dict[str, str] = field(default_factory=dict)
    corrected: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)

    @property
    def policies(self) -> Mapping[str, Policy]:
        """What is done about kinds of doubts."""
        return self.frames[0].instrument.doubts if self.frames else {}

    @property
    def area(self) -> ReadArea | None:
        """What was read out of the detector; None for products."""
        return self.frames[0].area if self.frames else None

    @property
    def differences(self) -> list[str]:
        """Sentences about raw frames of the main input that are not as the first, by which they are all told."""
        return [*differences(self.frames), *upside_down(self.frames, self.orders)]

    def add_raw(
        self,
        role: str,
        path: Path,
        instruments: Sequence[Instrument],
        note: InputNote,
        registered: Registered | None = None,
        amendments: Sequence[Correction] = (),
    ) -> None:
        """Take a raw file; pixels are read when the recipe cuts them.

        Parameters
        ----------
        role : str
            What it is to the recipe: ``main``, ``bias``, ...
        path : Path
            The file.
        instruments : sequence of Instrument
            Of which one tells how its header is understood.
        note : InputNote
            What the products' headers say of it.
        registered : Registered, optional
            Start and exposure time as the registry has them, which go before the header's.
        amendments : sequence of Correction
            What was corrected of the frame: it counts as if the header said so.

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
        values = {amendment.name: amendment.value for amendment in amendments}
        header = amended_header(file.header, find_instrument(cards_of(file.header), instruments), values)
        instrument = find_instrument(cards_of(header), instruments)
        assembled = amended_detector(detector(header, instrument, file.shape, file.extensions), values)
        said = describe(header, file.shape, instruments, file_facts(file))
        if said.finished is not None:
            self.finished.append(f"{path.name} is {said.finished.sentence}")
        span = raw_span(header, said, instrument, registered)
        # Unknown is not 0: a dark scaled to 0 s would leave all of itself in the frame.
        exptime = math.nan if span.exptime is None else span.exptime
        mosaic = str(said.keywords.get("mosaic", ""))
        pattern = mosaic if mosaic in PATTERNS else ""
        frame = RawFrame(file.pixels, assembled, exptime, path.name, span, pattern)
        self.by_role.setdefault(role, []).append(frame)
        self.notes.append(note)
        self.paths.setdefault(role, []).append(path)
        self.corrected += [(note.identity, _told(correction)) for correction in amendments]
        if role == "main":
            self.spans.append(span)
            self.headers.append(holding_cards(header, span, said, instrument))
            self.amended.append([Amended(told.name, f"{path.name}: {told}") for told in amendments])
            area = ReadArea.of(assembled.shape, said.keywords)
            trim = trim_of(assembled, several=len(file.extensions) > 1)
            cards = setting_cards(said.keywords) | mosaic_cards(
                pattern, assembled.shape, bottom_up=is_bottom_up(Header(cards_of(header), instrument))
            )
            lies = row_order(file.header)
            self.frames.append(MainFrame(path.name, instrument, area, trim, cards, file.comments, lies))

    def add_product(
        self, role: str, path: Path, note: InputNote, instruments: Sequence[Instrument] = ()
    ) -> None:
        """Take a product.

        Parameters
        ----------
        role : str
            What it is to the recipe: ``main``, ``bias``, ...
        path : Path
            The file.
        note : InputNote
            What the products' headers say of it.
        instruments : sequence of Instrument
            Of which one tells where on the detector the pixels of a calibration lie that another program has made, and
            when the light of a main input fell where its header tells so in its own way.

        Raises
        ------
        ProductFileError
            If the file is no product, or a damaged one.
        """
        # One of many to be combined is read row by row; one that many jobs take is kept in memory.
        product = read_product(path) if role == "main" else MASTERS.product(path)
        if role != "main" and instruments and product.image is not None and not is_ours(product.header):
            # What can't be read as a frame, such as a mask among tables, tells no place.
            with suppress(UnreadableFrameError):
                product = placed(product, _described(open_raw(path), instruments))
        span = span_of(product.header)
        if role == "main" and instruments and not is_ours(product.header):
            product, span = _timed(product, span, path, instruments)
        self._take(role, path, product, note)
        if role == "main":
            self.spans.append(span)
            self.headers.append(product.header)
            self.amended.append(list(amended_before(product.header)))

    def add_master(
        self, role: str, path: Path, instruments: Sequence[Instrument], note: InputNote, category: str
    ) -> None:
        """Take a master that was made elsewhere: by ccdflow, or by another program.

        Parameters
        ----------
        role : str
            What it is to the recipe: ``bias``, ...
        path : Path
            The file.
        instruments : sequence of Instrument
            Of which one tells how its header is understood.
        note : InputNote
            What the products' headers say of it.
        category : str
            As what it is registered.

        Raises
        ------
        ProductFileError
            If the file is no product, or a damaged one.
        ValueError
            If it can't be taken as one of ours any more.
        """
        if is_ours(read_product(path).header):
            self.add_product(role, path, note)
            return
        file = open_raw(path)
        described = _described(file, instruments)
        # A calibration that says nothing of having been finished is taken as it is, in the unit that it states.
        if described.finished is None:
            self.add_product(role, path, note, instruments)
            return
        instrument = find_instrument(cards_of(file.header), instruments)
        assembled = detector(file.header, instrument, file.shape, file.extensions)
        master = foreign_master(described, assembled, file.shape)
        if isinstance(master, str) or master.category != category:
            raise ValueError(f"{path} is no {category} for ours: {master}")
        self._take(role, path, placed(MASTERS.product(path, master), described), note)

    def _take(self, role: str, path: Path, product: InputProduct, note: InputNote) -> None:
        self.by_role.setdefault(role, []).append(product)
        if role != "main" and (lies := row_order(product.header)):
            self.orders[path.name] = lies
        self.notes.append(note)
        self.paths.setdefault(role, []).append(path)

    def without(self, left_out: Iterable[int]) -> "JobInputs":
        """Return the inputs with headers, times and corrections of those alone that a product holds something of.

        Parameters
        ----------
        left_out : iterable of int
            Places among the main inputs.

        Returns
        -------
        JobInputs
            All inputs are still named: the job took them.
        """
        left = set(left_out)
        used = [place for place in range(len(self.headers)) if place not in left] or range(len(self.headers))
        return replace(
            self,
            headers=[self.headers[place] for place in used],
            spans=[self.spans[place] for place in used],
            amended=[self.amended[place] for place in used],
            frames=[self.frames[place] for place in used] if self.frames else [],
        )

    @property
    def recipe_inputs(self) -> Inputs:
        """The inputs as the recipe takes them: of the masters what the frame has read out."""
        return self.by_role if self.area is None else cut_to(self.area, self.by_role)[0]

    @property
    def settings(self) -> dict[str, Card]:
        """Cards that tell what the camera was set to."""
        return dict(self.frames[0].settings) if self.frames else {}

    @property
    def _amended_cards(self) -> dict[str, Card]:
        return amended_cards([correction for told in self.amended for correction in told])

    @property
    def _area_cards(self) -> dict[str, Card]:
        if self.area is None:
            return {}
        return self.area.cards | cut_to(self.area, self.by_role)[1]

    def origin(self, key: str, recipe: str, version: str, task: str = "") -> Origin:
        """Return what the headers of the products say of where they came from.

        Parameters
        ----------
        key : str
            The job's key.
        recipe, version : str
            What was run.
        task : str
            For which task of the cascade.

        Returns
        -------
        Origin
            With the cards that all main inputs have in common.
        """
        first = self.headers[0]
        own = {name: value for name, value in first.items() if name.startswith(FROM_THE_FIRST)}
        return Origin(
            key=key,
            recipe=recipe,
            version=version,
            task=task,
            creator=f"ccdflow {software()['ccdflow']}",
            inputs=self.notes,
            level=max((note.level for note in self.notes if note.level is not None), default=0),
            header=without_amended(common_cards(self.headers) | own),
            comments=self._comments,
            trim=self.frames[0].trim if self.frames else (0, 0),
            cards=self._times(first) | self.settings | self._area_cards | self._amended_cards,
            # What is made of one product has the errors of the masters behind it.
            inherited=str(first.get("CALIBID", "")) if len(self.headers) == 1 else "",
        )

    @property
    def _comments(self) -> Mapping[str, str]:
        """Comments of the cards of the first main input, raw frame or product."""
        if self.frames:
            return self.frames[0].comments
        return next((product.comments for product in self.by_role.get("main", ())), {})

    def _times(self, first: Mapping[str, Any]) -> dict[str, Card]:
        """When the frames were taken; a recipe that leaves frames out says it of those that are left."""
        cards = time_cards(self.spans)
        # One frame's own text stays where it says the same, with as many digits as its camera writes.
        begin = cards.get("DATE-OBS")
        if begin and len(self.spans) == 1 and moment(first.get("DATE-OBS")) == moment(begin[0]):
            del cards["DATE-OBS"]
        return cards


def _told(correction: Correction) -> dict[str, Any]:
    """What is known of a correction: of one by hand no more than what counts."""
    fields = ("name", "value", "said", "who", "why", "made")
    return {name: getattr(correction, name) for name in fields if hasattr(correction, name)}


def _described(file: RawFile, instruments: Sequence[Instrument]) -> Description:
    return describe(file.header, file.shape, instruments, file_facts(file))


def _timed(
    product: InputProduct, span: Span, path: Path, instruments: Sequence[Instrument]
) -> tuple[InputProduct, Span]:
    """Return a product of another program with the start and the exposure time that it tells as raw frames do."""
    # IRAF keeps DATE-OBS and UT apart, others write '60.0 s' or a Julian Date: what reads raw frames knows all that.
    if span.begin is not None and span.exptime is not None and span.scale == "UTC":
        return product, span
    try:
        said = _described(open_raw(path), instruments)
    except UnreadableFrameError:
        return product, span
    begin, exptime = span.begin, span.exptime if span.exptime is not None else said.exptime
    if said.obsdate and (begin is None or span.scale != "UTC"):
        begin = datetime.fromisoformat(said.obsdate)
        span = Span(begin, airmass=span.airmass)
    if math.isnan(product.exptime) and said.exptime is not None:
        product = replace(product, exptime=said.exptime)
    return product, replace(span, begin=begin, exptime=exptime)


def is_ours(header: Mapping[str, Any]) -> bool:
    """Tell whether a file is a product of ccdflow.

    Parameters
    ----------
    header : mapping
        Keyword to value.
    """
    return PRODUCT_CARD in header or CATEGORY in header


def read_inputs(space: "Workspace", job: "JobRecord") -> JobInputs:
    """Return the inputs of a job of the registry.

    Parameters
    ----------
    space : Workspace
        The project.
    job : JobRecord
        The job.

    Returns
    -------
    JobInputs
        Opened; most pixels are yet to be read.

    Raises
    ------
    ValueError
        If a raw file's content is no longer what was registered, or a product is not there.
    """
    from ccdflow.archive.registry.frames.checks import find_damage
    from ccdflow.archive.registry.jobs.inputs import find_sources

    sources, inputs = space.registry.read(find_sources, job), JobInputs()
    damage = space.registry.read(find_damage, sources.frames)
    for part in job.inputs:
        if part.job is not None:
            if part.identity not in sources.products:
                raise ValueError(
                    f"the product of job {part.job[:8]}, input {part.role!r}, is not in the store"
                )
            path = sources.products[part.identity]
            note = InputNote(part.role, Path(path).name, part.identity, "product", part.level)
            inputs.add_product(part.role, space.store.absolute(path), note)
        elif part.frame is not None:
            file = sources.frames[part.frame]
            raw = Path(file.path)
            if part.frame in damage:
                raise DamagedFrameError(raw, damage[part.frame])
            content, _, corrections = part.identity.partition(AMENDED)
            _check_content(raw, file, content)
            _check_amended(part.frame, file, corrections)
            note = InputNote(part.role, raw.name, content, "raw", part.level)
            if file.frame_class in CLASSES:
                known = Registered(file.obsdate, file.exptime)
                inputs.add_raw(part.role, raw, space.instruments, note, known, file.amended)
            else:  # a product that was made elsewhere
                inputs.add_master(part.role, raw, space.instruments, note, file.frame_class)
        else:
            raise ValueError(f"a frame of its input {part.role!r} was deleted from the registry")
    return inputs


def _check_amended(frame: int, registered: "FrameFile", planned: str) -> None:
    """Refuse a frame that was corrected since the job was planned: the job's key is that of other work."""
    values = {amendment.name: amendment.value for amendment in registered.amended}
    if (amended_digest(values) if values else "") != planned:
        raise ValueError(f"f{frame} was amended since this was planned; plan again")


def _check_content(path: Path, registered: "FrameFile", identity: str) -> None:
    """Refuse a raw file that is not the registered one."""
    # One that nobody has touched since need not be read twice: of many jobs that would be a good part of the time.
    facts = facts_in_time(path)
    if facts is not None and (facts.st_size, facts.st_ctime_ns) == (registered.size, registered.changed_ns):
        return
    sha256 = file_digest(path)
    if sha256 != identity:
        raise ValueError(
            f"{path} has changed since it was registered: its sha256 is {sha256[:12]}..., was {identity[:12]}..."
        )
