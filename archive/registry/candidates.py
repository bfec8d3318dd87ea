"""The nearest calibrations, found through indexes; the rules of the cascade decide which of them fit.

Of each place (telescope, camera, instrument) that a rule may accept, candidates are read outwards from the time
asked for, a few before and a few after at a time, until the rule has accepted enough or its range of time ends.
What `ccdflow.cascade.planning.associate.fitting` says of all rows of the table, it says of these.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from itertools import product as combinations
from math import inf
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection

from ccdflow.archive.registry import candidatesql as sql
from ccdflow.archive.registry.candidatesql import COLUMNS, PLACE, End, Shape, Shelf
from ccdflow.archive.registry.frames import batches
from ccdflow.cascade.headers.dates import canonical
from ccdflow.cascade.planning.associate import SECONDS_PER_DAY, Candidate, Match, Rule, fitting
from ccdflow.cascade.planning.jobs import Group
from ccdflow.cascade.records import EPOCH, FrameRecord, Value, seconds

_FIRST, _GROWTH, _MOST = 4, 4, 1024  # rows read at once, before and after, in each place
_ENDS = 100  # read by one statement; SQLite takes 500 selects
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Master:
    """A product as the rules see it; `keywords` are those of the first frame that it was made from."""

    id: int
    telescope: str
    camera: str
    instrument: str
    filter: str
    object: str
    exptime: float | None
    obsdate: str
    night: str
    job_key: str
    path: str
    keywords: Mapping[str, Value] = field(default_factory=dict)

    @cached_property
    def time(self) -> float:
        """Start of its first exposure in seconds since 1970-01-01 UTC."""
        return seconds(self.obsdate)

    @property
    def identity(self) -> str:
        """Key of the job that made it."""
        return self.job_key

    def value(self, keyword: str) -> Value | None:
        """The value of a column or keyword; None for a blank."""
        found = getattr(self, keyword) if keyword in COLUMNS else self.keywords.get(keyword)
        return None if found == "" else found


C = TypeVar("C", Group, Master)
Make = Callable[[dict[str, Any], Mapping[str, Value]], C]


def have_index(frame_class: str) -> bool:
    """Whether frames of a class are found through an index of their own."""
    return frame_class not in ("science", "unclassified")


def frame_candidates(
    connection: Connection, frame_class: str, rules: Sequence[Rule], reference: Candidate, count: int
) -> list[Match[Group]]:
    """The best `count` frames of a class, each as a group of its own, with all its keywords."""
    shelf = sql.CALIBRATIONS if have_index(frame_class) else sql.OTHER_FRAMES
    return _best(_Search(connection, shelf, frame_class, reference, _group), rules, count)


def master_candidates(
    connection: Connection, category: str, rules: Sequence[Rule], reference: Candidate, count: int
) -> list[Match[Master]]:
    """The best `count` products of a category, each with the keywords of the first frame that it was made from."""
    return _best(_Search(connection, sql.PRODUCTS, category, reference, _master), rules, count)


def _group(row: dict[str, Any], keywords: Mapping[str, Value]) -> Group:
    return Group((FrameRecord(frame_class=row.pop("class"), keywords=keywords, **row),))


def _master(row: dict[str, Any], keywords: Mapping[str, Value]) -> Master:
    return Master(keywords=keywords, **row)


def _id(candidate: Group | Master) -> int:
    return candidate.id if isinstance(candidate, Master) else candidate.frames[0].id


def _best(search: "_Search[C]", rules: Sequence[Rule], count: int) -> list[Match[C]]:
    """As `fitting` gives them: by rule in order, then by distance in time."""
    found: dict[int, Match[C]] = {}
    for rule in rules:
        for match in search.fitting(rule):
            found.setdefault(_id(match.candidate), match)
            if len(found) == count:
                return list(found.values())
    return list(found.values())


@dataclass(frozen=True)
class _Search(Generic[C]):
    """One search on a shelf: for which frame, and among what."""

    connection: Connection
    shelf: Shelf
    kind: str
    reference: Candidate
    make: Make[C]

    def fitting(self, rule: Rule) -> Iterator[Match[C]]:
        """All candidates that pass a rule, the nearest first, read as far as they are asked for."""
        asked = _Asked(self.shelf, rule, self.reference)
        ends, farthest = self._ends(asked), max(abs(days) for days in rule.days)
        waiting: list[C] = []
        size = _FIRST
        while ends:
            waiting += self._read(asked, ends, size)
            ends = [end for end in ends if not end.done]
            # What lies nearer than the nearest open end is all there is so near; the rest may have company.
            reached = min((end.distance for end in ends), default=inf)
            near = [one for one in waiting if self._distance(one) < reached]
            waiting = [one for one in waiting if self._distance(one) >= reached]
            yield from fitting((rule,), self.reference, near)
            if reached / SECONDS_PER_DAY > farthest:
                return
            size = min(size * _GROWTH, _MOST)

    def _distance(self, candidate: C) -> float:
        return abs(candidate.time - self.reference.time)

    def _ends(self, asked: "_Asked") -> list[End]:
        # A microsecond later, so that rounding puts nothing of the past behind the start.
        start = canonical(EPOCH + timedelta(seconds=self.reference.time, microseconds=1))
        directions = (True,) if asked.rule.days[1] <= 0 else (True, False)
        places = asked.places(lambda: sql.all_places(self.connection, self.shelf, self.kind))
        return [End(place, earlier, start) for place in places for earlier in directions]

    def _read(self, asked: "_Asked", ends: Sequence[End], size: int) -> list[C]:
        """The next `size` candidates at each end; notes how far each was read."""
        found: list[C] = []
        given = {"kind": self.kind, **asked.values}
        for some in batches(ends, _ENDS):
            rows = sql.page(self.connection, self.shelf, asked.shape, given, some, size)
            read: dict[int, list[dict[str, Any]]] = {number: [] for number in range(len(some))}
            for number, keywords, columns in rows:
                row = dict(zip(self.shelf.columns, columns, strict=True))
                read[number].append(row)
                found.append(self.make(row, keywords))
            for number, end in enumerate(some):
                self._advance(end, read[number], size)
        return found

    def _advance(self, end: End, rows: Sequence[dict[str, Any]], size: int) -> None:
        end.done = len(rows) < size
        if rows:
            end.obsdate, end.id = (min if end.earlier else max)((row["obsdate"], row["id"]) for row in rows)
            away = seconds(end.obsdate) - self.reference.time
            end.distance = -away if end.earlier else away


class _Asked:
    """What a rule asks of columns, as conditions that leave out none that passes.

    `shape` is the statement's, with the columns that name a place; `values` hold in every place.
    """

    def __init__(self, shelf: Shelf, rule: Rule, reference: Candidate) -> None:
        self.rule = rule
        self.reference = reference
        self.values: dict[str, Any] = {}
        in_place, by_filter, by_night = shelf.indexes
        conditions: list[str] = []
        columns: tuple[str, ...] = PLACE
        index = in_place
        if rule.within == "same_night":
            conditions.append("night = {night}")
            self.values["night"] = reference.value("night") or ""
        if conditions or not by_filter or self.allowed("filter") is None:
            index = by_night if conditions else in_place
            conditions += self._texts("filter")
        else:
            columns, index = (*PLACE, "filter"), by_filter
        self.shape = Shape(columns, (*conditions, *self._texts("object"), *self._exptime()), index)

    def allowed(self, name: str) -> tuple[str, ...] | None:
        """The texts that a column may have; None where any will do."""
        wanted = self.reference.value(name)
        if name in self.rule.match:
            return None if wanted is None else (str(wanted), "")
        if name in self.rule.equal:
            return ("" if wanted is None else str(wanted),)
        return None

    def places(self, all_places: Callable[[], list[tuple[str, ...]]]) -> list[tuple[str, ...]]:
        """The places to read; `all_places` is asked where a rule takes any telescope, camera or instrument."""
        stream = [self.allowed(name) for name in PLACE]
        known = [one for one in stream if one is not None]
        found: list[tuple[str, ...]] = list(combinations(*known))
        if len(known) < len(stream):
            found = [place for place in all_places() if _agrees(place, stream)]
        if len(self.shape.columns) == len(PLACE):
            return found
        return [(*place, one) for place in found for one in self.allowed("filter") or ()]

    def _texts(self, name: str) -> list[str]:
        allowed = self.allowed(name)
        if allowed is None:
            return []
        self.values[name] = allowed[0]
        return [f"{name} IN ({{{name}}}, '')" if len(allowed) > 1 else f"{name} = {{{name}}}"]

    def _exptime(self) -> list[str]:
        wanted = self.reference.value("exptime")
        allowed = self.rule.ratio.get("exptime", self.rule.tolerance.get("exptime"))
        if wanted is None or allowed is None:
            return []
        limit = allowed * abs(float(wanted)) if "exptime" in self.rule.ratio else allowed
        limit += _ROUNDING * (abs(float(wanted)) + limit)
        self.values |= {"shortest": float(wanted) - limit, "longest": float(wanted) + limit}
        return ["(exptime IS NULL OR exptime BETWEEN {shortest} AND {longest})"]


def _agrees(place: Sequence[str], allowed: Sequence[tuple[str, ...] | None]) -> bool:
    return all(one is None or name in one for name, one in zip(place, allowed, strict=True))
