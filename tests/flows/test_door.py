"""The archive from Python: tables, products and parts of them, calibrations with their levels, in any process."""

import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData
from tests.flows.conftest import Bench

from ccdflow import Archive


@pytest.fixture(scope="module")
def archive(pattern: Bench, tmp_path_factory: pytest.TempPathFactory) -> Archive:
    return Archive(pattern.project)


def asked_elsewhere(archive: Archive) -> int:
    return len(archive.query("class = 'science'"))


def test_an_archive_goes_to_other_processes_and_answers_there(archive: Archive) -> None:
    assert asked_elsewhere(archive) == 3
    assert pickle.loads(pickle.dumps(archive)) == archive
    assert len(pickle.dumps(archive)) < 1000
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        assert list(pool.map(asked_elsewhere, [archive, archive])) == [3, 3]


def test_frames_are_a_table_with_units_and_without_what_is_unknown(archive: Archive) -> None:
    table = archive.query("class = 'science'", columns=["id", "exptime"])
    assert table["exptime"].unit == u.s and (table["exptime"].quantity > 1 * u.s).all()
    assert archive.find(class_=np.array(["bias", "dark"]), exptime=0)["class"].tolist() == ["bias"] * 3
    assert len(archive.find(exptime=1 * u.min)) == len(archive.find(exptime=60.0))
    assert len(archive.find("products", category="stack", superseded_by=None)) == 1


def test_a_section_is_the_same_as_that_of_the_whole(archive: Archive) -> None:
    (identity,) = archive.find("products", category="stack", columns=["id"])["id"]
    name = f"p{identity}"
    whole, part = archive.get(name), archive.get(name, section="[11:40,5:8]")
    assert isinstance(part, CCDData) and part.shape == (4, 30) and part.unit == u.electron
    for plane in ("data", "mask"):
        np.testing.assert_array_equal(getattr(part, plane), getattr(whole, plane)[4:8, 10:40])
    np.testing.assert_array_equal(part.uncertainty.array, whole.uncertainty.array[4:8, 10:40])
    np.testing.assert_allclose(
        part.uncertainty.array**2, archive.get(name, "variance", "[11:40,5:8]"), rtol=1e-6
    )
    assert archive.get(name, "dq").dtype == np.uint16
    assert archive.get(name, "header")["RECIPE"] == "stack"


def test_raw_frames_have_parts_too(reduced: Bench) -> None:
    archive = Archive(reduced.project)
    assert archive.get("f1").unit == u.adu
    np.testing.assert_array_equal(archive.get("f1", "data", "[2:5,3:3]"), archive.get("f1", "data")[2:3, 1:5])


def test_which_calibration_fits_and_how_well(archive: Archive) -> None:
    (science, *_) = archive.find(class_="science", columns=["id"])["id"]
    bias = archive.calibration(f"f{science}", "bias")
    (made,) = archive.find("products", category="master_bias", columns=["id"])["id"]
    assert (bias.product, bias.level, bias.reasons, bias.task) == (f"p{made}", 0, (), "science")
    with pytest.raises(ValueError, match=r"unknown calibration of f\d+ 'blas'.*did you mean 'bias'"):
        archive.calibration(f"f{science}", "blas")


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (lambda archive: archive.get("p1", "wcs"), "unknown part 'wcs'; known: ccd, data"),
        (
            lambda archive: archive.get("p1", section="[1:500,1:2]"),
            "reaches out of an image of 96 x 96 pixels",
        ),
        (lambda archive: archive.get("p1", section="here"), "section"),
        (lambda archive: archive.get("p999"), "nothing is called 'p999'"),
        (lambda archive: archive.get("p1", "table"), "holds no table"),
        (lambda archive: archive.query("filtr = 'R'"), "did you mean 'filter'"),
        (lambda archive: Archive(archive.project, mode="rw"), "unknown mode 'rw'; known: r, w"),
    ],
)
def test_mistakes_are_told(archive: Archive, asked, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        asked(archive)
