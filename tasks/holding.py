"""A project on hold: what runs is ended, nothing is begun."""

import time

from ccdflow.archive.registry.holds import hold_in_words
from ccdflow.tasks.workspace import open_workspace

LOOK = 1.0
"""Seconds between two looks at whether a project is still on hold."""


class Holding:
    """Whether a project is on hold; asked as often as jobs are begun, it looks into the registry now and then."""

    def __init__(self, project: str) -> None:
        self.project = project
        self._looked = -LOOK
        self._held = ""

    def __call__(self) -> str:
        """Since when and why, in words; empty where jobs may be begun."""
        if time.monotonic() - self._looked >= LOOK:
            self._held = open_workspace(self.project).registry.read(hold_in_words)
            self._looked = time.monotonic()
        return self._held

    def wait(self) -> bool:
        """True, as soon as jobs may be begun."""
        while self():
            time.sleep(LOOK)
        return True
