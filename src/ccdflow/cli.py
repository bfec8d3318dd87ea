"""The command `ccdflow`: what is asked for is read here, done elsewhere, and told here."""

import sys
from collections.abc import Callable
from functools import partial, wraps
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from typer.core import TyperGroup

from ccdflow import __version__, options
from ccdflow.cascade.plain import no_path_in_words
from ccdflow.commands.output import DONE, FAILED, print_fields, print_json, print_table, stop, warn
from ccdflow.completion import offered
from ccdflow.options import (
    Camera,
    CascadeName,
    Gone,
    Json,
    Late,
    Night,
    Now,
    Param,
    Prefer,
    Set,
    Since,
    TakeProcessed,
    Target,
    Threshold,
    Until,
    assignment,
    night_of,
    request_of,
    selecting,
    workspace,
)
from ccdflow.safekeeping import safekeeping
from ccdflow.upkeep import upkeep

# Each command imports what it needs: what others need would take it a second to start.
if TYPE_CHECKING:
    from ccdflow.commands import reduction, scenarios

NIGHTS_TOLD = 5
"""Nights of whose single frames ``status`` says a word."""


def _with_local_paths(callback: Callable[..., Any]) -> Callable[..., Any]:
    """Let a URL that stands for a path end the command, in one line, before it does anything."""

    @wraps(callback)
    def called(*arguments: Any, **options: Any) -> Any:
        for value in options.values():
            for path in _several(value):
                if isinstance(path, Path) and (told := no_path_in_words(path)) and not path.exists():
                    stop(told)
        return callback(*arguments, **options)

    return called


def _refuse_empty_paths(parameters: list[Any]) -> None:
    """Let an empty word that stands for a path end the command; a path object would make the current folder of it."""
    for parameter in parameters:
        parameter.process_value = partial(_process, parameter.process_value)


def _process(process: Callable[[Any, Any], Any], context: Any, value: Any) -> Any:
    result = process(context, value)
    # Only what is typed tells nothing from a point: both are the same path.
    for word, path in zip(_several(value), _several(result), strict=False):
        if word == "" and isinstance(path, Path):
            stop(no_path_in_words(word))
    return result


