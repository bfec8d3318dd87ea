"""Raw CCD frames to calibrated frames and stacks with honest uncertainties."""

__version__ = "0.2.0"
