"""`explain --script`: the commands that make a product again, from raw frames or from the file alone."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ccdflow.archive.fits.productfile import ProductFileError
from ccdflow.archive.fits.productheader import InputNote
from ccdflow.archive.fits.productorigin import read_origin
from ccdflow.archive.registry.jobs.inputs import FrameFile, Sources, find_sources
from ccdflow.archive.registry.jobs.products import ProductFilter, list_products
from ccdflow.archive.registry.jobs.records import JobRecord, find_job
from ccdflow.cascade.planning.jobs import AMENDED, JobInput
from ccdflow.cascade.records import CATEGORY, CLASSES
from ccdflow.commands.jobs import job_named
from ccdflow.recipes.catalogue import RECIPES
from ccdflow.recipes.core.recipe import Recipe
from ccdflow.tasks.provenance.jobdocument import JobDocument, JobFile, Told
from ccdflow.tasks.provenance.process import compromises_of, corrected_of, parameters_of, software_of
from ccdflow.tasks.provenance.software import in_words
from ccdflow.tasks.workspace import Workspace


@dataclass(frozen=True)
class Step:
    """One job of a script: its document, its files as the shell has them, in the document's order, and its outputs.

    `outputs` has name and sha256 of each product's file by category; `times` are when it was begun and done, ISO UTC.
    """

    job: JobDocument
    files: Sequence[str]
    outputs: Mapping[str, tuple[str, str]]
    times: tuple[str, str] = ("", "")


def script_of(space: Workspace, name: str) -> str:
    """Return a shell script that makes a product again in the current folder, and all that it is made of.

    Parameters
    ----------
    space : Workspace
        The project.
    name : str
        A product (``p7``, or its file), or a job's key or its beginning.

    Returns
    -------
    str
        The script; it ends by comparing the product's checksum.

    Raises
    ------
    ValueError
        If it is neither, or a raw frame of it is not there any more.
    """
    return _text(steps_of(space, name), ["-C", str(space.project.directory)], "")


def steps_of(space: Workspace, name: str) -> list[Step]:
    """Return the jobs behind a product, each behind those whose products it takes, and last its own.

    Parameters
    ----------
    space : Workspace
        The project.
    name : str
        A product (``p7``, or its file), or a job's key or its beginning.

    Returns
    -------
    list of Step
        The jobs.

    Raises
    ------
    ValueError
        If it is neither, or a raw frame of it is not there any more.
    """
    steps: dict[str, Step] = {}
    _collect(space, job_named(space, name), steps)
    return list(steps.values())


def script_of_file(path: Path) -> str:
    """Return a shell script that makes a product again of its direct inputs, by what its file alone tells.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    str
        The script; it looks for its inputs in the folder that is its argument.

    Raises
    ------
    ProductFileError
        If it is no product, or was made by a version that did not tell its parameters.
    """
    from ccdflow.archive.digest import file_digest

    told = read_origin(path)
    if not told.process:
        raise ProductFileError(
            f"{path} does not tell its parameters: an earlier version of ccdflow has made it"
        )
    corrected: dict[str, list[Told]] = {}
    for sha256, fields in corrected_of(told.process):
        corrected.setdefault(sha256, []).append(Told(**fields))
    header = told.header
    recipe = RECIPES.get(str(header["RECIPE"]))
    files = [_file_alone(note, corrected.get(note.identity, ()), recipe) for note in told.inputs]
    job = JobDocument(
        key=str(header["JOBKEY"]),
        recipe=str(header["RECIPE"]),
        version=str(header["RECIPEV"]),
        task=str(header.get("TASK", "")),
        level=int(header.get("ASSOLVL", 0)),
        worst_level=int(header.get("WORSTLVL", 0)),
        parameters=parameters_of(told.process),
        inputs=files,
        compromises=compromises_of(told.process),
        software=in_words(software_of(told.process)),
    )
    outputs = {str(header.get(CATEGORY, "")): (path.name, file_digest(path))}
    places = [f'"$files"/{shlex.quote(file.note.name)}' for file in files]
    listed = [f"#   {file.note.name}  {file.note.kind} {file.note.identity}" for file in files]
    use = "\n".join(["# Usage: sh THIS FOLDER, with these files in the folder:", *dict.fromkeys(listed)])
    return _text([Step(job, places, outputs)], [], f"{use}\nfiles=${{1:-.}}")


def _file_alone(note: InputNote, corrected: Sequence[Told], recipe: Recipe | None) -> JobFile:
    # A file in place of a product was made by another program, and is registered as a raw one.
    declared = None if recipe is None else recipe.inputs.get(note.role)
    is_foreign = note.kind == "raw" and declared is not None and declared.kind == "product"
    return JobFile(note, f"master_{note.role}" if is_foreign else "", tuple(corrected))


def _collect(space: Workspace, job: JobRecord, steps: dict[str, Step]) -> None:
    """Put a job behind all whose products it takes."""
    if job.key in steps:
        return
    for key in dict.fromkeys(part.job for part in job.inputs if part.job is not None):
        parent = space.registry.read(find_job, key)
        if parent is None:
            raise ValueError(f"job {key[:12]}, whose product it takes, is not in the registry")
        _collect(space, parent, steps)
    sources = space.registry.read(find_sources, job)
    files = [_file(sources, part) for part in job.inputs]
    places = [_place(sources, part) for part in job.inputs]
    rows = space.registry.read(list_products, ProductFilter(states=None, job_keys=[job.key]))
    outputs = {row["category"]: (Path(row["path"]).name, row["sha256"] or "") for row in rows}
    steps[job.key] = Step(_document(job, files), places, outputs, (job.started_at, job.finished_at))


def _file(sources: Sources, part: JobInput) -> JobFile:
    if part.job is not None:
        path = sources.products.get(part.identity)
        if path is None:
            raise ValueError(f"the product of job {part.job[:12]}, input {part.role!r}, was not made")
        return JobFile(InputNote(part.role, Path(path).name, part.identity, "product", part.level))
    file = _frame(sources, part)
    content = part.identity.partition(AMENDED)[0]
    note = InputNote(part.role, Path(file.path).name, content, "raw", part.level)
    amended = (Told(one.name, one.value, one.said, one.who, one.why, one.made) for one in file.amended)
    return JobFile(note, "" if file.frame_class in CLASSES else file.frame_class, tuple(amended))


def _place(sources: Sources, part: JobInput) -> str:
    """An input's file, as the shell has it; products are made in the current folder."""
    if part.job is not None:
        return shlex.quote(Path(sources.products[part.identity]).name)
    return shlex.quote(_frame(sources, part).path)