def _several(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else (value,)


class _Commands(TyperGroup):
    """The commands, none of which takes a URL or nothing at all for a path."""

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        """Read the options that come before the command, the project's folder among them."""
        _refuse_empty_paths(self.params)
        return super().parse_args(ctx, args)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Give a command whose paths are looked at first."""
        command = super().get_command(ctx, cmd_name)
        if command is not None and command.callback is not None:
            _refuse_empty_paths(command.params)
            command.callback = _with_local_paths(command.callback)
        return command


app = typer.Typer(
    cls=_Commands,
    help="Raw CCD frames to calibrated frames and stacks with honest uncertainties.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(upkeep)
app.add_typer(safekeeping)


def main() -> None:
    """Run the command; what is wrong is said in one line, never as a traceback of ours."""
    # Names of files may be no UTF-8, and a terminal may know less than that: what it can't show is spelt out.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    # Anything else is a mistake of ours, and its traceback is what a report of it needs.
    except Exception as error:
        if "--debug" in sys.argv or not isinstance(error, _expected()):
            raise
        from ccdflow.archive.registry.database import sentence

        sys.stderr.write(f"ccdflow: {sentence(error)}\n")
        sys.exit(2)


def _expected() -> tuple[type[Exception], ...]:
    """Return the errors that say what is wrong with what was given, or with the project."""
    from sqlalchemy.exc import SQLAlchemyError

    from ccdflow.config.yamlfile import ConfigError

    return ConfigError, ValueError, OSError, RuntimeError, SQLAlchemyError


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ccdflow {__version__}")
        raise typer.Exit


@app.callback()
def common(
    directory: Annotated[Path, typer.Option("-C", metavar="DIR", help="Directory of the project.")] = Path(),
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show Python tracebacks.")] = False,
) -> None:
    """Options that come before the command."""
    if told := no_path_in_words(directory):
        stop(told)
    options.directory = directory


@app.command()
def init(
    directory: Annotated[
        Path | None, typer.Argument(help="Directory of the new project (default: this one).")
    ] = None,
    json: Json = False,
) -> None:
    """Make a project: `ccdflow.yaml`, an SQLite registry and a store."""
    from ccdflow.config.project import init_project
    from ccdflow.tasks.workspace import open_workspace

    path = init_project(directory or options.directory)
    space = open_workspace(path.parent)
    space.claim_store()
    if json:
        print_json(
            {"project": str(path.parent), "registry": space.registry.url, "store": str(space.project.store)}
        )
    else:
        typer.echo(f"Project in {path.parent}; next: ccdflow -C {path.parent} run FOLDER_OF_RAW_FRAMES")


@app.command()
def simulate(
    directory: Annotated[Path, typer.Argument(help="Where to write; made if it isn't there.")],
    night: Annotated[
        str, typer.Option(help="goto: GOTO's night of 2018-09-09; small: two cameras, a few sequences.")
    ] = "small",
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 0,
    shape: Annotated[
        str | None, typer.Option(metavar="NYxNX", help="Light-sensitive pixels of each frame.")
    ] = None,
    catalog_only: Annotated[
        bool, typer.Option("--catalog-only", help="Only catalog.csv, no pixels.")
    ] = False,
    clouds: Annotated[
        str, typer.Option(help="Cameras whose sequence clouds cut: first, all or none.")
    ] = "first",
    json: Json = False,
) -> None:
    """Write a night of realistic raw frames, and beside it the truth that they were made from."""
    from ccdflow.commands.progress import counting
    from ccdflow.simulate import simulate_night

    with counting("simulating", quiet=json) as progress:
        simulated = simulate_night(
            directory,
            night=night,
            seed=seed,
            shape=_shape(shape),
            catalog_only=catalog_only,
            clouds=clouds,
            progress=progress,
        )
    if json:
        print_json(
            {
                "directory": str(simulated.directory),
                "catalog": str(simulated.catalog),
                "frames": dict(simulated.counts),
            }
        )
    else:
        counts = ", ".join(f"{number} {name}" for name, number in simulated.counts.items())
        typer.echo(f"{counts} in {simulated.directory}")


def _shape(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    ny, cross, nx = text.lower().partition("x")
    if not (cross and ny.isdigit() and nx.isdigit()):
        stop(f"--shape {text!r} is not of the form NYxNX, for instance 512x512")
    return int(ny), int(nx)


@app.command()
def ingest(
    paths: Annotated[list[Path] | None, typer.Argument(help="Files and folders of raw frames.")] = None,
    catalog: Annotated[Path | None, typer.Option(help="CSV file of frames without files.")] = None,
    take_processed: TakeProcessed = "",
    transfer: Annotated[
        str, typer.Option("--transfer", help="inplace, or before that copy, move, hardlink or symlink them.")
    ] = "inplace",
    into: Annotated[
        Path | None, typer.Option("--into", help="Folder for that (default: raw in the project).")
    ] = None,
    template: Annotated[
        str | None,
        typer.Option(
            "--template", help="Path below it, such as {telescope}/{night}/{name}, which is the default."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Register raw frames, or the rows of a catalogue; twice is harmless."""
    from ccdflow.commands.progress import counting
    from ccdflow.tasks.ingest import ingest_catalog, ingest_files
    from ccdflow.tasks.rawfiles.bringing import TEMPLATE, Bringing, bring_files

    # Exactly one of both.
    if (catalog is None) == (not paths):
        stop("ingest needs files or folders, or --catalog FILE.csv")
    if transfer == "inplace" and (into or template):
        stop(
            "--into and --template are for files that are brought there; wanted --transfer copy, move, ... too"
        )
    if transfer != "inplace" and catalog:
        stop("--transfer is for files; rows of a catalogue have none")
    bringing = Bringing(cast(Any, transfer), into or options.directory / "raw", template or TEMPLATE)
    space = workspace()
    with counting("registering", quiet=json) as progress:
        if catalog:
            report = ingest_catalog(space, catalog)
        elif transfer != "inplace":
            report = bring_files(space, paths or [], bringing, progress, take_processed)
        else:
            report = ingest_files(space, paths or [], progress, take_processed)
    if json:
        print_json(report.document())
    else:
        typer.echo(report.sentence())
    for problem in [*report.problems, *report.copies.lines(), *report.doubt_lines()]:
        warn(problem)
    raise typer.Exit(report.exit_code)


@app.command()
def describe(
    files: Annotated[list[Path], typer.Argument(help="Raw files.")],
    instruments: Annotated[
        list[Path] | None, typer.Option("--instruments", help="Folder of instrument files of your own.")
    ] = None,
    json: Json = False,
) -> None:
    """Show what is read from the headers of raw files, and by which instrument file; no project is needed."""
    from ccdflow.archive.foreignfile import UnreadableFrameError, spelled
    from ccdflow.commands.headers import described
    from ccdflow.config.instruments import load_instruments
    from ccdflow.config.project import PROJECT_FILE, load_project
    from ccdflow.config.shipped import shipped

    folders, project = list(instruments or ()), None
    if (options.directory / PROJECT_FILE).is_file():
        project = load_project(options.directory)
        folders += project.instruments
    known = load_instruments(
        [*folders, shipped("instruments")], None if project is None else project.directory
    )
    rows, bad = [], 0
    for file in files:
        try:
            rows.append(described(file, known))
        except (UnreadableFrameError, OSError) as error:
            warn(spelled(error))
            bad += 1
    if json:
        print_json(rows)
    for row in () if json else rows:
        print_fields(row)
        if row is not rows[-1]:
            typer.echo()
    raise typer.Exit(FAILED if bad or any(row["refused"] for row in rows) else DONE)


@app.command()
def plan(
    target: Target = None,
    param: Param = None,
    night: Night = None,
    since: Since = None,
    until: Until = None,
    camera: Camera = None,
    set_: Set = None,
    threshold: Threshold = None,
    prefer: Prefer = "raw_per_level",
    late: Late = None,
    now: Now = None,
    tree: Annotated[bool, typer.Option("--tree", help="Data sets: all that each target job needs.")] = False,
    gone: Gone = False,
    json: Json = False,
) -> None:
    """Show the jobs that a run would do: new, reused, incomplete and why."""
    from ccdflow.commands import queries
    from ccdflow.tasks.keeping.stock import whole_keys
    from ccdflow.tasks.planning import planned
    from ccdflow.tasks.rawfiles.unread import changed_since

    space = selecting(night, camera, read_only=True)
    request = request_of(target, param, night, since, until, camera, now, set_, threshold, prefer, late)
    proposal = planned(space, request, stock=partial(whole_keys, gone=gone))
    # Files may have gone, or have been repaired, since they were registered: a run reads them first.
    for sentence in changed_since(space):
        warn(sentence)
    rows = queries.plan_rows(space, proposal)
    if json:
        data_sets = {"data_sets": queries.data_set_rows(proposal)} if tree else {}
        print_json({"jobs": rows, "notes": list(proposal.notes), **data_sets})
    else:
        if tree:
            for row in queries.data_set_rows(proposal):
                typer.echo("\n".join(queries.data_set_lines(row)))
        else:
            _print_plan(rows)
        for note in proposal.notes:
            warn(note)
    if not rows:
        warn("nothing to do: no frame of the registry belongs to the target")
    if not rows or any(row["state"] == "incomplete" for row in rows):
        raise typer.Exit(FAILED)


def _print_plan(rows: list[dict[str, Any]]) -> None:
    from ccdflow.commands import queries

    shown = [{**row, "key": row["key"][:8], "inputs": queries.inputs_text(row)} for row in rows]
    print_table(shown, ["key", "step", "what", "state", "inputs", "reason"])
    for row in rows:
        for missing in row["missing"]:
            if left := queries.survivors_text(missing):
                typer.echo(f"  {row['key'][:8]} {missing['input']}: {left}")
            for near in missing["nearest"]:
                typer.echo(f"  {row['key'][:8]} {missing['input']}: {near['name']}: {near['reason']}")
    told = ((row["step"], lack["level"], lack["reason"]) for row in rows for lack in row["compromises"])
    for line in queries.compromise_lines(told):
        typer.echo(line)


@app.command()
def run(
    paths: Annotated[list[Path] | None, typer.Argument(help="Files and folders to register first.")] = None,
    target: Target = None,
    param: Param = None,
    night: Night = None,
    since: Since = None,
    until: Until = None,
    camera: Camera = None,
    set_: Set = None,
    threshold: Threshold = None,
    prefer: Prefer = "raw_per_level",
    late: Late = None,
    order: Annotated[
        str | None,
        typer.Option(
            "--order", help="depth, breadth, type or dynamic: what goes first (default: the project's)."
        ),
    ] = None,
    now: Now = None,
    take_processed: TakeProcessed = "",
    gone: Gone = False,
    json: Json = False,
) -> None:
    """Make what is wanted and not there yet: register PATHS, plan, run, sum up."""
    from ccdflow.tasks.processes.stopping import STOP, stoppable

    try:
        with stoppable():
            report = _reduced(
                paths or [],
                (target, param, night, since, until, camera, now, set_, threshold, prefer, late, order),
                quiet=json,
                take_processed=take_processed,
                gone=gone,
            )
    # A KeyboardInterrupt, or what Prefect makes of the signal.
    except BaseException:
        if not STOP.is_told:
            raise
        warn(f"{STOP.reason or 'stopped'}; what ran is planned again, 'ccdflow run' goes on")
        raise typer.Exit(128 + STOP.number) from None
    if json:
        print_json(report.document())
    else:
        report.show()
    for problem in report.problems:
        warn(problem)
    raise typer.Exit(report.exit_code)


def _reduced(
    paths: list[Path], wanted: tuple[Any, ...], *, quiet: bool, take_processed: str, gone: bool
) -> "reduction.RunReport":
    """Do what `run` is asked for."""
    from ccdflow.archive.registry.holds import hold_in_words
    from ccdflow.commands.reduction import reduce_now

    space = workspace()
    request = request_of(*wanted)
    if held := space.registry.read(hold_in_words):
        stop(f"the project is {held}; 'ccdflow resume' goes on")
    if take_processed and not paths:
        stop("--take-processed needs the files or folders that it is for")
    return reduce_now(space, paths, request, quiet=quiet, take_processed=take_processed, gone=gone)


@app.command()
def group(now: Now = None, json: Json = False) -> None:
    """Cut the stream of frames into stack sets by the sequence rules."""
    from ccdflow.tasks.grouping import group_sets
    from ccdflow.tasks.ingest import recheck_files

    space = workspace()
    # What others have corrected in the database, a time above all, decides where sets are cut.
    for problem in recheck_files(space).problems:
        warn(problem)
    counts = group_sets(space, request_of(None, None, None, None, None, None, now))
    if json:
        print_json(counts)
    else:
        typer.echo(", ".join(f"{number} sets {name}" for name, number in counts.items()))


@app.command("list")
def list_(
    what: Annotated[
        str,
        typer.Argument(help="frames, sets, jobs, products, choices, amendments, interventions or events."),
    ],
    night: Night = None,
    camera: Camera = None,
    object_: Annotated[
        str | None, typer.Option("--object", help="Only of this object.", autocompletion=offered("object"))
    ] = None,
    filter_: Annotated[
        str | None, typer.Option("--filter", help="Only in this filter.", autocompletion=offered("filter"))
    ] = None,
    category: Annotated[
        str | None,
        typer.Option(
            "--category", help="Only products of this category.", autocompletion=offered("category")
        ),
    ] = None,
    current: Annotated[
        bool, typer.Option("--current", help="Only what nothing has taken the place of.")
    ] = False,
    sort: Annotated[
        str, typer.Option("--sort", metavar="NAME,...", help="In this order; -NAME from the largest.")
    ] = "",
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="As many at most.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Also superseded frames and sets.")] = False,
    json: Json = False,
) -> None:
    """List what there is; 'find' finds frames and products by any column."""
    from ccdflow.cascade.wording import unknown
    from ccdflow.commands import queries

    if what not in queries.LISTS:
        stop(unknown("list", what, list(queries.LISTS)))
    rows = queries.LISTS[what](
        selecting(night, camera, read_only=True), night=night_of(night), camera=camera, superseded=all_
    )
    wanted = {"object": object_, "filter": filter_, "category": category}
    rows = queries.narrowed(what, rows, wanted, current=current)
    rows = queries.in_order(what, rows, queries.names(sort))[:limit]
    if json:
        print_json(rows)
    elif rows:
        print_table([queries.brief(row) for row in rows], queries.COLUMNS[what])
    else:
        typer.echo(f"no {what}")


