"""The files that come with ccdflow."""

from importlib.resources import files
from pathlib import Path


def shipped(kind: str) -> Path:
    """Return the folder of the YAML files of one kind that come with ccdflow.

    Parameters
    ----------
    kind : str
        ``cascades`` or ``instruments``.
    """
    return Path(str(files("ccdflow.config"))) / kind
