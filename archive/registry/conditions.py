"""Conditions that frames, jobs and products are asked for by alike."""

from sqlalchemy import ColumnElement, and_, or_

from ccdflow.archive.registry.tables import FrameRow, JobRow, ProductRow


def is_of_camera(row: type[FrameRow | JobRow | ProductRow], name: str) -> ColumnElement[bool]:
    """Return the condition that a row is of a camera.

    Parameters
    ----------
    row : type
        Rows of which table.
    name : str
        CAMERA or TELESCOPE/CAMERA.

    Returns
    -------
    ColumnElement of bool
        The condition.
    """
    telescope, _, camera = name.rpartition("/")
    # The whole name may be the camera's too: one whose own name has a stroke in it.
    return or_(row.camera == name, and_(row.telescope == telescope, row.camera == camera))


def since_night(row: type[JobRow | ProductRow], night: str) -> ColumnElement[bool]:
    """Return the condition that a job or product is of a night or a later one, or of frames of several nights.

    Parameters
    ----------
    row : type
        Rows of which table.
    night : str
        The earliest night, as ``2026-03-01``.

    Returns
    -------
    ColumnElement of bool
        The condition. What was made of several nights has a blank for its night, and may always be needed.
    """
    return or_(row.night >= night, row.night == "")
