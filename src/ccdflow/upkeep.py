"""Commands for what surrounds a reduction: events, choices, what is missing, reports, export, cleaning."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, cast

import typer

from ccdflow.commands.output import DONE, FAILED, print_json, print_table, stop, warn
from ccdflow.options import (
    Camera,
    Json,
    Night,
    Param,
    Set,
    Target,
    moment,
    night_of,
    request_of,
    selecting,
    workspace,
)

if TYPE_CHECKING:
    from ccdflow.archive.registry.choices import ChoiceKind
    from ccdflow.archive.registry.jobs.products import ProductRecord
    from ccdflow.tasks.workspace import Workspace

upkeep = typer.Typer()


def _counted(products: Sequence[Any]) -> str:
    return f"{len(products)} product{'s' if len(products) != 1 else ''}"


@upkeep.command()
def event(
    what: Annotated[str, typer.Argument(help="What happened to the instrument: 'detector swapped'.")],
    when: Annotated[str, typer.Option(help="When, ISO, UTC.")],
    telescope: Annotated[str, typer.Option(help="Only this telescope.")] = "",
    camera: Annotated[str, typer.Option(help="Only this camera.")] = "",
    instrument: Annotated[str, typer.Option(help="Only this instrument.")] = "",
    undo: Annotated[bool, typer.Option("--undo", help="Take it back.")] = False,
    json: Json = False,
) -> None:
    """Record what happened to an instrument: calibrations from before are not used for frames after it."""
    from ccdflow.archive.registry.instrumentevents import (
        InstrumentChange,
        add_instrument_event,
        remove_instrument_event,
    )
    from ccdflow.archive.registry.selection import refuse_unknown

    if not what.strip():
        stop("the event is blank; wanted what happened to the instrument, for instance 'detector swapped'")
    change = InstrumentChange(moment(when) or "", what, telescope, camera, instrument)
    registry = workspace().registry
    if undo and not registry.write(remove_instrument_event, change):
        stop("no such event is recorded; 'ccdflow list interventions' shows those that are")
    if not undo:
        registry.write(add_instrument_event, change)
    if json:
        print_json(vars(change))
    else:
        where = " ".join(part for part in (telescope, camera, instrument) if part) or "all instruments"
        typer.echo(f"{'no longer: ' if undo else ''}{change.happened} {where}: {what}")
    if camera and not undo:
        # A camera may be told of before its first frame, so that this is no error.
        try:
            registry.read(refuse_unknown, None, camera)
        except ValueError as error:
            warn(f"recorded, though no frame is of it: {error}")


Reason = Annotated[str, typer.Option("--reason", help="Why, kept with it.")]
Undo = Annotated[bool, typer.Option("--undo", help="Take it back.")]
SHOWN_LINES = 20
"""Lines of what was amended that are shown to people."""


@upkeep.command()
def ban(
    ids: Annotated[
        list[str], typer.Argument(metavar="ID...", help="f12, p7, a job's key, or a file's path.")
    ],
    reason: Reason = "",
    undo: Undo = False,
    json: Json = False,
) -> None:
    """Never use these frames or products: what took them is made anew without them."""
    _choose(ids, "banned", reason, undo=undo, json=json)


@upkeep.command()
def pin(
    ids: Annotated[
        list[str], typer.Argument(metavar="ID...", help="f12, p7, a job's key, or a file's path.")
    ],
    reason: Reason = "",
    undo: Undo = False,
    json: Json = False,
) -> None:
    """Take these calibrations first, wherever they fit."""
    _choose(ids, "pinned", reason, undo=undo, json=json)


def _choose(ids: list[str], verdict: "ChoiceKind", reason: str, *, undo: bool, json: bool) -> None:
    """Pin or ban what is named, or take that back."""
    from ccdflow.archive.registry.choices import choose, find_choices, withdraw
    from ccdflow.commands import queries

    space = workspace()
    subjects = {queries.subject(space, name): name for name in ids}
    if undo:
        known = {choice.subject for choice in space.registry.read(find_choices) if choice.verdict == verdict}
        if strangers := [name for subject, name in subjects.items() if subject not in known]:
            stop(f"{', '.join(strangers)} {'is' if len(strangers) == 1 else 'are'} not {verdict}")
        space.registry.write(withdraw, list(subjects))
    else:
        space.registry.write(choose, list(subjects), verdict, reason)
    if json:
        print_json({"verdict": None if undo else verdict, "subjects": list(subjects)})
    else:
        typer.echo(
            f"{', '.join(ids)}: {'no longer ' if undo else ''}{verdict}; 'ccdflow plan' shows what changes"
        )


@upkeep.command()
def amend(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ID...] KEY=VALUE...",
            help="f12, f12-f40 or files; then filter=V, exptime=60, obsdate=+1h, gain=1.4, ...; 'KEY=' for unknown.",
        ),
    ] = None,
    why: Annotated[str, typer.Option("--why", help="Why, kept with it.")] = "",
    class_: Annotated[str | None, typer.Option("--class", help="Frames of this class.")] = None,
    object_: Annotated[str | None, typer.Option("--object", help="Frames of this object.")] = None,
    filter_: Annotated[str | None, typer.Option("--filter", help="Frames of this filter.")] = None,
    exptime: Annotated[
        float | None, typer.Option("--exptime", help="Frames of this exposure time, seconds.")
    ] = None,
    night: Night = None,
    camera: Camera = None,
    undo: Annotated[
        bool, typer.Option("--undo", help="Take it back: all of these frames, or only the KEYs named.")
    ] = False,
    json: Json = False,
) -> None:
    """Correct what headers say of frames, for good: kept apart from them, whatever is registered again."""
    from ccdflow.commands.amending import Words, amend_or_undo
    from ccdflow.tasks.rawfiles.amending import Chosen

    asked = Words.of(words or (), undo=undo)
    chosen = Chosen(asked.names, class_, object_, filter_, exptime, night_of(night), camera)
    try:
        amendments = amend_or_undo(workspace(), asked, chosen, why, undo=undo)
    except ValueError as error:
        stop(str(error))
    if json:
        print_json({"undone" if undo else "amended": [amendment.row() for amendment in amendments]})
        return
    for amendment in amendments[:SHOWN_LINES]:
        typer.echo(amendment.line())
    if len(amendments) > SHOWN_LINES:
        typer.echo(f"... and {len(amendments) - SHOWN_LINES} more")
    frames = len({amendment.frame for amendment in amendments})
    done = "as their headers say again" if undo else "amended"
    many = f"{frames} frame{'' if frames == 1 else 's'}"
    typer.echo(f"{many} {done}; 'ccdflow plan' shows what changes" if frames else "nothing to change")


@upkeep.command()
def listen(
    watch: Annotated[
        list[Path] | None,
        typer.Option("--watch", help="Folder whose new files are registered; may be repeated."),
    ] = None,
    json: Json = False,
) -> None:
    """Tell the Prefect server what happens in the registry, and call for work; until interrupted."""
    from ccdflow.commands.deploying import listen as hear

    for folder in watch or ():
        if not folder.is_dir():
            stop(f"--watch {folder} is no folder")
    _need_server("listen")
    sent = hear(workspace(), watch or [], quiet=json)
    if json:
        print_json({"events": sent})
    else:
        typer.echo(f"{sent} events sent")


@upkeep.command()
def deploy(
    cron: Annotated[
        str | None,
        typer.Option(
            "--morning", help="Cron line in UTC of `nightly` (default: 07:30 local mean time at the site)."
        ),
    ] = None,
    reset: Annotated[
        bool,
        typer.Option(
            "--reset", help="Make schedules and automations as ccdflow has them, whoever changed them."
        ),
    ] = False,
) -> None:
    """Make known to the Prefect server: work pool, queues, deployments and automations.

    Twice is harmless: what somebody has switched off or changed on the server stays so, and is named.
    """
    from ccdflow.commands import deploying, onserver

    _need_server("deploy")
    if cron is not None:
        _need_cron(cron)
    _need_answer()
    for line in onserver.lines(deploying.deploy(workspace(), cron, reset=reset)):
        typer.echo(line)
    typer.echo("next, on each machine that shall work: prefect worker start --type process --pool ccdflow")
    typer.echo("and on one: ccdflow listen")


def _need_cron(cron: str) -> None:
    """Refuse what is no schedule before anything is made known: the server would, half way, in a thousand words."""
    from prefect.client.schemas.schedules import CronSchedule

    try:
        CronSchedule(cron=cron)
    except ValueError:
        stop(f"--morning {cron!r} is no schedule; wanted one as of cron, in UTC, for instance '30 8 * * *'")


def _need_answer(patience: float = 60.0) -> None:
    """End a command that speaks to a Prefect server where that does not answer for a minute: it may have just begun."""
    import time

    from ccdflow.flows import server

    end, said = time.monotonic() + patience, False
    while not server.answers():
        if time.monotonic() > end:
            stop(f"{server.silence()}; is it running, and PREFECT_API_URL right?")
        if not said:
            warn(f"{server.silence()} yet; it has {patience:.0f} s")
        said = True
        time.sleep(1)


def _need_server(command: str) -> None:
    """End a command that speaks to a Prefect server where none is configured."""
    from prefect.settings import PREFECT_API_URL

    if not PREFECT_API_URL.value():
        stop(f"{command} needs a Prefect server: set PREFECT_API_URL, for instance http://127.0.0.1:4200/api")


@upkeep.command()
def redo(
    ids: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ID...]", help="p7, s3, a job's key, a file's path; f12: all that was made with it."
        ),
    ] = None,
    below: Annotated[bool, typer.Option("--below", help="Also all that was made with them.")] = False,
    step: Annotated[str | None, typer.Option(metavar="TASK", help="Only what this task has made.")] = None,
    night: Night = None,
    camera: Camera = None,
    json: Json = False,
) -> None:
    """Make products again at the next run, though nothing has changed: these, or all of a night, camera or task."""
    from ccdflow.cascade.wording import unknown
    from ccdflow.commands import queries
    from ccdflow.tasks.again import make_again

    space = selecting(night, camera)
    names = [queries.short_name(space, name) for name in ids or ()]
    if step is not None and step not in space.cascade.tasks:
        stop(unknown("task", step, space.cascade.tasks))
    try:
        keys = make_again(space, names, night=night_of(night), camera=camera, step=step, below=below)
    except ValueError as error:
        stop(str(error))
    if json:
        print_json({"jobs": keys})
    else:
        typer.echo(f"{len(keys)} to be made again; 'ccdflow run' does it")
    raise typer.Exit(DONE if keys else FAILED)


@upkeep.command()
def retry(night: Night = None, camera: Camera = None, json: Json = False) -> None:
    """Let jobs that have failed be tried again, by drains too, which leave alone what has failed three times."""
    from ccdflow.tasks.again import try_again

    keys = try_again(selecting(night, camera), night=night_of(night), camera=camera)
    if json:
        print_json({"jobs": keys})
    else:
        typer.echo(f"{len(keys)} to be tried again; 'ccdflow run' or the next sweep does it")


@upkeep.command()
def pause(
    reason: Annotated[str, typer.Argument(help="Why, for those who wonder.")] = "", json: Json = False
) -> None:
    """Begin no job from now on, here and on all workers; those that run are ended, frames are registered as ever."""
    from ccdflow.archive.registry.holds import hold_in_words, put_hold

    registry = workspace().registry
    registry.write(put_hold, reason)
    if json:
        print_json({"held": registry.read(hold_in_words)})
    else:
        typer.echo(f"{registry.read(hold_in_words)}; 'ccdflow resume' goes on")


@upkeep.command()
def resume(json: Json = False) -> None:
    """Begin jobs again after 'ccdflow pause'."""
    from ccdflow.archive.registry.holds import release_hold

    was = workspace().registry.write(release_hold)
    if json:
        print_json({"released": was})
    else:
        typer.echo("goes on" if was else "was not on hold")


@upkeep.command()
def cancel(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN...]", help="Names or ids of flow runs; none: list them."),
    ] = None,
    json: Json = False,
) -> None:
    """Cancel flow runs on the Prefect server; what they held is free again, and the next run does it."""
    _need_server("cancel")
    _need_answer()
    from ccdflow.commands.deploying import cancel_runs

    runs = cancel_runs(workspace(read_only=True), names or ())
    if json:
        print_json(runs)
    elif runs:
        print_table(runs, ["name", "state", "since", "id"])
    else:
        typer.echo("no flow run of this project is under way")
    # A name that is not under way any more is no harm, but whoever typed it should know.
    if names and len(runs) < len(names):
        stop(f"cancelled {len(runs)} of {len(names)}; what is under way is listed by 'ccdflow cancel' alone")


@upkeep.command()
def missing(
    target: Target = None,
    param: Param = None,
    night: Night = None,
    camera: Camera = None,
    set_: Set = None,
    json: Json = False,
) -> None:
    """Say which calibrations are missing, and how many frames wait for each: what to take before sunrise."""
    from ccdflow.commands import queries
    from ccdflow.tasks.planning import planned

    rows = queries.missing_calibrations(
        planned(
            selecting(night, camera, read_only=True),
            request_of(target, param, night, None, None, camera, None, set_),
        )
    )
    if json:
        print_json(rows)
    elif rows:
        print_table(
            rows,
            ["missing", "telescope", "camera", "filter", "exptime", "binning", "frames", "nights", "reason"],
        )
    else:
        typer.echo("no calibration is missing")
    raise typer.Exit(FAILED if rows else DONE)


@upkeep.command()
def report(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="p7, a job's key, or a product's path.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The page.")] = Path("report.html"),
    raw: Annotated[bool, typer.Option("--raw", help="Also pictures of the raw frames.")] = False,
    json: Json = False,
) -> None:
    """Write a page about products: picture, quality numbers and their trend, inputs, parameters."""
    from ccdflow.commands.reports import report as written

    space = workspace(read_only=True)
    space.find_store()
    products = _named_products(space, ids)
    output.write_text(written(space, [product.id for product in products], raw=raw), encoding="utf-8")
    if json:
        print_json({"page": str(output), "products": [f"p{product.id}" for product in products]})
    else:
        typer.echo(f"{_counted(products)} in {output}")


@upkeep.command()
def export(
    ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ID...]", help="p7, a job's key, or a product's path (default: all)."),
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder; made if it isn't there.")] = Path(
        "export"
    ),
    category: Annotated[
        list[str] | None, typer.Option("--category", help="Only these: science, stack, ...; may be repeated.")
    ] = None,
    night: Night = None,
    camera: Camera = None,
    template: Annotated[
        str | None,
        typer.Option(
            "--template",
            help="Path below the folder, such as {night}/{object}-{filter}-{id}.fits; also {header.KEYWORD}.",
        ),
    ] = None,
    mode: Annotated[str, typer.Option("--mode", help="copy, link or symlink.")] = "copy",
    superseded: Annotated[bool, typer.Option("--all", help="Also what has given way to others.")] = False,
    peer: Annotated[
        str | None,
        typer.Option(
            "--for",
            metavar="PROGRAM",
            help="As it takes them rightly, with a script: siril, sextractor, swarp, iraf, gnuastro, aij, ds9, plain.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Hand out products under names of your own, or as another program takes them; twice changes nothing."""
    from typing import get_args

    from ccdflow.archive.registry.jobs.products import ProductFilter, find_products
    from ccdflow.archive.registry.selection import refuse_unknown_category
    from ccdflow.cascade.wording import unknown
    from ccdflow.tasks import housekeeping

    if mode not in get_args(housekeeping.Mode):
        stop(unknown("--mode", mode, get_args(housekeeping.Mode)))
    if output.exists() and not output.is_dir():
        stop(f"{output} is a file; wanted a folder")
    space = workspace(read_only=True)
    for name in category or ():
        space.registry.read(refuse_unknown_category, name)
    space.find_store()
    products = (
        _named_products(space, ids)
        if ids
        else space.registry.read(find_products, ProductFilter(night=night_of(night), camera=camera))
    )
    # What somebody names is handed out as it is; only a general request leaves out what is superseded.
    products = [product for product in products if superseded or ids or product.superseded_by is None]
    products = [product for product in products if not category or product.category in category]
    problems: list[str] = []
    if peer is not None:
        if template is not None or mode != "copy":
            stop(
                "--template and --mode are for products as they are: with --for each program has names of its own"
            )
        _export_for(space, products, output, peer, named=bool(ids), json=json)
    template = housekeeping.EXPORT if template is None else template
    put = list(
        housekeeping.export(
            space, products, output, template=template, mode=cast(Any, mode), warn=problems.append
        )
    )
    if json:
        print_json([{"id": f"p{product.id}", "path": str(path)} for product, path in put])
    else:
        typer.echo(f"{_counted(put)} in {output}" if products else "no product is of this kind")
    for problem in problems:
        warn(problem)
    raise typer.Exit(DONE if put and not problems else FAILED)


