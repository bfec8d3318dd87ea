"""The views have the columns that the manual promises, and tell what is in the tables."""

import re
from pathlib import Path

from sqlalchemy import Connection, insert, text

from ccdflow.archive.registry.doors import Registry
from ccdflow.archive.registry.tables import FrameRow, JobInputRow, JobRow, ProductRow, table
from ccdflow.archive.registry.views import VIEWS

PAGE = Path(__file__).parents[3] / "docs" / "archive.md"


def fill(connection: Connection) -> None:
    """Two frames, a bias of both, and a calibrated frame that was made anew."""
    states = ("registered", "registered", "superseded")
    frames = [
        {"class": "bias", "obsdate": f"2026-03-01T20:0{n}:00", "status": state}
        for n, state in enumerate(states)
    ]
    connection.execute(insert(table(FrameRow)), frames)
    jobs = [
        {"key": key, "step": key, "recipe": key, "version": "1", "parameters": {}}
        for key in ("bias", "science")
    ]
    connection.execute(insert(table(JobRow)), jobs)
    inputs = [
        {
            "job_key": "bias",
            "role": "main",
            "position": n,
            "frame_id": n + 1,
            "parent_job_key": None,
            "identity": "x",
        }
        for n in range(2)
    ]
    taken = {
        "job_key": "science",
        "role": "master_bias",
        "position": 0,
        "frame_id": None,
        "parent_job_key": "bias",
    }
    connection.execute(insert(table(JobInputRow)), [*inputs, taken | {"identity": "bias"}])
    products = [
        {"job_key": key, "category": category, "path": category, "state": "done", "superseded_by": by}
        for key, category, by in (("bias", "master_bias", None), ("science", "science", 9))
    ]
    connection.execute(insert(table(ProductRow)), products)


def rows(registry: Registry, statement: str) -> list[tuple[object, ...]]:
    return registry.read(lambda connection: [tuple(row) for row in connection.execute(text(statement))])


def test_views_tell_what_is_current_and_what_it_came_from(registry: Registry) -> None:
    registry.write(fill)
    assert rows(registry, "SELECT id FROM v_frames ORDER BY id") == [(1,), (2,)]
    assert rows(registry, "SELECT id, task, is_current FROM v_products ORDER BY id") == [
        (1, "bias", 1),
        (2, "science", 0),
    ]
    lineage = (
        "SELECT product, role, frame, input_product, input_category FROM v_lineage ORDER BY product, position"
    )
    assert rows(registry, lineage) == [
        (1, "main", 1, None, None),
        (1, "main", 2, None, None),
        (2, "master_bias", None, 1, "master_bias"),
    ]


def test_the_manual_has_their_columns(registry: Registry) -> None:
    told = dict(re.findall(r"^\| `(v_\w+)` \|[^|]*\| `([^`]*)`", PAGE.read_text(), re.M))
    there = {
        name: " ".join(
            registry.read(
                lambda connection, name=name: connection.execute(text(f"SELECT * FROM {name}")).keys()
            )
        )
        for name in VIEWS
    }
    assert told == there


def test_an_upgrade_makes_them_anew(registry: Registry) -> None:
    for name in VIEWS:
        registry.write(lambda connection, name=name: connection.execute(text(f"DROP VIEW {name}")))
    # As it was one version before.
    for statement in (
        "ALTER TABLE job DROP COLUMN software",
        "UPDATE alembic_version SET version_num = '0020'",
    ):
        registry.write(lambda connection, statement=statement: connection.execute(text(statement)))
    registry.upgrade()
    assert rows(registry, "SELECT count(*) FROM v_lineage") == [(0,)]
