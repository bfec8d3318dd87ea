"""The source distribution holds the tree as the repository has it; all else stands in pyproject.toml."""

import os
from pathlib import Path
from shutil import rmtree

from setuptools import setup
from setuptools.command.sdist import sdist


class WithLinks(sdist):
    """Put links where the package links to the top-level folders: setuptools would copy what they point to."""

    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        """Make the tree, and each folder that is a link here a link there."""
        super().make_release_tree(base_dir, files)
        for link in Path("src/ccdflow").iterdir():
            if link.is_symlink():
                copy = Path(base_dir, link)
                rmtree(copy)
                copy.symlink_to(os.readlink(link))


setup(cmdclass={"sdist": WithLinks})
