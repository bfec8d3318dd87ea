"""Files come into the registry: a new frame, a known one, a duplicate, or a new version of a known file.

A row of the table ``frame`` is a path with one content (its sha256). Two rules hold among the rows, each by a unique
index: of each path one row is current (`tables.CURRENT`), and each content is held by one row (`tables.ORIGINAL`).

- Another content at a known path is a new version: a new row; the old one is superseded by it, and keeps its id.
- A known content at another path is a duplicate of the row that holds it, and is not reduced a second time. So is
  another file with the same pixels: packed otherwise, or with another header. Where the file that came first can't be
  used, or its class is not known, the second holds the exposure, and the first is its duplicate.
- A row of a catalogue gets the file of its exposure (`sameexposure`).
- Where the file of the row that holds a content is gone, that file was moved: the row takes the new path. If the new
  path has a row already, as a duplicate, that row holds the content from then on, and supersedes the old one.
- Where the file of that row was overwritten, its oldest duplicate that can be used holds the content from then on.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection, bindparam, insert, select, text, update

from ccdflow.archive.registry.bulk import batches
from ccdflow.archive.registry.database import now
from ccdflow.archive.registry.frames.amendmentchecks import forget_followed, settle_amendments, values_of
from ccdflow.archive.registry.frames.amendments import (
    COLUMNS,
    FOLLOWS,
    NUMBERS,
    Values,
    find_amendments,
    hand_on,
    note_said,
)
from ccdflow.archive.registry.frames.checks import damage_of_known
from ccdflow.archive.registry.frames.doubts import HEADER, add_doubts, find_doubts, replace_doubts
from ccdflow.archive.registry.frames.keywords import (
    changed_keywords,
    keep_keywords,
    replace_keywords,
    storable,
)
from ccdflow.archive.registry.frames.oddvalues import words
from ccdflow.archive.registry.frames.sameexposure import Exposed, row_without_file
from ccdflow.archive.registry.rootpaths import Place
from ccdflow.archive.registry.tables import (
    CURRENT,
    ORIGINAL,
    PENDING,
    SAME_PIXELS,
    FrameKeywordRow,
    FrameRow,
    table,
)
from ccdflow.cascade.headers.finished import PROCESSED
from ccdflow.cascade.records import DONE_BEFORE, Doubt, Value

Registration = Literal["new", "known", "duplicate", "version"]


@dataclass(frozen=True)
class NewFrame:
    """A frame as ingest describes it, file or not.

    `path` is None for a row of a catalogue. `changed_ns` is when the file was last changed, in nanoseconds
    since 1970-01-01 UTC (best its ctime, which nobody can set back). `refused` says why the frame can't be
    used; empty where it can; `processed` by what it is finished already; `doubts` what is odd about it. `pixels` is the
    digest of the pixels, blank where they tell nothing, None where nobody has looked. The other columns are as in
    `FrameRecord`.

    `read_with` reads the header once more as if it said what somebody has corrected: a corrected time gives another
    night, a time that was missing makes the frame usable.
    """

    path: str | None = None
    sha256: str | None = None
    pixels: str | None = None
    size: int | None = None
    changed_ns: int | None = None
    frame_class: str = "unclassified"
    telescope: str = ""
    camera: str = ""
    instrument: str = ""
    filter: str = ""
    object: str = ""
    exptime: float | None = None
    obsdate: str = ""
    iobs: int | None = None
    nobs: int | None = None
    night: str = ""
    keywords: Mapping[str, Value] = field(default_factory=dict)
    refused: str = ""
    processed: str = ""
    doubts: tuple[Doubt, ...] = ()
    read_with: "Callable[[Values], NewFrame] | None" = field(default=None, compare=False, repr=False)

    def value(self, name: str) -> Value | None:
        """Return a column or keyword by the name that corrections have for it; None for a blank.

        Parameters
        ----------
        name : str
            As in `amendments.COLUMNS`, or a keyword.
        """
        if name not in COLUMNS:
            return self.keywords.get(name)
        value: Value | None = getattr(self, "frame_class" if name == "class" else name)
        return None if value == "" else value

    def amended(self, values: Values) -> "NewFrame":
        """Return the frame with what was corrected of it.

        Parameters
        ----------
        values : mapping of str to value or None
            By name.
        """
        base = self if self.read_with is None else self.read_with(values)
        columns = {
            "frame_class" if name == "class" else name: "" if value is None and name not in NUMBERS else value
            for name, value in values.items()
            if name in COLUMNS
        }
        keywords = {name: value for name, value in base.keywords.items() if name not in values}
        keywords |= {
            name: value for name, value in values.items() if name not in COLUMNS and value is not None
        }
        changed: dict[str, Any] = columns | {"keywords": keywords}
        return replace(base, **changed)

    @property
    def exposed(self) -> Exposed:
        """What tells its exposure from others."""
        return Exposed(
            self.telescope,
            self.camera,
            self.instrument,
            self.filter,
            self.object,
            self.frame_class,
            self.exptime,
            self.obsdate,
            self.iobs,
        )


@dataclass(frozen=True)
class Registered:
    """What became of a file that was given to the registry.

    `of` is the frame that it duplicates, or whose newer version it is; `processed` says by what it is finished already,
    and is blank for one that is used. `same` tells by what a duplicate is known: ``content``, or ``pixels`` where the
    files differ. `frame` is what the row says now, with what was corrected of it.
    """

    id: int
    outcome: Registration
    of: int | None = None
    processed: str = ""
    same: Literal["", "content", "pixels"] = ""
    frame: NewFrame | None = field(default=None, compare=False, repr=False)


BANNED = "banned: "
"""The beginning of the reason of a frame that somebody has banned."""
ENTERS = "enters"
"""Keyword of a frame that is finished and taken all the same: the task that somebody named for it."""

_DESCRIBED = (
    "telescope",
    "camera",
    "instrument",
    "filter",
    "object",
    "exptime",
    "obsdate",
    "iobs",
    "nobs",
    "night",
)
"""Columns that have the same name in `NewFrame` and in the table."""

# All rows that matter in one question. The conditions stand there as the indexes have them: behind bound values SQLite
# does not see its indexes.
_LOOKED_AT = "id, path, sha256, pixels, version, status, reason, class AS frame_class, duplicate_of"
_BY_PATH, _BY_CONTENT, _BY_PIXELS = "path", "content", "pixels"
_PATH = bindparam("path", type_=Place())
_LOOK_UP = text(f"""
    SELECT '{_BY_PATH}' AS found_by, {_LOOKED_AT} FROM frame WHERE path = :path AND {CURRENT}
    UNION ALL
    SELECT '{_BY_CONTENT}', {_LOOKED_AT} FROM frame WHERE sha256 = :sha256 AND {ORIGINAL}
    UNION ALL
    SELECT * FROM (SELECT '{_BY_PIXELS}', {_LOOKED_AT} FROM frame
                   WHERE pixels = :pixels AND {SAME_PIXELS} ORDER BY id LIMIT 1) AS twin
