"""A whole night, or whatever is asked for: the stages one after the other."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from ccdflow.cascade.plan import Request
from ccdflow.flows.stages import calibrate, group, ingest, run_name, science, stack, timed
from ccdflow.tasks.planning import recover
from ccdflow.tasks.summary import night_summaries


@contextmanager
def without_heartbeat() -> Iterator[None]:
    """Flows end at once: with a heartbeat each waits a second for its thread at its end."""
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield


def artifact_key(project: str, night: str) -> str:
    """Name of a night's artifact on the server: letters, digits and hyphens, one for each project and night."""
    words = re.sub(r"[^a-z0-9]+", "-", Path(project).name.lower()).strip("-")
    return "-".join(word for word in (words, "night", night) if word)


@flow(name="nightly", flow_run_name=run_name("nightly"))
def nightly(project: str, paths: list[str] | None = None, request: Request | None = None) -> dict[str, str]:
    """Raw frames to stacks: ingest, calibrate, science, group, stack; then a summary of each night.

    Parameters
    ----------
    project : str
        Directory of the project.
    paths : list of str, optional
        Files and folders whose frames are registered first.
    request : Request, optional
        Targets, parameters and selection; without it, everything.

    Returns
    -------
    dict
        Key of each job that failed, and the sentence that says why.
    """
    wanted = timed(request)
    with without_heartbeat():
        recover(project)
        if paths:
            ingest(project, paths)
        failed = calibrate(project, wanted)
        failed |= science(project, wanted, failed)
        group(project, wanted)
        failed |= stack(project, wanted, failed)
    for night, text in night_summaries(project, wanted).items():
        create_markdown_artifact(text, key=artifact_key(project, night), description=f"Night {night}")
    return failed
