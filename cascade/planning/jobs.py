"""What a plan is made of: jobs with their inputs, and why a job can't be done."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import median
from typing import Any, Literal

from ccdflow.cascade.records import DONE_BEFORE, PERIODS, FrameRecord, Stage, Value
from ccdflow.cascade.wording import exposures

_OTHER_FORMS = re.compile(r"\.(xisf|cr[23w]|ne[fr]|nrw|arw|sr2|dng|raf|orf|rw2|pef)$", re.IGNORECASE)
"""Endings of the names of raw files that are no FITS."""
LONGEST_WORD = 30
"""Characters of an object or a filter in a product's name: what comes behind them, frames and time, is to be seen."""

PlanState = Literal["new", "reused", "incomplete"]
"""To be done; done already, with its products intact; or lacking a mandatory input."""


@dataclass(frozen=True)
class Group:
    """Frames that one job takes together; to the association rules, also the product made from them.

    Parameters
    ----------
    frames : tuple of FrameRecord
        At least one, in order.
    """

    frames: tuple[FrameRecord, ...]

    @cached_property
    def time(self) -> float:
        """Mean start of the exposures in seconds since 1970-01-01 UTC."""
        return sum(frame.time for frame in self.frames) / len(self.frames)

    @property
    def done_before(self) -> tuple[str, ...]:
        """What another program has done to frames that were taken all the same; nothing for raw frames."""
        done = self.value(DONE_BEFORE)
        return tuple(str(done).split()) if done else ()

    @cached_property
    def identity(self) -> str:
        """Digest of the frames' contents, in order."""
        return digest([frame_identity(frame) for frame in self.frames])

    def value(self, keyword: str) -> Value | None:
        """Return the first value that any of the frames has for a keyword.

        Parameters
        ----------
        keyword : str
            Column of the frame or keyword that its instrument keeps.

        Returns
        -------
        str, int, float, bool or None
            None where all frames have a blank.
        """
        if len(self.frames) == 1:
            return self.frames[0].value(keyword)
        # A group of calibrations is looked at for many others: for every science frame of its nights.
        if keyword not in self._values:
            values = (frame.value(keyword) for frame in self.frames)
            self._values[keyword] = next((value for value in values if value is not None), None)
        return self._values[keyword]

    @cached_property
    def _values(self) -> dict[str, Value | None]:
        return {}

    def values(self, keywords: tuple[str, ...]) -> tuple[Value | None, ...]:
        """Return the values of some keywords, which many rules ask for alike.

        Parameters
        ----------
        keywords : tuple of str
            As for `value`.

        Returns
        -------
        tuple
            In the same order; None for a blank.
        """
        known = self._tuples.get(keywords)
        if known is None:
            known = self._tuples[keywords] = tuple([self.value(keyword) for keyword in keywords])
        return known

    @cached_property
    def _tuples(self) -> dict[tuple[str, ...], tuple[Value | None, ...]]:
        return {}

    def numbers(self, keywords: tuple[str, ...]) -> tuple[Value | None, ...]:
        """Return the middles of some numeric keywords, which many rules ask for alike.

        Parameters
        ----------
        keywords : tuple of str
            As for `number`.

        Returns
        -------
        tuple
            In the same order; None for a blank.
        """
        known = self._number_tuples.get(keywords)
        if known is None:
            known = self._number_tuples[keywords] = tuple([self.number(keyword) for keyword in keywords])
        return known

    @cached_property
    def _number_tuples(self) -> dict[tuple[str, ...], tuple[Value | None, ...]]:
        return {}

    def number(self, keyword: str) -> Value | None:
        """Return the middle of the frames' values for a numeric keyword.

        Parameters
        ----------
        keyword : str
            As for `value`.

        Returns
        -------
        str, int, float, bool or None
            Their median, on a circle counted from the first; of values that are no numbers the first, None where all
            frames have a blank.
        """
        known = self._middles
        if keyword in known:
            return known[keyword]
        first = self.value(keyword)
        is_number = len(self.frames) > 1 and isinstance(first, int | float)
        known[keyword] = _middle(self.frames, keyword, float(first or 0)) if is_number else first
        return known[keyword]

    @cached_property
    def _middles(self) -> dict[str, Value | None]:
        return {}

    def text(self, keyword: str) -> str:
        """Return the value of a keyword as text.

        Parameters
        ----------
        keyword : str
            As for `value`.

        Returns
        -------
        str
            Empty for a blank.
        """
        value = self.value(keyword)
        return "" if value is None else str(value)


