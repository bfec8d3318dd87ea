"""Two archives held against each other: what only one has, and what differs in which column.

Ids, places of raw files and times of work are not compared: an archive that has made the same of the same frames on
another machine is the same.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from ccdflow.archive.moving.kinds import CHOICE, EVENT, FRAME, JOB, KINDS, PRODUCT, SET, Kind, Row
from ccdflow.archive.moving.manifest import Manifest

NOT_COMPARED: Mapping[str, frozenset[str]] = {
    "frame": frozenset({"id", "path", "registered_at", "duplicate_of", "superseded_by"}),
    "set": frozenset({"id", "product_id", "superseded_by", "version", "frames"}),
    "job": frozenset({"set_id", "attempts", "planned_at", "started_at", "finished_at", "log"}),
    "product": frozenset({"id"}),
    "choice": frozenset({"created"}),
    "event": frozenset(),
}
"""Columns that say when, where or under which number; of sets the frames are what tells them apart."""
_OF_PARTS = frozenset({"updated", "made", "undone", "frame_id"})
"""The same of what belongs to a row."""
_SHORT = 8


@dataclass(frozen=True)
class Difference:
    """Something that is not the same in two archives, `first` and `second`.

    Parameters
    ----------
    kind : str
        Frame, set, job, product, choice, event or file.
    name : str
        Which one, for people.
    column : str
        What differs; blank where only one has it.
    first, second : object
        The values; of what only one has, whether it has it.
    """

    kind: str
    name: str
    column: str
    first: Any
    second: Any

    def sentence(self, first: str, second: str) -> str:
        """Return the difference for people.

        Parameters
        ----------
        first, second : str
            What the archives are called.

        Returns
        -------
        str
            A line.
        """
        if not self.column:
            return f"only in {first if self.first else second}: {self.kind} {self.name}"
        told = [_told(value) for value in (self.first, self.second)]
        return f"{self.kind} {self.name}: {self.column} is {told[0]} in {first}, {told[1]} in {second}"


def differences(first: Manifest, second: Manifest, counts: Counter[str]) -> Iterator[Difference]:
    """Compare the rows of two archives.

    Parameters
    ----------
    first, second : Manifest
        What they hold.
    counts : Counter
        Filled with how many rows of each kind both have.

    Yields
    ------
    Difference
        The next one, kind by kind.
    """
    names = _Names(first), _Names(second)
    for kind in KINDS:
        left = {names[0].key(kind, row): row for row in first.rows(kind)}
        for row in second.rows(kind):
            key = names[1].key(kind, row)
            other = left.pop(key, None)
            if other is None:
                yield Difference(kind.name, names[1].shown(kind, row), "", False, True)
                continue
            counts[kind.name] += 1
            shown = names[1].shown(kind, row)
            for column, value, its in _columns(kind, names[0].plain(kind, other), names[1].plain(kind, row)):
                yield Difference(kind.name, shown, column, value, its)
        for row in left.values():
            yield Difference(kind.name, names[0].shown(kind, row), "", True, False)


class _Names:
    """What rows of one archive are known by in any other."""

    def __init__(self, manifest: Manifest) -> None:
        self.frames: dict[int, str] = {}
        self.titles: dict[str, str] = {}
        times: Counter[str] = Counter()
        for row in manifest.rows(FRAME):
            told = _frame(row)
            times[told] += 1
            self.frames[row["id"]] = f"{told} {times[told]}"
            self.titles[f"f{row['id']}"] = _title(row)
        self.products = {row["id"]: f"{row['job_key']}:{row['category']}" for row in manifest.rows(PRODUCT)}
        self.sets = {row["id"]: self._set(row) for row in manifest.rows(SET)}

    def _set(self, row: Row) -> str:
        frames = [self.frames.get(member["frame_id"], "") for member in row["frames"]]
        state = "superseded" if row["status"] == "superseded" else ""
        return " ".join([row["step"], state, *frames])

    def key(self, kind: Kind, row: Row) -> Any:
        """The same for rows that are to be compared."""
        if kind is FRAME:
            return self.frames[row["id"]]
        if kind is SET:
            return self.sets[row["id"]]
        if kind is JOB:
            return row["key"]
        if kind is PRODUCT:
            return self.products[row["id"]]
        return self._subject(row) if kind is CHOICE else tuple(row[name] for name in EVENT.columns)

    def _subject(self, row: Row) -> str:
        subject = str(row["subject"])
        return self.frames.get(int(subject[1:]), subject) if subject in self.titles else subject

    def shown(self, kind: Kind, row: Row) -> str:
        """A name for people."""
        if kind is FRAME:
            return _title(row)
        if kind is SET:
            titles = [self.titles.get(f"f{member['frame_id']}", "?") for member in row["frames"]]
            return f"{row['step']} of {', '.join(titles[:1])}{f' and {len(titles) - 1} more' if titles[1:] else ''}"
        if kind is JOB:
            return f"{row['key'][:_SHORT]} ({row['step']})"
        if kind is PRODUCT:
            return str(row["path"])
        return (
            self.titles.get(str(row["subject"]), str(row["subject"])) if kind is CHOICE else str(row["what"])
        )

    def plain(self, kind: Kind, row: Row) -> Row:
        """A row without numbers that are this archive's own."""
        values = {name: value for name, value in row.items() if name not in NOT_COMPARED[kind.name]}
        if kind is PRODUCT:
            values["superseded_by"] = self.products.get(row["superseded_by"])
        if kind is CHOICE:
            values.pop("subject")
        return values


def _frame(row: Row) -> str:
    if row["sha256"] is None:
        names = ("telescope", "camera", "instrument", "obsdate", "iobs", "filter", "object", "class")
        return " ".join(str(row[name]) for name in names)
    status = "" if row["status"] in ("registered", "refused", "processed") else row["status"]
    return f"{row['sha256']} {status}"


def _title(row: Row) -> str:
    if row["path"]:
        return PurePosixPath(row["path"]).name
    return f"{row['class']} {row['telescope']} {row['camera']} {row['obsdate']}"


def _columns(kind: Kind, first: Row, second: Row) -> Iterator[tuple[str, Any, Any]]:
    """Columns in which two rows differ, with both values."""
    parts = {part.name for part in kind.parts}
    for name in sorted(first.keys() | second.keys()):
        value, other = first.get(name), second.get(name)
        if name in parts:
            yield from _belonging(name, _by_name(value or []), _by_name(other or []))
        elif value != other:
            yield name, value, other


def _by_name(rows: Sequence[Row]) -> dict[str, Any]:
    """What belongs to a row, by what tells it apart, which is the first text of each."""
    named: dict[str, Any] = {}
    times: Counter[str] = Counter()
    for row in rows:
        plain = {name: value for name, value in row.items() if name not in _OF_PARTS}
        key = next(name for name in ("name", "stage", "role", "kind", "source", "attempt") if name in plain)
        told = str(plain.pop(key))
        times[told] += 1
        named[told if times[told] == 1 else f"{told} {times[told]}"] = plain
    return named


def _belonging(
    part: str, first: Mapping[str, Any], second: Mapping[str, Any]
) -> Iterator[tuple[str, Any, Any]]:
    for name in sorted(first.keys() | second.keys()):
        if first.get(name) != second.get(name):
            yield f"{part} {name}", _value(first.get(name)), _value(second.get(name))


def _value(row: Row | None) -> Any:
    """What is said of a name: the value alone, where there is nothing else."""
    return row["value"] if row is not None and "value" in row else row


def _told(value: Any) -> str:
    return "unknown" if value is None else f"{value:.12g}" if isinstance(value, float) else repr(value)
