"""What the Prefect server shows of a night: artifacts that are written anew as the night goes on."""

import json
import re
from collections.abc import Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from pathlib import Path
from time import monotonic
from typing import Any, cast
from uuid import UUID

import httpx
from prefect import get_run_logger
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.orchestration import get_client

from ccdflow.archive.registry.jobs.products import ProductFilter, find_products
from ccdflow.flows.server import impatient, is_embedded
from ccdflow.tasks.nightlog import (
    LISTED_FRAMES,
    MOST_NIGHTS,
    cameras_of,
    night_page,
    observing_log,
    stack_page,
    unreadable,
)
from ccdflow.tasks.pages.markdown import plain, shortened
from ccdflow.tasks.workspace import open_workspace

PAGES_EVERY_S = 60.0
"""Seconds between two writings of the same pages while a drain is at work."""
PAGES_SHARE = 0.1
"""Part of the time at most that goes into pages: those of a night of 100,000 frames take a few seconds."""
MOST_STACKS = 200
"""Stacks of one flow run that have a page: each holds a picture of some 100 kB, and the server's database keeps it."""
LONGEST_KEY = 200
"""Characters of an artifact's name: of an object whose name is a novel the beginning does."""


def artifact_key(project: str, *words: str) -> str:
    """Return the name of an artifact on the server.

    Parameters
    ----------
    project : str
        Directory of the project, whose name comes first.
    *words : str
        What the artifact shows.

    Returns
    -------
    str
        Small letters, digits and hyphens, which is all that the server takes.
    """
    text = " ".join([Path(project).name, *words]).lower()
    return re.sub(r"[^a-z0-9]+", "-", text).strip("-")[:LONGEST_KEY].rstrip("-")


class Pages:
    """The artifacts of one flow run. Each is made once, and then changed in its place.

    A new one each minute, as Prefect's own functions make it, would leave all former ones in the server's database.
    """

    def __init__(self) -> None:
        self._ids: dict[str, UUID] = {}

    def write(self, key: str, content: str | list[dict[str, Any]], description: str) -> None:
        """Write a page, or write it anew.

        Parameters
        ----------
        key : str
            Name of the artifact, as `artifact_key` makes it.
        content : str or list of dict
            Markdown, or the rows of a table.
        description : str
            Plain text.
        """
        told = plain(shortened(description))
        if key in self._ids and self._changed(key, content, told):
            return
        if isinstance(content, str):
            made = create_markdown_artifact(content, key=key, description=told)
        else:
            made = create_table_artifact(content, key=key, description=told)
        # Where no event loop runs, as here, Prefect's function waits, and gives no coroutine.
        self._ids[key] = cast(UUID, made)

    def _changed(self, key: str, content: str | list[dict[str, Any]], description: str) -> bool:
        """Whether the artifact was there to be changed: people delete them."""
        data = content if isinstance(content, str) else json.dumps(content)
        # Not the client's own function for this, which sends an event that holds the whole content.
        try:
            with get_client(sync_client=True) as client:
                body, place = {"data": data, "description": description}, {"id": self._ids[key]}
                client.request("PATCH", "/artifacts/{id}", path_params=place, json=body)
        except httpx.HTTPStatusError as error:
            if error.response.status_code != httpx.codes.NOT_FOUND:
                raise
            return False
        return True


def publish_nights(project: str, nights: Collection[str], pages: Pages) -> None:
    """Write the observing log and the page of each camera and night.

    Parameters
    ----------
    project : str
        Directory of the project.
    nights : collection of str
        ISO dates of the evenings; of very many the last.
    pages : Pages
        Where they are written.
    """
    space = open_workspace(project)
    # Frames without a night stand on no night's page, so they have one of their own.
    if refused := unreadable(space):
        told = "Frames of which not even the night is known"
        pages.write(artifact_key(project, "unreadable"), refused, told)
    for night in sorted(nights)[-MOST_NIGHTS:]:
        for telescope, camera in cameras_of(space, night):
            name = "/".join(word for word in (telescope, camera) if word)
            log = observing_log(space, night, name)
            told = f"{name}, night {night}"
            last = f" (the last {LISTED_FRAMES} of {len(log)} frames)" if len(log) > LISTED_FRAMES else ""
            rows = log[-LISTED_FRAMES:]
            pages.write(artifact_key(project, "log", night, name), rows, f"Observing log: {told}{last}")
            page = night_page(space, night, name, log)
            pages.write(artifact_key(project, "camera", night, name), page, told)