""").bindparams(_PATH)
_TWIN = text(
    f"SELECT path FROM frame WHERE pixels = :pixels AND path <> :path AND {SAME_PIXELS} ORDER BY id LIMIT 1"
).bindparams(_PATH)
_LOOK_UP_ROWS, _TWIN_PATH = _LOOK_UP.columns(path=Place()), _TWIN.columns(path=Place())
_INSERT = insert(table(FrameRow)).returning(table(FrameRow).c.id)


@dataclass(frozen=True)
class _Rows:
    """Rows that have to do with a file: the current one of its path, and that which holds its exposure.

    `held` is found by the content of the file or, where no row has that, by its pixels.
    """

    at_path: Any = None
    held: Any = None

    @property
    def same(self) -> Literal["content", "pixels"]:
        """By what the row that holds the exposure is known."""
        return "content" if self.held.found_by == _BY_CONTENT else "pixels"


def add_frame(connection: Connection, new: NewFrame, *, moves: bool = True) -> Registered:
    """Register a file.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    new : NewFrame
        The file, with path and sha256.
    moves : bool
        Whether a known content at a new path may be a file that was moved, where the old path has none any more.
        Without it, it is a duplicate.

    Returns
    -------
    Registered
        The row that stands for the file now, and what became of it.

    Raises
    ------
    ValueError
        If the file has no path or no sha256.
    """
    if new.path is None or new.sha256 is None:
        raise ValueError(f"a file needs path and sha256, found {new.path!r} and {new.sha256!r}")
    rows = _look_up(connection, new)
    at_path, held = rows.at_path, rows.held
    if at_path is not None and at_path.sha256 is None:
        return _describe(connection, at_path.id, new, rows)
    if at_path is not None and at_path.sha256 == new.sha256:
        return _see_again(connection, rows, new, moves=moves)
    if at_path is not None:
        return _add_version(connection, at_path, new)
    if held is not None and moves and not Path(held.path or "").exists():
        frame, processed = _refresh(connection, held.id, new)
        return Registered(held.id, "known", None, processed, frame=frame)
    if held is None and (planned := row_without_file(connection, new.exposed)) is not None:
        return _describe(connection, planned, new, rows)
    return _add_row(connection, new, rows)


def _look_up(connection: Connection, new: NewFrame) -> _Rows:
    """The rows that have to do with a file. Duplicates and superseded versions don't hold a content."""
    values = {"path": new.path, "sha256": new.sha256, "pixels": new.pixels}
    rows = {row.found_by: row for row in connection.execute(_LOOK_UP_ROWS, values)}
    return _Rows(rows.get(_BY_PATH), rows.get(_BY_CONTENT, rows.get(_BY_PIXELS)))


