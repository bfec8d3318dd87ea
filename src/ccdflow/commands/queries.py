"""What the commands `list`, `show`, `explain`, `status`, `verify` and `plan` tell, as rows.

Ids carry a letter, so that one word names one thing: ``f12`` a frame, ``s3`` a set, ``p7`` a product; a job is
named by its key.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ccdflow.archive.registry.choices import find_choices
from ccdflow.archive.registry.events import find_events
from ccdflow.archive.registry.frames.amendments import Amendment, find_amendments
from ccdflow.archive.registry.frames.doubts import find_doubts
from ccdflow.archive.registry.frames.queries import FrameFilter, find_frames, list_frames, show_frame
from ccdflow.archive.registry.instrumentevents import find_instrument_events
from ccdflow.archive.registry.jobs.lineage import keys_of_frames, main_frames
from ccdflow.archive.registry.jobs.products import ProductFilter, list_products
from ccdflow.archive.registry.jobs.records import JobFilter, JobRecord, find_job, find_jobs, keys_like
from ccdflow.archive.registry.sets.records import SetFilter, list_sets
from ccdflow.archive.search.finding import Kind, Question, find_rows
from ccdflow.archive.search.places import frame_of_file, product_of_file
from ccdflow.cascade.plain import is_id
from ccdflow.cascade.planning.jobs import Job, JobInput
from ccdflow.cascade.planning.plans import DataSet, Plan, data_sets
from ccdflow.cascade.planning.request import Request
from ccdflow.cascade.wording import unknown
from ccdflow.tasks.changes import differences
from ccdflow.tasks.keeping.audit import audit, repair
from ccdflow.tasks.keeping.stock import much_away
from ccdflow.tasks.planning import LIVE_AGE_DAYS, left_to_others, planned
from ccdflow.tasks.rawfiles.rawchecks import check_raws
from ccdflow.tasks.workspace import Workspace

Row = dict[str, Any]

COLUMNS = {
    "frames": (
        *("id", "class", "telescope", "camera", "filter", "object", "exptime", "obsdate", "iobs", "nobs"),
        *("stage", "status", "set", "reason", "doubts"),
    ),
    "sets": (
        *("id", "step", "status", "action", "ready", "telescope", "camera", "object", "filter", "first"),
        *("frames", "product", "reason"),
    ),
    "jobs": ("id", "step", "state", "night", "telescope", "camera", "filter", "object", "level", "reason"),
    "products": (
        "id",
        "category",
        "night",
        "telescope",
        "camera",
        "filter",
        "object",
        "superseded_by",
        "doubts",
        "file",
    ),
    "choices": ("id", "verdict", "what", "reason", "created"),
    "amendments": ("id", "frame", "name", "said", "value", "why", "who", "made", "undone"),
    "interventions": ("happened", "what", "telescope", "camera", "instrument", "reason"),
    "events": ("id", "kind", "subject", "created", "delivered"),
}
"""What is shown of each list to people; ``--json`` gives everything."""

SHOWN = 12
"""Digits of a job's key that are shown to people."""

STATES = ("done", "passed", "running", "waiting", "failed", "refused", "processed")


def brief(row: Row) -> Row:
    """A row as a table has room for it: of doubts the kinds, whose sentences `show` tells."""
    kinds = dict.fromkeys(doubt.partition(":")[0] for doubt in row.get("doubts") or ())
    return {**row, "doubts": list(kinds)}


def frames(space: Workspace, *, night: str | None, camera: str | None, superseded: bool) -> list[Row]:
    """Frames with their furthest stage and state."""
    status = None if superseded else ("registered", "refused", "processed", "duplicate")
    rows = space.registry.read(list_frames, FrameFilter(status=status, night=night, camera=camera))
    return [_frame_row(row) for row in rows]


