"""Cores and memory that steps state, and calibrations that stand beside instrument files."""

import shutil
from pathlib import Path

import numpy as np
from astropy.io import fits
from tests.flows.conftest import Bench

from ccdflow.archive.registry.frames.queries import find_frames
from ccdflow.config.project import PROJECT_FILE

LOG = "began.txt"

CASCADE = """
name: slow
recipes:
  slow:
    function: slowfunction.slow
    version: "1"
    inputs: {main: {kind: raw}}
    outputs: [slow]
    parameters: {log: "", together: 1}
sources:
  raw_science: {class: science, group: each}
tasks:
  slow: {recipe: slow, stage: science, main: raw_science, tags: [science], parameters: {log: "%s", together: %d}, %s}
"""


def at_once(log: Path) -> int:
    """How many jobs ran at once at the most."""
    lines = sorted(
        (float(when), int(step)) for when, step in (line.split() for line in log.read_text().splitlines())
    )
    running = [sum(step for _, step in lines[: number + 1]) for number in range(len(lines))]
    return max(running)


def run(fresh: Bench, needs: str, project: str = "cores: 2", together: int = 1):
    log = fresh.directory / LOG
    log.unlink(missing_ok=True)
    shutil.copy(Path(__file__).with_name("slowfunction.py"), fresh.project)
    (fresh.project / "slow.yaml").write_text(CASCADE % (log, together, needs))
    (fresh.project / PROJECT_FILE).write_text(f"cascade: slow.yaml\n{project}\n")
    return fresh.run(fresh.raw), log


def test_no_more_jobs_run_than_there_is_memory_for(fresh: Bench) -> None:
    report, log = run(fresh, "memory: 6 GB", "memory: 10 GB")
    assert report.jobs["new"] == 3, report.problems
    assert at_once(log) == 1


def test_no_more_jobs_run_than_there_are_cores_for(fresh: Bench) -> None:
    report, log = run(fresh, "cores: 2")
    assert report.jobs["new"] == 3, report.problems
    assert at_once(log) == 1


def test_jobs_that_fit_run_at_once(fresh: Bench) -> None:
    _, log = run(fresh, "memory: 1 GB", together=2)
    assert at_once(log) == 2


def test_a_job_that_the_machine_has_not_the_memory_for_fails_with_a_sentence(fresh: Bench) -> None:
    report, log = run(fresh, "memory: 12 GB", "memory: 10 GB")
    assert set(report.failed.values()) == {"slow needs 12 GB of memory, there are 10 GB for jobs"}
    assert report.exit_code == 1 and not log.exists()


def test_a_mask_beside_the_instrument_files_is_used_without_being_named(fresh: Bench) -> None:
    folder = fresh.project / "instruments"
    folder.mkdir()
    mask = np.zeros((96, 96), np.uint8)
    mask[3, 4] = 1
    header = {"CATEGORY": "bad_pixel_mask", "DATE-OBS": "2020-01-01T00:00:00", "INSTRUME": "SIMCAM"}
    fits.PrimaryHDU(mask, fits.Header(header)).writeto(folder / "mask.fits")
    (fresh.project / PROJECT_FILE).write_text("instruments: [instruments]\ncascade: mine.yaml\n")
    (fresh.project / "mine.yaml").write_text(
        "name: mine\nextends: imaging\n"
        "sources: {mask: {class: bad_pixel_mask, rules: [{match: [instrument], within: unlimited}]}}\n"
        "tasks: {science: {inputs: {bad_pixel_mask: {source: mask}}}}\n"
    )
    report = fresh.run(fresh.raw, targets=("science",))
    assert report.exit_code == 0, report.problems
    path = fresh.space.store.absolute(fresh.product("science").path)
    with fits.open(path) as file:
        assert file["MASK"].data[3, 4] & 1
    assert fresh.run(targets=("science",)).jobs["new"] == 0
    mask[5, 6] = 1
    for name, cards in {"later": {}, "not-yet": {"VALFROM": "2027-01-01"}}.items():
        mask[7, 8] += 1
        later = header | {"DATE-OBS": "2021-01-01T00:00:00"} | cards
        fits.PrimaryHDU(mask, fits.Header(later)).writeto(folder / f"{name}.fits")
    report = fresh.run(targets=("science",))
    assert report.jobs["new"] == 3  # it is nearer, and was found by itself
    taken = [one for job in report.after.jobs for one in job.associated if one.role == "bad_pixel_mask"]
    paths = {one.id: Path(one.path or "").name for one in fresh.space.registry.read(find_frames)}
    assert {paths[one.frame or 0] for one in taken} == {"later.fits"}