@app.command()
def find(
    expression: Annotated[
        str,
        typer.Argument(
            metavar="[EXPRESSION]",
            help="Such as \"filter = 'R' and ccd_temperature < -20 and night >= '2026-03-01'\" (default: all).",
        ),
    ] = "",
    products: Annotated[
        bool, typer.Option("--products", help="Products, not raw frames; also by quality numbers.")
    ] = False,
    columns: Annotated[
        str, typer.Option("--columns", metavar="NAME,...", help="What is shown: columns, kept keywords.")
    ] = "",
    sort: Annotated[
        str, typer.Option("--sort", metavar="NAME,...", help="In this order; -NAME from the largest.")
    ] = "",
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="As many at most.")] = None,
    all_: Annotated[
        bool, typer.Option("--all", help="Also duplicates, old versions, what has given way to others.")
    ] = False,
    json: Json = False,
) -> None:
    """Find raw frames, or products, by any column or keyword."""
    from ccdflow.commands import queries

    asked = {"columns": queries.names(columns), "sort": queries.names(sort), "limit": limit, "every": all_}
    rows = queries.found(workspace(read_only=True), expression, "products" if products else "frames", **asked)
    if json:
        print_json(rows)
    elif rows:
        print_table(rows, list(rows[0]))
    else:
        typer.echo(f"no {'product' if products else 'frame'} is so")


