"""Raw CCD frames to calibrated frames and stacks with honest uncertainties."""

__version__ = "0.1.0"