def _export_for(
    space: "Workspace",
    products: "Sequence[ProductRecord]",
    output: Path,
    peer: str,
    *,
    named: bool,
    json: bool,
) -> NoReturn:
    """Write products for a program, and say what runs it."""
    from ccdflow.cascade.wording import unknown
    from ccdflow.tasks.exporting.writing import PEERS, PYTHON, export_for, is_frame

    if peer not in PEERS:
        more = (
            "; for sep, photutils and ccdproc it is plain, or the product as it is" if peer in PYTHON else ""
        )
        stop(unknown("--for", peer, PEERS) + more)
    problems: list[str] = []
    # Of all that there is, frames are meant: only who names a master or a table is told why it is left out.
    if not named:
        products = [product for product in products if is_frame(product)]
    exported = export_for(space, products, output, peer, problems.append)
    if json:
        rows = [
            {"id": one.source.label, "files": [str(output / name) for name in one.files]} for one in exported
        ]
        print_json(rows)
    elif exported:
        typer.echo(f"{_counted(exported)} for {peer} in {output}; {output / 'run.sh'} runs it:")
        typer.echo("".join(f"    {line}\n" for line in _commands(output / "run.sh")), nl=False)
    else:
        typer.echo("no product is of this kind")
    for problem in problems:
        warn(problem)
    raise typer.Exit(DONE if exported and len(exported) == len(products) else FAILED)


