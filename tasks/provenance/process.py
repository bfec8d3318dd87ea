"""How a product was made, as rows of its extension PROCESS."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ccdflow.archive.fits.productheader import ProcessNote
from ccdflow.cascade.planning.jobs import json_text
from ccdflow.tasks.provenance.software import software

SOFTWARE, PARAMETER, AMENDMENT, COMPROMISE = "software", "parameter", "amendment", "compromise"
"""What a row tells."""


def process_notes(
    parameters: Mapping[str, Mapping[str, Any]],
    corrected: Sequence[tuple[str, Mapping[str, Any]]] = (),
    compromises: str = "",
) -> list[ProcessNote]:
    """Return what there is to be told of how a product was made, beside its inputs.

    Parameters
    ----------
    parameters : mapping
        By name of a parameter its ``value`` and ``origin``.
    corrected : sequence of tuple
        What was amended of raw inputs: sha256 of the file, and the correction's fields.
    compromises : str
        In what inputs are less than planned, a line each.

    Returns
    -------
    list of ProcessNote
        Versions of software, then parameters, corrections and compromises. Values are JSON, but for versions.
    """
    notes = [ProcessNote(SOFTWARE, name, number) for name, number in software().items()]
    notes += [
        ProcessNote(PARAMETER, name, json_text(resolved["value"]), str(resolved["origin"]))
        for name, resolved in parameters.items()
    ]
    notes += [
        ProcessNote(AMENDMENT, str(fields["name"]), json_text(dict(fields)), sha256)
        for sha256, fields in corrected
    ]
    return notes + [ProcessNote(COMPROMISE, "", json_text(line)) for line in compromises.splitlines()]


def parameters_of(notes: Iterable[ProcessNote]) -> dict[str, dict[str, Any]]:
    """Return parameters with value and origin, as `process_notes` took them."""
    return {
        note.name: {"value": json.loads(note.value), "origin": note.origin}
        for note in notes
        if note.what == PARAMETER
    }


def corrected_of(notes: Iterable[ProcessNote]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the sha256 of a raw file and a correction of it, as `process_notes` took them."""
    yield from ((note.origin, json.loads(note.value)) for note in notes if note.what == AMENDMENT)


def compromises_of(notes: Iterable[ProcessNote]) -> str:
    """Return in what inputs were less than planned, a line each."""
    return "\n".join(str(json.loads(note.value)) for note in notes if note.what == COMPROMISE)


def software_of(notes: Iterable[ProcessNote]) -> dict[str, str]:
    """Return the versions of what it was made with, by name."""
    return {note.name: note.value for note in notes if note.what == SOFTWARE}
