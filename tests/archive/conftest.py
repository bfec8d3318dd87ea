from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from ccdflow.archive.registry.doors import Registry
from ccdflow.archive.registry.tables import Base


@pytest.fixture(scope="session")
def postgresql(postgresql_url: str) -> Iterator[Registry]:
    registry = Registry(postgresql_url)
    registry.upgrade()
    yield registry
    registry.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Registry]:
    if request.param == "sqlite":
        registry = Registry(f"sqlite:///{tmp_path}/registry.sqlite")
        registry.upgrade()
        yield registry
        registry.close()
        return
    registry = request.getfixturevalue("postgresql")
    tables = ", ".join(Base.metadata.tables)
    with registry.database.write() as connection:
        connection.execute(text(f"TRUNCATE {tables} RESTART IDENTITY CASCADE"))
    yield registry
