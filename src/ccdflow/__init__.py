"""Raw CCD frames to calibrated frames and stacks with honest uncertainties."""

import os

__version__ = "0.2.0"

# Prefect tells its makers how it is used, unless it is told not to before it is imported. What we start inherits this.
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