def names(text: str) -> tuple[str, ...]:
    """Return names that stand in one text with commas between them."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def narrowed(
    what: str, rows: list[Row], wanted: Mapping[str, str | None], *, current: bool = False
) -> list[Row]:
    """Return the rows that have these values.

    Parameters
    ----------
    what : str
        What is listed, for messages.
    rows : list of dict
        All.
    wanted : mapping
        Name to value; None does not matter.
    current : bool
        Whether those are left out that something has taken the place of.

    Returns
    -------
    list of dict
        Those that are right.

    Raises
    ------
    ValueError
        If such rows have no such column, or none has the value while others have one; with the nearest.
    """
    for name, value in wanted.items():
        if value is None or not rows:
            continue
        _refuse_no_column(what, rows, name)
        there = sorted({str(row[name]) for row in rows if row[name]})
        rows = [row for row in rows if row[name] == value]
        if not rows:
            raise ValueError(unknown(name, value, there))
    if current and rows:
        _refuse_no_column(what, rows, "superseded_by")
        rows = [row for row in rows if row["superseded_by"] is None]
    return rows


def _refuse_no_column(what: str, rows: Sequence[Row], name: str) -> None:
    if name not in rows[0]:
        raise ValueError(unknown(f"column of {what}", name, list(rows[0])))


def in_order(what: str, rows: list[Row], order: Sequence[str]) -> list[Row]:
    """Return rows sorted by columns, what is not known last.

    Parameters
    ----------
    what : str
        What is listed, for messages.
    rows : list of dict
        All.
    order : sequence of str
        Names of columns, the first counts most; ``-name`` from the largest.

    Returns
    -------
    list of dict
        The same rows.
    """
    for name in reversed(order if rows else ()):
        column = name.removeprefix("-")
        _refuse_no_column(what, rows, column)
        known = [row for row in rows if row[column] is not None]
        known.sort(key=lambda row: _sortable(row[column]), reverse=name.startswith("-"))
        rows = known + [row for row in rows if row[column] is None]
    return rows


def _sortable(value: Any) -> tuple[int, float, str]:
    """Numbers and ids in their order, then texts in theirs."""
    if isinstance(value, int | float):
        return 0, float(value), ""
    number = value[1:] if isinstance(value, str) and value[:1] in "fsp" else ""
    return (0, float(number), "") if is_id(number) else (1, 0.0, str(value))


def found(space: Workspace, expression: str, kind: Kind, **asked: Any) -> list[Row]:
    """Return what an expression describes, with ids as people write them.

    Parameters
    ----------
    space : Workspace
        The project.
    expression : str
        See `ccdflow.archive.search.expressions.parse_expression`.
    kind : {'frames', 'products'}
        Of what.
    **asked
        Further fields of a `Question`.

    Returns
    -------
    list of dict
        A row for each.
    """
    rows = space.registry.read(find_rows, Question(kind, expression, **asked))
    return [
        {name: _id(kind[0], value) if name == "id" else value for name, value in row.items()} for row in rows
    ]


def _frame_row(row: Mapping[str, Any]) -> Row:
    named: Row = {"id": f"f{row['id']}", "set": _id("s", row["set"])}
    for name in ("duplicate_of", "superseded_by"):
        if name in row:
            named[name] = _id("f", row[name])
    return {**row, **named}


def _id(letter: str, number: int | None) -> str | None:
    return None if number is None else f"{letter}{number}"


def sets(space: Workspace, *, night: str | None, camera: str | None, superseded: bool) -> list[Row]:
    """Stack sets, with object and filter of their first frame."""
    status = None if superseded else ("open", "closed")
    stored = space.registry.read(list_sets, SetFilter(status=status))
    return [row for row in _set_rows(space, stored) if _is_of(row, night, camera)]


def _set_rows(space: Workspace, stored: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    """Rows of sets, each with what its first frame tells; of a set whose frames were all deleted without."""
    firsts = [row["frames"][0] for row in stored if row["frames"]]
    wanted = FrameFilter(status=None, ids=firsts, keywords=())
    known = {frame.id: frame for frame in space.registry.read(find_frames, wanted)} if firsts else {}
    for row in stored:
        first = known.get(row["frames"][0]) if row["frames"] else None
        told = {} if first is None else {"object": first.object, "filter": first.filter, "night": first.night}
        yield _set_row(row) | told


def _is_of(row: Row, night: str | None, camera: str | None) -> bool:
    """Whether a set is of a night and a camera."""
    return night in (None, row["night"]) and camera in (
        None,
        row["camera"],
        f"{row['telescope']}/{row['camera']}",
    )


def _set_row(row: Mapping[str, Any]) -> Row:
    named: Row = {"id": f"s{row['id']}", "frames": [f"f{number}" for number in row["frames"]]}
    named |= {"product": _id("p", row["product"]), "superseded_by": _id("s", row["superseded_by"])}
    return {**row, **named, "object": "", "filter": "", "night": ""}


def jobs(space: Workspace, *, night: str | None, camera: str | None, superseded: bool) -> list[Row]:
    """Jobs in the order in which they were planned."""
    return [_job_row(job) for job in space.registry.read(find_jobs, JobFilter(night=night, camera=camera))]


def _job_row(job: JobRecord) -> Row:
    names = "key step recipe version state reason night telescope camera instrument filter object"
    names += " level worst_level attempts owner"
    row = {"id": job.key[:SHOWN], **{name: getattr(job, name) for name in names.split()}}
    row["parameters"] = dict(job.parameters)
    row["inputs"] = [
        _input_row(job_input.role, job_input.frame, job_input.job, job_input.level)
        for job_input in job.inputs
    ]
    row |= {"set": _id("s", job.set_id), "planned": job.planned_at, "finished": job.finished_at}
    return row


def _input_row(role: str, frame: int | None, job: str | None, level: int | None) -> Row:
    row: Row = {"role": role, "id": f"f{frame}" if frame is not None else job}
    return row if level is None else row | {"level": level}


def products(space: Workspace, *, night: str | None, camera: str | None, superseded: bool) -> list[Row]:
    """Products that are there, with their jobs' inputs and quality numbers."""
    states = None if superseded else ("done",)
    rows = space.registry.read(list_products, ProductFilter(states=states, night=night, camera=camera))
    return [product_row(space, row) for row in rows]


