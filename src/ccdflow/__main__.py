"""``python -m ccdflow`` is the command `ccdflow`."""

from ccdflow.cli import main

main()
