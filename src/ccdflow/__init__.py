"""Raw CCD frames to calibrated frames and stacks with honest uncertainties."""


def __getattr__(name: str) -> str:
    """``__version__``, looked for when it is asked for: that takes a tenth of a short command's start."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import version

    return version("ccdflow")
