"""Which frame or product has a file: looked up by its path, whatever else there is."""

from sqlalchemy import Connection, select, text

from ccdflow.archive.registry.tables import CURRENT, FrameRow, ProductRow, table

_FRAME, _PRODUCT = table(FrameRow).c, table(ProductRow).c


def frame_of_file(connection: Connection, path: str) -> int | None:
    """Return the frame that a file is registered as now.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    path : str
        Absolute.

    Returns
    -------
    int or None
        Its id; None where no frame has the file.
    """
    # Spelt as the index of current files has it, or neither database would use it.
    statement = select(_FRAME.id).where(_FRAME.path == path, text(CURRENT)).limit(1)
    return connection.execute(statement).scalar_one_or_none()


def product_of_file(connection: Connection, path: str) -> int | None:
    """Return the product that a file holds.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    path : str
        Its place in the store.

    Returns
    -------
    int or None
        The newest's id, rather one that is there; None where no product has the file.
    """
    there_first = (_PRODUCT.state != "done", _PRODUCT.superseded_by.is_not(None), _PRODUCT.id.desc())
    statement = select(_PRODUCT.id).where(_PRODUCT.path == path).order_by(*there_first).limit(1)
    return connection.execute(statement).scalar_one_or_none()
