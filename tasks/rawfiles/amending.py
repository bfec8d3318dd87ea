"""Corrections by people: what is corrected of which frames, checked before it is written."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from stat import S_IFREG

from sqlalchemy.exc import IntegrityError

from ccdflow.archive.fits.integrity import DAMAGED, EDITED
from ccdflow.archive.fits.rawfile import open_raw
from ccdflow.archive.patience import in_time
from ccdflow.archive.registry.frames import amendments as registered
from ccdflow.archive.registry.frames.amendmentchecks import let_nights_follow, settle_amendments
from ccdflow.archive.registry.frames.amendments import Amendment
from ccdflow.archive.registry.frames.doubts import HEADER, find_doubts
from ccdflow.archive.registry.frames.files import Content, contents, look_again
from ccdflow.archive.registry.frames.queries import FrameFilter, find_frames, list_frames
from ccdflow.cascade.headers.amended import MEASURED, colours, evening, utc
from ccdflow.cascade.headers.dates import canonical
from ccdflow.cascade.headers.instrument import Instrument, find_instrument, plain
from ccdflow.cascade.headers.keywords import binning, duration, plain_value
from ccdflow.cascade.records import CLASSES, DESCRIBED, FrameRecord, Value
from ccdflow.cascade.wording import unknown
from ccdflow.recipes.core.times import SAME_EXPTIME
from ccdflow.tasks.ingest import IngestReport, ingest_file
from ccdflow.tasks.rawfiles.lookahead import Look, look_at
from ccdflow.tasks.rawfiles.places import is_kind
from ccdflow.tasks.workspace import Workspace

Change = Value | timedelta | None
"""A new value, or by how much a time is wrong; None for what is not known."""

USED = ("registered", "refused")
"""States of frames that plans look at."""
NOT_AMENDED = ("shape", "profile", "size", "window")
"""Keywords that follow from the file, and from which instrument file claims it."""
_POSITIVE = ("gain", "read_noise", "saturation")
_SHIFT = re.compile(r"([+-])\s*(\d+(?:\.\d*)?)\s*(s|m|min|h|d)")
_SHIFT_UNITS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
"""Seconds."""
FURTHEST_S = 100 * 365.25 * 86400
"""Seconds by which a clock may have been wrong: those that were never set begin at 1900 or 1970."""
_RANGE = re.compile(r"f(\d+)(?:-f?(\d+))?")


@dataclass(frozen=True)
class Chosen:
    """Which frames are meant: by name, or by what they are; None does not matter."""

    names: Sequence[str] = ()
    frame_class: str | None = None
    object: str | None = None
    filter: str | None = None
    exptime: float | None = None
    night: str | None = None
    camera: str | None = None

    @property
    def anything(self) -> bool:
        """Whether frames are named or described at all."""
        return bool(self.names) or any(value is not None for value in vars(self).values() if value != ())

    def __str__(self) -> str:
        told = {
            "class": self.frame_class,
            "object": self.object,
            "filter": self.filter,
            "exptime": self.exptime,
        }
        told |= {"night": self.night, "camera": self.camera}
        said = [f"{name} {value}" for name, value in told.items() if value is not None]
        among = [f"among {', '.join(self.names)}"] if self.names else []
        return " ".join([*among, f"has {' and '.join(said)}" if said else "is in use"])

    def fits(self, frame: FrameRecord) -> bool:
        """Tell whether a frame is one of those that are meant, but for names, night and camera.

        Parameters
        ----------
        frame : FrameRecord
            The frame.
        """
        wanted = {"class": self.frame_class, "object": self.object, "filter": self.filter}
        texts = all(value is None or (frame.value(name) or "") == value for name, value in wanted.items())
        # Exposure times of one setting differ by less, as everywhere.
        return texts and (
            self.exptime is None
            or (frame.exptime is not None and math.isclose(frame.exptime, self.exptime, rel_tol=SAME_EXPTIME))
        )


def chosen_frames(space: Workspace, chosen: Chosen) -> list[FrameRecord]:
    """Return the frames that are meant.

    Parameters
    ----------
    space : Workspace
        The project.
    chosen : Chosen
        Names are ``f12``, ``f12-f40`` and files; with a description too, those of the named that fit it.

    Returns
    -------
    list of FrameRecord
        By time.

    Raises
    ------
    ValueError
        If a name names no frame, or one whose place another has taken, or nothing fits.
    """
    if chosen.frame_class is not None and chosen.frame_class not in CLASSES:
        raise ValueError(unknown("class", chosen.frame_class, CLASSES))
    ids = _ids(space, chosen.names) if chosen.names else None
    # Who names a frame that is finished already may well mean it.
    status = USED if ids is None else (*USED, "processed")
    wanted = FrameFilter(status, ids=ids, night=chosen.night, camera=chosen.camera)
    frames = [frame for frame in space.registry.read(find_frames, wanted) if chosen.fits(frame)]
    if not frames:
        raise ValueError(f"no frame {chosen}; 'ccdflow list frames' shows those that there are")
    return frames


def _ids(space: Workspace, names: Iterable[str]) -> list[int]:
    ids: dict[int, None] = {}
    for name in names:
        match = _RANGE.fullmatch(name)
        if match is None:
            ids |= dict.fromkeys(_of_file(space, name))
            continue
        first, last = int(match[1]), int(match[2] or match[1])
        rows = space.registry.read(list_frames, FrameFilter(status=None, ids=range(first, last + 1)))
        if not rows:
            raise ValueError(f"there is no frame {name}; 'ccdflow list frames' shows those that there are")
        if first == last:
            _refuse_replaced(rows[0])
        ids |= dict.fromkeys(row["id"] for row in rows)
    return list(ids)


def _of_file(space: Workspace, name: str) -> list[int]:
    path = str(Path(name).absolute())
    rows = [row for row in space.registry.read(list_frames, FrameFilter(status=None)) if row["path"] == path]
    current = [row for row in rows if row["superseded_by"] is None]
    if not current:
        raise ValueError(f"nothing is called {name!r}; wanted f12, f12-f40, a frame's file, or KEY=VALUE")
    _refuse_replaced(current[-1])
    return [current[-1]["id"]]


def _refuse_replaced(row: Mapping[str, object]) -> None:
    """A row whose place another has taken is not looked at any more."""
    if row["duplicate_of"] is not None:
        raise ValueError(f"f{row['id']} is a duplicate of f{row['duplicate_of']}: amend that one")
    if row["superseded_by"] is not None:
        raise ValueError(f"f{row['id']} has given way to f{row['superseded_by']}: amend that one")


def parse_changes(space: Workspace, texts: Iterable[str]) -> dict[str, Change]:
    """Return what ``KEY=VALUE`` says.

    Parameters
    ----------
    space : Workspace
        The project, whose instrument files know spellings of classes, limits, and the keywords that are kept.
    texts : iterable of str
        As they stand on the command line; nothing behind the sign means that it is not known.

    Returns
    -------
    dict of str to value, timedelta or None
        By name.

    Raises
    ------
    ValueError
        If a name is not known, or a value can't be; says what was wanted.
    """
    by = find_instrument({}, space.instruments)
    changes: dict[str, Change] = {}
    for written in texts:
        name, _, value = written.partition("=")
        name = checked_name(space, name.strip())
        if not value.strip() and name in ("class", "obsdate", "night"):
            raise ValueError(f"{name}= is blank, and a frame can't be without; wanted a value")
        changes[name] = _checked(name, value.strip(), by) if value.strip() else None
    return changes


def checked_name(space: Workspace, name: str) -> str:
    """Return the name of what can be corrected.

    Parameters
    ----------
    space : Workspace
        The project.
    name : str
        As somebody writes it.

    Raises
    ------
    ValueError
        If it is not known; says which are.
    """
    kept = sorted({keyword for instrument in space.instruments for keyword in instrument.keep})
    described = [keyword for keyword in DESCRIBED if keyword not in NOT_AMENDED]
    names = list(dict.fromkeys([*registered.COLUMNS, *described, *kept]))
    if name not in names:
        raise ValueError(unknown("name", name, names))
    return name


def _checked(name: str, written: str, by: Instrument) -> Change:
    if name in _CHECKS:
        return _CHECKS[name](written, by)
    if name in registered.COLUMNS:
        return written
    if name in MEASURED:
        return _measure(name, written, by)
    return _binning(written) if name == "binning" else plain_value(written)


def _binning(written: str) -> str:
    told = binning(written)
    if told is None or not re.fullmatch(r"\d+x\d+", told):
        raise ValueError(f"binning={written} is none, wanted columns and rows: 2x2")
    return told


def _class(written: str, by: Instrument) -> str:
    frame_class = written if written in CLASSES else by.spellings.get(plain(written))
    if frame_class is None:
        raise ValueError(unknown("class", written, CLASSES))
    return frame_class


def _exptime(written: str, by: Instrument) -> float:
    low, high = by.limits.get("exptime", (0.0, math.inf))
    seconds = duration(written, "", "")
    if seconds is None or not low <= seconds <= high:
        raise ValueError(f"exptime={written} is no exposure time, wanted seconds from {low:g} to {high:g}")
    return seconds


def _count(written: str, _by: Instrument) -> int:
    if not written.isdecimal() or not 1 <= int(written) < 2**31:  # what PostgreSQL keeps there
        raise ValueError(f"{written!r} is no place in a sequence, wanted a whole number from 1 on")
    return int(written)


def _obsdate(written: str, _by: Instrument) -> str | timedelta:
    if match := _SHIFT.fullmatch(written):
        seconds = float(match[2]) * _SHIFT_UNITS[match[3]]
        if seconds > FURTHEST_S:
            raise ValueError(f"obsdate={written} moves it by more than 100 years, wanted less: +1h, -30s")
        return timedelta(seconds=seconds if match[1] == "+" else -seconds)
    try:
        return utc(written)
    except ValueError as error:
        raise ValueError(f"{error}, or how far to move it: +1h, -30s") from None


def _night(written: str, _by: Instrument) -> str:
    return evening(written)


def _mosaic(written: str, _by: Instrument) -> str:
    return colours(written)


_CHECKS: dict[str, Callable[[str, Instrument], Change]] = {
    "class": _class,
    "exptime": _exptime,
    "iobs": _count,
    "nobs": _count,
    "obsdate": _obsdate,
    "night": _night,
    "mosaic": _mosaic,
}


def _measure(name: str, written: str, by: Instrument) -> float:
    low, high = by.limits.get(name, (-math.inf, math.inf))
    try:
        value = float(written)
    except ValueError:
        value = math.nan
    if not low <= value <= high or (value <= 0 and name in _POSITIVE):
        raise ValueError(f"{name}={written} can't be, wanted a number from {low:g} to {high:g}")
    return value


def amend_frames(
    space: Workspace, frames: Sequence[FrameRecord], changes: Mapping[str, Change], who: str, why: str
) -> list[Amendment]:
    """Correct frames; what depends on them is grouped and made anew by whoever plans next.

    Parameters
    ----------
    space : Workspace
        The project.
    frames : sequence of FrameRecord
        The frames.
    changes : mapping of str to value, timedelta or None
        As `parse_changes` gives them.
    who, why : str
        For those who ask later.

    Returns
    -------
    list of Amendment
        What has changed; nothing where all was so already.

    Raises
    ------
    ValueError
        If a frame would contradict itself, or be the same as another row of a catalogue.
    """
    values = {frame.id: _values(frame, changes) for frame in frames}
    try:
        made = space.registry.write(registered.amend, values, who, why)
    except IntegrityError:
        raise ValueError(_same_rows(values)) from None
    _read_again(space, {amendment.frame for amendment in made})
    return made


def _same_rows(values: Mapping[int, Mapping[str, Value | None]]) -> str:
    names = ", ".join(f"f{frame}" for frame in sorted(values)[:3]) + (", ..." if len(values) > 3 else "")
    return (
        f"{names} can't be amended so: two rows without a file would be alike in camera, obsdate, iobs, filter, "
        "object and class; wanted one of these to differ"
    )


def _values(frame: FrameRecord, changes: Mapping[str, Change]) -> dict[str, Value | None]:
    values: dict[str, Value | None] = {}
    for name, change in changes.items():
        if isinstance(change, timedelta):
            if not frame.obsdate:
                raise ValueError(
                    f"f{frame.id} has no obsdate that could be wrong by something; wanted a time"
                )
            values[name] = utc(canonical(datetime.fromisoformat(utc(frame.obsdate)) + change))
        else:
            values[name] = change
    place = [values.get(name, getattr(frame, name)) for name in ("iobs", "nobs")]
    if {"iobs", "nobs"} & values.keys() and None not in place and place[0] > place[1]:
        raise ValueError(f"f{frame.id} can't be exposure {place[0]} of {place[1]}")
    return values


def undo_amendments(
    space: Workspace, frames: Sequence[FrameRecord], names: Sequence[str] | None = None
) -> list[Amendment]:
    """Take corrections back.

    Parameters
    ----------
    space : Workspace
        The project.
    frames : sequence of FrameRecord
        The frames.
    names : sequence of str or None
        What is taken back; None for all.

    Returns
    -------
    list of Amendment
        What has held until now.
    """
    taken = space.registry.write(registered.undo, [frame.id for frame in frames], names)
    _read_again(space, {amendment.frame for amendment in taken})
    return taken


def _read_again(space: Workspace, frames: set[int]) -> None:
    """Let all that follows from what was corrected follow: the night, doubts, whether a frame can be used."""
    space.registry.write(settle_amendments, frames)
    unread = set()
    for content in space.registry.read(contents, frames):
        path = Path(content.path or "")
        if content.path and is_kind(path, S_IFREG):
            ingest_file(space, path, IngestReport(), look=partial(_look, space, content))
        else:
            unread.add(content.id)
    # Without its header, the night follows by what the row said of it and by where the telescope stands; once the file
    # of one is back, its header tells.
    longitude = find_instrument({}, space.instruments).site.longitude
    space.registry.write(let_nights_follow, longitude, unread)
    space.registry.write(look_again, unread)


def _look(space: Workspace, content: Content, path: Path) -> Look:
    """Look at a file; at one that nobody has touched since it was registered only at its headers."""
    facts = in_time(path, path.stat)
    same = (facts.st_size, facts.st_ctime_ns) == (content.size, content.changed_ns)
    if not same or content.sha256 is None:
        return look_at(path)
    doubts = space.registry.read(find_doubts, [content.id], HEADER).get(content.id, ())
    faults = tuple(doubt for doubt in doubts if doubt.kind in (DAMAGED, EDITED))
    return Look(open_raw(path), content.sha256, faults, None, facts.st_size, facts.st_ctime_ns)
