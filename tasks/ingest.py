"""Raw frames come in: files are looked at, described, and registered, one transaction each."""

import csv
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from os.path import realpath
from pathlib import Path
from stat import S_IFDIR, S_IFREG, S_ISREG
from typing import Any

from sqlalchemy.exc import DataError

from ccdflow.archive.digest import file_digest
from ccdflow.archive.fits.filefacts import file_facts
from ccdflow.archive.fits.rawfile import (
    RawFile,
    TruncatedError,
    UnreadableFrameError,
    looks_like_raw,
    open_raw,
)
from ccdflow.archive.foreignfile import is_not_read, name_fault, own_fault, spelled, unread
from ccdflow.archive.registry.database import sentence
from ccdflow.archive.registry.frames.amendmentchecks import (
    let_nights_follow,
)
from ccdflow.archive.registry.frames.amendments import Values
from ccdflow.archive.registry.frames.doubts import sum_up
from ccdflow.archive.registry.frames.files import (
    NewFrame,
    Registered,
    add_frame,
    pending_frames,
    refuse_frame,
    refuse_frames,
    registered_files,
)
from ccdflow.archive.registry.transactions import add_catalogue
from ccdflow.cascade.headers.amended import amended_header
from ccdflow.cascade.headers.classify import Description, FileFacts, describe
from ccdflow.cascade.headers.dates import canonical, night
from ccdflow.cascade.headers.instrument import Instrument, find_instrument, plain
from ccdflow.cascade.headers.keywords import cards_of, plain_value
from ccdflow.cascade.plain import no_path_in_words
from ccdflow.cascade.records import CATEGORY, MOST_EXPOSURES, Doubt, Value, is_calibration
from ccdflow.tasks.inputs import PRODUCT_CARD
from ccdflow.tasks.rawfiles.copies import Copies, confirmed
from ccdflow.tasks.rawfiles.finished import check_entry, taken_in
from ccdflow.tasks.rawfiles.lookahead import LookAt, look_at, looking_ahead
from ccdflow.tasks.rawfiles.places import facts_of, fits_below, is_kind, is_silent
from ccdflow.tasks.rawfiles.rawheaders import SETTING_CARDS, settings_of
from ccdflow.tasks.rawfiles.unread import gone_in_words, silent_in_words
from ccdflow.tasks.workspace import Workspace, open_workspace

COLUMNS = (
    "telescope",
    "camera",
    "instrument",
    "filter",
    "imagetype",
    "target",
    "exptime",
    "obsdate",
    "iobs",
    "nobs",
)
"""What a catalogue must have; further columns become keywords."""

Progress = Callable[[int, int], None]
"""Takes how many files were looked at, and how many there are."""


@dataclass
class IngestReport:
    """What became of the files or rows that were looked at; `asked` tells whether anybody named any.

    `doubts` has those of all frames that were registered or known, each with the frame it is about; `finished` those
    that another program has calibrated or combined, each path with the sentence that says by what.
    """

    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    asked: bool = False
    doubts: list[tuple[str, Doubt]] = field(default_factory=list)
    finished: list[tuple[Path, str]] = field(default_factory=list)
    copies: Copies = field(default_factory=Copies)

    def refuse(self, reason: str) -> None:
        """Take down that a file could not be read.

        Parameters
        ----------
        reason : str
            One sentence that names it.
        """
        self.counts["unreadable"] += 1
        self.problems.append(spelled(reason))

    @property
    def total(self) -> int:
        """How many files or rows there were."""
        return sum(self.counts.values())

    @property
    def exit_code(self) -> int:
        """0 when all is well, 1 when some of many were bad, 2 when nothing was usable."""
        bad = self.counts["refused"] + self.counts["unreadable"]
        # Frames that are finished are nothing bad, and nothing to work with either.
        if not self.total or bad + self.counts["processed"] == self.total:
            return 2
        return 1 if bad else 0

    def document(self) -> dict[str, Any]:
        """The report for ``--json``."""
        names = ("new", "known", "duplicate", "version", "refused", "unreadable", "product", "processed")
        return {name: self.counts[name] for name in names} | {
            "problems": self.problems,
            "duplicates": list(self.copies.lines()),
            "doubts": [asdict(count) for count in sum_up(self.doubts)],
        }

    def doubt_lines(self) -> list[str]:
        """Doubts by kind, a line for each; a class that is not known stands among the problems already."""
        doubts = [count.line() for count in sum_up(self.doubts) if count.kind != "class"]
        return [*self.finished_lines(), *doubts]

    def finished_lines(self) -> list[str]:
        """Frames that are finished already, a line for all that are so by the same: a folder may hold hundreds."""
        alike: dict[str, list[Path]] = {}
        for path, told in self.finished:
            alike.setdefault(told, []).append(path)
        return [
            f"{spelled(paths[0])}{f' and {len(paths) - 1} more' if len(paths) > 1 else ''}: {told}; not used "
            "(--take-processed TASK takes it)"
            for told, paths in alike.items()
        ]

    def sentence(self) -> str:
        """The report for people."""
        told = [f"{count} {name}" for name, count in sorted(self.counts.items()) if count]
        return f"{self.total} looked at: {', '.join(told) or 'nothing found'}"


