"""Work done again though nothing has changed: of a night, a camera, a set, a product, or all that a frame went into."""

from collections.abc import Sequence

from ccdflow.archive.registry.jobs import JobFilter, find_jobs, keys_like, reopen_failed
from ccdflow.archive.registry.lineage import keys_of_frames, lineage
from ccdflow.archive.registry.productchanges import lose_products
from ccdflow.archive.registry.products import ProductFilter, find_product, find_products
from ccdflow.archive.registry.sets import SetFilter, find_sets
from ccdflow.tasks.workspace import Workspace


def make_again(
    space: Workspace,
    names: Sequence[str] = (),
    *,
    night: str | None = None,
    camera: str | None = None,
    step: str | None = None,
    below: bool = False,
) -> list[str]:
    """Let jobs be done again at the next run; gives their keys. Their files stay until they are replaced.

    Parameters
    ----------
    names : sequence of str
        A raw frame (``f12``: all that was made with it), a set (``s3``), a product (``p7``), or the key of a job or its
        beginning; without any, all jobs of `night`, `camera` and `step`.
    night, camera, step : str, optional
        Only jobs of this night, camera (CAMERA or TELESCOPE/CAMERA) and task of the cascade.
    below : bool
        Also all that took their products.

    Raises
    ------
    ValueError
        If nothing is called so, or nothing was chosen at all.
    """
    if not names and night is None and camera is None and step is None:
        raise ValueError("nothing was chosen to be made again; wanted names, a night, a camera or a task")
    named = {key for name in names for key in keys_of(space, name)}
    chosen = JobFilter(night=night, camera=camera, step=step, keys=named if names else None)
    wanted = {job.key for job in space.registry.read(find_jobs, chosen)}
    if below or any(name[:1] == "f" and name[1:].isdigit() for name in names):
        wanted |= {job.key for job in space.registry.read(lineage, wanted, up=False)}
    found = space.registry.read(find_products, ProductFilter(job_keys=wanted))
    space.registry.write(lose_products, [one.id for one in found], "asked to be made again")
    return sorted({one.job_key for one in found})


def try_again(space: Workspace, *, night: str | None = None, camera: str | None = None) -> list[str]:
    """Let jobs that have failed be tried again, however often that was; gives their keys."""
    failed = space.registry.read(find_jobs, JobFilter(states=("failed",), night=night, camera=camera))
    return space.registry.write(reopen_failed, [job.key for job in failed])


def keys_of(space: Workspace, name: str) -> set[str]:
    """Keys of the jobs that a name stands for.

    Raises
    ------
    ValueError
        If nothing, or more than one job, is called so.
    """
    letter, number = name[:1], name[1:]
    if letter not in "fsp" or not number.isdigit():
        return {_key(space, name)}
    identity = int(number)
    if letter == "f":
        found = space.registry.read(keys_of_frames, [identity])
    elif letter == "p":
        product = space.registry.read(find_product, identity)
        found = {product.job_key} if product is not None else set()
    else:
        products = [
            one.product_id for one in space.registry.read(find_sets, SetFilter(ids=[identity], status=None))
        ]
        made = space.registry.read(
            find_products, ProductFilter(ids=[one for one in products if one is not None])
        )
        found = {one.job_key for one in made}
    if not found:
        raise ValueError(f"nothing was made of {name!r}; wanted f12, s3, p7 or a job's key")
    return found


def _key(space: Workspace, beginning: str) -> str:
    found = space.registry.read(keys_like, beginning)
    if len(found) != 1:
        told = "no job" if not found else f"{len(found)} jobs"
        raise ValueError(f"{told} of the key {beginning!r}; wanted f12, s3, p7 or a job's key")
    return found[0]
