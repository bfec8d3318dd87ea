"""Define the options that several commands share, and say what they mean."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from ccdflow.cascade.plain import moment as plain_moment
from ccdflow.commands.output import stop
from ccdflow.completion import offered

# Each command imports what it needs: what others need would take it a second to start.
if TYPE_CHECKING:
    from ccdflow.cascade.planning.request import Request
    from ccdflow.tasks.workspace import Workspace

directory = Path()
"""Directory of the project: the one option that all commands share."""

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Target = Annotated[
    list[str] | None,
    typer.Option("--target", "-t", help="Task or tag whose products are wanted; may be repeated."),
]
Night = Annotated[
    str | None,
    typer.Option(help="Only this night: the evening's date, 2026-03-01.", autocompletion=offered("night")),
]
Since = Annotated[str | None, typer.Option(help="Only frames from this time on, ISO, UTC.")]
Until = Annotated[str | None, typer.Option(help="Only frames up to this time, ISO, UTC.")]
Camera = Annotated[
    str | None,
    typer.Option(help="Only this camera: CAMERA or TELESCOPE/CAMERA.", autocompletion=offered("camera")),
]
Param = Annotated[
    list[str] | None,
    typer.Option("--param", "-p", help="STEP.NAME=VALUE; may be repeated.", metavar="STEP.NAME=VALUE"),
]
Set = Annotated[
    str | None,
    typer.Option("--set", help="Parameter set of the cascade (default: 'default', if there is one)."),
]
Threshold = Annotated[
    int | None,
    typer.Option(
        "--quality-threshold", help="Worst association level: 0 as planned, 1 certifiable, 2 probably fine."
    ),
]
Prefer = Annotated[
    str,
    typer.Option(
        "--prefer",
        help="raw_per_level, master_per_level, raw or master: what is associated first.",
        show_default=False,
    ),
]
Late = Annotated[
    str | None,
    typer.Option(
        "--late",
        help="redo or keep: products for which other calibrations would be chosen now (default: the project's).",
    ),
]
TakeProcessed = Annotated[
    str,
    typer.Option(
        "--take-processed",
        metavar="TASK",
        help="Take frames that another program has calibrated, at this task of the cascade, without what was done to "
        "them; raw: as raw frames (default: they are registered and not used).",
        show_default=False,
    ),
]
CascadeName = Annotated[
    str | None, typer.Option("--cascade", help="Name of a cascade or a YAML file (default: the project's).")
]
Now = Annotated[
    str | None, typer.Option(help="Time at which sequences are closed, ISO, UTC (default: the clock).")
]


Gone = Annotated[
    bool,
    typer.Option(
        "--gone", help="What is away from the store is really gone, however much: it is to be made again."
    ),
]


def workspace(*, read_only: bool = False) -> "Workspace":
    """Open the project that the command is for.

    Parameters
    ----------
    read_only : bool
        The command only asks: nothing is written, and rights to read are enough.

    Returns
    -------
    Workspace
        Its registry, store and cascade.
    """
    from ccdflow.tasks.workspace import open_workspace

    return open_workspace(directory, read_only=read_only)


def selecting(night: str | None, camera: str | None, *, read_only: bool = False) -> "Workspace":
    """Open the project; a night or camera that nothing is of ends the command, with the nearest.

    Parameters
    ----------
    night, camera : str or None
        As they were asked for.
    read_only : bool
        As in `workspace`.

    Returns
    -------
    Workspace
        As `workspace` gives it.
    """
    space = workspace(read_only=read_only)
    if night is not None or camera is not None:
        from ccdflow.archive.registry.selection import refuse_unknown

        space.registry.read(refuse_unknown, night_of(night), camera)
    return space


def moment(text: str | None, *, end: bool = False) -> str | None:
    """Return a date or time in UTC, without zone; what is no time ends the command.

    Parameters
    ----------
    text : str or None
        ISO date or time, with or without zone.
    end : bool
        Take a date alone for the end of the day, not for its start.

    Returns
    -------
    str or None
        ISO text; None where nothing is stated.
    """
    if text is None:
        return None
    try:
        return plain_moment(text, end=end)
    except ValueError as error:
        stop(str(error))


def night_of(text: str | None) -> str | None:
    """Return the date of a night as ISO has it; what is no date ends the command.

    Parameters
    ----------
    text : str or None
        Date of the evening.

    Returns
    -------
    str or None
        ISO text; None where nothing is stated.
    """
    try:
        return None if text is None else date.fromisoformat(text).isoformat()
    except ValueError:
        stop(f"--night {text!r} is no date; wanted the evening's, for instance 2026-03-01")


def request_of(
    target: list[str] | None,
    param: list[str] | None,
    night: str | None,
    since: str | None,
    until: str | None,
    camera: str | None,
    now: str | None,
    parameter_set: str | None = None,
    threshold: int | None = None,
    prefer: str = "raw_per_level",
    late: str | None = None,
    order: str | None = None,
) -> "Request":
    """Return the request that the options of a command make; what is not understood ends the command.

    Parameters
    ----------
    target, param, night, since, until, camera, now, parameter_set, threshold, prefer, late, order
        Texts and numbers as they stand on the command line, see the options of these names in this module.

    Returns
    -------
    Request
        What is to be planned.
    """
    from typing import get_args

    from ccdflow.cascade.planning.jobqueue import Order
    from ccdflow.cascade.planning.request import Request
    from ccdflow.cascade.specification.model import Preference
    from ccdflow.cascade.wording import unknown

    if prefer not in get_args(Preference):
        stop(unknown("--prefer", prefer, get_args(Preference)))
    if late not in (None, "redo", "keep"):
        stop(unknown("--late", late or "", ["redo", "keep"]))
    if order is not None and order not in get_args(Order):
        stop(unknown("--order", order, get_args(Order)))
    # Read here and passed down as a value: planning itself never looks at a clock.
    clock = moment(now) or datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="seconds")
    return Request(
        targets=tuple(target or ()),
        parameters=dict(assignment(text) for text in param or ()),
        night=night_of(night),
        since=moment(since),
        until=moment(until, end=True),
        camera=camera,
        now=clock,
        parameter_set=parameter_set,
        quality_threshold=threshold,
        preference=cast(Any, prefer),
        late=cast(Any, late),
        order=cast(Any, order),
    )


def assignment(text: str) -> tuple[str, Any]:
    """Return name and value of ``NAME=VALUE``; what is not of this form ends the command.

    Parameters
    ----------
    text : str
        As it stands on the command line; the value is read as YAML.

    Returns
    -------
    (str, object)
        Name, and a number, text, truth or list.

    Examples
    --------
    >>> assignment("flat.sigma=3.5")
    ('flat.sigma', 3.5)
    """
    import yaml

    name, equals, value = text.partition("=")
    if not equals or not name:
        stop(f"--param {text!r} is not of the form STEP.NAME=VALUE")
    try:
        return name, yaml.safe_load(value)
    except yaml.YAMLError:
        stop(f"--param {text!r}: {value!r} is no YAML value; wanted a number, a word, true, or [a, list]")
