"""The programs that we compare ourselves with: which are installed, and their versions."""

import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
from functools import cache

PROGRAMS = {
    "Siril": ("siril-cli", "--version"),
    "gnuastro": ("astarithmetic", "--version"),
    "SWarp": ("SWarp", "--version"),
    "fpack": ("fpack", "-V"),
}
"""Peer to its program and the option that prints its version."""
PACKAGES = ("ccdproc", "astropy")
"""Peers that are Python packages."""


@cache
def version(peer: str) -> str | None:
    """Version of an installed peer, ``?`` where it does not say; None if it is not installed."""
    if peer in PACKAGES:
        found = importlib.util.find_spec(peer) is not None
        return importlib.metadata.version(peer) if found else None
    program, option = PROGRAMS[peer]
    if shutil.which(program) is None:
        return None
    said = subprocess.run([program, option], capture_output=True, text=True, errors="replace", check=False)
    number = re.search(r"\d+\.\d+[\w.]*", said.stdout + said.stderr)
    return number[0] if number else "?"


def installed(peer: str) -> bool:
    """Whether a peer can be run here."""
    return version(peer) is not None


def versions() -> dict[str, str | None]:
    """All peers, with the versions of those that are installed."""
    return {peer: version(peer) for peer in (*PACKAGES, *PROGRAMS)}
