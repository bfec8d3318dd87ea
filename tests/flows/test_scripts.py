"""A product is made again, to the byte, by what `explain --script` tells: of the registry, or of its file alone."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from astropy.io import fits
from tests.flows.conftest import Bench, ccdflow

from ccdflow.archive.digest import file_digest
from ccdflow.tasks.provenance.software import software


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that is the command, wherever this Python has it."""
    path = tmp_path_factory.mktemp("bin") / "ccdflow"
    path.write_text(f'#!/bin/sh\nexec {sys.executable} -m ccdflow "$@"\n')
    path.chmod(0o755)
    return path


def run(script: str, folder: Path, program: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """What a shell makes of a script in an empty folder."""
    folder.mkdir()
    (folder / "again.sh").write_text(script)
    command = ["sh", "again.sh", *words]
    environment = os.environ | {"CCDFLOW": str(program)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_a_product_is_made_again_from_raw_frames_that_were_amended(
    fresh: Bench, tmp_path: Path, program: Path
) -> None:
    flat = fresh.frames("flat")[0]
    assert ccdflow(fresh, "ingest", str(fresh.raw)).returncode == 0
    amended = ccdflow(fresh, "amend", str(flat), "exptime=7.5", "--why", "the shutter's own clock")
    assert amended.returncode == 0, amended.stderr
    fresh.run(targets=("flat",))
    product = fresh.product("master_flat")
    told = ccdflow(fresh, "explain", f"p{product.id}", "--script")
    assert told.returncode == 0 and told.stdout.count("recipe") >= 3
    made = run(told.stdout, tmp_path / "again", program)
    assert made.returncode == 0, made.stderr
    path = fresh.space.store.absolute(product.path)
    assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()
    assert made.stdout.endswith("the same bytes\n")
    header = fits.getheader(path)
    assert header["CREATOR"] == f"ccdflow {software()['ccdflow']}" and header["TASK"] == "flat"
    assert (
        fresh.space.registry.read(
            lambda connection: connection.exec_driver_sql(
                "SELECT count(*) FROM v_products WHERE software LIKE 'ccdflow %, astropy %'"
            ).scalar_one()
        )
        == 3
    )


def test_a_file_alone_tells_how_it_is_made_and_refuses_other_inputs(
    reduced: Bench, tmp_path: Path, program: Path
) -> None:
    product = reduced.space.store.absolute(reduced.product("science").path)
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    for kind in ("master_bias", "master_dark", "master_flat"):
        shutil.copy(reduced.space.store.absolute(reduced.product(kind).path), inputs)
    raw, other = reduced.frames("science")[:2]
    shutil.copy(raw, inputs)
    command = [str(program), "-C", str(tmp_path), "explain", str(product)]
    words = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "made by recipe science" in words and "overscan = 'level' (recipe)" in words and raw.name in words
    script = subprocess.run([*command, "--script"], capture_output=True, text=True, check=True).stdout
    made = run(script, tmp_path / "again", program, str(inputs))
    assert made.returncode == 0, made.stderr
    assert file_digest(tmp_path / "again" / product.name) == file_digest(product)
    shutil.copy(other, inputs / raw.name)
    refused = run(script, tmp_path / "refused", program, str(inputs))
    assert refused.returncode != 0 and "is not what the job took" in refused.stderr
    assert not (tmp_path / "refused" / product.name).exists()


def test_provenance_names_nothing_that_it_does_not_tell(reduced: Bench) -> None:
    told = ccdflow(reduced, "explain", f"p{reduced.product('stack').id}", "--prov")
    assert told.returncode == 0, told.stderr
    document = json.loads(told.stdout)
    known = {*document["entity"], *document["activity"], *document["agent"]}
    relations = ("used", "wasGeneratedBy", "wasDerivedFrom", "wasAssociatedWith")
    for relation in relations:
        for row in document[relation].values():
            ends = {value for name, value in row.items() if name.startswith("prov:") and name != "prov:role"}
            assert ends <= known
    assert len(document["activity"]) == 7 and all(
        "prov:endTime" in one for one in document["activity"].values()
    )
    raws = {name for name in document["entity"] if name.startswith("raw:")}
    assert raws == {f"raw:{file_digest(path)}" for path in reduced.raw.glob("*.fits")}
    prefixes = {name.partition(":")[0] for name in known}
    assert prefixes <= document["prefix"].keys()
