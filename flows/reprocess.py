"""Made again though nothing has changed: a night, a camera, a set, all that a frame went into; or what has failed."""

from prefect import flow, get_run_logger

from ccdflow.cascade.planning.request import Request
from ccdflow.flows.forms import form
from ccdflow.flows.nightly import nightly
from ccdflow.flows.stages import run_name, timed
from ccdflow.tasks.again import make_again, try_again
from ccdflow.tasks.workspace import open_workspace


@flow(name="reprocess", flow_run_name=run_name("reprocess"))
@form
def reprocess(
    project: str,
    names: list[str] | None = None,
    night: str | None = None,
    camera: str | None = None,
    step: str | None = None,
    below: bool = True,
) -> dict[str, str]:
    """Make products again, and then whatever is due of that night and camera.

    Parameters
    ----------
    project : str
        Directory of the project.
    names : list of str, optional
        Frames (f12: all that was made with it), sets (s3), products (p7) or keys of jobs; without any, all of the
        night, camera and step.
    night : str, optional
        The evening's date, 2026-03-01.
    camera : str, optional
        CAMERA or TELESCOPE/CAMERA.
    step : str, optional
        Task of the cascade, such as flat.
    below : bool
        Whether all that took these products is made again too.

    Returns
    -------
    dict
        Key of each job that failed, and the sentence that says why.
    """
    # What is asked for again counts as not done from here on; the night that follows does all that is not done.
    space = open_workspace(project)
    keys = make_again(space, names or (), night=night, camera=camera, step=step, below=below)
    get_run_logger().info(f"{len(keys)} jobs are done again")
    return nightly(project, None, timed(Request(night=night, camera=camera)))


@flow(name="retry", flow_run_name=run_name("retry"))
@form
def retry(project: str, night: str | None = None, camera: str | None = None) -> dict[str, str]:
    """Try jobs again that have failed, however often that was, and do whatever else is due of that night and camera.

    Parameters
    ----------
    project : str
        Directory of the project.
    night : str, optional
        The evening's date, 2026-03-01.
    camera : str, optional
        CAMERA or TELESCOPE/CAMERA.

    Returns
    -------
    dict
        Key of each job that failed again, and the sentence that says why.
    """
    keys = try_again(open_workspace(project), night=night, camera=camera)
    get_run_logger().info(f"{len(keys)} jobs that have failed are tried again")
    return nightly(project, None, timed(Request(night=night, camera=camera)))
