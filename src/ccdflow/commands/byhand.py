"""`ccdflow recipe`: one recipe on files, without database or Prefect; a project is looked at where there is one."""

import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from ccdflow.archive.digest import UnreadableFrameError
from ccdflow.archive.fits.integrity import refuse_damaged
from ccdflow.archive.fits.productfile import InputNote, ProductFileError, read_product, write_product
from ccdflow.archive.fits.rawfile import open_raw
from ccdflow.archive.foreignfile import unread
from ccdflow.archive.patience import set_read_limit
from ccdflow.cascade.headers.amplifiers import detector_digest
from ccdflow.cascade.headers.instrument import Instrument
from ccdflow.cascade.planning.jobs import AMENDED, JobInput, Resolved, amended_digest
from ccdflow.cascade.planning.keys import KeyMaker
from ccdflow.cascade.records import CATEGORY, Value
from ccdflow.cascade.specification.ownrecipes import OwnRecipe, Recipes
from ccdflow.cascade.wording import unknown
from ccdflow.config.cascadefile import load_cascade
from ccdflow.config.instruments import load_instruments
from ccdflow.config.project import load_project
from ccdflow.config.shipped import shipped
from ccdflow.recipes.catalogue import RECIPES
from ccdflow.recipes.core.doubts import as_doubt
from ccdflow.recipes.core.recipe import Output, Parameters, Recipe, Result
from ccdflow.recipes.kernels.compiled import prepare
from ccdflow.tasks.external import run_external
from ccdflow.tasks.inputs import JobInputs
from ccdflow.tasks.memory import keep_memory
from ccdflow.tasks.processes.output import Kept
from ccdflow.tasks.processes.stopping import StoppedError
from ccdflow.tasks.productdoubts import doubt_cards, product_doubts
from ccdflow.tasks.provenance.jobdocument import JobDocument, JobFile
from ccdflow.tasks.provenance.process import process_notes

WRITING = "ccdflow.archive.fits.writer_kernels"
"""Module of the compiled functions that write products."""


@dataclass(frozen=True)
class RecipeReport:
    """What a recipe made of files; `others` are its further products, by category."""

    recipe: str
    category: str
    path: Path
    key: str
    quality: Mapping[str, float]
    warnings: Sequence[str]
    others: Mapping[str, Path] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """The report for ``--json``."""
        return {
            "recipe": self.recipe,
            "category": self.category,
            "path": str(self.path),
            "key": self.key,
            "quality": dict(self.quality),
            "warnings": list(self.warnings),
            "others": {category: str(path) for category, path in self.others.items()},
        }

    def sentence(self) -> str:
        """The report for people."""
        numbers = [f"  {name} {value:.6g}" for name, value in self.quality.items()]
        others = [f"{category} in {path}" for category, path in self.others.items()]
        return "\n".join([f"{self.category} in {self.path}", *numbers, *others])


@dataclass(frozen=True)
class Corrected:
    """What counts of a raw file in place of what its header says, as a person has corrected it."""

    name: str
    value: Value | None

    def __str__(self) -> str:
        return f"{self.name} -> {'unknown' if self.value in (None, '') else self.value}"


Amended = Mapping[Path, Sequence[Corrected]]
"""Corrections by raw file, as `--amend` has them."""
NOTHING: Amended = MappingProxyType({})


def amended_files(texts: Sequence[str], files: Sequence[Path]) -> dict[Path, list[Corrected]]:
    """Return what is to be corrected of which files.

    Parameters
    ----------
    texts : sequence of str
        ``FILE:NAME=VALUE``; the value is JSON, or a text.
    files : sequence of Path
        All inputs.

    Returns
    -------
    dict of Path to list of Corrected
        The corrections, in their order.

    Raises
    ------
    ValueError
        If a text is not of this form, or is about another file.
    """
    amended: dict[Path, list[Corrected]] = {}
    for text in texts:
        # A path may hold any sign, so that only the inputs tell where it ends: of two that fit, the longer.
        path = max(
            (path for path in files if text.startswith(f"{path}:")),
            key=lambda path: len(str(path)),
            default=None,
        )
        name, equals, written = text[len(f"{path}:") :].partition("=")
        if path is None or not equals or not name:
            raise ValueError(
                f"--amend {text!r} is not of the form FILE:NAME=VALUE, with FILE one of the inputs"
            )
        try:
            value = json.loads(written)
        except ValueError:
            value = written
        if isinstance(value, dict | list):
            raise ValueError(f"--amend {text!r}: wanted a number, a text, true or null")
        amended.setdefault(path, []).append(Corrected(name, value))
    return amended