def product_row(space: Workspace, row: Mapping[str, Any]) -> Row:
    """A product with ids that carry their letter; `path` is where its file is, `file` its name within the store."""
    inputs = [
        _input_row(job_input["role"], job_input.get("frame"), job_input.get("job"), job_input.get("level"))
        for job_input in row["inputs"]
    ]
    # Not held against the store: a path that leads out of it, as a row of others may have, is shown as it stands.
    path = str(space.store.root / row["path"])
    named = {"id": f"p{row['id']}", "superseded_by": _id("p", row["superseded_by"])}
    return {**row, **named, "path": path, "file": row["path"], "inputs": inputs}


def choices(space: Workspace, *, night: str | None, camera: str | None, superseded: bool) -> list[Row]:
    """What was pinned and banned."""
    recorded = space.registry.read(find_choices)
    keys = [choice.subject for choice in recorded if not choice.subject.startswith("f")]
    ids = {
        product["job"]: f"p{product['id']}"
        for product in space.registry.read(list_products, ProductFilter(job_keys=keys))
    }
    rows = []
    for choice in recorded:
        name = ids.get(choice.subject, choice.subject)
        row = find(space, name)
        rows.append({"id": name, **vars(choice), "what": row.get("path") or row.get("step")})
    return rows


def amendments(space: Workspace, *, night: str | None, camera: str | None, superseded: bool) -> list[Row]:
    """What was corrected of frames; with all, also what holds no longer."""
    frames = None
    if night is not None or camera is not None:
        wanted = FrameFilter(status=None, night=night, camera=camera, keywords=())
        frames = [frame.id for frame in space.registry.read(find_frames, wanted)]
    return [
        amendment_row(amendment)
        for amendment in space.registry.read(find_amendments, frames, undone=superseded)
    ]


