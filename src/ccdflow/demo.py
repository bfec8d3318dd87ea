"""Show a simulated night from raw frames to stacks: what `make demo` runs."""

import shutil
import sys
import time
from pathlib import Path

from ccdflow import cli
from ccdflow.commands.output import console
from ccdflow.commands.previews import write_previews


def main(directory: Path) -> None:
    """Simulate a small night, reduce it, print what was made and draw it.

    Parameters
    ----------
    directory : Path
        Where to; what an earlier demonstration has left there is deleted first.
    """
    started = time.perf_counter()
    for part in ("night", "project", "previews"):
        shutil.rmtree(directory / part, ignore_errors=True)
    project = directory / "project"
    # The very commands that a user would type, so that the demonstration can't show what does not work.
    for words in (
        ["simulate", str(directory / "night"), "--night", "small"],
        ["init", str(project)],
        ["-C", str(project), "run", str(directory / "night")],
        ["-C", str(project), "list", "products"],
        ["-C", str(project), "list", "sets"],
    ):
        console().print(f"\n[bold]$ ccdflow {' '.join(words)}[/bold]")
        code = cli.app(words, standalone_mode=False)
        if code:
            sys.exit(code)
    drawn = write_previews(project, directory / "previews")
    console().print(f"\nPictures: {', '.join(str(path) for path in drawn)}")
    console().print(f"Done in {time.perf_counter() - started:.0f} s.")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))
