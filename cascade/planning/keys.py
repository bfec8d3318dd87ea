"""Names of work: keys of jobs, and what stands for their main inputs."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from ccdflow.cascade.planning.jobs import JobInput, Resolved, json_text
from ccdflow.cascade.records import FrameRecord
from ccdflow.recipes.core.recipe import Recipe


def main_identity(main: Iterable[JobInput]) -> str:
    """Return what stands for a main input.

    Parameters
    ----------
    main : iterable of JobInput
        Parts of the main input, in order.

    Returns
    -------
    str
        The identities of the parts, in order.
    """
    return "|".join(item.identity for item in main)


def work_name(task: str, main: Iterable[JobInput]) -> str:
    """Name what a task makes of a main input, whatever the parameters and calibrations.

    Bans and pins are meant so: a banned master stays banned when a parameter changes, though its key is another one.

    Parameters
    ----------
    task : str
        Name of the task.
    main : iterable of JobInput
        Parts of the main input, in order.

    Returns
    -------
    str
    """
    return f"{task} of {main_identity(main)}"


def detector_digests(
    digests: Mapping[str, str], frames: Iterable[FrameRecord], inputs: Iterable[JobInput]
) -> list[str]:
    """Return the digests of what instrument files say of the detectors of a job's raw inputs.

    Parameters
    ----------
    digests : mapping of str to str
        Digest of each instrument file's detector, by the name of the file.
    frames : iterable of FrameRecord
        Frames of the job; their keyword ``profile`` names the instrument file.
    inputs : iterable of JobInput
        Inputs of the job.

    Returns
    -------
    list of str
        In order of the files' names; none for a job on products alone, whose keys hold them already.
    """
    if all(item.frame is None for item in inputs):
        return []
    profiles = {str(frame.value("profile")) for frame in frames}
    return [digests[profile] for profile in sorted(profiles) if profile in digests]


class KeyMaker:
    """Gives the jobs of one task their identity: the recipe and the parameters are the same for all of them.

    A key is the `digest` of recipe, version, resolved parameters and all inputs with their roles.

    Parameters
    ----------
    recipe : Recipe
        Name and version are part of the key.
    parameters : mapping of str to Resolved
        All parameters of the recipe; their origins are no part of the key.
    """

    def __init__(self, recipe: Recipe, parameters: Mapping[str, Resolved]) -> None:
        # The JSON object of a job has the names detectors, inputs, parameters, recipe, version, and they are sorted. So
        # what jobs share is its tail, which is written once; `key` puts the head of each job before it.
        tail = {
            "parameters": {name: resolved.value for name, resolved in parameters.items()},
            "recipe": recipe.name,
            "version": recipe.version,
        }
        self._tail = json_text(tail)[1:]  # without the opening brace

    def key(self, inputs: Sequence[JobInput], detectors: Sequence[str] = ()) -> str:
        """Return the key of a job with these inputs.

        Parameters
        ----------
        inputs : sequence of JobInput
            All inputs. Those of one role keep their order, since the order of a stack's frames says which is the
            reference.
        detectors : sequence of str, optional
            Digests of what instrument files say about the frames' detectors.

        Returns
        -------
        str
            Hexadecimal sha256.
        """
        roles: dict[str, list[str]] = {}
        for item in inputs:
            roles.setdefault(item.role, []).append(item.identity)
        head = json_text({"detectors": sorted(set(detectors)), "inputs": roles})[:-1]
        return hashlib.sha256(f"{head},{self._tail}".encode()).hexdigest()
