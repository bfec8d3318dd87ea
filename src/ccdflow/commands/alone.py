"""`explain FILE` where there is no project: what a product tells by itself."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ccdflow.archive.fits.productorigin import read_origin
from ccdflow.cascade.records import CATEGORY
from ccdflow.tasks.provenance.process import compromises_of, corrected_of, parameters_of, software_of
from ccdflow.tasks.provenance.software import in_words

Row = dict[str, Any]

DOUBTS = 999
"""Doubts that have a card each."""


def file_row(path: Path) -> Row:
    """Return what a product tells of where it came from.

    Parameters
    ----------
    path : Path
        Its file.

    Returns
    -------
    dict of str to object
        ``what category job task recipe version creator software parameters inputs amended compromises doubts``.

    Raises
    ------
    ProductFileError
        If it is no product of ccdflow.
    """
    told = read_origin(path)
    header = told.header
    return {
        "what": str(path),
        "category": header.get(CATEGORY, ""),
        "job": header["JOBKEY"],
        "task": header.get("TASK", ""),
        "recipe": header.get("RECIPE", ""),
        "version": header.get("RECIPEV", ""),
        "creator": header.get("CREATOR", ""),
        "software": software_of(told.process),
        "parameters": parameters_of(told.process),
        "inputs": [vars(note) for note in told.inputs],
        "amended": [fields | {"frame": sha256} for sha256, fields in corrected_of(told.process)],
        "compromises": compromises_of(told.process).splitlines(),
        "doubts": _doubts(header),
    }


def _doubts(header: Mapping[str, Any]) -> list[str]:
    numbered = (header.get(f"DOUBT{number:03d}") for number in range(1, DOUBTS + 1))
    return [str(doubt) for doubt in numbered if doubt]


def file_lines(row: Row) -> list[str]:
    """Return the same for people."""
    made = f"{row['recipe']} {row['version']}"
    by = f" by {row['creator']}" if row["creator"] else ""
    lines = [f"{row['what']}", f"  {row['category']}, made by recipe {made}{by}, job {row['job'][:12]}"]
    lines += [f"  doubt {doubt}" for doubt in row["doubts"]]
    lines += [f"  less than planned: {line}" for line in row["compromises"]]
    for note in row["inputs"]:
        level = "" if note["level"] is None else f", level {note['level']}"
        lines.append(f"  {note['role']} {note['name']} ({note['kind']} {note['identity'][:12]}{level})")
    lines += [f"  amended {one['name']}: {one.get('said')} -> {one['value']}" for one in row["amended"]]
    for name, resolved in row["parameters"].items():
        lines.append(f"  {name} = {resolved['value']!r} ({resolved['origin']})")
    return [*lines, f"  with {in_words(row['software'])}"] if row["software"] else lines