def find_files(paths: Iterable[Path], report: IngestReport) -> Iterator[Path]:
    """Find the files that are named, and those below named folders whose names end as FITS files' do.

    Parameters
    ----------
    paths : iterable of Path
        Files and folders.
    report : IngestReport
        Is told of folders that hold none, or can't be looked into.

    Yields
    ------
    Path
        Files; of a folder, in the order of their names.

    Raises
    ------
    ValueError
        If one is a URL.
    """
    for path in paths:
        if (told := no_path_in_words(path)) and not path.exists():
            raise ValueError(told)
        if is_kind(path, S_IFDIR):
            files, closed = fits_below(path)
            for error in closed:
                report.refuse(str(error))
            if not files and not closed:
                report.problems.append(f"{path} holds no FITS file")
            yield from files
        else:
            yield path


def ingest_files(
    space: Workspace, paths: Sequence[Path], progress: Progress | None = None, take_processed: str = ""
) -> IngestReport:
    """Register all frames of files and folders; what can't be read is named, and nothing else is lost.

    Parameters
    ----------
    space : Workspace
        The project; files of its store are left out.
    paths : sequence of Path
        Files and folders.
    progress : callable, optional
        Told after each file.
    take_processed : str
        Task of the cascade at which frames enter that another program has finished, ``raw`` for frames that only look
        so; without it, what the instrument file says.

    Returns
    -------
    IngestReport
        What became of them.

    Raises
    ------
    ValueError
        If there is no such task.
    """
    if take_processed:
        check_entry(space.cascade, take_processed)
    report = IngestReport(asked=True)
    space.registry.keep_relative()
    store = realpath(space.project.store)
    files = [path for path in find_files(paths, report) if not _is_below(path, store)]
    with looking_ahead([path.absolute() for path in files]) as look:
        for done, path in enumerate(files, 1):
            ingest_file(space, path, report, take_processed, look)
            if progress is not None:
                progress(done, len(files))
    return report


def _is_below(path: Path, folder: str) -> bool:
    try:
        return Path(realpath(path)).is_relative_to(folder)
    except ValueError:  # no name of any file
        return False


def ingest_file(
    space: Workspace, path: Path, report: IngestReport, take_processed: str = "", look: LookAt = look_at
) -> None:
    """Register one file; the frame's row is there once this returns.

    Parameters
    ----------
    space : Workspace
        The project.
    path : Path
        The file.
    report : IngestReport
        Is told what became of it.
    take_processed : str
        As for `ingest_files`.
    look : callable
        Reads the file, or gives what was read of it already.
    """
    path = path.absolute()
    if fault := name_fault(path):
        report.refuse(fault)
        return
    try:
        _register(space, path, report, take_processed, look)
    except (UnreadableFrameError, OSError) as error:
        _unreadable(space, path, error, report)
    # What the registry does not take says nothing of the registry, and must not keep other files out of it.
    except (DataError, OverflowError, UnicodeError) as error:
        report.refuse(f"{path} says what the registry can't keep: {sentence(error)}")


