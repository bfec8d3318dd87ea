"""The night that it is at the site of a project."""

from datetime import UTC, datetime

from ccdflow.cascade.headers.dates import night
from ccdflow.config.instruments import load_instruments
from ccdflow.tasks.workspace import Workspace


def site_longitude(space: Workspace) -> float:
    """Degrees east, of the project's first own instrument file that says where its telescope stands; else 0."""
    own = load_instruments(space.project.instruments, space.project.directory)
    known = [instrument.site.longitude for instrument in own]
    return next((longitude for longitude in known if longitude is not None), 0.0)


def tonight(space: Workspace) -> str:
    """Date of the evening of now, noon to noon at the site."""
    return night(datetime.now(UTC).replace(tzinfo=None).isoformat(), site_longitude(space))