def _add_row(connection: Connection, new: NewFrame, rows: _Rows, version: int = 1) -> Registered:
    """A file whose path is new: of a new exposure, or of one that another row holds."""
    held = rows.held
    if held is not None and rows.same == "pixels" and _is_better(new, held):
        frame = _insert(connection, new, version)
        if not _give_way(connection, held.id, frame):
            return Registered(frame, "new", None, new.processed)
        corrected, processed = _refresh(connection, frame, new)
        return Registered(frame, "new", None, processed, frame=corrected)
    frame = _insert(connection, new, version, None if held is None else held.id)
    if held is None:
        return Registered(frame, "new", None, new.processed)
    return Registered(frame, "duplicate", held.id, same=rows.same)


def _is_better(new: NewFrame, held: Any) -> bool:
    """Whether a file with a mended header can be used for more than the one that came first."""
    if new.refused or new.processed or _is_banned(held):
        return False
    return bool(held.status != "registered" or held.frame_class == "unclassified" != new.frame_class)


def _is_banned(row: Any) -> bool:
    return bool(row.status == "refused" and row.reason.startswith(BANNED.rstrip(": ")))


def _give_way(connection: Connection, before: int, after: int) -> bool:
    """Let another row hold an exposure: the first is its duplicate then, and so are the duplicates of that.

    Returns whether it was given corrections.
    """
    handed = hand_on(connection, before, after)
    others = update(FrameRow).where(FrameRow.duplicate_of == before, FrameRow.id != after)
    connection.execute(others.values(duplicate_of=after))
    gone = {"status": "duplicate", "duplicate_of": after, "ungrouped": True}
    connection.execute(update(FrameRow).where(FrameRow.id == before).values(**gone))
    return handed


def _add_version(connection: Connection, old: Any, new: NewFrame) -> Registered:
    """Another content at a known path."""
    # Before the new row, of which there may be only one for the path and one for the content.
    superseded = update(FrameRow).where(FrameRow.id == old.id)
    connection.execute(superseded.values(status="superseded", ungrouped=True))
    # Where only the header was mended, copies that have the old one are copies of the new version.
    mended = bool(new.pixels) and old.pixels == new.pixels
    if not mended:
        _promote_duplicate(connection, old.id)
    # The old row may have held the content that the file has again; then nothing holds it now, or a duplicate.
    rows = _look_up(connection, new)
    registered = _add_row(connection, new, rows, old.version + 1)
    connection.execute(superseded.values(superseded_by=registered.id))
    if registered.outcome == "duplicate":
        return registered
    if mended:
        copies = update(FrameRow).where(FrameRow.duplicate_of == old.id, FrameRow.status == "duplicate")
        connection.execute(copies.values(duplicate_of=registered.id))
    if not hand_on(connection, old.id, registered.id):
        return Registered(registered.id, "version", old.id, new.processed)
    frame, processed = _refresh(connection, registered.id, new)
    return Registered(registered.id, "version", old.id, processed, frame=frame)


