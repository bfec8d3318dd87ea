"""Pause and go on, from the browser."""

from prefect import flow, get_run_logger

from ccdflow.archive.registry.holds import hold_in_words, put_hold, release_hold
from ccdflow.flows.forms import form
from ccdflow.flows.stages import run_name
from ccdflow.tasks.workspace import open_workspace


@flow(name="pause", flow_run_name=run_name("pause"))
@form
def pause(project: str, reason: str = "") -> str:
    """Begin no job from now on; those that run are ended, frames are registered as ever.

    Parameters
    ----------
    project : str
        Directory of the project.
    reason : str
        Why, for those who wonder.
    """
    registry = open_workspace(project).registry
    registry.write(put_hold, reason)
    get_run_logger().info(registry.read(hold_in_words))
    return registry.read(hold_in_words)


@flow(name="resume", flow_run_name=run_name("resume"))
@form
def resume(project: str) -> bool:
    """Begin jobs again; false where nothing was on hold. The next sweep does what is due.

    Parameters
    ----------
    project : str
        Directory of the project.
    """
    return open_workspace(project).registry.write(release_hold)
