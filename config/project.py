"""The project file `ccdflow.yaml`: where registry and store are, which cascade and instruments apply."""

import json
import re
from collections.abc import Mapping
from os.path import normpath
from pathlib import Path
from string import Formatter
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, PositiveInt, field_validator

from ccdflow.cascade.plain import no_path_in_words
from ccdflow.cascade.planning.jobqueue import Order
from ccdflow.cascade.specification.durations import Seconds
from ccdflow.cascade.specification.model import Memory
from ccdflow.config.shipped import shipped
from ccdflow.config.yamlfile import ConfigError, load_model

PROJECT_FILE = "ccdflow.yaml"
"""Name of the file that makes a folder a project."""

TEMPLATE_PARTS = frozenset(("category", "night", "telescope", "camera", "name", "key8"))
"""What the path of a product in the store can be made of."""

ROOT_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
"""Names of roots."""

TIME_LIMIT_S = 7200.0
"""Seconds that a recipe of somebody's own may take: far more than any takes that comes to an end."""

TEMPLATE = """\
# A ccdflow project. Paths are relative to this file.
registry: sqlite:///registry.sqlite   # or postgresql://user@host/database
store: store                          # folder of the products
cascade: imaging                      # name of a cascade that comes with ccdflow, or the path of a YAML file
# instruments: [instruments]          # folders with instrument files of your own; they come before ours
# keep_alive: 60                      # seconds after which the job of a silent worker is given to another
# order: depth                        # or breadth, type, dynamic: which jobs go first
# least_free: 1 GB                    # no job is begun with less space left where the store is
# memory: 16 GB                       # what jobs may take together (default: the machine's); also cores: 4
# time_limit: 2 h                     # after which a job of a recipe of your own is ended, and has failed
# read_limit: 2 min                   # a file that is silent for longer is not read, and looked at again the next time
# late_calibrations: keep             # keep what was made when better calibrations come in; '--late redo' asks for it
# urgent: [GRB*]                      # objects whose frames go before all others
# roots: {raw: /data/raw}               # raw files may move: change it here then, and paths below it follow
# template: "{category}/{night}/{telescope}-{camera}/{name}-{key8}.fits"   # where products lie in the store
# executor: stub                      # recipes that make products of 2 x 2 pixels, to try a cascade
"""