def amendment_row(amendment: Amendment) -> dict[str, Any]:
    """Return a correction as lists show it.

    Parameters
    ----------
    amendment : Amendment
        The correction.

    Returns
    -------
    dict of str to object
        Its fields, with ids that carry their letter.
    """
    return {**vars(amendment), "id": f"a{amendment.id}", "frame": f"f{amendment.frame}"}


def interventions(space: Workspace, *, night: str | None, camera: str | None, superseded: bool) -> list[Row]:
    """What happened to instruments, as ``ccdflow event`` has recorded it."""
    return [vars(event) | {"reason": event.oddity} for event in space.registry.read(find_instrument_events)]


def subject(space: Workspace, name: str) -> str:
    """What a pin or a ban names: a frame (``f12``), or the key of the job that makes a product.

    Raises
    ------
    ValueError
        If there is nothing of that name, or it is a set.
    """
    row = find(space, name)
    if "action" in row:
        raise ValueError(f"{name} is a set, wanted a frame, a product or a job")
    return str(row["job"] if "category" in row else row["key"] if "recipe" in row else row["id"])


def short_name(space: Workspace, name: str) -> str:
    """What f12, s3, p7 or a key name as they are, and files by their path, in these words.

    Raises
    ------
    ValueError
        If nothing, or more than one job, is called so.
    """
    row = find(space, name)
    return str(row["key"] if "recipe" in row else row["id"])


def events(space: Workspace, *, night: str | None, camera: str | None, superseded: bool) -> list[Row]:
    """The outbox: what happened, in order."""
    return [
        {name: getattr(event, name) for name in event.__dataclass_fields__}
        for event in space.registry.read(find_events)
    ]


LISTS: Mapping[str, Callable[..., list[Row]]] = {
    "frames": frames,
    "sets": sets,
    "jobs": jobs,
    "products": products,
    "choices": choices,
    "amendments": amendments,
    "interventions": interventions,
    "events": events,
}


def find(space: Workspace, name: str) -> Row:
    """One frame, set, product or job, by id, key, beginning of a key, or path.

    Raises
    ------
    ValueError
        If nothing, or more than one job, is called so.
    """
    letter, number = name[:1], name[1:]
    if letter in "fsp" and is_id(number):
        row = _by_number(space, letter, int(number))
    else:
        row = _by_path(space, name) or _by_key(space, name)
    if row is None:
        raise ValueError(
            f"nothing is called {name!r}; wanted f12, s3, p7, a job's key or its beginning, or a file"
        )
    return row


def _by_number(space: Workspace, letter: str, number: int) -> Row | None:
    if letter == "f":
        row = space.registry.read(show_frame, number)
        return None if row is None else _frame_row(row)
    if letter == "s":
        stored = space.registry.read(list_sets, SetFilter(status=None, ids=[number]))
        return next(_set_rows(space, stored), None)
    rows = space.registry.read(list_products, ProductFilter(states=None, ids=[number]))
    return product_row(space, rows[0]) if rows else None


def _by_path(space: Workspace, name: str) -> Row | None:
    """Return the frame or product whose file this is; a product also by its path within the store."""
    path = Path(name).absolute()
    frame = space.registry.read(frame_of_file, str(path))
    if frame is not None:
        return _by_number(space, "f", frame)
    inside = path.relative_to(space.store.root).as_posix() if path.is_relative_to(space.store.root) else name
    product = space.registry.read(product_of_file, inside)
    return None if product is None else _by_number(space, "p", product)


def _by_key(space: Workspace, name: str) -> Row | None:
    """Return the job whose key begins so; None where there is none."""
    keys = space.registry.read(keys_like, name.lower()) if len(name) >= 4 else []
    if len(keys) > 1:
        raise ValueError(f"{name!r} begins the keys of several jobs: {', '.join(key[:12] for key in keys)}")
    job = space.registry.read(find_job, keys[0]) if keys else None
    return None if job is None else _job_row(job)


