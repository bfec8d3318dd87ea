"""Raw CCD frames to calibrated frames and stacks with honest uncertainties."""

from importlib.metadata import version

__version__ = version("ccdflow")
