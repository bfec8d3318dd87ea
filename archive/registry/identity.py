"""The id of an archive: its registry has it, and the folder of its products carries it too."""

import uuid

from sqlalchemy import Connection, select

from ccdflow.archive.registry.bulk import inserting_new
from ccdflow.archive.registry.database import now
from ccdflow.archive.registry.tables import ArchiveRow, table

THIS = "this"
"""The only row that there is."""


def archive_id(connection: Connection) -> str:
    """Return the id of the archive.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.

    Returns
    -------
    str
        A UUID; empty where no command that writes has given it one yet.
    """
    statement = select(ArchiveRow.id).where(ArchiveRow.name == THIS)
    return connection.execute(statement).scalar_one_or_none() or ""


def keep_archive_id(connection: Connection, wanted: str = "") -> str:
    """Return the id of the archive, and give it one where it has none.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    wanted : str
        The id that it is to have where it has none; without, one that no other has.

    Returns
    -------
    str
        Its id. Of two programs that do this at once, both get the same.
    """
    row = {"name": THIS, "id": wanted or str(uuid.uuid4()), "since": now()}
    connection.execute(inserting_new(connection, table(ArchiveRow)), row)
    return archive_id(connection)
