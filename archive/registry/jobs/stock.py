"""Products by their files: which should be in the store, and which are known again once their files are back."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, and_, func, or_, select, update

from ccdflow.archive.registry.bulk import batches
from ccdflow.archive.registry.conditions import since_night
from ccdflow.archive.registry.database import now
from ccdflow.archive.registry.frames.stages import StageState, set_stages, stage_states
from ccdflow.archive.registry.jobs.lineage import main_frames
from ccdflow.archive.registry.tables import JobRow, ProductRow

IDLE = ("planned", "incomplete", "failed")
"""States of a job on which nobody works, and whose products need not be made where they are there after all."""


@dataclass(frozen=True)
class StockRow:
    """A product by its file: path relative to the store, digest, size in bytes, time of its last change (ctime, ns)."""

    id: int
    job_key: str
    path: str
    sha256: str | None
    size: int | None
    changed_ns: int | None
    state: str


_COLUMNS = [getattr(ProductRow, name) for name in StockRow.__annotations__]


def stock_rows(
    connection: Connection,
    from_night: str | None = None,
    keys: Collection[str] | None = None,
    *,
    superseded: bool = False,
) -> list[StockRow]:
    """Return the products that should be there, and those whose files would count if they came back.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    from_night : str, optional
        ISO date of the first night; without it, all.
    keys : collection of str, optional
        Only products of jobs with these keys.
    superseded : bool
        Also of products that have given way to others those that are missing: an old archive has thrown away many.

    Returns
    -------
    list of StockRow
        The products, by id.
    """
    lost = [ProductRow.state == "missing", ~ProductRow.unwanted, ProductRow.sha256.is_not(None)]
    lost += [] if superseded else [ProductRow.superseded_by.is_(None)]
    tests = [or_(ProductRow.state == "done", and_(*lost))]
    if from_night is not None:
        tests.append(since_night(ProductRow, from_night))
    parts = [[]] if keys is None else [[ProductRow.job_key.in_(part)] for part in batches(sorted(keys))]
    statements = (select(*_COLUMNS).where(*tests, *part) for part in parts)
    rows = [StockRow(*row) for statement in statements for row in connection.execute(statement)]
    return sorted(rows, key=lambda row: row.id)


def sample_of_stock(connection: Connection, number: int) -> list[StockRow]:
    """Return some of the products that should be there, spread over all of them.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    number : int
        How many at most.

    Returns
    -------
    list of StockRow
        Fewer where there are fewer.
    """
    there = ProductRow.state == "done"
    count = connection.execute(select(func.count()).select_from(ProductRow).where(there)).scalar_one()
    step = max(1, count // number)
    statement = select(*_COLUMNS).where(there).order_by(ProductRow.id)
    rows = [
        connection.execute(statement.limit(1).offset(place)).one() for place in range(0, count, step)[:number]
    ]
    return [StockRow(*row) for row in rows]


def half_lost(connection: Connection, keys: Collection[str], back: Collection[int]) -> set[str]:
    """Return those of some jobs of which a product is missing still, whatever has come back.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    keys : collection of str
        Keys of the jobs.
    back : collection of int
        Ids of the products that are there again.

    Returns
    -------
    set of str
        Their keys.
    """
    keys_of: set[str] = set()
    for part in batches(sorted(keys)):
        missing = ProductRow.job_key.in_(part), ProductRow.state == "missing"
        rows = connection.execute(select(ProductRow.job_key, ProductRow.id).where(*missing))
        keys_of |= {key for key, identity in rows if identity not in back}
    return keys_of


def regain_products(
    connection: Connection, changed: Mapping[int, int], stages: Mapping[str, str]
) -> list[str]:
    """Record that files of products are there again, as they were written, and that the jobs which made them are done.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    changed : mapping of int to int
        By id of a product, the time of its file's last change in nanoseconds since 1970-01-01 UTC.
    stages : mapping of str to str
        The stage of each step; a step that is not in it is its own stage.

    Returns
    -------
    list of str
        Keys of the jobs that count as done again.
    """
    keys: set[str] = set()
    for identity, changed_ns in sorted(changed.items()):
        lost = update(ProductRow).where(ProductRow.id == identity, ProductRow.state == "missing")
        back = lost.values(state="done", changed_ns=changed_ns).returning(ProductRow.job_key)
        keys |= set(connection.execute(back).scalars())
    whole = sorted(keys - half_lost(connection, keys, ()))
    done: list[str] = []
    for part in batches(whole):
        # Who works on one of them meanwhile makes the same file once more.
        idle = update(JobRow).where(JobRow.key.in_(part), JobRow.state.in_(IDLE))
        as_done = idle.values(state="done", reason="", owner="", heartbeat=None, finished_at=now())
        for key, step in connection.execute(as_done.returning(JobRow.key, JobRow.step)).all():
            done.append(key)
            _done_again(connection, key, stages.get(step, step))
    return sorted(done)


def _done_again(connection: Connection, key: str, stage: str) -> None:
    """Let frames that wait for a job, or have failed in it since, be done as they were."""
    states = stage_states(connection, stage, main_frames(connection, key))
    waiting = [frame for frame, state in states.items() if state in ("waiting", "failed")]
    set_stages(connection, [StageState(frame, stage, "done") for frame in waiting])
