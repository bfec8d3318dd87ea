"""The side of a fork: one job's function is called, and what it gives or raises is told."""

import faulthandler
import logging
import sys
import traceback
from typing import Any

from ccdflow.archive.digest import DamagedFrameError
from ccdflow.archive.registry.jobs.records import find_job
from ccdflow.recipes.kernels.threads import at_most
from ccdflow.tasks.inputs import read_inputs
from ccdflow.tasks.processes.keeper import Call
from ccdflow.tasks.workspace import open_workspace

Answer = tuple[Any, ...]
"""``done`` with the result; ``failed`` with the type of the exception and its text; ``damaged`` with path and reason of
a raw file; ``machine`` with number and text of the system's error."""


def answer_of(call: Call) -> Answer:
    """Call the recipe of a job.

    Parameters
    ----------
    call : Call
        The job.

    Returns
    -------
    tuple
        What came of it; whatever is raised is caught and told.
    """
    faulthandler.enable()
    space = open_workspace(call.project)
    job = space.registry.read(find_job, call.key)
    if job is None:
        return "failed", "KeyError", f"no job {call.key!r} in the registry"
    recipe = space.recipes[job.recipe]
    inputs = read_inputs(space, job).recipe_inputs
    values = {name: resolved["value"] for name, resolved in job.parameters.items()}
    parameters = recipe.parameters.model_validate(values)
    # From here on: what we log ourselves is not the function's.
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        with at_most(call.cores):
            return "done", recipe.run(inputs, parameters)
    except DamagedFrameError as error:
        return "damaged", str(error.path), error.reason
    # SystemExit, and a KeyboardInterrupt of the function's own, are ends of its job and of nothing else.
    except BaseException as error:
        traceback.print_exc()
        if isinstance(error, OSError) and error.errno is not None:
            return "machine", error.errno, str(error), type(error).__name__
        return "failed", type(error).__name__, str(error)