def read_job(path: Path) -> JobDocument:
    """Read what `ccdflow explain --script` tells of a job.

    Raises
    ------
    ValueError
        If the file is none; one line says why.
    """
    try:
        return JobDocument.read(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def run_recipe(
    name: str,
    files: Sequence[Path],
    parameters: Mapping[str, Any],
    associated: Mapping[str, Sequence[Path]],
    output: Path,
    digests: Mapping[Path, Future[str]],
    *,
    amended: Amended = NOTHING,
    force: bool = False,
    project: Path | None = None,
    job: JobDocument | None = None,
) -> RecipeReport:
    """Run a recipe on files and write its product; `digests` is to hold the sha256 of each file.

    What is `amended` of raw files counts as if their headers said so. Where `job` says of which job the files are the
    inputs, in its order, the product is that job's, to the byte, given the same versions of programs.
    Where `project` is the directory of a project, its instruments count, and its cascade's own recipes are known. A
    recipe that makes several products writes them beside each other, with the category behind the output's name.

    Raises
    ------
    ValueError
        If anything that is given is not known, does not fit, or can't be read; one line says what and what was wanted.
    """
    hand = _Hand.of(name, project)
    recipe = hand.recipe
    keep_memory()
    # Machine code is loaded by a thread of its own while the files are opened.
    prepare(*recipe.kernels, WRITING)
    roles = {"main": files, **associated}
    _check_roles(recipe, roles)
    if job is not None:
        parameters = {name: resolved["value"] for name, resolved in job.parameters.items()}
    values = _parameters(recipe, parameters)
    targets = _targets(recipe, output, force=force)
    if job is None:
        inputs = _read(recipe, roles, hand.instruments, digests, amended)
    else:
        inputs = _read_job(job, roles, hand, digests)
    result = hand.run(inputs, values)
    told = [left.sentence for left in result.left_out]
    if not result.outputs:
        raise ValueError(f"recipe {name!r} has nothing to combine: {'; '.join(told)}")
    if job is None:
        key = _key(recipe, values, hand.instruments, _identities(roles, inputs, amended))
        job = _document(key, recipe, values, parameters)
    used = inputs.without(left.position for left in result.left_out)
    doubted = replace(result, warnings=(*inputs.differences, *result.warnings))
    cards = doubt_cards(product_doubts(doubted, inputs.policies, job.compromises.splitlines()))
    for category, product in result.outputs.items():
        _write(targets[category], replace(product, cards={**product.cards, **cards}), category, used, job)
    # Whoever names a file means it; but nothing is calibrated a second time without a word.
    twice = [f"{sentence}; --param done=... leaves out what was done" for sentence in inputs.finished]
    warnings = [
        *(() if parameters.get("done") else twice),
        *(as_doubt(warning).text for warning in doubted.warnings),
        *told,
    ]
    (first, product), *others = result.outputs.items()
    further = {category: targets[category] for category, _ in others}
    return RecipeReport(name, first, targets[first], job.key, product.quality, warnings, further)


@dataclass(frozen=True)
class _Hand:
    """A recipe with what is to be known to run it: its declaration, where it is not ours, and the instruments."""

    recipe: Recipe
    own: OwnRecipe | None
    instruments: Sequence[Instrument]

    @classmethod
    def of(cls, name: str, directory: Path | None) -> "_Hand":
        if directory is None:
            if name not in RECIPES:
                raise ValueError(unknown("recipe", name, RECIPES) + "; of a project: ccdflow -C DIR recipe")
            return cls(RECIPES[name], None, load_instruments([shipped("instruments")]))
        project = load_project(directory)
        set_read_limit(project.read_limit)
        instruments = load_instruments([*project.instruments, shipped("instruments")], project.directory)
        # The cascade takes its time to be read, and most recipes are ours.
        if name in RECIPES:
            return cls(RECIPES[name], None, instruments)
        cascade = load_cascade(project.cascade_path, project.directory)
        recipes = Recipes(RECIPES, cascade.recipes)
        if name not in recipes:
            raise ValueError(unknown("recipe", name, recipes))
        return cls(recipes[name], cascade.recipes[name], instruments)

    def run(self, inputs: JobInputs, values: Parameters) -> Result:
        """Run the recipe; what goes wrong in one of others is said in one line, with its type."""
        try:
            if self.own is not None and self.own.is_external:
                return self._external(self.own, inputs, values)
            return self.recipe.run(inputs.recipe_inputs, values)
        except (
            UnreadableFrameError,
            ProductFileError,
        ) as error:  # of a file that is found damaged where it is read
            raise ValueError(str(error)) from None
        except ValueError as error:  # ours say in one line what does not fit
            if self.own is None:
                raise
            raise self._failed(error) from error
        except (Exception, SystemExit) as error:
            raise self._failed(error) from error

    def _failed(self, error: BaseException) -> ValueError:
        return ValueError(f"{self.recipe.name}: {_typed(error)}")

    def _external(self, own: OwnRecipe, inputs: JobInputs, values: Parameters) -> Result:
        """Run a program or module, and pass on what it has written."""
        kept = Kept()
        try:
            return run_external(own, inputs.paths, values.model_dump(), math.inf, kept)
        except StoppedError as error:
            raise ValueError(str(error)) from None
        finally:
            sys.stderr.write(kept.text)


def _targets(recipe: Recipe, output: Path, *, force: bool) -> dict[str, Path]:
    """Return where each product goes; refuse to write over one that is there."""
    if len(recipe.outputs) == 1:
        targets = {recipe.outputs[0]: output}
    else:
        stem = output.name.removesuffix("".join(output.suffixes[-1:]))
        targets = {name: output.with_name(f"{stem}_{name}{output.suffix}") for name in recipe.outputs}
    for path in () if force else targets.values():
        if path.exists():
            raise ValueError(f"{path} is there already; --force overwrites it")
    return targets


def _check_roles(recipe: Recipe, roles: Mapping[str, Sequence[Path]]) -> None:
    """Refuse roles that the recipe does not know, and too many or too few files in one."""
    for role, paths in roles.items():
        if role not in recipe.inputs:
            raise ValueError(f"recipe {recipe.name!r}: {unknown('input', role, recipe.inputs)}")
        most = recipe.inputs[role].maximum
        if most is not None and len(paths) > most:
            raise ValueError(f"recipe {recipe.name!r} takes {most} {role!r}, found {len(paths)}")
    for role, wanted in recipe.inputs.items():
        if len(roles.get(role, ())) < wanted.minimum:
            count = len(roles.get(role, ()))
            raise ValueError(
                f"recipe {recipe.name!r} takes at least {wanted.minimum} {role!r}, found {count}"
            )


def _parameters(recipe: Recipe, requested: Mapping[str, Any]) -> Parameters:
    """Return the recipe's parameters; refuse what it does not know, in one line."""
    for name in requested:
        if name not in recipe.parameters.model_fields:
            raise ValueError(
                f"recipe {recipe.name!r}: {unknown('parameter', name, recipe.parameters.model_fields)}"
            )
    try:
        return recipe.parameters.model_validate(dict(requested))
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"parameter {first['loc'][0]!r}: {first['msg']}; found {first['input']!r}") from None


