"""Work done again though nothing has changed: of a night, a camera, a set, a product, or all that a frame went into."""

from collections.abc import Sequence

from ccdflow.archive.registry.jobs.lineage import keys_of_frames, lineage
from ccdflow.archive.registry.jobs.productchanges import lose_products
from ccdflow.archive.registry.jobs.products import ProductFilter, find_product, find_products
from ccdflow.archive.registry.jobs.records import JobFilter, find_jobs, keys_like, reopen_failed
from ccdflow.archive.registry.sets.records import SetFilter, find_sets
from ccdflow.cascade.plain import is_id
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
    """Let jobs be done again at the next run. Their files stay until they are replaced.

    Parameters
    ----------
    space : Workspace
        The project.
    names : sequence of str
        A raw frame (``f12``: all that was made with it), a set (``s3``), a product (``p7``), or the key of a job or its
        beginning; without any, all jobs of `night`, `camera` and `step`.
    night, camera, step : str, optional
        Only jobs of this night, camera (CAMERA or TELESCOPE/CAMERA) and task of the cascade.
    below : bool
        Also all that took their products.

    Returns
    -------
    list of str
        Keys of the jobs, sorted.

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
    if below or any(name[:1] == "f" and is_id(name[1:]) for name in names):
        wanted |= {job.key for job in space.registry.read(lineage, wanted, up=False)}
    # A job is planned anew where its products are not there; jobs that were never done need no asking.
    products = space.registry.read(find_products, ProductFilter(job_keys=wanted))
    ids = [product.id for product in products]
    space.registry.write(lose_products, ids, "asked to be made again", unwanted=True)
    return sorted({product.job_key for product in products})


def try_again(space: Workspace, *, night: str | None = None, camera: str | None = None) -> list[str]:
    """Let jobs that have failed be tried again, however often that was.

    Parameters
    ----------
    space : Workspace
        The project.
    night, camera : str, optional
        Only jobs of this night and camera (CAMERA or TELESCOPE/CAMERA).

    Returns
    -------
    list of str
        Their keys.
    """
    failed = space.registry.read(find_jobs, JobFilter(states=("failed",), night=night, camera=camera))
    return space.registry.write(reopen_failed, [job.key for job in failed])


def keys_of(space: Workspace, name: str) -> set[str]:
    """Return the jobs that a name stands for.

    Parameters
    ----------
    space : Workspace
        The project.
    name : str
        A raw frame (``f12``), a set (``s3``), a product (``p7``), or the key of a job or its beginning.

    Returns
    -------
    set of str
        Keys of jobs, at least one.

    Raises
    ------
    ValueError
        If nothing, or more than one job, is called so.
    """
    letter, number = name[:1], name[1:]
    # A key may begin with f, too. It is taken for a frame only where nothing but digits follows: then name more of it.
    if letter not in "fsp" or not is_id(number):
        return {_key(space, name)}
    identity = int(number)
    if letter == "f":
        keys = space.registry.read(keys_of_frames, [identity])
    elif letter == "p":
        product = space.registry.read(find_product, identity)
        keys = {product.job_key} if product is not None else set()
    else:
        sets = space.registry.read(find_sets, SetFilter(ids=[identity], status=None))
        ids = [record.product_id for record in sets if record.product_id is not None]
        keys = {product.job_key for product in space.registry.read(find_products, ProductFilter(ids=ids))}
    if not keys:
        raise ValueError(f"nothing was made of {name!r}; wanted f12, s3, p7 or a job's key")
    return keys


def _key(space: Workspace, beginning: str) -> str:
    """The one key that begins so."""
    keys = space.registry.read(keys_like, beginning)
    if len(keys) != 1:
        told = "no job" if not keys else f"{len(keys)} jobs"
        raise ValueError(f"{told} of the key {beginning!r}; wanted f12, s3, p7 or a job's key")
    return keys[0]
