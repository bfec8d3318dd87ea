"""One job as a Prefect task: claim, read, call one recipe, write, finish."""

import os
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import sleep
from typing import Any

from prefect import task
from prefect.cache_policies import CacheKeyFnPolicy
from prefect.context import TaskRunContext
from prefect.tasks import Task

from ccdflow.archive.product import read_product
from ccdflow.cascade.jobs import Job
from ccdflow.recipes.catalogue import RECIPES
from ccdflow.recipes.detector import RawFrame
from ccdflow.recipes.recipe import Inputs, Product, Recipe, Result
from ccdflow.tasks.workspace import Workspace, open_workspace

Record = dict[str, Any]
"""What a job's task gives back: its key, and id, path and sha256 of each product."""


def job_key_of(_context: TaskRunContext, parameters: dict[str, Any]) -> str:
    """The cache key of a task run *is* the key of its job."""
    return str(parameters["key"])


def reduce_job(project: str, key: str) -> Record:
    """Do one job, unless it is done: claim it, read its inputs, call its recipe, write its products, finish."""
    space = open_workspace(project)
    with claimed(space, key) as claim:
        if claim is not None:
            done = _do(space, key)
    return space.registry.record(key)


RECIPE_TASKS: Mapping[str, Task[[str, str], Record]] = {
    name: task(
        reduce_job,
        name=name,
        persist_result=True,
        result_serializer="json",
        cache_policy=CacheKeyFnPolicy(cache_key_fn=job_key_of),
    )
    for name in RECIPES
}