def _read(
    recipe: Recipe,
    roles: Mapping[str, Sequence[Path]],
    instruments: Sequence[Instrument],
    digests: Mapping[Path, Future[str]],
    amended: Amended,
) -> JobInputs:
    """Open all inputs; their pixels are read when the recipe asks for them."""
    inputs = JobInputs()
    for role, paths in roles.items():
        kind = recipe.inputs[role].kind
        for path in paths:
            try:
                note = InputNote(role, path.name, digests[path].result(), kind, None if role == "main" else 0)
                if kind == "raw":
                    refuse_damaged(open_raw(path))
                    inputs.add_raw(role, path, instruments, note, amendments=amended.get(path, ()))
                elif path in amended:
                    raise ValueError(f"{path} is a product: only raw files can be amended")
                else:
                    inputs.add_product(role, path, note, instruments)
            except Exception as error:  # libraries raise whatever they stumble over, of no common kind
                raise ValueError(_in_words(path, error)) from error
    return inputs


def _in_words(path: Path, error: Exception) -> str:
    """What is wrong with a file, in one line that names it."""
    if isinstance(error, OSError):
        return str(unread(path, error))
    if isinstance(error, UnreadableFrameError | ProductFileError):
        return str(error)
    if isinstance(error, ValueError):
        return str(error) if path.name in str(error) else f"{path}: {error}"
    return f"{path} can't be read: {_typed(error)}"