@app.command()
def show(
    id_: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="f12, s3, p7, a job's key or its beginning, or a file's path.",
            autocompletion=offered("id"),
        ),
    ],
    log: Annotated[
        bool, typer.Option("--log", help="What the program or function of a job has written, head and tail.")
    ] = False,
    command: Annotated[
        bool, typer.Option("--command", help="The command line that does the job by hand.")
    ] = False,
    json: Json = False,
) -> None:
    """Show one frame, set, job or product."""
    from ccdflow.commands import queries

    if log and command:
        stop("--log and --command are asked for one at a time")
    space = workspace(read_only=True)
    if log or command:
        from ccdflow.commands import jobs

        text, row = (jobs.log_of if log else jobs.command_of)(space, id_)
        for note in () if json else row.get("notes", ()):
            warn(note)
        if not json:
            typer.echo(text, nl=not text.endswith("\n"))
            return
    else:
        row = queries.find(space, id_)
    if json:
        print_json(row)
    else:
        print_fields(row)


@app.command()
def explain(
    id_: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="f12, s3, p7, a job's key or its beginning, or a file's path.",
            autocompletion=offered("id"),
        ),
    ],
    target: Target = None,
    param: Param = None,
    set_: Set = None,
    threshold: Threshold = None,
    script: Annotated[
        bool, typer.Option("--script", help="A shell script that makes a product again, to the byte.")
    ] = False,
    prov: Annotated[
        bool, typer.Option("--prov", help="The provenance of a product as PROV-JSON (W3C, IVOA).")
    ] = False,
    json: Json = False,
) -> None:
    """Say where something came from, or why it can't be made; outside of a project what a product's file tells."""
    if not (options.directory / "ccdflow.yaml").is_file() and Path(id_).is_file():
        _explain_alone(Path(id_), script=script, json=json)
        return
    if prov:
        from ccdflow.commands.provjson import prov_of

        print_json(prov_of(workspace(read_only=True), id_))
        return
    if script:
        from ccdflow.commands.scripts import script_of

        typer.echo(script_of(workspace(read_only=True), id_), nl=False)
        return
    from ccdflow.commands import queries

    request = request_of(target, param, None, None, None, None, None, set_, threshold)
    tree = queries.explain(workspace(read_only=True), id_, request)
    if json:
        print_json(tree)
    else:
        typer.echo("\n".join(queries.tree_lines(tree)))


