"""Where the inputs of a job lie: one short transaction before each job."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, select

from ccdflow.archive.models import Frame, JobInput, Product, table


@dataclass(frozen=True)
class FrameFile:
    """The file of a frame; `size` and `changed_ns`, as they were registered, tell whether it was touched since.

    They are None where another version of the file has taken the frame's place.
    """

    path: str
    frame_class: str
    size: int | None
    changed_ns: int | None


@dataclass(frozen=True)
class Sources:
    """Files of frames by id; paths of products in the store by identity: KEY of a job for its first, KEY:CATEGORY."""

    frames: Mapping[int, FrameFile]
    products: Mapping[str, str]


def sources(connection: Connection, key: str) -> Sources:
    """Where the inputs of a job lie; products that are not there are left out."""
    found: dict[str, str] = {}
    for job, category, path in connection.execute(_PRODUCTS, {"its_key": key}):
        found.setdefault(job, path)
        found[f"{job}:{category}"] = path
    files = {
        number: FrameFile(path or "", kind, None if status == "superseded" else size, changed_ns)
        for number, path, kind, status, size, changed_ns in connection.execute(_FRAMES, {"its_key": key})
    }
    return Sources(files, found)


_INPUT, _FRAME, _PRODUCT = table(JobInput).c, table(Frame).c, table(Product).c
_FRAMES = (
    select(_FRAME.id, _FRAME.path, _FRAME["class"], _FRAME.status, _FRAME.size, _FRAME.changed_ns)
    .join_from(table(JobInput), table(Frame), _FRAME.id == _INPUT.frame_id)
    .where(_INPUT.job_key == bindparam("its_key"))
)
_PRODUCTS = (
    select(_PRODUCT.job_key, _PRODUCT.category, _PRODUCT.path)
    .join_from(table(JobInput), table(Product), _PRODUCT.job_key == _INPUT.parent_job_key)
    .where(_INPUT.job_key == bindparam("its_key"), _PRODUCT.state == "done")
    .order_by(_PRODUCT.id)
)