def _see_again(connection: Connection, rows: _Rows, new: NewFrame, *, moves: bool) -> Registered:
    """A file that is known, with this content, at this path."""
    at_path = rows.at_path
    if at_path.duplicate_of is not None and moves and _is_gone(connection, at_path.duplicate_of):
        _take_over(connection, at_path.id, at_path.duplicate_of)
        at_path = _look_up(connection, new).at_path
    frame, processed = _refresh(connection, at_path.id, new)
    original = at_path.duplicate_of
    if at_path.pixels is None and new.pixels and original is None:
        original = merge_twins(connection, new.pixels).get(at_path.id)
    return Registered(at_path.id, "known", original, processed, frame=frame)


def merge_twins(connection: Connection, pixels: str) -> dict[int, int]:
    """Let frames with the same pixels, which came before pixels were compared, be one: the oldest that can be used.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    pixels : str
        Their digest, not blank.

    Returns
    -------
    dict of int to int
        Those that gave way, each with the frame that it is a duplicate of now.
    """
    columns = select(FrameRow.id, FrameRow.status, FrameRow.reason, FrameRow.frame_class)
    same = columns.where(FrameRow.pixels == pixels, text(SAME_PIXELS))
    twins = [row.id for row in sorted(connection.execute(same), key=_usefulness)]
    for copy in twins[1:]:
        _give_way(connection, copy, twins[0])
    return dict.fromkeys(twins[1:], twins[0])


def _usefulness(row: Any) -> tuple[bool, bool, bool, int]:
    """Sorts those rows first that should hold an exposure, the older of equals."""
    # What somebody has banned is not to come back by another name.
    return not _is_banned(row), row.status != "registered", row.frame_class == "unclassified", row.id


def _describe(connection: Connection, frame: int, new: NewFrame, rows: _Rows) -> Registered:
    """Fill in a row that has no content yet; what its header leaves blank stays as the row has it.

    Another program has inserted it with a path alone, or a catalogue without any.
    """
    before = connection.execute(select(table(FrameRow)).where(FrameRow.id == frame)).one()
    new = _corrected(connection, frame, new, fills=True)
    row = frame_row(new)
    del row["registered_at"]
    values = {name: value for name, value in row.items() if value not in ("", None)}
    if new.frame_class == "unclassified" and before._mapping["class"] != "unclassified":
        del values["class"]
    values |= {"status": row["status"], "reason": row["reason"], "pixels": new.pixels, "ungrouped": True}
    if _is_banned(before):  # a person's word outlives what ingest says
        del values["status"], values["reason"]
    if rows.held is not None:
        values |= {"status": "duplicate", "duplicate_of": rows.held.id, "ungrouped": False}
    values["revision"] = FrameRow.revision + 1
    connection.execute(update(table(FrameRow)).where(FrameRow.id == frame).values(values))
    replace_keywords(connection, frame, new.keywords)
    replace_doubts(connection, frame, new.doubts)
    if rows.held is None:
        return Registered(frame, "new", None, new.processed, frame=new)
    return Registered(frame, "duplicate", rows.held.id, same=rows.same, frame=new)


def _corrected(connection: Connection, frame: int, new: NewFrame, *, fills: bool = False) -> NewFrame:
    """What a header says, with what somebody has corrected of the frame; what it says itself is kept beside that.

    With `fills` the header fills in a row, which goes on to say what the header leaves blank.
    """
    amendments = find_amendments(connection, [frame])
    if not amendments:  # nearly always
        return new
    if any(amendment.why == FOLLOWS for amendment in amendments):
        forget_followed(connection, frame)
    amendments = settle_amendments(connection, [frame])
    said = {amendment.name: new.value(amendment.name) for amendment in amendments}
    note_said(
        connection, amendments, {name: said[name] for name in said if said[name] is not None or not fills}
    )
    return new.amended(values_of(amendments))