def _explain_alone(path: Path, *, script: bool, json: bool) -> None:
    """Say what a product's file alone tells of where it came from."""
    if script:
        from ccdflow.commands.scripts import script_of_file

        typer.echo(script_of_file(path), nl=False)
        return
    from ccdflow.commands.alone import file_lines, file_row

    row = file_row(path)
    if json:
        print_json(row)
    else:
        typer.echo("\n".join(file_lines(row)))


@app.command()
def status(night: Night = None, json: Json = False) -> None:
    """Count frames by night, stage and state; for each night the ledger balances."""
    from ccdflow.archive.registry.holds import hold_in_words
    from ccdflow.archive.storemark import StoreAwayError
    from ccdflow.commands import queries
    from ccdflow.tasks.nightlog import singles_in_words
    from ccdflow.tasks.planning import LIVE_AGE_DAYS, left_to_others

    space = selecting(night, None, read_only=True)
    rows = queries.ledger(space, night_of(night))
    if json:
        print_json(rows)
    elif rows:
        print_table(
            rows,
            [
                "night",
                "stage",
                "frames",
                "done",
                "passed",
                "running",
                "waiting",
                "failed",
                "refused",
                "processed",
            ],
        )
        # Of the last ones: who looks for an older night names it.
        for sentence in singles_in_words(space, sorted({row["night"] for row in rows})[-NIGHTS_TOLD:]):
            typer.echo(sentence)
        if night is None and (old := left_to_others(space, LIVE_AGE_DAYS)):
            typer.echo(old)
        if held := space.registry.read(hold_in_words):
            typer.echo(f"{held}; 'ccdflow resume' goes on")
        try:
            space.find_store()
        except StoreAwayError as error:
            warn(str(error))
    else:
        typer.echo("no frames; register some with 'ccdflow ingest' or 'ccdflow run'")


