"""Put the rows of an archive into a registry: what it knows already stays, what contradicts it changes nothing.

A frame is known by the sha256 of its file (a row without one by what it is of), a job by its key, a product by its job
and category. Ids are this registry's own, unless it never gave one out.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, Table, bindparam, delete, select, update

from ccdflow.archive.moving.kinds import CHOICE, EVENT, FRAME, JOB, PRODUCT, SET, Kind, Part, Row
from ccdflow.archive.moving.manifest import ArchiveFileError, Manifest
from ccdflow.archive.registry.bulk import batches, insert_rows
from ccdflow.archive.registry.frames.files import merge_twins
from ccdflow.archive.registry.ids import ids_for
from ccdflow.archive.registry.rootpaths import absolute
from ccdflow.archive.registry.sets import counts as setcounts

AT_ONCE = 1000
"""Rows that are looked for, or written, by one statement."""
ORIGINALS = ("registered", "refused", "processed")
"""Statuses of the one frame that holds a content."""
_OF_A_ROW = ("telescope", "camera", "instrument", "obsdate", "iobs", "filter", "object", "class")
"""What tells rows without files apart."""


@dataclass(frozen=True)
class Placed:
    """Where files lie here: path and time of the last change by id in the archive, of frames and of products."""

    frames: Mapping[int, tuple[str, int | None]] = field(default_factory=dict)
    products: Mapping[int, tuple[str, int | None]] = field(default_factory=dict)


@dataclass
class Report:
    """How many rows of each kind were new, and how many were there already."""

    new: Counter[str] = field(default_factory=Counter)
    known: Counter[str] = field(default_factory=Counter)


def known_products(connection: Connection, manifest: Manifest) -> dict[int, str]:
    """Return which products of an archive are here, and make sure that none has another content.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    manifest : Manifest
        Of the archive, checked.

    Returns
    -------
    dict of int to str
        Their paths here, by their ids in the archive. Those that are to be made here, or are missing, are not among
        them.

    Raises
    ------
    ArchiveFileError
        If one has another content here, is being made here, or its path belongs to another.
    """
    paths: dict[int, str] = {}
    columns = PRODUCT.table.c
    wanted = [columns[name] for name in ("id", "job_key", "category", "path", "sha256", "state")]
    for rows in batches(manifest.rows(PRODUCT), AT_ONCE):
        keys = [row["job_key"] for row in rows]
        here = {
            (row.job_key, row.category): row
            for row in connection.execute(select(*wanted).where(columns.job_key.in_(keys)))
        }
        _refuse_running(connection, manifest, keys)
        for row in rows:
            other = here.get((row["job_key"], row["category"]))
            if other is None or row["state"] != "done" or other.sha256 is None:
                continue
            if other.sha256 != row["sha256"]:
                raise _error(
                    manifest,
                    f"its {row['category']} {row['path']} (sha256 {row['sha256'][:16]}...) is not p{other.id} here "
                    f"({other.path}, sha256 {other.sha256[:16]}...), though both are of job {row['job_key'][:8]}",
                )
            if other.state == "done":
                paths[row["id"]] = other.path
        _refuse_taken(connection, manifest, rows)
    return paths


def known_frames(connection: Connection, manifest: Manifest) -> set[int]:
    """Return which raw frames of an archive are here, by their content.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    manifest : Manifest
        Of the archive, checked.

    Returns
    -------
    set of int
        Their ids in the archive.
    """
    known: set[int] = set()
    for rows in batches(manifest.rows(FRAME), AT_ONCE):
        known |= _by_content(connection, rows).keys()
    return known


def _by_content(connection: Connection, rows: Sequence[Row]) -> dict[int, int]:
    """Frames here that hold the same contents: ids here by those in the archive."""
    columns = FRAME.table.c
    contents = {row["sha256"]: row["id"] for row in rows if row["sha256"] and row["status"] in ORIGINALS}
    held = select(columns.sha256, columns.id)
    same = held.where(columns.sha256.in_(list(contents)), columns.status.in_(ORIGINALS))
    return {contents[content]: number for content, number in connection.execute(same)}


def _refuse_running(connection: Connection, manifest: Manifest, keys: Collection[str]) -> None:
    columns = JOB.table.c
    running = select(columns.key, columns.step).where(columns.key.in_(keys), columns.state == "running")
    for key, step in connection.execute(running.limit(1)):
        raise _error(manifest, f"job {key[:8]} ({step}) is being done here; try again when it is over")


def _refuse_taken(connection: Connection, manifest: Manifest, rows: Sequence[Row]) -> None:
    columns = PRODUCT.table.c
    paths = {row["path"]: row for row in rows}
    for number, path, key in connection.execute(
        select(columns.id, columns.path, columns.job_key).where(columns.path.in_(list(paths)))
    ):
        if key != paths[path]["job_key"]:
            raise _error(
                manifest,
                f"its {path} is of job {paths[path]['job_key'][:8]}, the file of p{number} here of job {key[:8]}",
            )


def place(connection: Connection, manifest: Manifest, placed: Placed) -> Report:
    """Write the rows of an archive into a registry.

    Parameters
    ----------
    connection : Connection
        A transaction that writes; what it has written counts together, or not at all.
    manifest : Manifest
        Of the archive, checked.
    placed : Placed
        Where the files lie here. A frame whose file was not taken along keeps the path that it had.

    Returns
    -------
    Report
        What was new.

    Raises
    ------
    ArchiveFileError
        If something contradicts what is here.
    """
    known_products(connection, manifest)
    return _Placing(connection, manifest, placed).all()


class _Placing:
    """One import: ids of rows here and in the archive.

    `ids` has this registry's id for each id of the archive, by kind; `new` the ids in the archive of the rows that are
    written, `fresh` the same ones' ids here.
    """

    def __init__(self, connection: Connection, manifest: Manifest, placed: Placed) -> None:
        self.connection, self.manifest, self.placed = connection, manifest, placed
        self.ids: dict[str, dict[int, int]] = {}
        self.new: dict[str, set[int]] = {}
        self.fresh: dict[str, set[int]] = {}
        self.report = Report()

    def all(self) -> Report:
        setcounts.alone(self.connection)
        self._frames()
        given_way = self._sets()
        self._jobs()
        self._products()
        self._link_sets(given_way)
        self._choices()
        self._events()
        return self.report

    # --- frames -----------------------------------------------------------------------------------------------------

    def _frames(self) -> None:
        self._number(FRAME, self._known_frames)
        pixels: list[str] = []
        for rows in self._new_rows(FRAME):
            for row in rows:
                path, changed_ns = self.placed.frames.get(row["id"], (row["path"], None))
                row |= {"path": path, "changed_ns": changed_ns, "ungrouped": True}
            self._refuse_paths(rows)
            pixels += [row["pixels"] for row in rows if row.get("pixels")]
            self._insert(FRAME, rows, {"duplicate_of": None, "superseded_by": None})
        self._link(FRAME, ("duplicate_of", "superseded_by"))
        self._merge(pixels)

    def _known_frames(self, rows: Sequence[Row]) -> dict[int, int]:
        known = _by_content(self.connection, rows)
        for row in rows:
            if row["path"] is not None and row["status"] not in ORIGINALS:
                known |= self._same(row, ("path", "sha256", "status", "version"))
            elif row["path"] is None:
                known |= self._same(row, ("path", *_OF_A_ROW))
        return known

    def _same(self, row: Row, names: Sequence[str]) -> dict[int, int]:
        """The frame here that has the same values in some columns."""
        tests = [FRAME.table.c[name].is_not_distinct_from(row[name]) for name in names]
        number = self.connection.execute(select(FRAME.table.c.id).where(*tests).limit(1)).scalar()
        return {} if number is None else {row["id"]: number}

    def _refuse_paths(self, rows: Sequence[Row]) -> None:
        """Of a path there is one content at a time: the file is that of the archive, or the one here."""
        columns = FRAME.table.c
        dialect = self.connection.dialect
        current = [row for row in rows if row["path"] and row["status"] != "superseded"]
        paths = {absolute(row["path"], dialect): row for row in current}
        held = select(columns.id, columns.path, columns.sha256)
        for number, path, content in self.connection.execute(
            held.where(columns.path.in_(list(paths)), columns.status != "superseded").limit(1)
        ):
            raise _error(
                self.manifest,
                f"its raw frame {path} has sha256 {str(paths[path]['sha256'])[:16]}..., f{number} here, which is that "
                f"file, {str(content)[:16]}...",
            )

    def _merge(self, pixels: Sequence[str]) -> None:
        """An exposure that is here in another file is one frame."""
        for some in batches(pixels, AT_ONCE):
            columns = FRAME.table.c
            held = select(columns.pixels).where(columns.pixels.in_(some), columns.status.in_(ORIGINALS))
            counts = Counter(self.connection.execute(held).scalars())
            for digest in sorted(digest for digest, number in counts.items() if number > 1):
                merge_twins(self.connection, str(digest))

    # --- sets -------------------------------------------------------------------------------------------------------

    def _sets(self) -> dict[int, int]:
        """Write the sets; gives those that give way to others here, which hold some of their frames."""
        self._number(SET, self._known_sets)
        given_way: dict[int, int] = {}
        counted: Counter[tuple[str, str]] = Counter()
        for rows in self._new_rows(SET):
            for row in rows:
                if row["status"] != "superseded" and (other := self._overlapping(row)) is not None:
                    row["status"], given_way[row["id"]] = "superseded", other
                counted[row["step"], setcounts.kind(row["status"], row["action"])] += 1
            self._insert(SET, rows, {"superseded_by": None, "product_id": None})
        setcounts.add(self.connection, counted)
        return given_way

    def _known_sets(self, rows: Sequence[Row]) -> dict[int, int]:
        known: dict[int, int] = {}
        for row in rows:
            frames = [self.ids["frame"].get(member["frame_id"], 0) for member in row["frames"]]
            if not frames or frames[0] in self.fresh["frame"]:
                continue
            held = self._sets_with(row["step"], frames[:1])
            # One that came before may have given way here to another; one that has given way there is none of now.
            held.sort(key=lambda one: one[1] == "superseded")
            superseded = row["status"] == "superseded"
            for number, status in held:
                fits = status == "superseded" or not superseded
                if fits and number not in known.values() and self._members(number) == frames:
                    known[row["id"]] = number
                    break
        return known

    def _sets_with(self, step: str, frames: Collection[int]) -> list[tuple[int, str]]:
        members, sets = SET.parts[0].table.c, SET.table.c
        joined = select(sets.id, sets.status).join(SET.parts[0].table, members.set_id == sets.id)
        rows = joined.where(members.frame_id.in_(frames), sets.step == step).order_by(sets.id)
        return [(number, status) for number, status in self.connection.execute(rows)]

    def _members(self, number: int) -> list[int]:
        members = SET.parts[0].table.c
        rows = select(members.frame_id).where(members.set_id == number).order_by(members.position)
        return list(self.connection.execute(rows).scalars())

    def _overlapping(self, row: Row) -> int | None:
        """A set here that holds a frame of one that comes: a frame is in one set of a step only."""
        frames = {self.ids["frame"][member["frame_id"]] for member in row["frames"]} - self.fresh["frame"]
        held = self._sets_with(row["step"], frames) if frames else []
        return next((number for number, status in held if status != "superseded"), None)

    def _link_sets(self, given_way: Mapping[int, int]) -> None:
        self._link(SET, ("superseded_by", "product_id"))
        for theirs, ours in given_way.items():
            one = update(SET.table).where(SET.table.c.id == self.ids["set"][theirs])
            self.connection.execute(one.values(superseded_by=ours))

    # --- jobs and products ------------------------------------------------------------------------------------------

    def _jobs(self) -> None:
        columns = JOB.table.c
        for rows in batches(self.manifest.rows(JOB), AT_ONCE):
            states = select(columns.key, columns.state).where(columns.key.in_([row["key"] for row in rows]))
            here = {key: state for key, state in self.connection.execute(states)}
            new = [row for row in rows if row["key"] not in here]
            # A job that is done elsewhere need not be done here, whatever has become of it.
            done = [row for row in rows if row["state"] == "done" and here.get(row["key"], "done") != "done"]
            self._insert(JOB, new, {})
            for row in done:
                self._do(row)
            self.report.new["job"] += len(new) + len(done)
            self.report.known["job"] += len(rows) - len(new) - len(done)

    def _do(self, row: Row) -> None:
        values = {name: row[name] for name in JOB.columns if name in row and name != "key"}
        values |= {"set_id": self._id("set", row["set_id"]), "owner": "", "heartbeat": None}
        self.connection.execute(update(JOB.table).where(JOB.table.c.key == row["key"]).values(values))
        for part in JOB.parts:
            self.connection.execute(delete(part.table).where(part.table.c[part.owner] == row["key"]))
            insert_rows(self.connection, part.table, self._parts(JOB, part, row))

    def _products(self) -> None:
        self._number(PRODUCT, self._known_rows)
        for rows in self._new_rows(PRODUCT):
            for row in rows:
                row["changed_ns"] = self._placed(row)[1]
            self._insert(PRODUCT, rows, {"superseded_by": None})
        self._link(PRODUCT, ("superseded_by",))
        for rows in batches(self.manifest.rows(PRODUCT), AT_ONCE):
            for row in rows:
                if row["id"] not in self.new["product"] and row["state"] == "done":
                    self._make(row)

    def _known_rows(self, rows: Sequence[Row]) -> dict[int, int]:
        columns = PRODUCT.table.c
        held = select(columns.job_key, columns.category, columns.id)
        held = held.where(columns.job_key.in_([row["job_key"] for row in rows]))
        here = {(key, category): number for key, category, number in self.connection.execute(held)}
        return {
            row["id"]: here[row["job_key"], row["category"]]
            for row in rows
            if (row["job_key"], row["category"]) in here
        }

    def _make(self, row: Row) -> None:
        """A product that was planned or missing here is there now."""
        here, (path, changed_ns) = self.ids["product"][row["id"]], self._placed(row)
        columns = PRODUCT.table.c
        missing = columns.id == here, columns.state != "done"
        told = {
            name: row[name] for name in PRODUCT.columns if name in row and name not in ("id", "superseded_by")
        }
        values = told | {"path": path, "changed_ns": changed_ns, "unwanted": False}
        change = update(PRODUCT.table).where(*missing).values(values).returning(columns.id)
        if self.connection.execute(change).first() is None:
            return
        for part in PRODUCT.parts:
            self.connection.execute(delete(part.table).where(part.table.c[part.owner] == here))
            insert_rows(self.connection, part.table, self._parts(PRODUCT, part, row))
        self.report.new["product"] += 1
        self.report.known["product"] -= 1

    def _placed(self, row: Row) -> tuple[str, int | None]:
        return self.placed.products.get(row["id"], (row["path"], None))

    # --- what people said -------------------------------------------------------------------------------------------

    def _choices(self) -> None:
        """Choices of frames that are new here, and of jobs of which nothing was chosen here."""
        frames = {f"f{number}": f"f{self.ids['frame'][number]}" for number in self.new["frame"]}
        held = set(self.connection.execute(select(CHOICE.table.c.subject)).scalars())
        rows = []
        for row in self.manifest.rows(CHOICE):
            is_frame = row["subject"][1:].isdigit() and int(row["subject"][1:]) in self.ids["frame"]
            subject = frames.get(row["subject"], "") if is_frame else row["subject"]
            if subject and subject not in held:
                rows.append({**row, "subject": subject})
        self._count("choice", rows)
        insert_rows(self.connection, CHOICE.table, rows)

    def _events(self) -> None:
        names = EVENT.columns
        columns = [EVENT.table.c[name] for name in names]
        held = {tuple(row) for row in self.connection.execute(select(*columns))}
        rows = [
            row for row in self.manifest.rows(EVENT) if tuple(row.get(name) for name in names) not in held
        ]
        self._count("event", rows)
        insert_rows(self.connection, EVENT.table, rows)

    def _count(self, kind: str, new: Sequence[Row]) -> None:
        self.report.new[kind] += len(new)

    # --- rows in general --------------------------------------------------------------------------------------------

    def _number(self, kind: Kind, find: Callable[[Sequence[Row]], dict[int, int]]) -> None:
        """Find the rows that are here, and give ids to the others."""
        known: dict[int, int] = {}
        new: list[int] = []
        for rows in batches(self.manifest.rows(kind), AT_ONCE):
            here = find(rows)
            known |= here
            new += [row["id"] for row in rows if row["id"] not in here]
        self.ids[kind.name] = known | ids_for(self.connection, kind.table, sorted(new))
        self.new[kind.name], self.fresh[kind.name] = set(new), {self.ids[kind.name][number] for number in new}
        self.report.new[kind.name] += len(new)
        self.report.known[kind.name] += len(known)

    def _new_rows(self, kind: Kind) -> Iterator[list[Row]]:
        new = self.new[kind.name]
        return batches((row for row in self.manifest.rows(kind) if row["id"] in new), AT_ONCE)

    def _id(self, kind: str, elsewhere: int | None) -> int | None:
        if elsewhere is None:
            return None
        if elsewhere not in self.ids[kind]:
            raise _error(self.manifest, f"a row of it points to {kind} {elsewhere}, which is not in it")
        return self.ids[kind][elsewhere]

    def _insert(self, kind: Kind, rows: Sequence[Row], later: Row) -> None:
        """Write rows with what belongs to each; columns `later` are filled when all are there."""
        own = [self._translated(kind, kind.table, kind.links, row) | later for row in rows]
        insert_rows(self.connection, kind.table, own)
        for part in kind.parts:
            belonging = [item for row in rows for item in self._parts(kind, part, row)]
            insert_rows(self.connection, part.table, belonging)

    def _translated(self, kind: Kind, into: Table, links: Mapping[str, str], row: Row) -> Row:
        values = {name: value for name, value in row.items() if name in into.c}
        for column, other in links.items():
            # What points to rows that come later is filled in when they are there.
            if column in values and other in self.ids:
                values[column] = self._id(other, values[column])
        if kind.key == "id" and into is kind.table:
            values["id"] = self.ids[kind.name][row["id"]]
        return values

    def _parts(self, kind: Kind, part: Part, row: Row) -> list[Row]:
        owner = self.ids[kind.name][row["id"]] if kind.key == "id" else row[kind.key]
        return [
            self._translated(kind, part.table, part.links, item) | {part.owner: owner}
            for item in row[part.name]
        ]

    def _link(self, kind: Kind, names: Sequence[str]) -> None:
        """Fill in what points to rows of the same kind, or of later ones."""
        column = kind.table.c
        for rows in self._new_rows(kind):
            linking = [
                {
                    "here": self.ids[kind.name][row["id"]],
                    **{f"to_{n}": self._id(kind.links[n], row[n]) for n in names},
                }
                for row in rows
                if any(row[name] is not None for name in names)
            ]
            if linking:
                statement = update(kind.table).where(column.id == bindparam("here"))
                self.connection.execute(statement.values({n: bindparam(f"to_{n}") for n in names}), linking)


def _error(manifest: Manifest, reason: str) -> ArchiveFileError:
    return ArchiveFileError(f"{manifest.name}: {reason}; nothing was changed")