def _register(space: Workspace, path: Path, report: IngestReport, take_processed: str, look: LookAt) -> None:
    """Register one file, and raise what is wrong with it."""
    with own_fault(path):
        looked = look(path)
        facts = file_facts(looked.file, looked.faults)
    file, sha256 = looked.file, looked.sha256
    category = str(file.header.get(CATEGORY, ""))
    calibration = is_calibration(category) or category in space.taken_categories
    if PRODUCT_CARD in file.header and not calibration:
        report.counts["product"] += 1
        return
    known = {"path": str(path), "sha256": sha256, "size": looked.size, "changed_ns": looked.changed_ns}
    if not calibration:
        known["pixels"] = confirmed(space, path, file.pixels, looked.pixels)
    read = _Reading(space, file, facts, category if calibration else "", take_processed, known)
    with own_fault(path):
        new = replace(read.as_it_stands(), read_with=read.as_amended)
    registered = space.registry.write(add_frame, new)
    _tell(space, path, registered.frame or new, registered, report)


@dataclass(frozen=True)
class _Reading:
    """A file being described: as it stands, and once more as if it said what somebody has corrected.

    Of a calibration that was made elsewhere the category is given. `known` is what of its row is known besides.
    """

    space: Workspace
    file: RawFile
    facts: FileFacts
    category: str
    take_processed: str
    known: Mapping[str, Any]

    def as_it_stands(self) -> NewFrame:
        """Return the frame by its header."""
        return self._read(self.file.header)

    def as_amended(self, values: Values) -> NewFrame:
        """Return the frame by a header that says what was corrected."""
        # Called in the midst of a transaction: of what goes wrong here the registry is not to blame.
        with own_fault(self.file.path):
            by = find_instrument(cards_of(self.file.header), self.space.instruments)
            return self._read(amended_header(self.file.header, by, values))

    def _read(self, header: Mapping[str, Value]) -> NewFrame:
        space, file = self.space, self.file
        described = describe(header, file.shape, space.instruments, self.facts)
        if self.category:
            return _new_frame(_as_product(described, self.category, file.header), **self.known)
        task = self.take_processed or described.enter
        described, processed = taken_in(space.cascade, described, task, file, space.instruments)
        return _new_frame(described, processed=processed, **self.known)


def _tell(
    space: Workspace, path: Path, frame: NewFrame, registered: Registered, report: IngestReport
) -> None:
    """Take down what became of a file."""
    outcome = registered.outcome
    if outcome == "duplicate":
        report.copies.add(space, path, frame, registered)
        report.counts[outcome] += 1
        return
    report.doubts += [(f"f{registered.id}", doubt) for doubt in frame.doubts]
    if registered.processed:
        report.counts["processed"] += 1
        report.finished.append((path, registered.processed))
        return
    report.counts["refused" if frame.refused else outcome] += 1
    if frame.refused:
        report.problems.append(spelled(f"{path}: {frame.refused}"))
    elif frame.frame_class == "unclassified" and outcome in ("new", "version"):
        told = "; ".join(doubt.text for doubt in frame.doubts)
        report.problems.append(spelled(f"{path}: unclassified: {told}"))


def _as_product(described: Description, category: str, header: Mapping[str, Any]) -> Description:
    """A calibration that was made elsewhere: its class is its category, and its size that of trimmed frames."""
    keywords = dict(described.keywords)
    if "shape" in keywords:
        keywords["size"] = keywords.pop("shape")
    # A product of ours states gain in the unit of its own data, and that of its raw frames apart.
    if PRODUCT_CARD in header:
        keywords = {name: value for name, value in keywords.items() if name not in (*SETTING_CARDS, "gain")}
        keywords |= settings_of(header)
    # A dark that still holds its bias serves other frames than one that is a rate.
    subtracted = header.get("BIASSUB")
    if isinstance(subtracted, bool):
        keywords["bias_subtracted"] = subtracted
    return replace(described, frame_class=category, keywords=keywords, doubts=())