@app.command()
def verify(
    raws: Annotated[
        bool, typer.Option("--raws", help="Raw files too: against what they were, and their own checks.")
    ] = False,
    mend: Annotated[
        bool,
        typer.Option("--repair", help="Note it: what is gone or damaged is made again, what is back counts."),
    ] = False,
    gone: Gone = False,
    json: Json = False,
) -> None:
    """Hold every product against its checksum; name what is missing, damaged, back or foreign."""
    from ccdflow.commands import queries

    outcome = queries.verify(workspace(read_only=not mend), raws=raws, mend=mend, gone=gone)
    if json:
        print_json(outcome)
    else:
        # Of a disk that is away one sentence, not thousands.
        much = outcome["away"] if not gone else ""
        for problem in outcome["problems"]:
            if not (much and problem["what"] == "missing"):
                typer.echo(f"{problem['what']}: {problem['path']}: {problem['reason']}")
        if much:
            warn(much)
        typer.echo(
            f"{outcome['intact']} of {outcome['products']} products intact, {len(outcome['foreign'])} foreign files"
        )
        if raws:
            typer.echo(f"{outcome['raws_intact']} of {outcome['raws']} raw files intact")
        if mend:
            typer.echo(f"{outcome['again']} to be made again by the next run, {outcome['back']} known again")
    raise typer.Exit(FAILED if outcome["problems"] else DONE)


@app.command()
def params(
    step: Annotated[str | None, typer.Argument(help="Only this task's.")] = None,
    param: Param = None,
    set_: Set = None,
    cascade: CascadeName = None,
    json: Json = False,
) -> None:
    """Show the parameters of the workflow and of its tasks: each value, and where it comes from."""
    from ccdflow.commands import cascades

    specification = cascades.read_cascade(options.directory, cascade)
    requested = dict(assignment(text) for text in param or ())
    rows = cascades.parameters(specification, step, requested, set_)
    sets = cascades.sets(specification)
    if json:
        print_json({"parameters": rows, "sets": sets})
        return
    shown = ["task", "name", "value", "origin", *(["default", "description"] if step else [])]
    print_table(rows, shown)
    if sets and step is None:
        print_table(sets, ["set", "extends", "description"])


@app.command()
def graph(
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="File; its suffix .svg, .dot or .mmd says the format."),
    ] = None,
    format_: Annotated[str | None, typer.Option("--format", help="mermaid, dot or svg.")] = None,
    detailed: Annotated[
        bool, typer.Option("--detailed", help="Also recipes, conditions, grouping, numbers.")
    ] = False,
    jobs: Annotated[bool, typer.Option("--jobs", help="The jobs of a plan, coloured by state.")] = False,
    target: Target = None,
    param: Param = None,
    night: Night = None,
    camera: Camera = None,
    set_: Set = None,
    cascade: CascadeName = None,
) -> None:
    """Draw the cascade, or the jobs of a plan, as Mermaid, DOT or SVG."""
    from ccdflow.cascade.planning.graph import cascade_graph, plan_graph
    from ccdflow.commands import cascades
    from ccdflow.tasks.planning import planned

    if jobs:
        request = request_of(target, param, night, None, None, camera, None, set_)
        drawing = plan_graph(planned(selecting(night, camera, read_only=True), request))
    else:
        drawing = cascade_graph(cascades.read_cascade(options.directory, cascade), detailed=detailed)
    text = cascades.drawn(drawing, output, format_)
    if output is None:
        sys.stdout.write(text)
    else:
        output.write_text(text, encoding="utf-8")
        typer.echo(f"{len(drawing.nodes)} boxes, {len(drawing.edges)} arrows in {output}")


