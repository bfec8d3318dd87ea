"""What a plan is made of: jobs with their inputs, and why a job can't be done."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from ccdflow.cascade.records import FrameRecord, Stage, Value
from ccdflow.recipes.core.recipe import Recipe

State = Literal["new", "reused", "incomplete"]


@dataclass(frozen=True)
class Group:
    """Frames that one job takes together; to the association rules, also the product made from them."""

    frames: tuple[FrameRecord, ...]

    @cached_property
    def time(self) -> float:
        """Mean start of the exposures in seconds since 1970-01-01 UTC."""
        return sum(frame.time for frame in self.frames) / len(self.frames)

    @cached_property
    def identity(self) -> str:
        """Digest of the frames' contents, in order."""
        return digest([content(frame) for frame in self.frames])

    def value(self, keyword: str) -> Value | None:
        """The first value that any of the frames has for a keyword; None where all are blank."""
        if len(self.frames) == 1:
            return self.frames[0].value(keyword)
        # A group of calibrations is looked at for many others.
        if keyword not in self._values:
            found = (frame.value(keyword) for frame in self.frames)
            self._values[keyword] = next((one for one in found if one is not None), None)
        return self._values[keyword]

    @cached_property
    def _values(self) -> dict[str, Value | None]:
        return {}

    def text(self, keyword: str) -> str:
        """The value of a keyword as text; empty for a blank."""
        found = self.value(keyword)
        return "" if found is None else str(found)


@dataclass(frozen=True)
class JobInput:
    """One input of a job: a raw frame, or what another job makes.

    `identity` is what stands for it in the job's key: a raw file's sha256, or the key of the job that makes
    the product.
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
    """An input that could not be found, and why; `survivors` says how many candidates passed each test in turn."""

    input: str
    reason: str
    nearest: tuple[Nearest, ...] = ()
    survivors: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Resolved:
    """The value of a parameter, and its origin: ``recipe``, ``cascade``, ``hook``, ``set NAME`` or ``request``."""

    value: Any
    origin: str


@dataclass(frozen=True)
class Job:
    """A step applied to one set, with its associated inputs and parameters.

    Two jobs with one key do the same work. A job that lacks a mandatory input has `state` ``incomplete`` and
    says in `missing` what it lacks; its key then stands for what is known of it. `worst_level` is that of all
    associations that it depends on, its own and those of the jobs whose products it takes. `without` says which
    optional inputs were not found, and why.
    """

    key: str
    step: str
    stage: Stage
    recipe: str
    version: str
    state: State
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
        return tuple(one for one in self.inputs if one.role == "main")

    @property
    def associated(self) -> tuple[JobInput, ...]:
        """The inputs of all other roles."""
        return tuple(one for one in self.inputs if one.role != "main")

    @property
    def parents(self) -> tuple[str, ...]:
        """Keys of the jobs whose products it takes."""
        return tuple(one.job for one in self.inputs if one.job is not None)

    @property
    def level(self) -> int:
        """The worst level of its associations; 0 without any."""
        return max((one.level for one in self.inputs if one.level is not None), default=0)

    @property
    def reason(self) -> str:
        """What is missing, in one sentence; empty for a complete job."""
        return "; ".join(one.reason for one in self.missing)

    @property
    def name(self) -> str:
        """What to call its product in a file name: the raw frame's name, or what the set is."""
        first = self.group.frames[0]
        if len(self.group.frames) == 1 and self.stage == "science":
            stem = (first.path or "").rsplit("/", 1)[-1]
            return stem.split(".fit")[0].split(".fts")[0] or f"frame-{first.id}"
        value = self.group.value("exptime")
        exposure = f"{float(value):g}s" if value is not None and self.step != "bias" else ""
        words = {"dark": [exposure], "flat": [first.filter], "stack": [first.object, first.filter, exposure]}
        return "-".join(word for word in [self.step, *words.get(self.step, [])] if word)


@dataclass(frozen=True)
class MadeJob:
    """A job that was done, and with what."""

    key: str
    task: str
    inputs: tuple[JobInput, ...]


def main_identity(main: Iterable[JobInput]) -> str:
    """What a main input is: the identities of its parts, in order."""
    return "|".join(one.identity for one in main)


def work_name(task: str, main: Iterable[JobInput]) -> str:
    """What a task makes of a main input, whatever the parameters: bans and pins are meant so."""
    return f"{task} of {main_identity(main)}"


def content(frame: FrameRecord) -> str:
    """What a raw frame is, for a job's key: its file's sha256; for a row of a catalogue, its identity there."""
    if frame.sha256 is not None:
        return frame.sha256
    return "|".join(str(part) for part in (*frame.stream, frame.obsdate, frame.iobs))


def digest(value: Any) -> str:
    """Hexadecimal sha256 of a value that JSON can write, the same for the same value."""
    return hashlib.sha256(written(value).encode()).hexdigest()


written = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode
"""JSON text of a value, the same for the same value."""


class KeyMaker:
    """Gives the jobs of one step their identity: the recipe and the parameters are the same for all of them.

    A key is the `digest` of recipe, version, resolved parameters and all inputs with their roles.
    """

    def __init__(self, recipe: Recipe, parameters: Mapping[str, Resolved]) -> None:
        # The parts of one JSON object whose names are in order: detectors, inputs, and these.
        rest = {
            "parameters": {name: one.value for name, one in parameters.items()},
            "recipe": recipe.name,
            "version": recipe.version,
        }
        self._rest = written(rest)[1:]

    def key(self, inputs: Sequence[JobInput], detectors: Sequence[str] = ()) -> str:
        """The identity of a job with these inputs.

        Inputs of one role keep their order, since the order of a stack's frames says which is the reference.
        `detectors` are the digests of what instrument files say about the frames' detectors.
        """
        roles: dict[str, list[str]] = {}
        for one in inputs:
            roles.setdefault(one.role, []).append(one.identity)
        first = written({"detectors": sorted(set(detectors)), "inputs": roles})[:-1]
        return hashlib.sha256(f"{first},{self._rest}".encode()).hexdigest()