def explain(space: Workspace, name: str, request: Request = Request()) -> Row:
    """Where something came from, down to raw frames, and for a frame what is planned for it and why not more."""
    entry = find(space, name)
    if "category" in entry:
        row = {"id": entry["id"], "what": entry["file"], **_standing(space, entry["job"], request)}
        row["superseded_by"] = entry["superseded_by"]
        return {**row, "made_by": _tree(space, entry["job"])}
    if "recipe" in entry:
        standing = _standing(space, entry["key"], request)
        return {"id": entry["key"], "what": entry["step"], **standing, "made_by": _tree(space, entry["key"])}
    if "action" in entry:
        return {
            "id": entry["id"],
            "what": f"{entry['action']} set of {len(entry['frames'])} {entry['object']} {entry['filter']}".strip(),
            "state": entry["status"],
            "reason": entry["reason"],
            "frames": [_frame_line(space, frame) for frame in entry["frames"]],
        }
    return _explain_frame(space, entry, request)


def _standing(space: Workspace, key: str, request: Request) -> Row:
    """Tell whether a job is still what a plan would choose, and where not, what has changed."""
    job = space.registry.read(find_job, key)
    if job is None or job.step not in space.cascade.tasks:
        return {"standing": "its step is no longer in the cascade"}
    choice = next((choice for choice in space.registry.read(find_choices) if choice.subject == key), None)
    if choice is not None and choice.verdict == "banned":
        return {"standing": f"banned: {choice.reason}".rstrip(": ")}
    plan = planned(space, request.model_copy(update={"targets": (job.step,), "night": job.night or None}))
    # The same key means the same work (recipe, parameters, inputs): it would be reused.
    jobs_by_key = {other.key: other for other in plan.jobs}
    if key in jobs_by_key:
        current = jobs_by_key[key].state
        return {"standing": "current" if current == "reused" else f"current, to be done: {current}"}
    frames_of = set(space.registry.read(main_frames, key))
    # Otherwise what a plan makes of the same frames by the same step has taken its place.
    alike = (other for other in plan.jobs if other.step == job.step)
    successor = next(
        (other for other in alike if frames_of & {frame.id for frame in other.group.frames}), None
    )
    if successor is None:
        return {"standing": f"no longer planned: no {job.step} is made of its frames any more"}
    changes = differences(space, job, successor, jobs_by_key)
    return {
        "standing": f"would be made anew ({successor.key[:SHOWN]}, {successor.state})",
        "changes": changes,
    }


def _explain_frame(space: Workspace, frame: Row, request: Request) -> Row:
    """Return what was made of a frame, and what is planned for it but can't be done."""
    number = int(frame["id"][1:])
    jobs_of = space.registry.read(find_jobs, JobFilter(keys=space.registry.read(keys_of_frames, [number])))
    row: Row = {"id": frame["id"], "what": f"{frame['class']} {frame['path'] or 'row of a catalogue'}"}
    row |= {"state": f"{frame['stage']} {frame['status']}", "reason": frame["reason"]}
    if frame["duplicate_of"]:
        row["reason"] = f"the same exposure as {frame['duplicate_of']}"
    elif not row["reason"] and (old := left_to_others(space, LIVE_AGE_DAYS, (number, number))):
        row["reason"] = old.partition(" frame ")[2]
    row["doubts"] = frame["doubts"]
    row["amended"] = frame["amended"]
    row["used_by"] = [{"id": job.key[:12], "what": job.step, "state": job.state} for job in jobs_of]
    plan = planned(space, request.model_copy(update={"night": frame["night"] or None}))
    row["missing"] = [
        missing
        for job in plan.jobs
        if job.state == "incomplete" and any(job_input.frame == number for job_input in job.main)
        for missing in _missing_rows(job)
    ]
    return row


def _frame_line(space: Workspace, name: str) -> Row:
    row = find(space, name)
    return {
        "id": name,
        "what": row["path"],
        "state": f"{row['stage']} {row['status']}",
        "reason": row["reason"],
        "doubts": row["doubts"],
    }


