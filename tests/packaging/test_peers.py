"""The page on other programs holds what its runner asks, and the forms that it compares are what they are called."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty
from bench.peerexports import Proof
from bench.peerforms import FORMS, made_frames, wanted_of, write_form
from bench.peertable import Cell, page_of, proved_in, rows_in, rows_of
from bench.peeruses import USES

PAGE = Path(__file__).parents[2] / "docs" / "peers.md"
TABLES_OF_PLANES = ("f: planes as tables",)


def test_the_page_has_a_row_for_each_use_and_a_cell_for_each_form() -> None:
    rows = rows_in(PAGE.read_text())
    assert list(rows) == [use.name for use in USES]
    assert {row.count(" | ") for row in rows.values()} == {len(FORMS)}


def test_a_page_is_read_as_it_was_written() -> None:
    found = [Cell(form, use.name, "right") for form in FORMS for use in USES]
    proof = Proof("sep", "export --for plain", "pull: mean", 0.012)
    page = page_of(rows_of(found), list(FORMS), [], [proof.row])
    assert rows_in(page) == rows_of(found)
    assert proved_in(page) == {"sep: pull: mean": proof.row}


def test_a_number_that_is_not_as_wanted_is_bold_and_the_page_has_none() -> None:
    assert "| **0.07** | 0 ± 0.05 |" in Proof("sep", "", "pull: mean", 0.07).row
    proved = proved_in(PAGE.read_text())
    assert len(proved) > 30 and not [row for row in proved.values() if "**" in row]


@pytest.mark.parametrize("form", [form for form in FORMS if form not in TABLES_OF_PLANES])
def test_forms_hold_the_frame(form: str, tmp_path: Path) -> None:
    frames = made_frames(tmp_path)[:1]
    (path,) = write_form(form, frames, tmp_path / "form")
    ccd = CCDData.read(path)
    assert np.array_equal(ccd.data, frames[0].image.data)
    if ccd.uncertainty is not None:
        deviation = ccd.uncertainty.represent_as(StdDevUncertainty).array
        np.testing.assert_allclose(deviation, frames[0].deviation, rtol=2e-3)
        assert int(ccd.mask.sum()) == wanted_of(frames).masked


def test_the_masters_share_of_the_variance_is_right_within_3_per_cent(tmp_path: Path) -> None:
    frames = made_frames(tmp_path)[:1]
    (path,) = write_form("k: 8-bit MASK first, deviation", frames, tmp_path / "form")
    with fits.open(path) as hdus:
        logarithms = hdus["CALVAR"].data["PLANE"][0]
    np.testing.assert_allclose(10**logarithms * frames[0].image.variance, frames[0].masters, rtol=0.03)