def _unreadable(space: Workspace, path: Path, error: Exception, report: IngestReport) -> None:
    """A file that is no frame: a row that says so, if there is a file at all."""
    reason = str(unread(path, error) if isinstance(error, OSError) else error)
    # Of one whose bytes can't be had now nothing is known: no row would be read again that says so of its content.
    if not is_not_read(error) and looks_like_raw(path) and is_kind(path, S_IFREG):
        try:
            facts = path.stat()
            known = {"sha256": file_digest(path), "size": facts.st_size, "changed_ns": facts.st_ctime_ns}
            space.registry.write(
                add_frame, _refused_frame(space, error, path=str(path), refused=reason, **known)
            )
        except (UnreadableFrameError, OSError):
            pass  # its bytes can't be had at all; the report names it
    report.refuse(reason)


def _refused_frame(space: Workspace, error: Exception, **known: Any) -> NewFrame:
    # Of a truncated frame the header still tells where it belongs: it counts for the boundaries of sequences.
    if isinstance(error, TruncatedError) and error.header is not None and PRODUCT_CARD not in error.header:
        with suppress(UnreadableFrameError), own_fault(Path(known["path"])):
            return _new_frame(describe(error.header, error.shape, space.instruments), **known)
    return NewFrame(**known)


def _new_frame(described: Description, **known: Any) -> NewFrame:
    """A row with what the header tells, and what is known besides."""
    columns = {
        name: getattr(described, name) for name in NewFrame.__dataclass_fields__ if hasattr(described, name)
    }
    return NewFrame(**{**columns, **known})


@dataclass
class Turn:
    """How long rows are read at a time, and which of them are not looked at again at once.

    `seconds` is how long; `later` has by id when a row whose file was not there is due again, and after how long.
    """

    seconds: float = math.inf
    later: dict[int, tuple[float, float]] = field(default_factory=dict)
    _end: float = math.inf

    def begin(self) -> None:
        """Begin: from now on the seconds count."""
        self._end = time.monotonic() + self.seconds

    @property
    def is_over(self) -> bool:
        """Whether others are to have their turn."""
        return time.monotonic() >= self._end

    def is_due(self, frame: int) -> bool:
        """Whether a row is looked at now."""
        return frame not in self.later or self.later[frame][0] <= time.monotonic()

    def put_off(self, frame: int) -> None:
        """Look at a row later, each time a little later: thousands may wait for files that never come."""
        if self.seconds < math.inf:
            pause = min(LONGEST_PAUSE_S, 2 * self.later.get(frame, (0.0, FIRST_PAUSE_S / 2))[1])
            self.later[frame] = time.monotonic() + pause, pause


FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 5.0
"""Seconds until a row is looked at again whose file was not there."""


def read_pending(
    space: Workspace, report: IngestReport, patience: float = 0.0, turn: Turn | None = None
) -> int:
    """Read the files of rows that other programs have inserted with a path alone, the newest first.

    Parameters
    ----------
    space : Workspace
        The project.
    report : IngestReport
        Is told what became of them.
    patience : float
        Seconds: a file that is not there, or not whole, is waited for until its row is so old.
    turn : Turn, optional
        How long to read; what is left is read the next time. Without it, all are read.

    Returns
    -------
    int
        How many were read or refused.
    """
    turn = turn or Turn()
    turn.begin()
    space.registry.keep_relative()
    count, before = 0, None
    # In portions, each behind the last one: rows that have to wait are not looked at twice.
    while not turn.is_over and (pending := space.registry.read(pending_frames, before=before)):
        count += _read_rows(space, pending, report, patience, turn)
        before = pending[-1][0]
    return count


def _read_rows(
    space: Workspace,
    pending: Sequence[tuple[int, str, str]],
    report: IngestReport,
    patience: float,
    turn: Turn,
) -> int:
    """Read the files of some rows; those whose files never came are refused together."""
    count, gone = 0, {}
    for frame, name, registered in pending:
        if turn.is_over:
            break
        if not turn.is_due(frame):
            continue
        if _age(registered) < patience and not _is_whole(Path(name)):
            turn.put_off(frame)
            continue
        turn.later.pop(frame, None)
        count += 1
        if is_kind(Path(name), S_IFREG):
            _read_row(space, frame, Path(name), report)
        else:
            gone[frame] = _why_unread(Path(name))
            report.problems.append(_named(Path(name), gone[frame]))
    if gone:
        space.registry.write(refuse_frames, gone)
        report.counts["unreadable"] += len(gone)
    return count