def _middle(frames: Sequence[FrameRecord], keyword: str, first: float) -> float:
    """Return the median of the numbers that frames have for a keyword, of which `first` is one."""
    numbers = [value for frame in frames if isinstance(value := frame.value(keyword), int | float)]
    period = PERIODS.get(keyword)
    if period is None:
        return float(median(numbers))
    # On a circle, as distances from the first one, by the shorter way round.
    return (
        first + median([(value - first + period / 2) % period - period / 2 for value in numbers])
    ) % period


@dataclass(frozen=True)
class JobInput:
    """One input of a job: a raw frame, or what another job makes.

    Parameters
    ----------
    role : str
        ``main``, or the role that it fills as an associated input.
    identity : str
        What stands for it in the job's key: a raw file's sha256, or the key of the job that makes the product.
    frame : int, optional
        Id of the raw frame or of the finished master.
    job : str, optional
        Key of the job that makes it.
    level : int, optional
        Level of the rule by which it was associated.
    """

    role: str
    identity: str
    frame: int | None = None
    job: str | None = None
    level: int | None = None


@dataclass(frozen=True)
class Nearest:
    """A candidate that came close, and the test that it failed."""

    name: str
    reason: str


@dataclass(frozen=True)
class Missing:
    """An input that could not be found, and why.

    Parameters
    ----------
    input : str
        Role that is not filled.
    reason : str
        One sentence.
    nearest : tuple of Nearest
        Candidates that came close, the closest in time first.
    survivors : tuple of (str, int)
        Tests in turn, and how many candidates had passed up to and with each.
    level : int, optional
        Of an alternative that was taken instead: how good that is. Then the reason says what is not as planned.
    sought : int
        Of a job that goes without: level of the last rule by which nothing was found, so that there is nothing.
    """

    input: str
    reason: str
    nearest: tuple[Nearest, ...] = ()
    survivors: tuple[tuple[str, int], ...] = ()
    level: int | None = None
    sought: int = 0


@dataclass(frozen=True)
class Resolved:
    """The value of a parameter, and its origin: ``recipe``, ``cascade``, ``hook``, ``set NAME`` or ``request``."""

    value: Any
    origin: str