class ProjectFile(BaseModel):
    """What stands in `ccdflow.yaml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    registry: str = "sqlite:///registry.sqlite"
    """Database URL; a relative SQLite path is relative to the project."""
    store: str = "store"
    """Folder of the products."""
    cascade: str = "imaging"
    """Name of a cascade that comes with ccdflow, or path of a YAML file."""
    instruments: tuple[str, ...] = ()
    """Folders with instrument files; the first that claims a header wins."""
    executor: Literal["recipes", "stub"] = "recipes"
    """Whether jobs call their recipes, or stubs that make products of 2 x 2 pixels."""
    late_calibrations: Literal["redo", "keep"] = "redo"
    """Whether products are made anew when calibrations come in that would be chosen over those used."""
    order: Order = "depth"
    """Which jobs go first."""
    urgent: tuple[str, ...] = ()
    """Objects, by patterns such as ``GRB*``, whose jobs go before all others."""
    least_free: Memory = 100_000_000
    """Space that must be left where the store is; a job is not begun with less."""
    cores: PositiveInt | None = None
    """Jobs at once, unless steps say what they need, and threads of each; without, and at most, the machine's cores."""
    memory: Memory | None = None
    """Memory that jobs may take together; without, the machine's."""
    keep_alive: float = 60.0
    """Seconds without a sign of life after which a job is given to another worker."""
    time_limit: Seconds = TIME_LIMIT_S
    """Time that a job of a recipe of your own may take, such as ``30 min``, unless recipe or task say otherwise."""
    read_limit: Seconds | None = None
    """Time that a raw file may be silent while it is read; without, two minutes. Tapes and slow networks need more."""
    data_ids: dict[str, dict[str, Any]] = {}
    """By name of a kind of data id its fields: how many numbers, a list of names, or ``date``."""
    roots: dict[str, str] = {}
    """Folders of raw files by names of one's own; paths below them are kept relative to them."""
    template: str | None = None
    """Path of a product in the store, of category, night, telescope, camera, name and key8 in braces."""

    @field_validator("store", "cascade", "instruments")
    @classmethod
    def _are_paths(cls, stated: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for path in (stated,) if isinstance(stated, str) else stated:
            if not path.strip():
                raise ValueError("is empty; wanted a path, or leave the line out")
            if told := no_path_in_words(path):
                raise ValueError(told)
        return stated

    @field_validator("data_ids")
    @classmethod
    def _can_be_packed(cls, stated: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        # numpy takes a tenth of a second to load, and few projects state any.
        from ccdflow.cascade.dataids import Packer

        for name, fields in stated.items():
            try:
                Packer(fields)
            except ValueError as error:
                raise ValueError(f"data id {name!r}: {error}") from None
        return stated

    @field_validator("roots")
    @classmethod
    def _are_roots(cls, stated: dict[str, str]) -> dict[str, str]:
        for name, folder in stated.items():
            if not ROOT_NAME.fullmatch(name):
                raise ValueError(f"root {name!r} is no name; wanted letters, digits, - and _, as 'raw'")
            if not folder.strip() or (told := no_path_in_words(folder)):
                raise ValueError(f"root {name!r}: {told if folder.strip() else 'is empty; wanted a folder'}")
        if len({*stated.values()}) < len(stated):
            raise ValueError("two roots are one folder; wanted one name for each")
        return stated

    @field_validator("template")
    @classmethod
    def _tells_products_apart(cls, template: str | None) -> str | None:
        if template is None:
            return None
        try:
            named = {name for _, name, _, _ in Formatter().parse(template) if name is not None}
        except ValueError as error:
            raise ValueError(f"template {template!r}: {error}") from None
        if strange := sorted(named - TEMPLATE_PARTS):
            raise ValueError(
                f"template {template!r} names {', '.join(strange)}; known: {', '.join(sorted(TEMPLATE_PARTS))}"
            )
        # The key tells jobs apart, the category what one of them makes.
        if not {"category", "key8"} <= named or not template.endswith(".fits"):
            raise ValueError(f"template {template!r} must hold {{category}} and {{key8}}, and end in .fits")
        if template.startswith("/") or ".." in template.split("/"):
            raise ValueError(f"template {template!r} leads out of the store")
        return template


class Project(BaseModel):
    """A project as the programs see it: absolute paths, database URL."""

    model_config = ConfigDict(frozen=True)

    directory: Path
    registry: str
    store: Path
    cascade_path: Path
    instruments: tuple[Path, ...]
    keep_alive: float
    executor: Literal["recipes", "stub"] = "recipes"
    late_calibrations: Literal["redo", "keep"] = "redo"
    urgent: tuple[str, ...] = ()
    least_free: int = 0
    order: Order = "depth"
    cores: int | None = None
    memory: int | None = None
    data_ids: tuple[tuple[str, str], ...] = ()
    """Name of each kind of data id, and its fields as JSON."""
    template: str | None = None
    time_limit: float = TIME_LIMIT_S
    read_limit: float | None = None
    roots: tuple[tuple[str, str], ...] = ()
    """Names and folders; a folder that is reached through a link is there twice, as it is written first."""

    @property
    def scratch(self) -> Path:
        """Folder of what may be deleted at any time: the embedded Prefect server's files."""
        return self.directory / ".ccdflow"


def load_project(directory: Path) -> Project:
    """Return the project of a directory.

    Parameters
    ----------
    directory : Path
        Folder of the project file; ``~`` is the home directory.

    Returns
    -------
    Project
        With absolute paths.

    Raises
    ------
    ConfigError
        If there is no project file, or it says something that is not understood.
    """
    # Resolved, so that one folder by two names (a link, a relative path) is one project.
    root = directory.expanduser().resolve()
    path = root / PROJECT_FILE
    if not path.is_file():
        raise ConfigError(
            f"{directory} is no project: it has no {PROJECT_FILE}; make one with 'ccdflow init'"
        )
    written = load_model(path, ProjectFile)
    store = _below(root, written.store)
    # Whatever lies in a store and is no product is foreign to it: raw frames and the registry would be.
    if store.resolve() == root:
        raise ConfigError(f"{path}: store {written.store!r} is the project's own folder; wanted another one")
    return Project(
        directory=root,
        registry=_absolute_url(written.registry, root),
        store=store,
        cascade_path=cascade_path(written.cascade, root),
        instruments=tuple(_below(root, folder) for folder in written.instruments),
        keep_alive=written.keep_alive,
        executor=written.executor,
        late_calibrations=written.late_calibrations,
        order=written.order,
        urgent=written.urgent,
        data_ids=tuple((name, json.dumps(fields)) for name, fields in written.data_ids.items()),
        least_free=written.least_free,
        cores=written.cores,
        memory=written.memory,
        template=written.template,
        time_limit=written.time_limit,
        read_limit=written.read_limit,
        roots=_spellings({name: _below(root, folder) for name, folder in written.roots.items()}),
    )


def _spellings(roots: Mapping[str, Path]) -> tuple[tuple[str, str], ...]:
    """Roots as they are written, and where links lead: frames may be registered by either path."""
    written = [(name, normpath(folder)) for name, folder in roots.items()]
    resolved = [(name, str(folder.resolve())) for name, folder in roots.items()]
    return tuple(dict.fromkeys(written + resolved))


def _absolute_url(url: str, root: Path) -> str:
    # SQLAlchemy: three slashes before a relative path, a fourth begins an absolute one.
    scheme, _, path = url.partition(":///")
    if not scheme.startswith("sqlite") or path.startswith("/"):
        return url
    return f"{scheme}:///{_below(root, path)}"


def _below(root: Path, written: str) -> Path:
    """A path of the project file: relative to its folder, and with the home directory for ``~`` as in a shell."""
    try:
        return root / Path(written).expanduser()
    except RuntimeError:
        raise ConfigError(f"{root / PROJECT_FILE}: the home directory of {written!r} is not known") from None


def cascade_path(name: str, root: Path) -> Path:
    """Return the file of a cascade: one of the project, or one that comes with ccdflow.

    Parameters
    ----------
    name : str
        Path of a YAML file, or name of a cascade that comes with ccdflow; a file goes first.
    root : Path
        Folder that the path is relative to.

    Returns
    -------
    Path
        A file that is there.

    Raises
    ------
    ConfigError
        If there is neither.
    """
    for path in (_below(root, name), shipped("cascades") / f"{name}.yaml"):
        if path.is_file():
            return path
    known = ", ".join(sorted(file.stem for file in shipped("cascades").glob("*.yaml")))
    raise ConfigError(f"cascade {name!r} is no file in {root}; those that come with ccdflow: {known}")


def init_project(directory: Path) -> Path:
    """Write a new project file.

    Parameters
    ----------
    directory : Path
        Folder of the project, which is made if it isn't there.

    Returns
    -------
    Path
        The file, in which all that can be changed stands as a comment.

    Raises
    ------
    ConfigError
        If there is a project already.
    """
    path = directory / PROJECT_FILE
    if path.exists():
        raise ConfigError(f"{directory} already has a {PROJECT_FILE}")
    directory.mkdir(parents=True, exist_ok=True)
    path.write_text(TEMPLATE)
    return path