def _frame(sources: Sources, part: JobInput) -> FrameFile:
    file = None if part.frame is None else sources.frames.get(part.frame)
    if file is None or not file.path:
        raise ValueError(f"a raw frame of input {part.role!r} is not in the registry any more")
    return file


def _document(job: JobRecord, files: Sequence[JobFile]) -> JobDocument:
    return JobDocument(
        key=job.key,
        recipe=job.recipe,
        version=job.version,
        task=job.step,
        level=job.level,
        worst_level=job.worst_level,
        parameters=job.parameters,
        inputs=files,
        compromises=job.compromises,
        software=job.software,
    )


def _text(steps: Sequence[Step], options: Sequence[str], preamble: str) -> str:
    last = steps[-1]
    name, sha256 = next(iter(last.outputs.values()))
    made_with = last.job.software or "versions that are not known"
    lines = [
        "#!/bin/sh",
        f"# Makes {name} again in the current folder.",
        f"# It was made with {made_with}.",
        *([preamble] if preamble else []),
        "set -eu",
        "ccdflow=${CCDFLOW:-ccdflow}",
    ]
    for number, step in enumerate(steps, 1):
        lines += [
            "",
            f"# {number} of {len(steps)}: {step.job.task or step.job.recipe}",
            *_lines(step, options),
        ]
    check = shlex.quote(f"{sha256}  {name}")
    differs = shlex.quote(f"{name} differs from the one that was made with {made_with}")
    lines += [
        "",
        f"if printf '%s\\n' {check} | sha256sum --check --status -; then",
        f"    printf '%s\\n' {shlex.quote(name + ': the same bytes')}",
        "else",
        f"    printf '%s\\n' {differs} >&2",
        "    exit 1",
        "fi",
    ]
    return "\n".join(lines) + "\n"


def _lines(step: Step, options: Sequence[str]) -> list[str]:
    names = [name for name, _ in step.outputs.values()]
    job = f"{names[0]}.job.json"
    roles = [file.note.role for file in step.job.inputs]
    main = [place for role, place in zip(roles, step.files, strict=True) if role == "main"]
    others = [
        f"--with {role}={place}" for role, place in zip(roles, step.files, strict=True) if role != "main"
    ]
    several = len(names) > 1
    output = f"{step.job.key[:12]}.fits" if several else names[0]
    command = [*map(shlex.quote, [*options, "recipe", step.job.recipe]), *main, *others]
    command += ["--job", shlex.quote(job), "--force", "-o", shlex.quote(output)]
    # A recipe by hand names several products by their categories.
    moved = [
        f"mv {shlex.quote(f'{step.job.key[:12]}_{category}.fits')} {shlex.quote(name)}"
        for category, (name, _) in (step.outputs.items() if several else ())
    ]
    text = json.dumps(step.job.document(), ensure_ascii=False)
    return [f"cat > {shlex.quote(job)} <<'END'", text, "END", " ".join(['"$ccdflow"', *command]), *moved]
