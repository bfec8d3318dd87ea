"""Workflow tests: frames that exist only as headers, a cascade, and the jobs that must come of them.

The files are those of ESO's EDPS (a JSON object with ``keywords``, ``inputs`` and ``scenarios``), and a superset of
them, in JSON or YAML. Frames are written as FITS files whose pixels take no room, registered in a project of their own,
and planned as any others are; with ``execute: stub`` the jobs then run through the real flow, with recipes that make
products of 2 x 2 pixels.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from os import SEEK_END
from pathlib import Path
from random import Random
from typing import Any, Literal

from astropy.io import fits
from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from ccdflow.archive.registry.frames.queries import FrameFilter, find_frames
from ccdflow.cascade.planning.jobs import Job, JobInput
from ccdflow.cascade.planning.plans import Plan
from ccdflow.cascade.planning.request import Request
from ccdflow.config.project import PROJECT_FILE, cascade_path
from ccdflow.config.yamlfile import ConfigError, load_model
from ccdflow.tasks.ingest import ingest_files
from ccdflow.tasks.planning import planned
from ccdflow.tasks.workspace import Workspace, open_workspace

Keywords = dict[str, Any]

NIGHT = 61100.0
"""MJD from which on frames are taken where a scenario does not say when."""
STEP = 0.02
"""Days between the frames of an input, as in EDPS."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class InputFile(_Model):
    """Frames that differ in little."""

    name_prefix: str
    count: PositiveInt = 1
    keywords: Keywords = Field(default_factory=dict)
    """Header keywords; with a point, such as ``dpr.type``, of ESO's hierarchy."""
    common_keywords: tuple[str, ...] = ()
    """Names of blocks of the file's ``keywords``."""
    files: tuple[Keywords, ...] = ()
    """Keywords of one file after the other, over those of all."""
    mjd_offset_hours: float | None = None
    """Start of the first one after the scenario's beginning."""
    shape: tuple[PositiveInt, PositiveInt] = (2, 2)
    """Rows and columns of each image, for instruments whose headers speak of them."""
    extensions: tuple[Keywords, ...] = ()
    """Keywords of one image extension after the other, behind a primary header without image."""


class Expected(_Model):
    """A job that must be planned."""

    recipe: str | None = None
    task: str | None = None
    inputs_prefixes: tuple[str, ...] | None = None
    """Prefixes that main inputs may have; of products, the frames that they were made from."""
    assoc_prefixes: tuple[str, ...] | None = None
    """Prefixes that associated inputs may have; of products, the main inputs of the job that makes them."""
    required_prefixes: tuple[str, ...] = ()
    """Prefixes of which some input must be."""
    forbidden_prefixes: tuple[str, ...] = ()
    """Prefixes of which no input may be."""
    count: int | None = None
    """Exact number of main inputs."""
    level: int | None = None
    complete: bool | None = None
    """Whether nothing is missing; without, true where `missing` says nothing."""
    missing: tuple[str, ...] | None = None
    """Roles that are missing."""
    params: Keywords = Field(default_factory=dict)
    """Resolved values of parameters of the recipe."""
    reused: bool | None = None
    """On a second pass (``execute``): whether nothing is to be done again."""


class Scenario(_Model):
    """Frames, a request, and what must be planned."""

    description: str
    workflow: str = "imaging"
    """Cascade: of ccdflow, a YAML file beside this one, or as EDPS has it ``instrument.workflow``."""
    instruments: tuple[str, ...] = ()
    """Folders of instrument files, beside this one."""
    workflow_parameters: Keywords = Field(default_factory=dict)
    workflow_parameter_set: str | None = None
    recipe_parameters: Keywords = Field(default_factory=dict)
    """``TASK.NAME`` to value."""
    targets: tuple[str, ...] = ()
    meta_targets: tuple[str, ...] = ()
    skip: bool = False
    common_inputs: tuple[str, ...] = ()
    """Prefixes of the file's ``inputs``."""
    input_files: tuple[InputFile, ...] = ()
    results: tuple[Expected, ...] = ()
    dataset_count: int | None = None
    """How many jobs of target tasks there must be."""
    expect_error: str | None = None
    """Words that the refusal must hold."""
    quality_threshold: int | None = None
    preference: Literal["raw_per_level", "master_per_level", "raw", "master"] = "raw_per_level"
    seed: int = 0
    execute: Literal["stub", False] = False


class ScenarioFile(_Model):
    """Scenarios with what they share."""

    keywords: dict[str, Keywords] = Field(default_factory=dict)
    inputs: tuple[InputFile, ...] = ()
    scenarios: tuple[Scenario, ...]


