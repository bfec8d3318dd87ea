"""Where the inputs of a job lie: one short transaction before each job."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace

from sqlalchemy import Connection, bindparam, select

from ccdflow.archive.registry.bulk import batches
from ccdflow.archive.registry.frames.amendments import Amendment, find_amendments
from ccdflow.archive.registry.jobs.records import JobRecord
from ccdflow.archive.registry.tables import FrameRow, ProductRow, table


@dataclass(frozen=True)
class FrameFile:
    """The file of a frame; `size` and `changed_ns`, as they were registered, tell whether it was touched since.

    Of a frame that is superseded, whose place another one has taken, `size` is None. `obsdate` (ISO, UTC) and `exptime`
    (seconds, None where unknown) are those that count, whatever the header says.
    `amended` is what was corrected of the frame.
    """

    path: str
    frame_class: str
    size: int | None
    changed_ns: int | None
    obsdate: str = ""
    exptime: float | None = None
    amended: tuple[Amendment, ...] = ()


@dataclass(frozen=True)
class Sources:
    """Files of frames by id; paths of products in the store by identity: KEY of a job for its first, KEY:CATEGORY."""

    frames: Mapping[int, FrameFile]
    products: Mapping[str, str]


def find_sources(connection: Connection, job: JobRecord) -> Sources:
    """Return where the inputs of a job lie.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    job : JobRecord
        The job, as its worker began it: its inputs may have been pointed to other rows since.

    Returns
    -------
    Sources
        The files; products that are not there are left out.
    """
    files: dict[int, FrameFile] = {}
    for ids in batches(sorted({taken.frame for taken in job.inputs if taken.frame is not None})):
        amended: dict[int, list[Amendment]] = defaultdict(list)
        for amendment in find_amendments(connection, ids):
            amended[amendment.frame].append(amendment)
        for number, path, kind, status, size, *rest in connection.execute(_FRAMES, {"frames": ids}):
            file = FrameFile(path or "", kind, None if status == "superseded" else size, *rest)
            files[number] = replace(file, amended=tuple(amended[number]))
    products: dict[str, str] = {}
    for keys in batches(sorted({taken.job for taken in job.inputs if taken.job is not None})):
        for key, category, path in connection.execute(_PRODUCTS, {"jobs": keys}):
            # In the order of ids, which is that of the recipe's outputs: the first stands for the job itself.
            products.setdefault(key, path)
            products[f"{key}:{category}"] = path
    return Sources(files, products)


_FRAME, _PRODUCT = table(FrameRow).c, table(ProductRow).c
_FRAMES = select(
    *(_FRAME.id, _FRAME.path, _FRAME["class"], _FRAME.status, _FRAME.size, _FRAME.changed_ns),
    *(_FRAME.obsdate, _FRAME.exptime),
).where(_FRAME.id.in_(bindparam("frames", expanding=True)))
_PRODUCTS = (
    select(_PRODUCT.job_key, _PRODUCT.category, _PRODUCT.path)
    .where(_PRODUCT.job_key.in_(bindparam("jobs", expanding=True)), _PRODUCT.state == "done")
    .order_by(_PRODUCT.id)
)
