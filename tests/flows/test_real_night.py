"""A real night, where there is one: MaxIm headers, unknown gain, drifting pointing, exposures that differ."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from ccdflow.archive.fits.productfile import read_image, read_product
from ccdflow.archive.registry.jobs.products import ProductFilter, find_products
from ccdflow.archive.registry.sets.records import find_sets
from ccdflow.cascade.planning.request import Request
from ccdflow.commands.reduction import RunReport, reduce_now
from ccdflow.config.project import init_project
from ccdflow.recipes.core.dq import excluded
from ccdflow.tasks.workspace import Workspace, open_workspace


@pytest.fixture(scope="module")
def space(real_night: Path, server: str, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    directory = tmp_path_factory.mktemp("real")
    init_project(directory)
    return open_workspace(directory)


def run(space: Workspace, *paths: Path, **parameters: str) -> RunReport:
    wanted = {name.replace("__", "."): value for name, value in parameters.items()}
    return reduce_now(space, paths, Request(targets=("stack",), parameters=wanted), quiet=True)


@pytest.fixture(scope="module")
def first(space: Workspace, real_night: Path) -> RunReport:
    return run(space, real_night)


@pytest.fixture(scope="module")
def by_object(space: Workspace, first: RunReport) -> RunReport:
    return run(space, stack__group="object")


def test_masters_and_calibrated_frames_are_made(first: RunReport) -> None:
    assert first.exit_code == 0, first.problems
    made = Counter(one["category"] for one in first.products)
    wanted = {"gain_table": 1, "master_bias": 1, "master_dark": 1, "master_flat": 2, "science": 6}
    assert {name: made[name] for name in wanted} == wanted


def test_only_what_the_sequence_rules_join_is_stacked(space: Workspace, first: RunReport) -> None:
    """Two exposures of 120 s in i follow one another within the gap; every other one stands alone."""
    assert sorted(len(one.frames) for one in space.registry.read(find_sets)) == [1, 1, 1, 1, 2]


def test_gain_and_read_noise_are_measured(space: Workspace, first: RunReport) -> None:
    (found,) = space.registry.read(find_products, ProductFilter(category="gain_table"))
    table = read_product(space.store.absolute(found.path)).table
    assert table is not None
    assert table["gain"][0] == pytest.approx(1.3, abs=0.05)
    assert table["read_noise_adu"][0] == pytest.approx(6, abs=0.5)


def test_stacks_by_object_join_all_frames_of_a_filter(by_object: RunReport) -> None:
    assert by_object.exit_code == 0, by_object.problems
    assert by_object.jobs == {"new": 2, "reused": 11, "failed": 0, "incomplete": 0}
    stacks = [one for one in by_object.products if one["category"] == "stack"]
    assert sorted(one["filter"] for one in stacks) == ["sdss_i", "sdss_r"]
    for one in stacks:
        assert len([each for each in one["inputs"] if each["role"] == "main"]) == 3
        assert one["quality"]["registration_rms"] < 0.2
        assert one["quality"]["fwhm"] < 4.5
        assert one["quality"]["scatter_ratio"] < 1.25


def test_sky_of_a_stack_is_flat(space: Workspace, by_object: RunReport) -> None:
    """Medians of the four corners agree within a tenth: beyond the cluster there is sky alone."""
    for one in by_object.products:
        if one["category"] == "stack":
            image = read_image(read_product(space.store.absolute(one["path"])))
            data = np.where(excluded(image.dq), np.nan, image.data)
            corners = [
                data[y, x]
                for y in (slice(40, 140), slice(-140, -40))
                for x in (slice(40, 140), slice(-140, -40))
            ]
            levels = [float(np.nanpercentile(corner, 25)) for corner in corners]
            assert max(levels) / min(levels) < 1.1, levels
