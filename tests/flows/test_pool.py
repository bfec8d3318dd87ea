"""Masters that were made elsewhere skip their step."""

import shutil
from pathlib import Path

from astropy.io import fits
from tests.flows.conftest import Bench

from ccdflow.archive.registry.frames.queries import find_frames
from ccdflow.archive.registry.jobs.products import find_products
from ccdflow.cascade.planning.request import Request
from ccdflow.commands.reduction import reduce_now
from ccdflow.config.project import init_project
from ccdflow.tasks.workspace import Workspace, open_workspace


def other_project(reduced: Bench, folder: Path, *categories: str) -> Workspace:
    """A project with science frames, and copies of another project's products of some categories."""
    pool = folder / "pool"
    pool.mkdir()
    for category in categories:
        path = reduced.space.store.absolute(reduced.product(category).path)
        shutil.copy(path, pool / path.name)
    for path in reduced.frames("science"):
        shutil.copy2(path, pool)
    return open_workspace(init_project(folder / "other").parent)


def test_a_product_says_what_it_is(reduced: Bench) -> None:
    path = reduced.space.store.absolute(reduced.product("master_bias").path)
    assert fits.getheader(path)["CATEGORY"] == "master_bias"


def test_masters_of_another_project_are_used_as_they_are(reduced: Bench, tmp_path: Path) -> None:
    space = other_project(reduced, tmp_path, "master_bias", "master_dark", "master_flat")
    report = reduce_now(space, [tmp_path / "pool"], Request(targets=("science",)), quiet=True)
    assert report.jobs == {"new": 3, "reused": 0, "failed": 0, "incomplete": 0}, report
    made = {one.obsdate: one for one in space.registry.read(find_products) if one.category == "science"}
    for one in reduced.space.registry.read(find_products):
        if one.category == "science":
            here = fits.getdata(space.store.absolute(made[one.obsdate].path))
            there = fits.getdata(reduced.space.store.absolute(one.path))
            assert (here == there).all()
    assert reduce_now(space, [], Request(targets=("science",)), quiet=True).jobs["new"] == 0


def test_calibrated_frames_of_another_project_are_no_raw_frames(reduced: Bench, tmp_path: Path) -> None:
    space = other_project(reduced, tmp_path, "science", "stack")
    report = reduce_now(space, [tmp_path / "pool"], Request(targets=("science",)), quiet=True)
    assert report.ingested.counts["product"] == 2
    assert {one.frame_class for one in space.registry.read(find_frames)} == {"science"}
