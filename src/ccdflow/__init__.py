"""Raw CCD frames to calibrated frames and stacks with honest uncertainties."""

import os
from typing import Any

__version__ = "0.2.0"

# Prefect tells its makers how it is used, unless it is told not to before it is imported. What we start inherits this.
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")


def __getattr__(name: str) -> Any:
    # Commands that only need a number of this module do not wait for what the archive imports.
    if name == "Archive":
        from ccdflow.door import Archive

        return Archive
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
