"""What a product tells of how it was made comes back as it was told."""

from pathlib import Path

import numpy as np
import pytest

from ccdflow.archive.fits.productfile import InputNote, ProductFileError, read_product, write_product
from ccdflow.archive.fits.productheader import Origin
from ccdflow.archive.fits.productorigin import read_origin
from ccdflow.recipes.core.image import Image
from ccdflow.recipes.core.recipe import Output
from ccdflow.tasks.provenance.jobdocument import JobDocument, JobFile, Told
from ccdflow.tasks.provenance.process import (
    compromises_of,
    corrected_of,
    parameters_of,
    process_notes,
    software_of,
)
from ccdflow.tasks.provenance.software import PACKAGES, software

PARAMETERS = {
    "sigma": {"value": 3.0, "origin": "recipe"},
    "done": {"value": ["bias", "dark"], "origin": "request"},
    "name": {"value": "Grüße 'quoted' \"twice\"", "origin": "project"},
    "nothing": {"value": None, "origin": "cascade"},
}
CORRECTED = [
    ("a" * 64, {"name": "exptime", "value": 7.5, "said": None, "who": "me", "why": "é", "made": "2026"})
]
INPUTS = (InputNote("main", "ä b.fits", "a" * 64), InputNote("bias", "bias.fits", "b" * 64, "product", -1))
IMAGE = Image(
    np.ones((3, 4), np.float32), np.ones((3, 4), np.float32), np.zeros((3, 4), np.uint16), "electron"
)


def test_a_file_tells_what_was_told_to_it(tmp_path: Path) -> None:
    path = tmp_path / "product.fits"
    notes = process_notes(PARAMETERS, CORRECTED, "no flat\nan old bias")
    header = {"CREATOR": "MaxIm DL", "TASK": "theirs", "OBSERVER": "me"}
    origin = Origin(
        "c" * 64, "science", "7", INPUTS, header=header, task="mine", creator="ccdflow 1", process=notes
    )
    with path.open("wb") as stream:
        write_product(stream, Output(IMAGE), origin)
    told = read_origin(path)
    assert told.inputs == INPUTS and list(told.process) == notes
    assert parameters_of(told.process) == PARAMETERS
    assert list(corrected_of(told.process)) == CORRECTED
    assert compromises_of(told.process) == "no flat\nan old bias"
    assert software_of(told.process) == software() and {*PACKAGES, "python"} == {*software()}
    assert (told.header["CREATOR"], told.header["TASK"]) == ("ccdflow 1", "mine")
    assert read_product(path).image is not None


def test_cards_of_another_job_are_not_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "product.fits"
    with path.open("wb") as stream:
        write_product(stream, Output(IMAGE), Origin("c" * 64, "science", "7", header={"TASK": "flat"}))
    told = read_origin(path)
    assert "TASK" not in told.header and told.process == ()


def test_what_is_no_product_is_told(tmp_path: Path) -> None:
    path = tmp_path / "raw.fits"
    path.write_bytes(b"SIMPLE  =                    T".ljust(2880))
    with pytest.raises(ProductFileError, match=r"raw\.fits"):
        read_origin(path)


def test_a_job_is_the_same_after_its_document() -> None:
    told = Told("exptime", 7.5, None, "me", "its own clock", "2026-03-01")
    files = [JobFile(INPUTS[0], amended=(told,)), JobFile(INPUTS[1], "master_bias")]
    job = JobDocument("c" * 64, "science", "7", "science", -1, 2, PARAMETERS, files, "no flat", "ccdflow 1")
    assert JobDocument.read(job.document()) == job
    assert str(told) == "exptime unknown -> 7.5 (its own clock)"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"inputs": None}, "lacks something"),
        ({"key": ...}, "lacks something"),
        ({"keys": "c"}, "unknown field of a job's document 'keys'"),
        ({"inputs": [{"role": "main", "nmae": "x"}]}, "unknown field of a job's document 'nmae'"),
    ],
)
def test_a_document_that_is_none_is_told(changes: dict[str, object], said: str) -> None:
    whole = JobDocument("c" * 64, "science", "7", "science", 0, 0, PARAMETERS, []).document()
    document = {name: value for name, value in (whole | changes).items() if value is not ...}
    with pytest.raises(ValueError, match=said):
        JobDocument.read(document)


def test_a_document_is_an_object() -> None:
    with pytest.raises(ValueError, match="JSON object"):
        JobDocument.read([])