def _read_row(space: Workspace, frame: int, path: Path, report: IngestReport) -> None:
    """Read the file of a row; where nothing comes of it, the row says why."""
    told = len(report.problems)
    ingest_file(space, path, report)
    # A row that still waits though its file was looked at would be read again in every round, for ever.
    first = space.registry.read(pending_frames, 1, after=frame - 1, before=frame + 1)
    if any(waiting == frame for waiting, *_ in first):
        # Told already, where the file was read; not to be told twice.
        reason = report.problems[-1] if len(report.problems) > told else _why_unread(path)
        space.registry.write(refuse_frame, frame, reason)
        if len(report.problems) == told:
            report.refuse(_named(path, reason))


def _age(registered: str) -> float:
    """Seconds since a row was inserted."""
    try:
        inserted = datetime.fromisoformat(registered)
    except ValueError:  # whoever inserted it wrote what he liked
        return math.inf
    return (
        datetime.now(inserted.tzinfo or UTC) - inserted.replace(tzinfo=inserted.tzinfo or UTC)
    ).total_seconds()


def _is_whole(path: Path) -> bool:
    """Whether a file is there, and all of it."""
    try:
        with own_fault(path):
            open_raw(path)
    except (UnreadableFrameError, OSError):
        return False
    return True


def read_rows(project: str) -> int:
    """Read the files of rows that other programs have inserted; see `read_pending`.

    Parameters
    ----------
    project : str
        Directory of the project.

    Returns
    -------
    int
        How many there were.
    """
    return read_pending(open_workspace(project), IngestReport())


def _named(path: Path, reason: str) -> str:
    """The reason, with the file's name where it does not stand in it already."""
    name = spelled(path)
    return reason if name in reason else f"{name}: {reason}"


def _why_unread(path: Path) -> str:
    """Why a file gave no frame."""
    if fault := name_fault(path):
        return fault
    (_, facts), *_ = facts_of([path])
    if isinstance(facts, FileNotFoundError):
        return "no such file"
    if not isinstance(facts, os.stat_result):
        return f"it can't be read: {(getattr(facts, 'strerror', None) or str(facts)).lower()}"
    if not path.is_absolute():
        return "its path is relative, wanted an absolute one"
    try:
        with own_fault(path):
            file = open_raw(path)
    except (UnreadableFrameError, OSError) as error:
        return spelled(error)
    return "it is a product of ccdflow, no raw frame" if PRODUCT_CARD in file.header else "it can't be read"


def static_files(space: Workspace) -> list[Path]:
    """Return the calibrations that stand beside the project's instrument files.

    Parameters
    ----------
    space : Workspace
        The project.

    Returns
    -------
    list of Path
        Files of masks and other products that hold for long.
    """
    return list(find_files(space.project.instruments, IngestReport()))


def recheck_files(space: Workspace) -> IngestReport:
    """Register anew the known files that have changed since, and calibrations beside the instrument files.

    Parameters
    ----------
    space : Workspace
        The project.

    Returns
    -------
    IngestReport
        What became of them. Files that have not changed are not opened, and not told of.
    """
    report = IngestReport()
    read_pending(space, report)
    space.registry.write(let_nights_follow, find_instrument({}, space.instruments).site.longitude)
    gone: dict[Path, list[str]] = {}
    silent: dict[Path, list[str]] = {}
    known = {Path(name): facts for name, *facts in space.registry.read(registered_files)}
    for path, facts in facts_of(known):
        if not isinstance(facts, os.stat_result):
            (silent if is_silent(facts) else gone).setdefault(path.parent, []).append(path.name)
        # What is no file its row says already, and would say it again in each run.
        elif S_ISREG(facts.st_mode) and [facts.st_size, facts.st_ctime_ns] != known[path]:
            ingest_file(space, path, report)
    if static := static_files(space):
        names = {name for name, _, _ in space.registry.read(registered_files)}
        for path in static:
            if str(path.absolute()) not in names:
                ingest_file(space, path, report)
    report.problems += map(spelled, (*gone_in_words(gone), *silent_in_words(silent)))
    return report


