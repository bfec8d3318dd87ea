"""`explain --prov`: where a product came from, as PROV-JSON, for programs that know nothing of ccdflow.

Terms of the W3C (PROV-DM, PROV-JSON of 2013) and of the IVOA (Provenance Data Model 1.0, section 2: Entity, Activity,
Agent, Used, WasGeneratedBy, and Parameters as entities that an activity used).
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from ccdflow.commands.scripts import Step, steps_of
from ccdflow.tasks.provenance.jobdocument import JobFile
from ccdflow.tasks.workspace import Workspace

PREFIX = {
    "raw": "urn:sha256:",
    "product": "urn:ccdflow:product:",
    "job": "urn:ccdflow:job:",
    "recipe": "urn:ccdflow:recipe:",
    "parameter": "urn:ccdflow:parameter:",
    "software": "urn:ccdflow:software:",
    "ccdflow": "urn:ccdflow:",
    "voprov": "http://www.ivoa.net/documents/dm/provdm/voprov/",
}
"""Namespaces of the names: raw files by their sha256, products by job and category."""

Document = dict[str, dict[str, Any]]


def prov_of(space: Workspace, name: str) -> Document:
    """Return the provenance of a product, down to raw frames.

    Parameters
    ----------
    space : Workspace
        The project.
    name : str
        A product (``p7``, or its file), or a job's key or its beginning.

    Returns
    -------
    dict
        PROV-JSON: ``prefix entity activity agent used wasGeneratedBy wasAssociatedWith wasDerivedFrom``.

    Raises
    ------
    ValueError
        If it is neither.
    """
    document: Document = defaultdict(dict, prefix=dict(PREFIX))
    for step in steps_of(space, name):
        _job(document, step)
    return dict(document)


def _job(document: Document, step: Step) -> None:
    activity = f"job:{step.job.key}"
    times = zip(("prov:startTime", "prov:endTime"), step.times, strict=True)
    document["activity"][activity] = {name: f"{time}Z" for name, time in times if time} | {
        "prov:label": f"{step.job.task or step.job.recipe} {step.job.key[:12]}",
        "ccdflow:level": step.job.level,
        "ccdflow:worst_level": step.job.worst_level,
    }
    plan = f"recipe:{step.job.recipe}-{step.job.version}"
    document["entity"][plan] = {"prov:label": plan, "prov:type": _qualified("prov:Plan")}
    for agent in _agents(document, step.job.software):
        _relate(document, "wasAssociatedWith", activity=activity, agent=agent, plan=plan)
    used = [_used(document, activity, file) for file in step.job.inputs]
    _parameters(document, activity, step.job.parameters)
    for category, (file, sha256) in step.outputs.items():
        entity = f"product:{step.job.key}-{category}"
        document["entity"][entity] = {
            "prov:label": file,
            "ccdflow:category": category,
            "ccdflow:sha256": sha256,
        }
        _relate(document, "wasGeneratedBy", entity=entity, activity=activity)
        for source in dict.fromkeys(used):
            _relate(document, "wasDerivedFrom", generatedEntity=entity, usedEntity=source, activity=activity)


def _agents(document: Document, software: str) -> Iterator[str]:
    for words in filter(None, software.split(", ")):
        name, _, number = words.partition(" ")
        agent = f"software:{name}-{number}"
        document["agent"][agent] = {"prov:label": words, "prov:type": _qualified("prov:SoftwareAgent")}
        yield agent


def _used(document: Document, activity: str, file: JobFile) -> str:
    """Note that a job used a file; gives back the file's name."""
    note = file.note
    if note.kind == "raw":
        entity = f"raw:{note.identity}"
        told = {"prov:label": note.name}
        told |= {f"ccdflow:amended_{one.name}": json.dumps(one.value) for one in file.amended}
        document["entity"][entity] = told
    else:
        key, _, category = note.identity.partition(":")
        entity = _product(document, key, category)
    level = {} if note.level is None else {"ccdflow:level": note.level}
    _relate(document, "used", activity=activity, entity=entity, more={"prov:role": note.role, **level})
    return entity


def _product(document: Document, key: str, category: str) -> str:
    """The name of a job's product; without a category the first one, which stands for the job."""
    names = (name for name in document["entity"] if name.startswith(f"product:{key}-"))
    return f"product:{key}-{category}" if category else next(names)


def _parameters(document: Document, activity: str, parameters: Mapping[str, Mapping[str, Any]]) -> None:
    key = activity.partition(":")[2]
    for name, resolved in parameters.items():
        entity = f"parameter:{key}-{name}"
        document["entity"][entity] = {
            "prov:label": name,
            "prov:value": json.dumps(resolved["value"]),
            "prov:type": _qualified("voprov:Parameter"),
            "ccdflow:origin": resolved["origin"],
        }
        _relate(document, "used", activity=activity, entity=entity, more={"prov:role": "parameter"})


def _relate(document: Document, relation: str, more: Mapping[str, Any] | None = None, **ends: str) -> None:
    number = len(document[relation]) + 1
    document[relation][f"_:{relation}{number}"] = {f"prov:{end}": name for end, name in ends.items()} | dict(
        more or {}
    )


def _qualified(name: str) -> dict[str, str]:
    return {"$": name, "type": "prov:QUALIFIED_NAME"}