def publish_stacks(project: str, keys: Collection[str], pages: Pages, most: int) -> int:
    """Write a page with picture and numbers for each stack that these jobs made.

    Parameters
    ----------
    project : str
        Directory of the project.
    keys : collection of str
        Keys of jobs; those that made no stack are passed over.
    pages : Pages
        Where they are written.
    most : int
        Of more stacks the last ones are shown.

    Returns
    -------
    int
        How many were written.
    """
    space = open_workspace(project)
    made = [
        product
        for product in space.registry.read(find_products, ProductFilter(job_keys=keys))
        if product.category == "stack"
    ]
    shown = sorted(made, key=lambda product: product.obsdate)[-most:] if most > 0 else []
    for product in shown:
        words = product.telescope, product.camera, product.object, product.filter
        told = " ".join(word for word in words if word)
        key = artifact_key(project, "stack", product.night, told, product.obsdate[11:19])
        description = f"Stack p{product.id}: {told}, {product.night}"
        pages.write(key, stack_page(space, product), description)
    return len(shown)


class Publisher:
    """Writes pages beside the work of a flow run, one set of them at a time, and never stops that work.

    Parameters
    ----------
    project : str
        Directory of the project.
    """

    def __init__(self, project: str) -> None:
        self.project = project
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="publish")
        self._running: Future[None] | None = None
        self._nights: set[str] = set()
        self._stacks: set[str] = set()
        self._next = 0.0
        self._pages = Pages()
        self._stacks_shown = 0

    def tell(self, nights: Collection[str], stacks: Collection[str]) -> None:
        """Note what has changed; pages are written now and then.

        Parameters
        ----------
        nights : collection of str
            Nights of which frames or products have changed.
        stacks : collection of str
            Keys of jobs that have made stacks.
        """
        self._nights |= {night for night in nights if night}
        self._stacks |= set(stacks)
        # What comes while pages are written goes into the next ones.
        busy = self._running is not None and not self._running.done()
        if not busy and monotonic() >= self._next:
            self._write()

    def _write(self) -> None:
        nights, self._nights = self._nights, set()
        stacks, self._stacks = self._stacks, set()
        if nights or stacks:
            # Prefect knows by context variables of which flow run an artifact is; a thread begins without any.
            in_this_run = copy_context().run
            self._running = self._pool.submit(in_this_run, self._publish, nights, stacks)

    def _publish(self, nights: Collection[str], stacks: Collection[str]) -> None:
        began = monotonic()
        try:
            with impatient():
                self._publish_to(nights, stacks)
        except Exception as error:  # a page is not worth a frame: the next one tells what this one would have
            get_run_logger().warning(f"a page of the dashboard was not written: {error}")
        took = monotonic() - began
        self._next = began + max(PAGES_EVERY_S, took / PAGES_SHARE)

    def _publish_to(self, nights: Collection[str], stacks: Collection[str]) -> None:
        left = MOST_STACKS - self._stacks_shown
        self._stacks_shown += publish_stacks(self.project, stacks, self._pages, left)
        publish_nights(self.project, nights, self._pages)

    def close(self) -> None:
        """Write what is left, and wait for it."""
        if self._running is not None:
            self._running.result()
        self._write()
        self._pool.shutdown()


@contextmanager
def publishing(project: str) -> Iterator[Publisher | None]:
    """Give a publisher for the run of a flow, and let it write what is left at the end.

    Parameters
    ----------
    project : str
        Directory of the project.

    Yields
    ------
    Publisher or None
        None on an embedded server, which nobody looks at.
    """
    if is_embedded():
        yield None
        return
    publisher = Publisher(project)
    try:
        yield publisher
    finally:
        publisher.close()
