"""A whole night, or whatever is asked for: the stages one after the other."""

from collections.abc import Iterator
from contextlib import contextmanager

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from ccdflow.archive.registry.database import now
from ccdflow.archive.registry.jobs.records import ended_since
from ccdflow.cascade.planning.request import Request
from ccdflow.flows.dashboard import artifact_key, publishing
from ccdflow.flows.forms import form
from ccdflow.flows.stages import calibrate, group, ingest, run_name, science, stack, timed
from ccdflow.tasks.ingest import read_rows
from ccdflow.tasks.nightlog import night_summaries
from ccdflow.tasks.pages.markdown import plain
from ccdflow.tasks.workspace import open_workspace


@contextmanager
def without_heartbeat() -> Iterator[None]:
    """Let flows end at once: with a heartbeat each waits a second for its thread at its end."""
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield


@flow(name="nightly", flow_run_name=run_name("nightly"))
@form
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

    Raises
    ------
    StoreAwayError
        If the store is not there: then nothing is changed.
    """
    wanted = timed(request)
    # Not the request's clock, which may be of any night: what is made from now on gets its page. To the microsecond, as
    # jobs end: one that failed in the second before must be tried again.
    started = now()
    with without_heartbeat(), publishing(project) as publisher:
        space = open_workspace(project)
        space.claim_store()
        space.recover()
        read_rows(project)
        if paths:
            ingest(project, paths)
        # Each stage is a flow of its own for those who look at the dashboard; each also does what one before has left.
        failed = calibrate(project, wanted)
        failed |= science(project, wanted, started)
        group(project, wanted)
        failed |= stack(project, wanted, started)
        ended = open_workspace(project).registry.read(ended_since, started)
        summaries = night_summaries(project, wanted, set(ended.values()))
        if publisher is not None:
            publisher.tell(summaries, ended)
    for night, text in summaries.items():
        create_markdown_artifact(
            text, key=artifact_key(project, "night", night), description=plain(f"Night {night}")
        )
    return failed
