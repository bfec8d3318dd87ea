"""A project on hold: what runs is finished, nothing is begun."""

import time

from ccdflow.archive.registry.holds import hold_in_words
from ccdflow.tasks.workspace import open_workspace

HOLD_LOOK_S = 1.0
"""Seconds between two looks at whether a project is still on hold."""


class Holding:
    """Tells whether a project is on hold; asked as often as jobs are begun, it looks into the registry now and then.

    Parameters
    ----------
    project : str
        Directory of the project.
    """

    def __init__(self, project: str) -> None:
        self.project = project
        self._looked = -HOLD_LOOK_S
        self._held = ""

    def __call__(self) -> str:
        """Return since when and why, in words; empty where jobs may be begun."""
        if time.monotonic() - self._looked >= HOLD_LOOK_S:
            self._held = open_workspace(self.project).registry.read(hold_in_words)
            self._looked = time.monotonic()
        return self._held

    def wait(self) -> bool:
        """Return true, as soon as jobs may be begun."""
        while self():
            time.sleep(HOLD_LOOK_S)
        return True