def _tree(space: Workspace, key: str) -> Row:
    """Return a job with all that it took, down to raw frames."""
    job = space.registry.read(find_job, key)
    if job is None:
        return {"id": key, "what": "unknown job"}
    paths = {
        frame.id: frame.path
        for frame in space.registry.read(find_frames, FrameFilter(status=None, ids=_frame_ids(job)))
    }
    doubts = space.registry.read(find_doubts, _frame_ids(job))
    inputs = []
    for job_input in job.inputs:
        if job_input.job is not None:
            inputs.append({"role": job_input.role, "level": job_input.level, **_tree(space, job_input.job)})
        elif job_input.frame is not None:
            raw: Row = {
                "role": job_input.role,
                "id": f"f{job_input.frame}",
                "what": paths.get(job_input.frame),
            }
            raw["doubts"] = [str(doubt) for doubt in doubts.get(job_input.frame, ())]
            inputs.append(raw)
    parameters = {name: f"{value['value']} ({value['origin']})" for name, value in job.parameters.items()}
    # A recipe's own defaults go without saying.
    changed = {name: text for name, text in parameters.items() if not text.endswith("(recipe)")}
    made = space.registry.read(list_products, ProductFilter(states=None, job_keys=[key]))
    row: Row = {"id": key[:12], "what": f"{job.step}, recipe {job.recipe} {job.version}", "state": job.state}
    row["doubts"] = list(dict.fromkeys(doubt for product in made for doubt in product["doubts"]))
    return row | {"reason": job.reason, "parameters": changed, "inputs": inputs}


def _frame_ids(job: JobRecord) -> list[int]:
    return [job_input.frame for job_input in job.inputs if job_input.frame is not None]


def tree_lines(row: Mapping[str, Any], depth: int = 0) -> Iterator[str]:
    """What `explain` found, as indented lines."""
    words = [
        row.get("role"),
        row["id"],
        row.get("what"),
        row.get("state"),
        row.get("standing"),
        row.get("reason"),
    ]
    if row.get("superseded_by"):
        words.append(f"superseded by {row['superseded_by']}")
    if row.get("level"):
        words.append(f"level {row['level']}")
    yield "  " * depth + "  ".join(str(word) for word in words if word)
    for name, value in (row.get("parameters") or {}).items():
        yield "  " * (depth + 1) + f"{name} = {value}"
    for doubt in row.get("doubts") or ():
        yield "  " * (depth + 1) + f"doubt {doubt}"
    for amendment in row.get("amended") or ():
        yield "  " * (depth + 1) + f"amended: {amendment}"
    for change in row.get("changes") or ():
        yield "  " * (depth + 1) + f"changed: {change}"
    for missing in row.get("missing") or ():
        yield "  " * (depth + 1) + f"missing {missing['input']}: {missing['reason']}"
        if left := survivors_text(missing):
            yield "  " * (depth + 2) + left
        for near in missing["nearest"]:
            yield "  " * (depth + 2) + f"{near['name']}: {near['reason']}"
    below = [row["made_by"]] if "made_by" in row else []
    for branch in [
        *below,
        *(row.get("inputs") or ()),
        *(row.get("frames") or ()),
        *(row.get("used_by") or ()),
    ]:
        yield from tree_lines(branch, depth + 1)


def plan_rows(space: Workspace, plan: Plan) -> list[Row]:
    """Jobs of a plan as ``plan --json`` gives them."""
    reused = {job.key for job in plan.jobs if job.state == "reused"}
    ids = {
        product["job"]: f"p{product['id']}"
        for product in space.registry.read(list_products, ProductFilter(job_keys=sorted(reused)))
    }
    return [_plan_row(job, ids) for job in plan.jobs]


def data_set_rows(plan: Plan) -> list[Row]:
    """The data sets of a plan as ``plan --tree --json`` gives them."""
    return [_data_set_row(data_set, "") for data_set in data_sets(plan)]