def _commands(script: Path) -> list[str]:
    """The lines of a script behind its beginning, which is the same in all."""
    lines = script.read_text(encoding="utf-8").splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith("program="))
    return lines[begin + 1 :]


@upkeep.command()
def clean(
    days: Annotated[
        float, typer.Option("--older-than", metavar="DAYS", help="Only files older than this.")
    ] = 0.0,
    most: Annotated[
        str | None, typer.Option("--keep", metavar="SIZE", help="Keep the newest, up to this much: '20 GB'.")
    ] = None,
    really: Annotated[bool, typer.Option("--yes", help="Delete; without, only say what would go.")] = False,
    json: Json = False,
) -> None:
    """Delete products that others have superseded, and that nothing current was made with; jobs that wait in vain."""
    from ccdflow.cascade.planning.jobqueue import parse_memory
    from ccdflow.tasks.housekeeping import throw_away, waste
    from ccdflow.tasks.keeping.leftovers import leftovers, take_away

    space = workspace(read_only=not really)
    space.find_store()
    wasted = waste(space, days=days, most_bytes=None if most is None else parse_memory(most))
    # Without --yes nothing is touched: the sum is that of the sizes in the registry.
    freed = throw_away(space, wasted) if really else sum(item.product.size or 0 for item in wasted)
    idle = take_away(space, leftovers(space)) if really else leftovers(space)
    jobs = [{"job": left.job.key, "step": left.job.step, "reason": left.reason} for left in idle]
    rows = [
        {
            "id": f"p{item.product.id}",
            "file": item.product.path,
            "bytes": item.product.size,
            "reason": item.reason,
        }
        for item in wasted
    ]
    if json:
        print_json({"products": rows, "bytes": freed, "jobs": jobs, "deleted": really})
        return
    done = "deleted" if really else "would be deleted; --yes does it"
    if rows:
        print_table(rows, ["id", "file", "bytes", "reason"])
        typer.echo(f"{len(rows)} products, {freed / 1e6:.1f} MB {done}")
    if jobs:
        print_table([job | {"job": job["job"][:8]} for job in jobs], ["job", "step", "reason"])
        typer.echo(f"{len(jobs)} jobs that wait in vain {done}")
    if not rows and not jobs:
        typer.echo("nothing to clean")


def _named_products(space: "Workspace", ids: Sequence[str]) -> "list[ProductRecord]":
    """Return the products that are named, or that the named jobs make, each once."""
    from ccdflow.archive.registry.jobs.products import ProductFilter, find_products
    from ccdflow.commands import queries

    products: dict[int, ProductRecord] = {}
    for name in ids:
        # The columns tell the kinds apart: only products have a category, only jobs a recipe.
        row = queries.find(space, name)
        if "category" in row:
            chosen = space.registry.read(find_products, ProductFilter(ids=[int(row["id"][1:])], states=None))
        elif "recipe" in row:
            chosen = space.registry.read(find_products, ProductFilter(job_keys=[row["key"]], states=None))
        else:
            stop(f"{name} is a {'set' if 'action' in row else 'raw frame'}, wanted a product or a job")
        products |= {product.id: product for product in chosen}
    return list(products.values())