def _promote_duplicate(connection: Connection, superseded: int) -> None:
    """The content of a superseded frame may still stand under another name: that file takes its place."""
    copies = select(FrameRow.id, FrameRow.reason).where(
        FrameRow.duplicate_of == superseded, FrameRow.status == "duplicate"
    )
    useful_first = FrameRow.reason != "", FrameRow.frame_class == "unclassified", FrameRow.id
    duplicates = connection.execute(copies.order_by(*useful_first)).all()
    if not duplicates:
        return
    heir = duplicates[0]
    values = {"status": _status_by(heir.reason), "duplicate_of": None, "ungrouped": True}
    connection.execute(update(FrameRow).where(FrameRow.id == heir.id).values(**values))
    others = [duplicate.id for duplicate in duplicates[1:]]
    connection.execute(update(FrameRow).where(FrameRow.id.in_(others)).values(duplicate_of=heir.id))
    hand_on(connection, superseded, heir.id)


def _status_by(reason: str) -> str:
    """Status of a duplicate that counts from now on: it keeps in its reason why it could not be used."""
    if not reason:
        return "registered"
    return "processed" if reason.startswith(PROCESSED) else "refused"


def _is_gone(connection: Connection, frame: int) -> bool:
    path = connection.execute(select(FrameRow.path).where(FrameRow.id == frame)).scalar_one()
    return path is not None and not Path(path).exists()


def _take_over(connection: Connection, duplicate: int, original: int) -> None:
    """Let a duplicate stand for its content, since the file of the original is gone."""
    # The original first: two rows that hold one content are refused by uq_frame_content.
    gone = {"status": "superseded", "superseded_by": duplicate, "ungrouped": True}
    connection.execute(update(FrameRow).where(FrameRow.id == original).values(**gone))
    reason = connection.execute(select(FrameRow.reason).where(FrameRow.id == duplicate)).scalar_one()
    promoted = {"status": _status_by(reason), "duplicate_of": None, "ungrouped": True}
    connection.execute(update(FrameRow).where(FrameRow.id == duplicate).values(**promoted))
    others = update(FrameRow).where(FrameRow.duplicate_of == original, FrameRow.id != duplicate)
    connection.execute(others.values(duplicate_of=duplicate))
    hand_on(connection, original, duplicate)


def _insert(connection: Connection, new: NewFrame, version: int, duplicate_of: int | None = None) -> int:
    row = frame_row(new) | {"version": version, "duplicate_of": duplicate_of}
    if duplicate_of is not None:
        row |= {"status": "duplicate", "ungrouped": False}
    frame = connection.execute(_INSERT, row).scalar_one()
    keep_keywords(connection, [(frame, new.keywords)])
    add_doubts(connection, [(frame, new.doubts)])
    return int(frame)


def _refresh(connection: Connection, frame: int, new: NewFrame) -> tuple[NewFrame, str]:
    """Take over what is now said of a known frame: its place, its time on disk, what its header means.

    Returns the frame as it is known now, and by what it is finished already; nothing for one that is used.
    """
    before = connection.execute(select(table(FrameRow)).where(FrameRow.id == frame)).one()._mapping
    new = _corrected(connection, frame, new)
    if new.processed and before["status"] == "registered":
        new = _still_taken(connection, frame, new)
    # What reading its pixels has told is not in its header: ingest can't see it, and must not forget it.
    if damage := damage_of_known(connection, frame, new.changed_ns):
        new = replace(new, refused=damage)
    row = frame_row(new)
    status = row.pop("status")
    del row["registered_at"]
    # A ban is a human's word and outlives what ingest says; a duplicate stays one.
    if before["status"] == "refused" and before["reason"].startswith(BANNED.rstrip(": ")):
        del row["reason"]
    elif before["status"] != "duplicate":
        row["status"] = status
    if new.pixels is None:  # nobody has looked this time
        del row["pixels"]
    keywords = changed_keywords(connection, frame, new.keywords)
    changed = {name: value for name, value in row.items() if before[name] != value}
    # Where the file lies and when it was touched means nothing to grouping.
    regroup = keywords or changed.keys() - {"path", "size", "changed_ns", "reason", "pixels"}
    if regroup and before["status"] != "duplicate":
        changed["ungrouped"] = True
    if changed:
        changed["revision"] = before["revision"] + 1
        connection.execute(update(table(FrameRow)).where(FrameRow.id == frame).values(changed))
    replace_keywords(connection, frame, keywords)
    replace_doubts(connection, frame, new.doubts)
    return new, "" if before["status"] == "duplicate" else new.processed