@app.command()
def preview(
    files: Annotated[list[Path], typer.Argument(help="One product, or three: red, green and blue.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The picture, a PNG file.")],
) -> None:
    """Draw a product, or three in colour: the stacks of a colour camera, or of three filters."""
    from ccdflow.archive.fits.productfile import ProductFileError
    from ccdflow.commands.previews import draw

    try:
        draw(files, output)
    except (ProductFileError, ValueError, OSError) as error:
        stop(str(error))
    typer.echo(f"{output} written")


@app.command("test")
def test_(
    files: Annotated[
        list[Path], typer.Argument(help="Workflow tests in EDPS's JSON format or its superset.")
    ],
    only: Annotated[
        str | None, typer.Option("-k", help="Only scenarios whose description holds this text.")
    ] = None,
    json: Json = False,
) -> None:
    """Run workflow tests: frames that exist as headers only, and the jobs that must come of them."""
    from ccdflow.commands.scenarios import read_scenarios, run_scenario

    results = []
    for file in files:
        shared = read_scenarios(file)
        for scenario in shared.scenarios:
            if only is None or only.lower() in scenario.description.lower():
                results.append((file, run_scenario(file, shared, scenario)))
                if not json:
                    _show_result(*results[-1])
    failed = sum(not result.passed for _, result in results)
    if json:
        rows = [{"file": file, "passed": result.passed, **vars(result)} for file, result in results]
        print_json({"scenarios": rows, "failed": failed})
    elif results:
        skipped = sum(result.skipped for _, result in results)
        typer.echo(f"{len(results) - failed - skipped} passed, {failed} failed, {skipped} skipped")
    if not results:
        stop("no scenario was run")
    raise typer.Exit(FAILED if failed else DONE)


def _show_result(file: Path, result: "scenarios.ScenarioResult") -> None:
    word = "skipped" if result.skipped else "passed" if result.passed else "FAILED"
    typer.echo(f"{word:8} {file.name}: {result.description}")
    for problem in result.problems:
        typer.echo(f"         {problem}")
    for job in result.jobs if result.problems else ():
        typer.echo(f"         planned: {job}")


@app.command()
def recipe(
    name: Annotated[
        str, typer.Argument(help="bias, dark, flat, science, stack, gain, ..., or one of the project's own.")
    ],
    files: Annotated[list[Path], typer.Argument(help="The main input: raw frames or products.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="The product; never overwritten unless --force.")
    ],
    with_: Annotated[
        list[str] | None, typer.Option("--with", metavar="ROLE=FILE", help="An associated input.")
    ] = None,
    param: Annotated[
        list[str] | None, typer.Option("--param", "-p", metavar="NAME=VALUE", help="A parameter.")
    ] = None,
    amend: Annotated[
        list[str] | None,
        typer.Option("--amend", metavar="FILE:NAME=VALUE", help="What counts of a raw file, not its header."),
    ] = None,
    job: Annotated[
        Path | None,
        typer.Option("--job", help="JSON of the job that is done again, as `explain --script` has it."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the output.")] = False,
    json: Json = False,
) -> None:
    """Run one recipe by hand, on files: no database, no Prefect; in a project also one of its own."""
    from ccdflow.archive.digest import digests_of
    from ccdflow.tasks.memory import importing

    parameters, associated = dict(assignment(text) for text in param or ()), _roles(with_)
    inputs = [path for paths in (files, *associated.values()) for path in paths]
    # Most of the time of a recipe by hand is importing: files are hashed meanwhile.
    with digests_of(inputs) as digests:
        with importing():  # the threads work meanwhile
            from ccdflow.commands.byhand import amended_files, read_job, run_recipe
        is_project = (options.directory / "ccdflow.yaml").is_file()
        project = options.directory if is_project else None
        amended = amended_files(amend or (), inputs)
        report = run_recipe(
            name,
            files,
            parameters,
            associated,
            output,
            digests,
            amended=amended,
            force=force,
            project=project,
            job=None if job is None else read_job(job),
        )
    if json:
        print_json(report.document())
    else:
        typer.echo(report.sentence())
    for problem in report.warnings:
        warn(problem)


def _roles(texts: list[str] | None) -> dict[str, list[Path]]:
    roles: dict[str, list[Path]] = {}
    for text in texts or ():
        role, equals, path = text.partition("=")
        if not equals or not path:
            stop(f"--with {text!r} is not of the form ROLE=FILE")
        if told := no_path_in_words(path):
            stop(told)
        roles.setdefault(role, []).append(Path(path))
    return roles
