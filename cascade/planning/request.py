"""What the planner is told: what is asked for, and what exists."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ccdflow.cascade.plain import moment, plain, word, words
from ccdflow.cascade.plain import night as night_of
from ccdflow.cascade.planning.associate import Barrier
from ccdflow.cascade.planning.jobqueue import Order
from ccdflow.cascade.planning.jobs import DoneJob, json_text
from ccdflow.cascade.records import CLASSES, FrameRecord, seconds
from ccdflow.cascade.specification.model import Cascade, Preference
from ccdflow.recipes.core.recipe import Recipe


class Request(BaseModel):
    """What is asked for; only sets of target tasks that hold a selected frame are made."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    targets: tuple[str, ...] = ()
    """Tasks or tags; without any, the tasks tagged science."""
    parameters: dict[str, Any] = Field(default_factory=dict)
    """STEP.NAME, or NAME of a workflow parameter, to value."""
    parameter_set: str | None = None
    """Parameter set; without, ``default`` where the cascade has one."""
    quality_threshold: int | None = None
    """Worst association level that is accepted."""
    preference: Preference = "raw_per_level"
    """Whether raw frames or finished masters are associated first."""
    night: str | None = None
    """Frames of this night: the evening's date, 2026-03-01."""
    since: str | None = None
    """Frames that started at this time or later, ISO, UTC."""
    until: str | None = None
    """Frames that started at this time or earlier, ISO, UTC; of a date alone all of that day."""
    camera: str | None = None
    """Frames of this camera: CAMERA or TELESCOPE/CAMERA."""
    paths: tuple[str, ...] = ()
    """Frames whose files lie there: absolute paths of files and folders."""
    frames: frozenset[int] | None = None
    """Frames of these numbers."""
    order: Order | None = None
    """Which jobs go first; without, as the project says."""
    late: Literal["redo", "keep"] | None = None
    """Where other calibrations would be chosen now than a product was made with: make it anew, or keep it; without,
    as the project says."""
    now: str | None = None
    """The time at which sequences are closed, ISO, UTC; without it, all are."""

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, written: Any) -> Any:
        """Take numbers, texts and dates of any type; one target alone is a list of one."""
        if not isinstance(written, Mapping):
            return written
        values = {name: plain(value) for name, value in written.items()}
        if "targets" in values and values["targets"] is not None:
            values["targets"] = words(values["targets"])
        readers: dict[str, Callable[[Any], str]] = {
            "night": night_of,
            "since": moment,
            "until": partial(moment, end=True),
            "camera": word,
        }
        for name, read in readers.items():
            if values.get(name) is not None:
                values[name] = read(values[name])
        return values

    def selects(self, frame: FrameRecord) -> bool:
        """Tell whether a frame lies within the night, times and camera that are asked for, and is one of the frames.

        What lies at `paths` only a registry knows (`ccdflow.tasks.planning.located`).

        Parameters
        ----------
        frame : FrameRecord
            Any frame; one of a refused file is judged like all others.

        Returns
        -------
        bool
            True also where the request sets no limit.
        """
        return (
            self.night in (None, frame.night)
            # ISO texts of one form are in order of time.
            and (self.since is None or frame.obsdate >= self.since)
            and (self.until is None or frame.obsdate <= self.until)
            and self.camera in (None, frame.camera, f"{frame.telescope}/{frame.camera}")
            and (self.frames is None or frame.id in self.frames)
        )

    @property
    def own(self) -> "Request":
        """The same request without parameters of its own: with those of the project."""
        return self.model_copy(update={"parameters": {}, "parameter_set": None})

    @property
    def variant(self) -> str:
        """What the request says of parameters, as one text; empty where it says nothing."""
        if not self.parameters and self.parameter_set is None:
            return ""
        said = {name: self.parameters[name] for name in sorted(self.parameters)}
        return json_text({"parameters": said, "set": self.parameter_set})

    @property
    def clock(self) -> float:
        """`now` in seconds since 1970-01-01 UTC; infinite where it is not given, so that every sequence is closed."""
        return inf if self.now is None else seconds(self.now)


@dataclass(frozen=True)
class Known:
    """What exists: the cascade, the recipes' declarations, frames, and what was made of them.

    Parameters
    ----------
    cascade : Cascade
        What is made from what.
    recipes : mapping of str to Recipe
        Declarations by the recipe's name.
    frames : sequence of FrameRecord
        In any order.
    done : collection of str
        Keys of the jobs whose products are there.
    detectors : mapping of str to str
        Digest of each instrument file's detector, by the name of the file (the keyword ``profile`` of a frame).
    classes : collection of str
        What raw frames can be.
    barriers : sequence of Barrier
        What happened to the instruments.
    banned, pinned : collection of str
        Frames (``f12``), keys of jobs, and names of work (`work_name`). What is banned is never taken, what is
        pinned is taken first where it fits.
    keywords : collection of str
        Those that instrument files keep, besides what is looked for in every header.
    done_jobs : mapping
        How the done jobs of a task were made of some main input, by task and `main_identity`, the newest first;
        only for requests that keep what was made.
    whole : bool
        False where frames that can't matter were left out.
    """

    cascade: Cascade
    recipes: Mapping[str, Recipe]
    frames: Sequence[FrameRecord]
    done: Collection[str] = frozenset()
    detectors: Mapping[str, str] = field(default_factory=dict)
    classes: Collection[str] = CLASSES
    barriers: Sequence[Barrier] = ()
    banned: Collection[str] = frozenset()
    pinned: Collection[str] = frozenset()
    keywords: Collection[str] = ()
    done_jobs: Mapping[tuple[str, str], Sequence[DoneJob]] = field(default_factory=dict)
    whole: bool = True
