"""What `show --log` and `show --command` tell of a job."""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ccdflow.archive.fits.productfile import read_product
from ccdflow.archive.registry.jobs.inputs import Sources, find_sources
from ccdflow.archive.registry.jobs.logs import find_log
from ccdflow.archive.registry.jobs.products import ProductFilter, list_products
from ccdflow.archive.registry.jobs.records import JobRecord, find_job
from ccdflow.cascade.planning.jobs import JobInput
from ccdflow.cascade.records import CLASSES
from ccdflow.commands import queries
from ccdflow.tasks.external import arguments_of
from ccdflow.tasks.inputs import is_ours
from ccdflow.tasks.workspace import Workspace

Row = dict[str, Any]


def job_named(space: Workspace, name: str) -> JobRecord:
    """Return the job of that name, or that made the product of that name."""
    row = queries.find(space, name)
    key = row["key"] if "recipe" in row else row.get("job") if "category" in row else None
    job = None if key is None else space.registry.read(find_job, key)
    if job is None:
        raise ValueError(f"{name} is neither a job nor a product; wanted a job's key or its beginning, or p7")
    return job


def log_of(space: Workspace, name: str) -> tuple[str, Row]:
    """What a job has written, as text and as a row; of a job that wrote nothing a sentence says so."""
    job = job_named(space, name)
    attempt, written, text = space.registry.read(find_log, job.key) or (job.attempts, "", "")
    row: Row = {"job": job.key, "step": job.step, "state": job.state, "reason": job.reason}
    row |= {"attempt": attempt, "written": written, "log": text}
    return text or _why_silent(space, job), row


def _why_silent(space: Workspace, job: JobRecord) -> str:
    if not job.attempts:
        return f"job {job.key[: queries.SHOWN]} has not been begun"
    kind = (
        "" if job.recipe in space.cascade.recipes else ", as recipes of ours mostly do: they warn of doubts"
    )
    return f"job {job.key[: queries.SHOWN]} ({job.step}) has written nothing{kind}"


def command_of(space: Workspace, name: str) -> tuple[str, Row]:
    """The command line that does a job by hand, in the current folder, as text and as a row.

    Raises
    ------
    ValueError
        If the files that the job takes are not all there yet.
    """
    job = job_named(space, name)
    sources = space.registry.read(find_sources, job)
    files: dict[str, list[str]] = {}
    for part in job.inputs:
        files.setdefault(part.role, []).append(_file(space, sources, part))
    own = space.cascade.recipes.get(job.recipe)
    outputs = _outputs(space, job)
    if own is not None and own.program and not any("{job}" in argument for argument in own.program):
        values = {name: resolved["value"] for name, resolved in job.parameters.items()}
        arguments = arguments_of(own, files, outputs, values, Path("job.json"))
    else:
        arguments = _recipe_arguments(space, job, files, outputs, _amended(sources))
    row = {"job": job.key, "step": job.step, "arguments": arguments, "notes": list(_notes(sources))}
    return shlex.join(arguments), row


def _file(space: Workspace, sources: Sources, part: JobInput) -> str:
    if part.job is None:
        file = None if part.frame is None else sources.frames.get(part.frame)
        path = "" if file is None else file.path
    else:
        product = sources.products.get(part.identity)
        path = "" if product is None else str(space.store.absolute(product))
    if not path:
        wanted = f"job {part.job[: queries.SHOWN]} has not made it yet" if part.job else "it has no file"
        raise ValueError(f"input {part.role!r} is not there: {wanted}")
    return path


def _outputs(space: Workspace, job: JobRecord) -> dict[str, str]:
    """Names of the products' files, in the current folder, by category."""
    rows = space.registry.read(list_products, ProductFilter(states=None, job_keys=[job.key]))
    return {row["category"]: Path(row["path"]).name for row in rows}


def _recipe_arguments(
    space: Workspace,
    job: JobRecord,
    files: Mapping[str, list[str]],
    outputs: Mapping[str, str],
    amended: Sequence[str],
) -> list[str]:
    arguments = ["ccdflow", "-C", str(space.project.directory), "recipe", job.recipe, *files["main"]]
    for role, paths in files.items():
        if role != "main":
            arguments += [word for path in paths for word in ("--with", f"{role}={path}")]
    for name, resolved in job.parameters.items():
        # A recipe's own defaults go without saying.
        if resolved["origin"] != "recipe":
            arguments += ["--param", f"{name}={json.dumps(resolved['value'])}"]
    arguments += [word for text in amended for word in ("--amend", text)]
    output = next(iter(outputs.values()), f"{job.step}-{job.key[:8]}.fits")
    return [*arguments, "-o", output]


def _amended(sources: Sources) -> list[str]:
    """What was corrected of the raw files, as `ccdflow recipe` takes it."""
    return [
        f"{file.path}:{told.name}={json.dumps(told.value)}"
        for file in sources.frames.values()
        for told in file.amended
        if file.frame_class in CLASSES
    ]


def _notes(sources: Sources) -> Iterator[str]:
    """Say what the command may do otherwise than the job."""
    for number, file in sources.frames.items():
        # A job converts it as its header says what another program has done; by hand a product is taken as it is.
        if file.frame_class not in CLASSES and not is_ours(read_product(Path(file.path)).header):
            name = Path(file.path).name
            yield f"f{number} ({name}): a {file.frame_class} of another program, which the command takes as it is"
