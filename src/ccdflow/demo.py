"""A simulated night from raw frames to stacks: what `make demo` shows."""

import shutil
import sys
import time
from pathlib import Path

from ccdflow import cli
from ccdflow.commands.output import console
from ccdflow.commands.previews import write_previews


def main(directory: Path) -> None:
    """Simulate a small night in `directory`, reduce it, print what was made and draw it."""
    started = time.perf_counter()
    for part in ("night", "project", "previews"):
        shutil.rmtree(directory / part, ignore_errors=True)
    project = directory / "project"
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
    console().print(f"\nPictures: {', '.join(str(one) for one in drawn)}")
    console().print(f"Done in {time.perf_counter() - started:.0f} s.")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))
