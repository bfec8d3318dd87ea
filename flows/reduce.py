"""The request that comes over the web: some files, targets and parameters, in one form."""

from pathlib import Path
from typing import Any, Literal

from prefect import flow

from ccdflow.archive.registry.frames.places import frames_at
from ccdflow.archive.registry.selection import refuse_unknown
from ccdflow.cascade.planning.request import Request
from ccdflow.flows.forms import form
from ccdflow.flows.nightly import nightly, without_heartbeat
from ccdflow.flows.stages import ingest, run_name, timed
from ccdflow.tasks.pages.markdown import shortened
from ccdflow.tasks.workspace import open_workspace


@flow(name="reduce", flow_run_name=run_name("reduce"))
@form
def reduce(
    project: str,
    paths: list[str] | None = None,
    targets: list[str] | None = None,
    parameters: dict[str, Any] | None = None,
    parameter_set: str | None = None,
    night: str | None = None,
    camera: str | None = None,
    late: Literal["redo", "keep"] = "redo",
) -> dict[str, str]:
    """Register files, and make what is asked for: of these files, or without any, of all that is there.

    Parameters
    ----------
    project : str
        Directory of the project.
    paths : list of str, optional
        Files and folders whose frames are registered first; only what is made of them is made.
    targets : list of str, optional
        Tasks or tags of the cascade; without, what is tagged science.
    parameters : dict, optional
        `TASK.NAME`, or the name of a workflow parameter, to value.
    parameter_set : str, optional
        Parameter set of the cascade.
    night : str, optional
        The evening's date, 2026-03-01.
    camera : str, optional
        CAMERA or TELESCOPE/CAMERA.
    late : {'redo', 'keep'}
        What to do with products for which other calibrations would be chosen now.

    Returns
    -------
    dict
        Key of each job that failed, and the sentence that says why.
    """
    request = Request(
        targets=tuple(targets or ()),
        parameters=parameters or {},
        parameter_set=parameter_set,
        night=night,
        camera=camera,
        late=late,
        paths=tuple(str(Path(path).absolute()) for path in paths or ()),
    )
    space = open_workspace(project)
    if paths:
        with without_heartbeat():
            counts = ingest(project, paths)
        # A misspelled path must not end well.
        if not space.registry.read(frames_at, request.paths):
            found = ", ".join(f"{number} {name}" for name, number in counts.items()) or "no file"
            raise ValueError(f"there is no frame at {shortened(' '.join(paths))}: {found}")
    # Of files that are yet to be registered nobody knew the night before.
    space.registry.read(refuse_unknown, request.night, request.camera)
    # A flow in a flow: the dashboard shows the stages below the request that asked for them.
    return nightly(project, None, timed(request))