def _still_taken(connection: Connection, frame: int, new: NewFrame) -> NewFrame:
    """Keep a finished frame in use where somebody has said so: a word that outlives an ingest without it."""
    # Only a frame that was taken has these keywords; one of a project from before has none, and is used no longer.
    taken = FrameKeywordRow.frame_id == frame, FrameKeywordRow.name.in_((ENTERS, DONE_BEFORE))
    rows = connection.execute(select(FrameKeywordRow.name, FrameKeywordRow.value).where(*taken))
    said = {name: value for name, value in rows}
    if ENTERS not in said:
        return new
    # Of its header alone: what pixels or flats have told stays theirs, and goes when they tell otherwise.
    kept = find_doubts(connection, [frame], HEADER).get(frame, ())
    return replace(new, processed="", keywords={**new.keywords, **said}, doubts=kept)


def frame_row(new: NewFrame) -> dict[str, Any]:
    """Return the row of a frame that is registered now.

    Parameters
    ----------
    new : NewFrame
        The frame.

    Returns
    -------
    dict of str to object
        Values by column; without version, and without what the row has to do with other rows.
    """
    described = {name: storable(getattr(new, name)) for name in _DESCRIBED}
    return described | {
        "path": new.path,
        "sha256": new.sha256,
        "pixels": new.pixels,
        "size": new.size,
        "changed_ns": new.changed_ns,
        "class": storable(new.frame_class),
        "status": "processed" if new.processed else "refused" if new.refused else "registered",
        "reason": storable(new.processed or new.refused),
        "registered_at": now(),
    }


@dataclass(frozen=True)
class Content:
    """What is known of the file of a frame, and when it was taken."""

    id: int
    path: str | None
    sha256: str | None
    size: int | None
    changed_ns: int | None
    obsdate: str


def contents(connection: Connection, frames: Collection[int]) -> list[Content]:
    """Return what is known of the files of frames.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    frames : collection of int
        Their ids.

    Returns
    -------
    list of Content
        By id.
    """
    columns = [getattr(FrameRow, name) for name in Content.__annotations__]
    rows: list[Content] = []
    for part in batches(sorted(set(frames))):
        statement = select(*columns).where(FrameRow.id.in_(part)).order_by(FrameRow.id)
        rows += [Content(*map(words, row)) for row in connection.execute(statement)]
    return rows


def let_copy_take_over(connection: Connection, path: str) -> int | None:
    """Let a copy that can be used hold the exposure of a frame whose file turned out to be damaged.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    path : str
        The damaged file.

    Returns
    -------
    int or None
        Id of the copy's frame; None where there is no copy that could be read, or the frame is not refused.
    """
    damaged = FrameRow.path == path, FrameRow.status == "refused", text(CURRENT)
    frame = connection.execute(select(FrameRow.id, FrameRow.status, FrameRow.reason).where(*damaged)).first()
    if frame is None or _is_banned(frame):
        return None
    copies = select(FrameRow.id, FrameRow.path).where(
        FrameRow.duplicate_of == frame.id, FrameRow.status == "duplicate", FrameRow.reason == ""
    )
    for copy, place in connection.execute(
        copies.order_by(FrameRow.frame_class == "unclassified", FrameRow.id)
    ):
        if place and Path(place).is_file():
            _give_way(connection, frame.id, copy)
            heir = update(FrameRow).where(FrameRow.id == copy)
            connection.execute(heir.values(status="registered", duplicate_of=None, ungrouped=True))
            return int(copy)
    return None


def look_again(connection: Connection, frames: Collection[int]) -> None:
    """Let files be read anew when they are looked at next, though nobody has touched them.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    frames : collection of int
        Ids of their frames.
    """
    for part in batches(sorted(frames)):
        connection.execute(update(FrameRow).where(FrameRow.id.in_(part)).values(changed_ns=None))