@dataclass(frozen=True)
class Job:
    """A step applied to one set, with its associated inputs and parameters.

    Two jobs with one key do the same work.

    Parameters
    ----------
    key : str
        Hexadecimal sha256 of all that the result depends on. Of an incomplete job it stands for what is known so far.
    step, stage, recipe, version : str
        Task, the stage of a frame's life that it belongs to, recipe and the recipe's version.
    state : str
        ``new``, ``reused``, or ``incomplete`` where a mandatory input is missing.
    group : Group
        Frames of the main input; of products, those that stand for them.
    inputs : tuple of JobInput
        Main and associated inputs.
    missing : tuple of Missing
        What an incomplete job lacks.
    parameters : mapping of str to Resolved
        Parameters of the recipe.
    outputs : tuple of str
        Categories of the products.
    worst_level : int
        Worst level of all associations that it depends on: its own, and those of the jobs whose products it takes.
    without : tuple of Missing
        Optional inputs that were not found, and why; and what took the place of an input that is not as planned.
    """

    key: str
    step: str
    stage: Stage
    recipe: str
    version: str
    state: PlanState
    group: Group
    inputs: tuple[JobInput, ...]
    missing: tuple[Missing, ...] = ()
    parameters: Mapping[str, Resolved] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    worst_level: int = 0
    without: tuple[Missing, ...] = ()

    @property
    def main(self) -> tuple[JobInput, ...]:
        """The inputs of role ``main``, in order."""
        return tuple(item for item in self.inputs if item.role == "main")

    @property
    def associated(self) -> tuple[JobInput, ...]:
        """The inputs of all other roles."""
        return tuple(item for item in self.inputs if item.role != "main")

    @property
    def parents(self) -> tuple[str, ...]:
        """Keys of the jobs whose products it takes."""
        return tuple(item.job for item in self.inputs if item.job is not None)

    @property
    def has_files(self) -> bool:
        """Whether it can be a job at all: one on raw frames is none until these have files."""
        # Frames of one group either all have files, or none of them (`framegroups`).
        return any(item.job is not None for item in self.main) or self.group.frames[0].path is not None

    @property
    def lacks_inputs(self) -> bool:
        """Whether an associated input is missing, and not only what it is made of itself."""
        return any(lack.input != "main" for lack in self.missing)

    @property
    def level(self) -> int:
        """The worst level of its own associations, and of going without one; 0 without any."""
        levels = [*(item.level for item in self.inputs), *(lack.level for lack in self.without)]
        return max((level for level in levels if level is not None), default=0)

    @property
    def compromises(self) -> tuple[Missing, ...]:
        """What is not as planned, with its level: alternatives that were taken, and what fits less than well."""
        return tuple(lack for lack in self.without if lack.level is not None)

    @property
    def reason(self) -> str:
        """All that is missing, in one sentence; empty for a complete job."""
        return "; ".join(lack.reason for lack in self.missing)

    @property
    def name(self) -> str:
        """The stem of its product's file name: the raw frame's name, or a description of the set."""
        first = self.group.frames[0]
        if len(self.group.frames) == 1 and self.stage == "science":
            stem = (first.path or "").rsplit("/", 1)[-1]
            # Not the last dot: a compressed file is called ``image.fits.fz`` or ``image.fts.gz``.
            stem = _OTHER_FORMS.sub("", stem.split(".fit")[0].split(".fts")[0])
            return stem or f"frame-{first.id}"
        # Enough for a person to tell sets of one night apart; the key in the path tells all others.
        if self.stage == "stack":
            of = exposures([frame.exptime for frame in self.group.frames])
            words = [first.object[:LONGEST_WORD], first.filter[:LONGEST_WORD], of]
        else:
            value = self.group.value("exptime")
            exposure = f"{float(value):g}s" if value is not None else ""
            named = {"dark": [exposure], "dark_with_bias": [exposure], "flat": [first.filter]}
            words = named.get(self.step, [])
        return "-".join(word for word in [self.step, *words] if word)


@dataclass(frozen=True)
class DoneJob:
    """A job that was done, and with what.

    Parameters
    ----------
    key : str
        Its key.
    task : str
        Task that it belonged to.
    inputs : tuple of JobInput
        All inputs that it had.
    """

    key: str
    task: str
    inputs: tuple[JobInput, ...]


AMENDED = "+"
"""Between the sha256 of a raw file and the digest of what was corrected of its frame."""


def frame_identity(frame: FrameRecord) -> str:
    """Return what stands for a raw frame in a job's key.

    Parameters
    ----------
    frame : FrameRecord
        Any frame.

    Returns
    -------
    str
        Its file's sha256; for a row of a catalogue, stream, time, place in its sequence, filter and object. Where
        something was corrected, behind a plus what `amended_digest` gives: pixels or headers of products change by it.
    """
    parts = (*frame.stream, frame.obsdate, frame.iobs, frame.filter, frame.object)
    file = "|".join(str(part) for part in parts) if frame.sha256 is None else frame.sha256
    return f"{file}{AMENDED}{amended_digest(frame.amended)}" if frame.amended else file


def amended_digest(values: Mapping[str, Value | None]) -> str:
    """Return what stands for the corrections of a frame.

    Parameters
    ----------
    values : mapping of str to value or None
        Corrected values by name.

    Returns
    -------
    str
        16 hexadecimal digits.
    """
    # One database gives 30 back as 30, another as 30.0: the same number, and the same work.
    return digest({name: _plain(value) for name, value in values.items()})[:16]


def _plain(value: Value | None) -> Value | None:
    """A number as it is written shortest: whole ones without a point."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def digest(value: Any) -> str:
    """Return the digest of a value that JSON can write, the same for the same value.

    Parameters
    ----------
    value : object
        Mappings with text keys, lists, texts, numbers, truths, None.

    Returns
    -------
    str
        Hexadecimal sha256.

    Raises
    ------
    ValueError
        If a number is NaN or infinite: JSON has neither.
    """
    return hashlib.sha256(json_text(value).encode()).hexdigest()


json_text = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode
"""JSON text of a value, the same for the same value."""
