"""Commands that keep an archive safe: copies of its registry, its store, its version."""

from pathlib import Path
from typing import Annotated

import typer

from ccdflow import options
from ccdflow.commands.output import print_json, warn
from ccdflow.options import Json, workspace

safekeeping = typer.Typer()


@safekeeping.command()
def backup(
    file: Annotated[Path, typer.Argument(help="The copy; an earlier one is replaced.")], json: Json = False
) -> None:
    """Write the registry into one file, while all runs; products and project files are copied as files are."""
    from ccdflow.archive.registry.backup import back_up
    from ccdflow.config.project import load_project

    counts = back_up(load_project(options.directory).registry, file)
    if json:
        print_json({"file": str(file), "bytes": file.stat().st_size, **counts})
    else:
        held = ", ".join(f"{number} {name}" for name, number in counts.items())
        typer.echo(f"{held} in {file}; 'ccdflow restore' makes a registry of it")


@safekeeping.command()
def restore(
    file: Annotated[Path, typer.Argument(help="What 'ccdflow backup' has written.")],
    replace: Annotated[bool, typer.Option("--replace", help="What the registry holds now may go.")] = False,
    json: Json = False,
) -> None:
    """Make the registry that `ccdflow.yaml` names of a copy, on either kind of database."""
    from ccdflow.archive.registry.backup import restore as restored
    from ccdflow.archive.storemark import StoreAwayError
    from ccdflow.config.project import load_project

    counts = restored(load_project(options.directory).registry, file, replace=replace)
    if json:
        print_json({"file": str(file), **counts})
    else:
        held = ", ".join(f"{number} {name}" for name, number in counts.items())
        typer.echo(
            f"{held} restored; 'ccdflow verify' holds the store against them, 'ccdflow run' does the rest"
        )
    try:
        workspace(read_only=True).find_store()
    except StoreAwayError as error:
        warn(str(error))


@safekeeping.command()
def adopt(json: Json = False) -> None:
    """Say that the folder which `ccdflow.yaml` names is this project's store: it gets the mark of its archive."""
    from ccdflow.archive.storemark import read_mark
    from ccdflow.tasks.keeping.marking import adopt_store

    space = workspace()
    before = read_mark(space.store.root)
    identity = adopt_store(space.registry, space.store)
    if json:
        print_json({"store": str(space.store.root), "archive": identity, "before": before or None})
        return
    was = f", no longer of {before[:8]}" if before not in ("", identity) else ""
    typer.echo(
        f"{space.store.root} is the store of archive {identity[:8]}{was}; 'ccdflow verify' looks at its files"
    )


@safekeeping.command()
def rebuild(
    raws: Annotated[list[Path], typer.Argument(metavar="RAW...", help="Files and folders of raw frames.")],
    json: Json = False,
) -> None:
    """Make a lost registry again, of raw frames and of what the products in the store tell of themselves."""
    from ccdflow.tasks.keeping.rebuilding import rebuild as rebuilt

    report = rebuilt(workspace(), [path.absolute() for path in raws], warn)
    if json:
        print_json(report.document())
        return
    typer.echo(report.sentence())
    for path, reason in report.left.items():
        warn(f"{path} is left out: {reason}")


@safekeeping.command()
def upgrade(json: Json = False) -> None:
    """Make the registry's tables, or bring them up to date, as any command does that writes; twice is harmless."""
    from ccdflow.archive.registry.database import Database
    from ccdflow.config.project import load_project

    database = Database(load_project(options.directory).registry)
    database.upgrade()
    version = database.revision()
    database.close()
    if json:
        print_json({"version": version})
    else:
        typer.echo(f"the registry is at version {version}")
