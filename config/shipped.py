"""The files that come with ccdflow."""

from importlib.resources import files
from pathlib import Path


def shipped(kind: str) -> Path:
    """Folder of the YAML files of one kind, ``cascades`` or ``instruments``, that come with ccdflow."""
    return Path(str(files("ccdflow.config"))) / kind