def _typed(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": ")


def _key(
    recipe: Recipe, values: Parameters, instruments: Sequence[Instrument], identities: Sequence[JobInput]
) -> str:
    """Return the job's key."""
    resolved = {name: Resolved(value, "request") for name, value in values.model_dump(mode="json").items()}
    digests = [detector_digest(instrument) for instrument in instruments]
    return KeyMaker(recipe, resolved).key(identities, digests)


def _identities(roles: Mapping[str, Sequence[Path]], inputs: JobInputs, amended: Amended) -> list[JobInput]:
    """Return what stands for the inputs in a job's key: the sha256 of each, and a digest of what was amended."""
    paths = [path for files in roles.values() for path in files]
    return [
        JobInput(note.role, note.identity + _corrections(amended.get(path, ())))
        for note, path in zip(inputs.notes, paths, strict=True)
    ]


def _corrections(amended: Sequence[Corrected]) -> str:
    return AMENDED + amended_digest({told.name: told.value for told in amended}) if amended else ""


def _document(key: str, recipe: Recipe, values: Parameters, requested: Mapping[str, Any]) -> JobDocument:
    """The work as a job of no task; who did not state a parameter left it to the recipe."""
    parameters = {
        name: {"value": value, "origin": "request" if name in requested else "recipe"}
        for name, value in values.model_dump(mode="json").items()
    }
    return JobDocument(key, recipe.name, recipe.version, "", 0, 0, parameters, ())


def _read_job(
    job: JobDocument, roles: Mapping[str, Sequence[Path]], hand: _Hand, digests: Mapping[Path, Future[str]]
) -> JobInputs:
    """Open the inputs of a job, which are to be the very files that it took."""
    if (job.recipe, job.version) != (hand.recipe.name, hand.recipe.version):
        raise ValueError(
            f"the job was done by {job.recipe!r} {job.version}; this is {hand.recipe.name!r} {hand.recipe.version}"
        )
    named = {role: iter(paths) for role, paths in roles.items()}
    inputs = JobInputs()
    for file in job.inputs:
        path = next(named.get(file.note.role, iter(())), None)
        if path is None:
            raise ValueError(f"the job took {file.note.name} as {file.note.role!r}, which is not given")
        try:
            _refuse_other(path, file, digests[path])
            _add(inputs, path, file, hand.instruments)
        except Exception as error:  # libraries raise whatever they stumble over, of no common kind
            raise ValueError(_in_words(path, error)) from error
    return inputs


def _refuse_other(path: Path, file: JobFile, digest: Future[str]) -> None:
    """Refuse a file that is not the one which a job took: raw ones by content, products by the job that made them."""
    if file.note.kind == "raw":
        found = digest.result()
    else:
        category = file.note.identity.partition(":")[2]
        header = read_product(path).header
        found = str(header.get("JOBKEY", "")) + (f":{header.get(CATEGORY)}" if category else "")
    if found != file.note.identity:
        raise ValueError(
            f"{path} is not what the job took: it is {found[:12]}, wanted {file.note.identity[:12]}"
        )


def _add(inputs: JobInputs, path: Path, file: JobFile, instruments: Sequence[Instrument]) -> None:
    note = file.note
    if file.category:
        inputs.add_master(note.role, path, instruments, note, file.category)
    elif note.kind == "raw":
        refuse_damaged(open_raw(path))
        inputs.add_raw(note.role, path, instruments, note, amendments=file.amended)
    else:
        inputs.add_product(note.role, path, note)


def _write(output: Path, product: Output, category: str, inputs: JobInputs, job: JobDocument) -> None:
    """Write the product whole or not at all."""
    origin = inputs.origin(job.key, job.recipe, job.version, job.task)
    origin = replace(
        origin,
        level=max(origin.level, job.level),
        worst_level=job.worst_level,
        cards={**origin.cards, CATEGORY: (category, "what this product is")},
        process=process_notes(job.parameters, inputs.corrected, job.compromises),
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    # In the folder of the output, so that the rename stays within one file system and is atomic.
    temporary = output.with_name(f".{output.name}.part")
    try:
        with temporary.open("wb") as stream:
            write_product(stream, product, origin)
        os.replace(temporary, output)
    finally:
        temporary.unlink(missing_ok=True)
