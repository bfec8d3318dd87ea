"""What the program or function of a job has written, head and tail: one text for each job, of its last attempt."""

from sqlalchemy import Connection, delete, insert, select

from ccdflow.archive.registry.database import now
from ccdflow.archive.registry.tables import JobLogRow, table

_LOG = table(JobLogRow)


def keep_log(connection: Connection, key: str, attempt: int, text: str) -> None:
    """Keep what a job has written, in place of what an earlier attempt has.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    key : str
        The job.
    attempt : int
        Which attempt it was, from 1.
    text : str
        Empty where it wrote nothing; then nothing is kept.
    """
    connection.execute(delete(_LOG).where(_LOG.c.job_key == key))
    if text:
        row = {"job_key": key, "attempt": attempt, "written": now(), "text": text}
        connection.execute(insert(_LOG), row)


def find_log(connection: Connection, key: str) -> tuple[int, str, str] | None:
    """Return what the last attempt at a job has written.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    key : str
        The job.

    Returns
    -------
    tuple or None
        Attempt, time in ISO UTC, text; None where it wrote nothing.
    """
    columns = select(_LOG.c.attempt, _LOG.c.written, _LOG.c.text).where(_LOG.c.job_key == key)
    row = connection.execute(columns).one_or_none()
    return None if row is None else (row.attempt, row.written, row.text)
