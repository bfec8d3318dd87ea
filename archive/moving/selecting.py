"""What an archive of some products has to hold: all that explains them, down to the raw frames."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, select

from ccdflow.archive.moving.kinds import CHOICE, EVENT, FRAME, JOB, KINDS, PRODUCT, SET, Kind, Row, rows_of
from ccdflow.archive.registry.bulk import batches
from ccdflow.archive.search.finding import Question, find_rows


@dataclass(frozen=True)
class Selection:
    """Which part of an archive is meant.

    Parameters
    ----------
    expression : str
        Describes products, as `ccdflow find --products` takes it; blank for all that are current.
    every : bool
        All that there is: also frames that nothing was made of, and products that have given way to others.
    raws : bool
        Also the files of raw frames.
    """

    expression: str = ""
    every: bool = False
    raws: bool = False


@dataclass
class Chosen:
    """Keys of rows by the name of their kind."""

    keys: dict[str, set[Any]] = field(default_factory=lambda: {kind.name: set() for kind in KINDS})

    def rows(self, connection: Connection) -> Iterator[tuple[Kind, Row]]:
        """Read the rows, kind by kind in the order of their keys.

        Parameters
        ----------
        connection : Connection
            The transaction that has chosen them.

        Yields
        ------
        (Kind, dict)
            The next row.
        """
        for kind in KINDS[:4]:
            for row in rows_of(connection, kind, sorted(self.keys[kind.name])):
                # What is being done elsewhere is to be done here.
                if kind is JOB and row["state"] == "running":
                    row |= {"state": "planned", "started_at": ""}
                yield kind, row
        for row in self._choices(connection):
            yield CHOICE, row
        for row in self._events(connection):
            yield EVENT, row

    def _choices(self, connection: Connection) -> list[Row]:
        """What people have chosen of these frames and jobs: the choices of all, since they are few."""
        columns = [CHOICE.table.c[name] for name in CHOICE.columns]
        subjects = {f"f{frame}" for frame in self.keys["frame"]} | self.keys["job"]
        rows = [dict(row) for row in connection.execute(select(*columns)).mappings()]
        return sorted((row for row in rows if row["subject"] in subjects), key=lambda row: row["subject"])

    def _events(self, connection: Connection) -> list[Row]:
        """What happened to the cameras of these frames; a blank in it stands for all."""
        names = ("telescope", "camera", "instrument")
        cameras = {tuple(row) for row in _read(connection, FRAME, names, self.keys["frame"])}
        columns = [EVENT.table.c[name] for name in EVENT.columns]
        rows = [dict(row) for row in connection.execute(select(*columns)).mappings()]
        kept = [
            row
            for row in rows
            if any(
                all(row[name] in ("", value) for name, value in zip(names, camera, strict=True))
                for camera in cameras
            )
        ]
        return sorted(kept, key=lambda row: (row["happened"], row["what"], *(row[name] for name in names)))


def choose(connection: Connection, selection: Selection) -> Chosen:
    """Choose what an archive has to hold.

    Parameters
    ----------
    connection : Connection
        A transaction that reads, the same in which the rows are read.
    selection : Selection
        Which part is meant.

    Returns
    -------
    Chosen
        The rows.

    Raises
    ------
    ExpressionError
        If the expression is none, or a name is not known.
    """
    chosen = Chosen()
    if selection.every:
        for kind in KINDS[:4]:
            chosen.keys[kind.name] = set(connection.execute(select(kind.table.c[kind.key])).scalars())
        return chosen
    question = Question("products", selection.expression, ("id",), ("id",))
    first = {int(row["id"]) for row in find_rows(connection, question)}
    closing = _Closing(connection, chosen)
    closing.add("product", first)
    closing.add_neighbours()
    return chosen


class _Closing:
    """Adds to what was chosen all that it points to, until nothing is missing."""

    def __init__(self, connection: Connection, chosen: Chosen) -> None:
        self.connection = connection
        self.keys = chosen.keys

    def add(self, kind: str, keys: Iterable[Any]) -> None:
        waiting = [(kind, set(keys))]
        while waiting:
            name, wanted = waiting.pop()
            new = wanted - self.keys[name]
            if new:
                self.keys[name] |= new
                waiting += self._behind(name, new)

    def add_neighbours(self) -> None:
        """Add sets all of whose frames are there, such as those that pass as they are, and what came of them.

        They bring in nothing else: whoever asks for one stack wants no second one of the same flats.
        """
        sets = self._whole_sets()
        self.keys["set"] |= sets
        for key, products in self._jobs_of(sets).items():
            self.keys["job"].add(key)
            self.keys["product"] |= products

    def _whole_sets(self) -> set[Any]:
        members = SET.parts[0].table.c
        touched = self._found(select(members.set_id), members.frame_id, self.keys["frame"]) - self.keys["set"]
        outside: set[Any] = set()
        for some in batches(sorted(touched)):
            for number, frame in self.connection.execute(
                select(members.set_id, members.frame_id).where(members.set_id.in_(some))
            ):
                if frame not in self.keys["frame"]:
                    outside.add(number)
        links = {
            number: (after, product)
            for number, after, product in _read(
                self.connection, SET, ("id", "superseded_by", "product_id"), touched - outside
            )
            if product is None or product in self.keys["product"]
        }
        # One that has given way to a set which is not there would point nowhere.
        while strays := {
            number
            for number, (after, _) in links.items()
            if after is not None and after not in links and after not in self.keys["set"]
        }:
            links = {number: link for number, link in links.items() if number not in strays}
        return set(links)

    def _jobs_of(self, sets: Collection[Any]) -> dict[str, set[Any]]:
        """Jobs of sets that have ended without a product, of inputs that are all there; with the rows of products."""
        columns, inputs, products = JOB.table.c, JOB.parts[0].table.c, PRODUCT.table.c
        ended = select(columns.key).where(columns.state.in_(("done", "failed", "refused")))
        keys: set[str] = set()
        for some in batches(sorted(sets)):
            keys |= set(self.connection.execute(ended.where(columns.set_id.in_(some))).scalars())
        planned: dict[str, set[Any]] = {key: set() for key in keys - self.keys["job"]}
        for some in batches(sorted(planned)):
            taken = select(inputs.job_key, inputs.frame_id, inputs.parent_job_key)
            for key, frame, parent in self.connection.execute(taken.where(inputs.job_key.in_(some))):
                if frame not in self.keys["frame"] and parent not in self.keys["job"]:
                    planned.pop(key, None)
            made = select(products.job_key, products.id, products.state)
            for key, number, state in self.connection.execute(made.where(products.job_key.in_(some))):
                if state != "planned":
                    planned.pop(key, None)
                elif key in planned:
                    planned[key].add(number)
        return planned

    def _behind(self, name: str, keys: Collection[Any]) -> list[tuple[str, set[Any]]]:
        read = {
            "frame": self._of_frames,
            "set": self._of_sets,
            "job": self._of_jobs,
            "product": self._of_products,
        }
        return list(read[name](keys))

    def _of_frames(self, keys: Collection[Any]) -> Iterator[tuple[str, set[Any]]]:
        yield "frame", self._values(FRAME, ("duplicate_of", "superseded_by"), keys)

    def _of_sets(self, keys: Collection[Any]) -> Iterator[tuple[str, set[Any]]]:
        members = SET.parts[0].table.c
        yield "set", self._values(SET, ("superseded_by",), keys)
        yield "product", self._values(SET, ("product_id",), keys)
        yield "frame", self._found(select(members.frame_id), members.set_id, keys)

    def _of_jobs(self, keys: Collection[Any]) -> Iterator[tuple[str, set[Any]]]:
        inputs = JOB.parts[0].table.c
        yield "set", self._values(JOB, ("set_id",), keys)
        yield "frame", self._found(select(inputs.frame_id), inputs.job_key, keys)
        yield "job", self._found(select(inputs.parent_job_key), inputs.job_key, keys)
        yield "product", self._found(select(PRODUCT.table.c.id), PRODUCT.table.c.job_key, keys)

    def _of_products(self, keys: Collection[Any]) -> Iterator[tuple[str, set[Any]]]:
        yield "job", self._values(PRODUCT, ("job_key",), keys)
        yield "product", self._values(PRODUCT, ("superseded_by",), keys)

    def _values(self, kind: Kind, names: tuple[str, ...], keys: Collection[Any]) -> set[Any]:
        rows = _read(self.connection, kind, names, keys)
        return {value for row in rows for value in row if value is not None}

    def _found(self, columns: Select[Any], owner: ColumnElement[Any], keys: Collection[Any]) -> set[Any]:
        """Values of a column of rows that belong to others."""
        found: set[Any] = set()
        for some in batches(sorted(keys)):
            found |= set(self.connection.execute(columns.where(owner.in_(some))).scalars())
        return found - {None}


def _read(
    connection: Connection, kind: Kind, names: tuple[str, ...], keys: Collection[Any]
) -> Iterator[tuple[Any, ...]]:
    columns = [kind.table.c[name] for name in names]
    for some in batches(sorted(keys)):
        for row in connection.execute(select(*columns).where(kind.table.c[kind.key].in_(some))):
            yield tuple(row)
