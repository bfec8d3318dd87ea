from pathlib import Path

import pytest

from ccdflow.cascade.headers.classify import Description, describe
from ccdflow.cascade.headers.doubts import KINDS, policy_of
from ccdflow.cascade.headers.instrument import Instrument
from ccdflow.cascade.records import Doubt
from ccdflow.config.instruments import load_instruments
from ccdflow.config.shipped import shipped

HEADER = {"IMAGETYP": "Light Frame", "DATE-OBS": "2026-03-01T20:00:00", "EXPTIME": 60.0, "IOBS": 5, "NOBS": 3}
"""Of an exposure that is the fifth of three."""


def read(doubts: dict[str, str]) -> Description:
    (generic,) = (known for known in load_instruments([shipped("instruments")]) if known.name == "generic")
    by = Instrument.model_validate({**generic.model_dump(by_alias=True), "doubts": doubts})
    return describe(HEADER, (4, 4), [by])


def test_an_instrument_file_decides_what_is_done_about_each_kind_of_doubt() -> None:
    sentence = "exposure 5 of 3 can't be: its place in the sequence is unknown"
    assert (read({}).doubts, read({}).refused) == ((Doubt("sequence", sentence),), "")
    assert read({"sequence": "ignore"}).doubts == ()
    refused = read({"sequence": "refuse"})
    assert refused.doubts == (Doubt("sequence", sentence),)
    assert refused.refused == f"{sentence} (doubts: sequence: refuse)"


def test_an_unknown_kind_of_doubt_is_named_with_those_that_are_known() -> None:
    with pytest.raises(
        ValueError, match=r"unknown kind of doubt 'sequenze'; known: class, .*did you mean 'sequence'"
    ):
        Instrument.model_validate({"name": "mine", "doubts": {"sequenze": "note"}})
    with pytest.raises(ValueError, match="'note', 'refuse' or 'ignore'"):
        Instrument.model_validate({"name": "mine", "doubts": {"sequence": "maybe"}})
    with pytest.raises(ValueError, match="unknown kind of doubt 'x'"):
        policy_of("x", {})


def test_every_kind_has_a_sentence() -> None:
    assert all(sentence.endswith(".") and len(sentence) > 20 for sentence in KINDS.values())


def test_the_manual_lists_every_kind_with_its_sentence() -> None:
    manual = Path(__file__).parents[3] / "docs" / "instruments.md"
    rows = {line for line in manual.read_text().splitlines() if line.startswith("| `")}
    assert {f"| `{kind}` | {sentence} |" for kind, sentence in KINDS.items()} <= rows