@dataclass
class ScenarioResult:
    """The outcome of a scenario: sentences that say what is wrong, and what was planned."""

    description: str
    problems: list[str] = field(default_factory=list)
    jobs: list[str] = field(default_factory=list)
    skipped: bool = False

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def read_scenarios(path: Path) -> ScenarioFile:
    """Scenarios of a file, JSON or YAML.

    Raises
    ------
    ConfigError
        If something in it is not understood; the message names file and line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None
    # JSON is YAML but for tabs, which JSON takes as blanks and has in no string.
    return load_model(text.replace("\t", "    ") if path.suffix == ".json" else text, ScenarioFile, str(path))


def run_scenario(path: Path, shared: ScenarioFile, scenario: Scenario) -> ScenarioResult:
    """Make the frames of a scenario, plan, and hold the plan against what is expected."""
    result = ScenarioResult(scenario.description, skipped=scenario.skip)
    if scenario.skip:
        return result
    with tempfile.TemporaryDirectory(prefix="ccdflow-test-") as folder:
        try:
            _judge(Path(folder), path.parent, shared, scenario, result)
        except (ConfigError, ValueError) as error:
            expected_words = scenario.expect_error
            if expected_words is None:
                result.problems.append(f"refused: {error}")
            elif expected_words not in str(error):
                result.problems.append(f"refused with {str(error)!r}, wanted {expected_words!r} in it")
            return result
    if scenario.expect_error is not None:
        result.problems.append(f"not refused, wanted an error with {scenario.expect_error!r}")
    return result


def _judge(
    folder: Path, home: Path, shared: ScenarioFile, scenario: Scenario, result: ScenarioResult
) -> None:
    """Plan a scenario, run it if it asks for that, and note where the plan differs from what is expected."""
    space, prefixes = _project(folder, home, shared, scenario)
    request = _request(scenario)
    plan = planned(space, request)
    if scenario.execute == "stub":
        _run(space, request, result)
        plan = planned(space, request)
    seen = _Seen(plan, prefixes)
    result.jobs = [seen.line(job) for job in plan.jobs]
    result.problems += list(_compared(seen, scenario))


def _request(scenario: Scenario) -> Request:
    values = {name: _typed(value) for name, value in scenario.workflow_parameters.items()}
    return Request(
        targets=(*scenario.targets, *scenario.meta_targets),
        parameters={**values, **scenario.recipe_parameters},
        parameter_set=scenario.workflow_parameter_set,
        quality_threshold=scenario.quality_threshold,
        preference=scenario.preference,
    )


def _typed(value: Any) -> Any:
    """Return the value that EDPS means: it writes truths as the texts ``TRUE`` and ``FALSE``."""
    return {"TRUE": True, "FALSE": False}.get(value, value) if isinstance(value, str) else value


# --- frames -----------------------------------------------------------------------------------------------


def _project(
    folder: Path, home: Path, shared: ScenarioFile, scenario: Scenario
) -> tuple[Workspace, dict[int, str]]:
    """Make a project with the frames of a scenario; return it, and the prefix of each frame by its id."""
    written = {"cascade": str(_cascade(scenario.workflow, home).resolve())}
    instruments = ", ".join(f'"{(home / name).resolve()}"' for name in scenario.instruments)
    lines = [f'{name}: "{value}"' for name, value in written.items()]
    executor = ["executor: stub"] if scenario.execute == "stub" else []
    (folder / PROJECT_FILE).write_text("\n".join([*lines, f"instruments: [{instruments}]", *executor, ""]))
    raw = folder / "raw"
    raw.mkdir()
    names = dict(_written(raw, shared, scenario))
    space = open_workspace(folder)
    report = ingest_files(space, [raw])
    if report.problems:
        raise ValueError("; ".join(report.problems))
    frames = space.registry.read(find_frames, FrameFilter(status=None))
    return space, {frame.id: names[Path(frame.path or "").name] for frame in frames}


def _cascade(workflow: str, home: Path) -> Path:
    # EDPS names a workflow "instrument.workflow"; a file of ours may bear either part as its name.
    """Return the file of a scenario's cascade: beside the scenario, of ccdflow, or by a part of EDPS's name."""
    tried = dict.fromkeys([workflow, workflow.rpartition(".")[2], workflow.partition(".")[0]])
    for name in (candidate for stem in tried for candidate in (stem, f"{stem}.yaml")):
        if (home / name).is_file():
            return home / name
    for name in tried:
        try:
            return cascade_path(name, home)
        except ConfigError:
            continue
    return cascade_path(workflow, home)


def _written(folder: Path, shared: ScenarioFile, scenario: Scenario) -> Iterator[tuple[str, str]]:
    """Write the frames; yield each file's name and prefix."""
    # A scenario's own seed: it plans the same whatever other scenarios stand in the file, and in any order.
    random = Random(f"{scenario.seed} {scenario.description}")
    known = {frames.name_prefix: frames for frames in shared.inputs}
    for name in scenario.common_inputs:
        if name not in known:
            raise ValueError(f"unknown common input {name!r}; known: {', '.join(known) or 'none'}")
    base = start = NIGHT + random.randrange(365) + 0.0
    for frames in (*(known[name] for name in scenario.common_inputs), *scenario.input_files):
        first = start if frames.mjd_offset_hours is None else base + frames.mjd_offset_hours / 24
        for number, keywords in enumerate(_headers(frames, shared, first, random), 1):
            name = f"{frames.name_prefix}_{number}.fits"
            if (folder / name).exists():
                raise ValueError(f"two inputs have the prefix {frames.name_prefix!r}")
            _write(folder / name, keywords, frames)
            yield name, frames.name_prefix
        # Backwards in time, so that the frames of two inputs never overlap.
        start -= (frames.count + 1) * STEP