def ingest_catalog(space: Workspace, path: Path) -> IngestReport:
    """Register the rows of a catalogue; a bad row is named by its line and the others count.

    Parameters
    ----------
    space : Workspace
        The project.
    path : Path
        A CSV file with `COLUMNS`.

    Returns
    -------
    IngestReport
        What became of the rows.

    Raises
    ------
    ValueError
        If it is no catalogue.
    """
    report = IngestReport()
    # Spreadsheets put a byte order mark before the first column's name.
    with path.open(newline="", encoding="utf-8-sig") as stream:
        rows = csv.DictReader(stream)
        missing = [name for name in COLUMNS if name not in (rows.fieldnames or ())]
        if missing:
            raise ValueError(f"{path} is no catalogue: it lacks the columns {', '.join(missing)}")
        frames = list(_good_rows(space, path, rows, report))
    new = add_catalogue(space.registry, frames)
    report.counts.update({"new": new, "known": len(frames) - new})
    return report


def _good_rows(
    space: Workspace, path: Path, rows: "csv.DictReader[str]", report: IngestReport
) -> Iterator[NewFrame]:
    # A catalogue has no headers to tell the instrument by: it is the one that fits without any.
    by = find_instrument({}, space.instruments)
    for row in rows:
        # Cells beyond the last column come under the name None, missing ones as None.
        texts = {name: (value or "").strip() for name, value in row.items() if name is not None}
        try:
            frame = _catalog_frame(texts, by)
            report.doubts += [(f"line {rows.line_num}", doubt) for doubt in frame.doubts]
            yield frame
        except ValueError as error:
            report.counts["refused"] += 1
            report.problems.append(f"{path}, line {rows.line_num}: {error}")


def _catalog_frame(row: dict[str, str], by: Instrument) -> NewFrame:
    obsdate = _moment(row["obsdate"])
    exptime = _number(row, "exptime")
    # As of a header: a time that can't be is unknown, and said.
    unknown = exptime is not None and exptime < 0
    doubts = (Doubt("exptime", f"exptime={row['exptime']} can't be: it is unknown"),) if unknown else ()
    return NewFrame(
        frame_class=by.spellings.get(plain(row["imagetype"]), "unclassified"),
        telescope=row["telescope"],
        camera=row["camera"],
        instrument=row["instrument"],
        filter=row["filter"],
        object=row["target"],
        exptime=None if unknown else exptime,
        doubts=doubts,
        obsdate=obsdate,
        iobs=_count(row, "iobs"),
        nobs=_count(row, "nobs"),
        night=row.get("night") or night(obsdate, by.site.longitude),
        keywords={
            name: plain_value(text) for name, text in row.items() if name not in (*COLUMNS, "night") and text
        },
    )


def _moment(written: str) -> str:
    try:
        moment = datetime.fromisoformat(written)
    except ValueError:
        raise ValueError(f"obsdate {written!r} is no ISO time, for instance 2018-09-09T19:35:30") from None
    return canonical(moment)


def _number(row: dict[str, str], name: str) -> float | None:
    if not row[name]:
        return None
    try:
        value = float(row[name])
    except ValueError:
        value = math.nan
    # Python reads "nan" and "inf" as numbers; an exposure has none of them.
    if not math.isfinite(value):
        raise ValueError(f"{name} {row[name]!r} is no number")
    return value


def _count(row: dict[str, str], name: str) -> int | None:
    value = _number(row, name)
    if value is not None and not (value.is_integer() and abs(value) <= MOST_EXPOSURES):
        raise ValueError(f"{name} {row[name]!r} is no whole number")
    return None if value is None else int(value)


def ingest_paths(project: str, paths: Sequence[str]) -> dict[str, int]:
    """Register all frames of files and folders; see `ingest_files`.

    Parameters
    ----------
    project : str
        Directory of the project.
    paths : sequence of str
        Files and folders.

    Returns
    -------
    dict of str to int
        How many were new, known, duplicate, ...
    """
    report = ingest_files(open_workspace(project), [Path(path) for path in paths])
    return dict(report.counts)
