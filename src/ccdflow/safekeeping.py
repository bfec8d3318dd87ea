"""Commands that keep an archive safe: copies of its registry, its store, its version."""

from pathlib import Path
from typing import Annotated

import typer

from ccdflow import options
from ccdflow.commands.output import DONE, FAILED, print_json, warn
from ccdflow.options import Json, workspace

safekeeping = typer.Typer()

Expression = Annotated[
    str,
    typer.Argument(
        metavar="[EXPRESSION]",
        help="Which products, as 'ccdflow find --products' takes it (default: all that are current).",
    ),
]
Every = Annotated[
    bool,
    typer.Option("--all", help="Also frames that nothing was made of, and products that have given way."),
]
Raws = Annotated[bool, typer.Option("--raws", help="Also the raw files.")]


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
def archive(
    file: Annotated[Path, typer.Argument(metavar="FILE.tar", help="An earlier archive is replaced.")],
    expression: Expression = "",
    raws: Raws = False,
    every: Every = False,
    json: Json = False,
) -> None:
    """Write products, with all that explains them, into one tar file; the same archive gives the same bytes."""
    from ccdflow.archive.moving.selecting import Selection
    from ccdflow.tasks.keeping.moving import archive as archived

    counts, size = archived(workspace(read_only=True), file, Selection(expression, every, raws))
    told = {f"{kind}s": counts[kind] for kind in ("frame", "job", "product", "file")}
    if json:
        print_json({"file": str(file), "bytes": size, **told})
        return
    held = ", ".join(f"{number} {name}" for name, number in told.items())
    typer.echo(f"{held} in {file} ({size / 1e6:.1f} MB); 'ccdflow import' takes it into another project")


@safekeeping.command("import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE.tar", help="What 'ccdflow archive' has written.")],
    raws: Annotated[
        Path | None, typer.Option("--raws", help="Folder for raw files in it (default: raw in the project).")
    ] = None,
    json: Json = False,
) -> None:
    """Take what another project has archived into this one: all of it, or nothing; twice is harmless."""
    from ccdflow.tasks.keeping.moving import import_archive

    moved = import_archive(workspace(), file, raws)
    if json:
        print_json(moved.document())
    else:
        typer.echo(moved.sentence())


@safekeeping.command()
def transfer(
    source: Annotated[Path, typer.Argument(metavar="FROM", help="Folder of a project.")],
    target: Annotated[Path, typer.Argument(metavar="TO", help="Folder of another project.")],
    expression: Expression = "",
    raws: Raws = False,
    every: Every = False,
    link: Annotated[
        bool, typer.Option("--link", help="Hard links, which take no space, where both are on one disk.")
    ] = False,
    json: Json = False,
) -> None:
    """Take products of one project, with all that explains them, into another one on this machine."""
    from ccdflow.archive.moving.selecting import Selection
    from ccdflow.tasks.keeping.moving import transfer as transferred
    from ccdflow.tasks.workspace import open_workspace

    spaces = open_workspace(source, read_only=True), open_workspace(target)
    moved = transferred(*spaces, Selection(expression, every, raws), link=link)
    if json:
        print_json(moved.document())
    else:
        typer.echo(moved.sentence())


@safekeeping.command()
def diff(
    first: Annotated[Path, typer.Argument(metavar="A", help="Folder of a project, or a tar file.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="The same.")],
    quick: Annotated[
        bool, typer.Option("--quick", help="Compare what is registered; read no files.")
    ] = False,
    json: Json = False,
) -> None:
    """Compare two archives: what only one has, what differs and in which column; exit code 1 where they differ."""
    from dataclasses import asdict

    from ccdflow.tasks.keeping.moving import compare

    told, counts = compare(first, second, quick=quick)
    if json:
        print_json({"differences": [asdict(difference) for difference in told], "both": dict(counts)})
    else:
        for difference in told:
            typer.echo(difference.sentence(str(first), str(second)))
        both = ", ".join(f"{counts[kind]} {kind}s" for kind in ("frame", "set", "job", "product"))
        typer.echo(f"{len(told) or 'no'} differences; {both} in both")
    raise typer.Exit(FAILED if told else DONE)


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