def _headers(frames: InputFile, shared: ScenarioFile, first: float, random: Random) -> Iterator[Keywords]:
    """Yield the keywords of each frame of an input, with ESO's bookkeeping: template, number, name in the archive."""
    common: Keywords = {}
    for name in frames.common_keywords:
        if name not in shared.keywords:
            raise ValueError(f"unknown keywords {name!r}; known: {', '.join(shared.keywords) or 'none'}")
        common |= {key.lower(): value for key, value in shared.keywords[name].items()}
    template = f"{random.getrandbits(32):08x}"
    count = max(frames.count, len(frames.files))
    for number in range(count):
        yield {
            "mjd-obs": first + number * STEP,
            "tpl.start": template,
            "arcfile": f"{frames.name_prefix}_{number + 1}_{random.getrandbits(64):016x}",
            "tpl.nexp": count,
            "tpl.expno": number + 1,
            **common,
            **{name.lower(): value for name, value in frames.keywords.items()},
            **{
                key.lower(): value
                for key, value in (frames.files[number] if number < len(frames.files) else {}).items()
            },
        }


def _write(path: Path, keywords: Keywords, frames: InputFile) -> None:
    """Write a file of headers; its pixels are a hole in it, which takes no room."""
    with path.open("wb") as file:
        for number, cards in enumerate((keywords, *frames.extensions)):
            is_image = bool(number) or not frames.extensions
            hdu = fits.ImageHDU(header=_cards(cards)) if number else fits.PrimaryHDU(header=_cards(cards))
            if is_image:
                hdu.header["BITPIX"], hdu.header["NAXIS"] = 16, 2
                for axis, length in enumerate(reversed(frames.shape), 1):
                    hdu.header.set(f"NAXIS{axis}", length, after="NAXIS" if axis == 1 else f"NAXIS{axis - 1}")
            file.write(hdu.header.tostring().encode("ascii"))
            # Filled up to whole blocks of 2880 bytes (FITS 4.0, section 3.1), as a hole, which reads as zeros.
            pixels = 2 * prod(frames.shape) if is_image else 0
            file.truncate(file.tell() + -(-pixels // 2880) * 2880)
            file.seek(0, SEEK_END)


def _cards(keywords: Keywords) -> fits.Header:
    header = fits.Header()
    for name, value in keywords.items():
        card = f"HIERARCH ESO {name.upper().replace('.', ' ')}" if "." in name else name.upper()
        header[card] = value
    return header


# --- stub execution -----------------------------------------------------------------------------------------


def _run(space: Workspace, request: Request, result: ScenarioResult) -> None:
    """Run the plan through the real flow; a second run must do nothing."""
    from ccdflow.commands.reduction import reduce_now

    first = reduce_now(space, [], request, quiet=True)
    if first.failed:
        result.problems += [f"failed: {sentence}" for sentence in first.failed.values()]
        return
    again = reduce_now(space, [], request, quiet=True)
    if again.jobs["new"]:
        result.problems.append(f"a second run did {again.jobs['new']} jobs anew")


# --- judgement ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Seen:
    """A plan, with the prefixes of its inputs."""

    plan: Plan
    prefixes: Mapping[int, str]

    def prefixes_of(self, inputs: Sequence[JobInput]) -> set[str]:
        """Return the prefixes of inputs; of products, those of the main inputs of the job that makes them."""
        jobs = {job.key: job for job in self.plan.jobs}
        prefixes: set[str] = set()
        for job_input in inputs:
            if job_input.frame is not None:
                prefixes.add(self.prefixes[job_input.frame])
            elif job_input.job in jobs:
                prefixes |= {self.prefixes[frame.id] for frame in jobs[job_input.job].group.frames}
        return prefixes

    def line(self, job: Job) -> str:
        """Describe a job in a line."""
        words = [
            f"{job.step} ({job.recipe})",
            f"{len(job.main)} {' '.join(sorted(self.prefixes_of(job.main)))}",
        ]
        roles: dict[str, list[JobInput]] = {}
        for job_input in job.associated:
            roles.setdefault(job_input.role, []).append(job_input)
        words += [
            f"{role}: {' '.join(sorted(self.prefixes_of(job_inputs)))}" for role, job_inputs in roles.items()
        ]
        words += [f"level {job.level}"] if job.level else []
        return ", ".join([*words, job.state, *([job.reason] if job.reason else [])])


def _compared(seen: _Seen, scenario: Scenario) -> Iterator[str]:
    """Yield a sentence for each thing in which a plan is not what the scenario expects."""
    jobs, results = seen.plan.jobs, scenario.results
    targets = sum(not any(job.key in other.parents for other in jobs) for job in jobs)
    if scenario.dataset_count is not None and targets != scenario.dataset_count:
        yield f"{targets} data sets, wanted {scenario.dataset_count}"
    if len(jobs) != len(results):
        yield f"{len(jobs)} jobs, wanted {len(results)}"
    # Any job may be any result: an assignment is looked for, so that a result that fits two jobs does not take the one
    # that another result needs.
    differences = [[list(_differences(seen, job, expected)) for job in jobs] for expected in results]
    taken = _matched([[not reasons for reasons in row] for row in differences])
    for number, expected in enumerate(results):
        if number not in taken.values():
            nearest = min(differences[number], key=len, default=["there is no job"])
            name = expected.task or expected.recipe
            yield f"result {number + 1} ({name}): no job fits; the nearest: {'; '.join(nearest)}"
    for number, job in enumerate(jobs):
        if number not in taken and len(jobs) > len(results):
            yield f"not expected: {seen.line(job)}"


def _matched(fits_: Sequence[Sequence[bool]]) -> dict[int, int]:
    """Return as many pairs of job and result as can be, by augmenting paths (Kuhn's algorithm); job to result."""
    taken: dict[int, int] = {}

    def place(result: int, tried: set[int]) -> bool:
        for job, good in enumerate(fits_[result]):
            if good and job not in tried:
                tried.add(job)
                if job not in taken or place(taken[job], tried):
                    taken[job] = result
                    return True
        return False

    for result in range(len(fits_)):
        place(result, set())
    return taken


def _differences(seen: _Seen, job: Job, expected: Expected) -> Iterator[str]:
    """Yield a sentence for each thing in which a job is not the expected one."""
    main, associated = seen.prefixes_of(job.main), seen.prefixes_of(job.associated)
    state = {"task": job.step, "recipe": job.recipe, "count": len(job.main), "level": job.level}
    state |= {"complete": not job.missing, "reused": job.state == "reused"}
    for name, value in state.items():
        wanted = getattr(expected, name)
        if name == "complete" and wanted is None and not expected.missing:
            wanted = True
        if wanted is not None and wanted != value:
            yield f"{name} is {value}, wanted {wanted}"
    for kind, has, allowed in (
        ("main", main, expected.inputs_prefixes),
        ("associated", associated, expected.assoc_prefixes),
    ):
        if allowed is not None and not has <= {*allowed}:
            yield f"{kind} inputs are {', '.join(sorted(has))}, allowed {', '.join(allowed) or 'none'}"
    for name in expected.required_prefixes:
        if name not in main | associated:
            yield f"no input is {name}"
    for name in expected.forbidden_prefixes:
        if name in main | associated:
            yield f"an input is {name}"
    if expected.missing is not None and {*expected.missing} != {lack.input for lack in job.missing}:
        missing = ", ".join(lack.input for lack in job.missing) or "nothing"
        yield f"missing {missing}, wanted {', '.join(expected.missing)}"
    for name, value in expected.params.items():
        resolved = job.parameters[name].value if name in job.parameters else "not there"
        if resolved != value:
            yield f"{name} is {resolved}, wanted {value}"