def twin_path(connection: Connection, pixels: str, path: str) -> str | None:
    """Return another file that may hold the same exposure, for whoever compares all of its pixels.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    pixels : str
        Digest of the pixels.
    path : str
        The file that it was made of.

    Returns
    -------
    str or None
        Path of the frame that holds the exposure; None where there is none, or this is the one.
    """
    return connection.execute(_TWIN_PATH, {"pixels": pixels, "path": path}).scalars().first()


def without_pixels(connection: Connection, limit: int, after: int = 0) -> list[tuple[int, str]]:
    """Return frames whose pixels nobody has compared yet, since they came before that was done.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    limit : int
        The most frames.
    after : int
        Only frames with higher ids.

    Returns
    -------
    list of tuple of int and str
        Id and path of each, by id.
    """
    tests = FrameRow.pixels.is_(None), text(ORIGINAL), FrameRow.id > after
    rows = connection.execute(
        select(FrameRow.id, FrameRow.path).where(*tests).order_by(FrameRow.id).limit(limit)
    )
    return [(frame, path or "") for frame, path in rows]


def keep_pixels(connection: Connection, frame: int, pixels: str) -> dict[int, int]:
    """Keep the digest of a frame's pixels, and let it be one with frames that have the same.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    frame : int
        Its id.
    pixels : str
        The digest; blank where the pixels tell nothing.

    Returns
    -------
    dict of int to int
        As of `merge_twins`.
    """
    connection.execute(update(FrameRow).where(FrameRow.id == frame).values(pixels=pixels))
    return merge_twins(connection, pixels) if pixels else {}


def pending_frames(
    connection: Connection, limit: int = 1000, after: int = 0, before: int | None = None
) -> list[tuple[int, str, str]]:
    """Return rows that other programs have inserted, whose files have not been read yet.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    limit : int
        The most rows.
    after : int
        Only rows with higher ids.
    before : int, optional
        Only rows with lower ids, to go on where the last answer ended.

    Returns
    -------
    list of tuple of int, str and str
        Id, path and time of registration (ISO UTC) of each, the newest first.
    """
    columns = select(FrameRow.id, FrameRow.path, FrameRow.registered_at).where(
        text(PENDING), FrameRow.id > after
    )
    if before is not None:
        columns = columns.where(FrameRow.id < before)
    rows = connection.execute(columns.order_by(FrameRow.id.desc()).limit(limit))
    return [(frame, _name(path), registered_at) for frame, path, registered_at in rows]


def refuse_frames(connection: Connection, reasons: Mapping[int, str]) -> None:
    """Record that frames can't be used.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    reasons : mapping of int to str
        By id why, in one sentence.
    """
    for frame in sorted(reasons):
        refuse_frame(connection, frame, reasons[frame])


def _name(path: Any) -> str:
    """A path as text: a program may have handed SQLite the bytes of a name, which it then keeps as such."""
    return path.decode("utf-8", "backslashreplace") if isinstance(path, bytes) else path or ""


def refuse_frame(connection: Connection, frame: int, reason: str) -> None:
    """Record that a frame can't be used.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    frame : int
        Its id.
    reason : str
        Why, in one sentence.
    """
    row = update(FrameRow).where(FrameRow.id == frame)
    connection.execute(row.values(status="refused", reason=reason, ungrouped=True))


def registered_files(connection: Connection) -> list[tuple[str, int, int]]:
    """Return the newest version of each file, so that ingest need not read what has not changed.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.

    Returns
    -------
    list of tuple of str, int and int
        Path, size in bytes and time of the last change (ns since 1970-01-01 UTC) of each, by path; 0 for what is not
        known of a file that has not been read yet.
    """
    columns = select(FrameRow.path, FrameRow.size, FrameRow.changed_ns).order_by(FrameRow.path)
    rows = connection.execute(columns.where(FrameRow.path.is_not(None), FrameRow.status != "superseded"))
    return [(_name(path), size or 0, changed_ns or 0) for path, size, changed_ns in rows]
