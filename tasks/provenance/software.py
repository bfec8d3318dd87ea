"""The programs that products are made with, as their headers and the registry name them."""

import platform
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version

PACKAGES = ("ccdflow", "astropy", "ccdproc", "numba", "numpy")
"""Packages that touch pixels or headers."""


@cache
def software() -> dict[str, str]:
    """Return the versions of what pixels and headers are made with.

    Returns
    -------
    dict of str to str
        Version by name: ccdflow first, then the packages, then ``python``.
    """
    return {name: version(name) for name in PACKAGES} | {"python": platform.python_version()}


def in_words(versions: Mapping[str, str]) -> str:
    """Return versions by name as one text: ``ccdflow 1.0, astropy 7.1, ...``."""
    return ", ".join(f"{name} {number}" for name, number in versions.items())