def _data_set_row(data_set: DataSet, role: str) -> Row:
    job = data_set.job
    frames = [f"f{item.frame}" for item in job.main if item.frame is not None]
    row: Row = {"role": role} if role else {}
    label = job.name if job.name.startswith(job.step) else f"{job.step}, {job.name}"
    row |= {"id": job.key[:12], "what": label, "state": job.state, "frames": frames}
    row |= {"level": job.level, "worst_level": data_set.level, "complete": data_set.complete}
    return row | {
        "missing": _missing_rows(job),
        "without": [{"input": lack.input, "reason": lack.reason} for lack in job.without],
        "needs": [_data_set_row(need, name) for name, need in data_set.needs],
    }


def data_set_lines(row: Mapping[str, Any], depth: int = 0) -> Iterator[str]:
    """A data set as indented lines; the first says its worst association level."""
    words = [row.get("role"), row["id"], row["what"], row["state"]]
    if len(row["frames"]) > 1:
        words.append(f"{row['frames'][0]}..{row['frames'][-1]}")
    words += row["frames"] if len(row["frames"]) == 1 else []
    level = row["worst_level"] if depth == 0 else row["level"]
    words.append(f"{'worst ' if depth == 0 else ''}level {level}" if level else "")
    yield "  " * depth + "  ".join(str(word) for word in words if word)
    for missing in row["missing"]:
        yield "  " * (depth + 1) + f"missing {missing['input']}: {missing['reason']}"
    for lack in row["without"]:
        yield "  " * (depth + 1) + f"without {lack['input']}: {lack['reason']}"
    for need in row["needs"]:
        yield from data_set_lines(need, depth + 1)


def missing_calibrations(plan: Plan) -> list[Row]:
    """What incomplete jobs lack, each kind once: how many frames of which nights wait for it."""
    waiting: dict[tuple[Any, ...], tuple[set[int], set[str], str]] = {}
    for job in plan.jobs:
        for lack in job.missing:
            if lack.input == "main":
                continue
            setup = [job.group.text(name) for name in ("telescope", "camera", "filter", "exptime", "binning")]
            # Biases and gains belong to the camera: filter and exposure time of what waits for them say nothing.
            if lack.input in ("bias", "gain"):
                setup[2:4] = "", ""
            frames_, nights, _ = waiting.setdefault((lack.input, *setup), (set(), set(), lack.reason))
            frames_ |= {frame.id for frame in job.group.frames}
            nights.add(job.group.text("night"))
    names = ("missing", "telescope", "camera", "filter", "exptime", "binning")
    return [
        dict(zip(names, key, strict=True)) | {"frames": len(ids), "nights": sorted(nights), "reason": reason}
        for key, (ids, nights, reason) in waiting.items()
    ]


def _plan_row(job: Job, ids: Mapping[str, str]) -> Row:
    """Return a planned job as ``plan --json`` gives it, products by their ids where they are there."""

    def name(job_input: JobInput) -> str:
        return f"f{job_input.frame}" if job_input.job is None else ids.get(job_input.job, job_input.job)

    roles: dict[str, Row] = {}
    for job_input in job.associated:
        row = roles.setdefault(job_input.role, {"input": job_input.role, "ids": [], "level": job_input.level})
        row["ids"].append(name(job_input))
    return {
        "key": job.key,
        "step": job.step,
        "recipe": job.recipe,
        "state": job.state,
        "what": job.name,
        "main": [name(job_input) for job_input in job.main],
        "associated": list(roles.values()),
        "missing": _missing_rows(job),
        "without": [{"input": lack.input, "reason": lack.reason} for lack in job.without],
        "compromises": [
            {"input": lack.input, "level": lack.level or 0, "reason": lack.reason} for lack in job.compromises
        ],
        "parameters": {
            name: {"value": parameter.value, "origin": parameter.origin}
            for name, parameter in job.parameters.items()
        },
        "reason": job.reason,
    }


