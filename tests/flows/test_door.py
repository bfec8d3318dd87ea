"""The archive from Python: tables, products and parts of them, calibrations with their levels, in any process."""

import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.table import Table
from astropy.wcs import WCS
from tests.flows.conftest import Bench, ccdflow

from ccdflow import Archive
from ccdflow.archive.search import formats
from ccdflow.config.yamlfile import ConfigError


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


def test_exposures_are_numbers_by_the_project_s_own_data_ids(reduced: Bench) -> None:
    file = reduced.project / "ccdflow.yaml"
    file.write_text(
        f"{file.read_text()}\ndata_ids:\n  visit: {{night: date, camera: [CAM1, CAM2], iobs: 64}}\n"
    )
    archive = Archive(reduced.project)
    packer = archive.packer("visit")
    table = archive.query("class = 'science'", columns=["night", "camera", "iobs"])
    assert (
        packer.n_bits == 23 and packer.unpack(packer.pack(table))["iobs"].tolist() == table["iobs"].tolist()
    )
    with pytest.raises(ValueError, match="'vist'; known: visit"):
        archive.packer("vist")
    file.write_text(file.read_text().replace("iobs: 64", "iobs: many"))
    with pytest.raises(ConfigError, match="'many' is no field"):
        archive.packer("visit")


# --- objects of people's own ----------------------------------------------------------------------------------------


@pytest.fixture
def own(reduced: Bench) -> Archive:
    return Archive(reduced.project, mode="w")


def image() -> CCDData:
    world = WCS(naxis=2)
    world.wcs.ctype, world.wcs.crpix, world.wcs.crval = ["RA---TAN", "DEC--TAN"], [3, 4], [80, 20]
    pixels = np.arange(30, dtype=np.float32).reshape(5, 6)
    noise = StdDevUncertainty(np.full((5, 6), 2.0, np.float32))
    return CCDData(
        pixels, noise, pixels > 27, wcs=world, meta={"OBJECT": "M13", "NOTE": "é"}, unit="electron"
    )


def test_what_is_put_is_found_comes_back_and_stays(own: Archive, reduced: Bench) -> None:
    (science,) = own.find("products", category="science", sort=["id"], limit=1)["id"]
    sent = image()
    name = own.put(sent, "background_map", [f"p{science}"], parameters={"box": 64})
    assert own.put(image(), "background_map", [f"p{science}"], parameters={"box": 64}) == name
    assert own.put(image(), "background_map", [f"p{science}"], parameters={"box": 32}) != name
    back = own.get(name)
    np.testing.assert_array_equal(back.data, sent.data)
    np.testing.assert_array_equal(back.uncertainty.array, sent.uncertainty.array)
    np.testing.assert_array_equal(back.mask, sent.mask)
    assert back.unit == sent.unit and back.header["OBJECT"] == "M13"
    np.testing.assert_allclose(back.wcs.wcs.crval, [80, 20])
    assert own.get(name, "variance", "[1:2,1:3]").tolist() == [[4.0, 4.0]] * 3
    found = own.query("category = 'background_map' and filter = 'L'", "products", columns=["night", "camera"])
    assert [tuple(row) for row in found] == [("2026-03-01", "CAM1")] * 2
    told = own.explain(name)
    assert told["made_by"]["inputs"], told
    # No run takes it for its own, gives it up, or makes it again.
    assert reduced.run().jobs["new"] == 0
    assert own.get(name).shape == (5, 6)
    assert ccdflow(reduced, "verify").returncode == 0


@pytest.mark.parametrize(
    ("value", "suffix"),
    [
        (Table({"x": [1.5, 2.5], "name": ["a", "b"]}), ".fits"),
        ("a remark\nof two lines, é", ".txt"),
        ({"b": [1, 2.5, None], "a": {"c": "é"}}, ".json"),
    ],
)
def test_tables_texts_and_json_come_back(own: Archive, value: object, suffix: str) -> None:
    name = own.put(value, "my_notes", ["f1"], name="Notes of tonight")
    back = own.get(name)
    assert (back == value).all() if isinstance(value, Table) else back == value
    assert own.query("category = 'my_notes'", "products", columns=["path"])["path"][0].endswith(suffix)


@pytest.mark.parametrize(
    ("value", "category", "inputs", "said"),
    [
        (np.zeros((2, 2)), "my_map", (), "wrap it in a CCDData"),
        (object(), "my_map", (), "object is of no form"),
        ("text", "science", (), "is what recipe 'science' makes"),
        ("text", "My Map", (), "wanted letters"),
        ("text", "my_map", ("p999",), "no frame or product 'p999'"),
        ("text", "my_map", ("../x",), "wanted f12 or p7"),
    ],
)
def test_what_can_not_be_put_is_told(
    pattern: Bench, value: object, category: str, inputs: tuple[str, ...], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        Archive(pattern.project, mode="w").put(value, category, inputs)


def test_an_archive_that_only_asks_takes_nothing(archive: Archive) -> None:
    with pytest.raises(ValueError, match=r"only asks; Archive\(\.\.\., mode='w'\) may write"):
        archive.put("text", "my_map")


class Shout:
    """A form of somebody's own: texts in capitals."""

    name, suffix = "shout", ".shout"

    def takes(self, value: object) -> bool:
        return isinstance(value, bytes)

    def write(self, value: Any, stream: Any, origin: object) -> None:
        stream.write(value.upper())

    def read(self, path: Path, part: str, section: str) -> bytes:
        return path.read_bytes()


def test_a_package_may_add_a_form(own: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = type("Entry", (), {"load": staticmethod(Shout)})
    monkeypatch.setattr(formats, "entry_points", lambda group: [entry] * (group == "ccdflow.formats"))
    formats.formats.cache_clear()
    name = own.put(b"hello", "greeting")
    assert own.get(name) == b"HELLO"
    monkeypatch.undo()
    formats.formats.cache_clear()
    with pytest.raises(ValueError, match=r"form that is not installed: files end in .fits, .json, .txt"):
        own.get(name)
