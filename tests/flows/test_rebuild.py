"""A registry that was lost comes back from raw frames and products: the next run makes nothing anew."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text
from tests.flows.conftest import Bench, ccdflow

from ccdflow.config.project import init_project

PRODUCTS = """
    SELECT p.path, p.category, p.sha256, p.size, p.state, p.night, p.telescope, p.camera, p.instrument, p.filter,
           p.object, p.exptime, p.obsdate, q.path, j.key, j.step, j.recipe, j.version, j.level, j.worst_level,
           j.variant <> '', j.compromises, j.software
    FROM product p JOIN job j ON j.key = p.job_key LEFT JOIN product q ON q.id = p.superseded_by ORDER BY 1
"""
INPUTS = "SELECT job_key, role, position, identity, parent_job_key, level FROM job_input ORDER BY 1, 2, 3"
QUALITY = "SELECT p.path, q.name, q.value FROM product_quality q JOIN product p ON p.id = q.product_id ORDER BY 1, 2"
DOUBTS = (
    "SELECT p.path, d.kind, d.text FROM product_doubt d JOIN product p ON p.id = d.product_id ORDER BY 1, 3"
)
STAGES = "SELECT f.path, s.stage, s.state FROM frame_stage s JOIN frame f ON f.id = s.frame_id ORDER BY 1, 2"
SETS = """
    SELECT s.step, s.action, s.status, p.path FROM frame_set s LEFT JOIN product p ON p.id = s.product_id ORDER BY 1, 4
"""
AMENDMENTS = (
    "SELECT f.path, a.name, a.value, a.said, a.who, a.why FROM amendment a JOIN frame f ON f.id = a.frame_id"
)


def rows(bench: Bench, statement: str) -> Sequence[tuple[Any, ...]]:
    def read(connection: Connection) -> Sequence[tuple[Any, ...]]:
        return [tuple(row) for row in connection.execute(text(statement))]

    return bench.space.registry.read(read)


def lost(bench: Bench, tmp_path: Path) -> Bench:
    """The same raw frames and store, with an empty registry."""
    again = replace(bench, directory=tmp_path / "again")
    init_project(again.project)
    shutil.copytree(bench.space.project.store, again.project / "store")
    again.raw.symlink_to(bench.raw)
    return again


def test_what_was_lost_comes_back(fresh: Bench, tmp_path: Path) -> None:
    fresh.run(fresh.raw)
    flat = fresh.frames("flat")[0]
    assert (
        ccdflow(fresh, "amend", str(flat), "exptime=7.5", "--why", "the shutter's own clock").returncode == 0
    )
    fresh.run()
    fresh.run(parameters={"stack.sigma": 4.0})
    again = lost(fresh, tmp_path)
    done = ccdflow(again, "rebuild", str(fresh.raw))
    assert done.returncode == 0 and "1 corrections" in done.stdout, done.stderr
    assert any(row[13] for row in rows(fresh, PRODUCTS)) and any(row[20] for row in rows(fresh, PRODUCTS))
    for statement in (PRODUCTS, INPUTS, QUALITY, DOUBTS, STAGES, SETS, AMENDMENTS):
        assert rows(again, statement) == rows(fresh, statement), statement
    assert again.run().jobs == {"new": 0, "reused": 7, "failed": 0, "incomplete": 0}
    refused = ccdflow(again, "rebuild", str(fresh.raw))
    assert refused.returncode == 2 and "wanted an empty one" in refused.stderr


@pytest.mark.parametrize("away", ["raw", "master_bias"])
def test_what_lacks_an_input_is_left_out_and_told(reduced: Bench, tmp_path: Path, away: str) -> None:
    again = lost(reduced, tmp_path)
    raws = sorted(reduced.raw.glob("*.fits"))
    if away == "raw":
        raws.remove(reduced.frames("bias")[0])
        said = "its raw frame"
    else:
        (path,) = (again.project / "store").rglob("bias-*.fits")
        path.unlink()
        said = "is not in the store"
    done = ccdflow(again, "rebuild", *map(str, raws))
    # All is made with the bias.
    assert done.returncode == 0 and said in done.stderr and "0 jobs, 0 products" in done.stdout
    assert rows(again, "SELECT count(*) FROM product WHERE state = 'done'") == [(0,)]