def _missing_rows(job: Job) -> list[Row]:
    return [
        {
            "input": lack.input,
            "reason": lack.reason,
            "nearest": [{"name": near.name, "reason": near.reason} for near in lack.nearest],
            "survivors": [{"test": test, "left": left} for test, left in lack.survivors],
        }
        for lack in job.missing
    ]


def survivors_text(missing: Mapping[str, Any]) -> str:
    """How many candidates were left after each test, up to the first that none has passed."""
    words = []
    for test in missing["survivors"]:
        words.append(f"{test['test']} {test['left']}")
        if not test["left"]:
            break
    return f"left after each test: {', '.join(words)}" if words else ""


def inputs_text(row: Mapping[str, Any]) -> str:
    """The inputs of a planned job in a few words: frames by number, products by role."""
    main = [name if len(name) < 20 else name[:8] for name in row["main"]]
    shown = f"{main[0]}..{main[-1]}" if len(main) > 2 else " ".join(main)
    roles = [f"{job_input['input']}{_level(job_input['level'])}" for job_input in row["associated"]]
    return f"{shown} + {', '.join(roles)}" if roles else shown


def compromise_lines(compromises: Iterable[tuple[str, int, str]]) -> Iterator[str]:
    """Say what is not as planned in the jobs of a plan, and of how many.

    Parameters
    ----------
    compromises : iterable of (str, int, str)
        Step, level and reason of each, job by job.

    Yields
    ------
    str
        ``5 science at level 2: bias fits less than planned: offset is blank, wanted 50``.
    """
    for (step, level, reason), number in Counter(compromises).items():
        yield f"{number} {step} at level {level}: {reason}"


def _level(level: int | None) -> str:
    return "" if level in (None, 0) else f"({level})"


def ledger(space: Workspace, night: str | None) -> list[Row]:
    """Frames by night and stage: how many are in each state; for each night the states add up to its frames."""
    counts: dict[tuple[str, str], Row] = {}
    for frame in frames(space, night=night, camera=None, superseded=False):
        if frame["status"] == "duplicate":
            continue
        row = counts.setdefault(
            (frame["night"] or "unknown", frame["stage"]),
            {
                "night": frame["night"] or "unknown",
                "stage": frame["stage"],
                "frames": 0,
                **dict.fromkeys(STATES, 0),
            },
        )
        row["frames"] += 1
        row[frame["status"]] += 1
    return [counts[key] for key in sorted(counts)]


def verify(space: Workspace, *, raws: bool = False, mend: bool = False, gone: bool = False) -> Row:
    """Every product, and on request every raw file, against its checksum; files of the store that are none of ours.

    With `mend` the registry learns of it, and with `gone` also where much is away at once.
    """
    found = audit(space)
    if mend:
        repair(space, found, gone=gone)
    problems = [
        {"what": check.state, "path": check.path, "reason": check.reason, "product": f"p{check.product}"}
        for check in found.problems
    ]
    if not mend:
        problems += [
            {
                "what": "back",
                "path": product.path,
                "reason": "its file is there again; 'ccdflow run' or 'ccdflow verify --repair' takes it",
                "product": f"p{product.id}",
            }
            for product in found.back
        ]
    problems += [
        {"what": "foreign", "path": path, "reason": "no product of the registry"} for path in found.foreign
    ]
    told: Row = {
        "products": len(found.checks),
        "intact": len(found.checks) - len(found.problems),
        "foreign": list(found.foreign),
        "problems": problems,
        "away": much_away(space, found.stock),
    }
    if mend:
        told |= {"again": len(found.problems), "back": len(found.back)}
    if not raws:
        return told
    looks = list(check_raws(space, note=mend))
    problems += [
        {"what": look.state, "path": look.path, "reason": look.reason, "frame": f"f{look.frame}"}
        for look in looks
        if look.state != "ok"
    ]
    return told | {"raws": len(looks), "raws_intact": sum(look.state == "ok" for look in looks)}
