"""Frames whose amplifiers stand in extensions are reduced as those whose amplifiers stand in one image."""

from pathlib import Path

import numpy as np
from astropy.io import fits
from tests.flows.conftest import Bench

from ccdflow.archive.registry.jobs.products import find_products
from ccdflow.cascade.planning.request import Request
from ccdflow.commands.reduction import reduce_now
from ccdflow.config.project import PROJECT_FILE
from ccdflow.tasks.workspace import open_workspace

INSTRUMENT = """
name: split
extends: generic
match: {INSTRUME: SIMCAM, SPLIT: "*"}
amplifiers:
  extensions: true
  data: [DATASEC]
  sensitive: []
  overscan: [BIASSEC]
  target: [DETSEC]
  gain: [GAIN]
  read_noise: [RDNOISE]
"""
SECTIONS = {"TSEC": "DATASEC", "BSEC": "BIASSEC", "CSEC": "DETSEC", "GTGAIN": "GAIN", "GTRON": "RDNOISE"}


def split(path: Path, to: Path) -> None:
    """Write the same frame with an extension for each amplifier."""
    with fits.open(path) as file:
        header, raw = file[0].header, file[0].data
        names = header["AMPLIST"].split()
        units = []
        for number, name in enumerate(names, 1):
            cards = {new: header[f"{old}{name}"] for old, new in SECTIONS.items()}
            units.append(fits.ImageHDU(raw, fits.Header({"EXTVER": number, **cards}), name="SCI"))
        kept = [
            card
            for card in header.cards
            if not card.keyword.endswith(tuple(names)) and card.keyword not in ("AMPLIST", "BSCALE", "BZERO")
        ]
        primary = fits.PrimaryHDU(header=fits.Header([*kept, ("SPLIT", len(names))]))
        fits.HDUList([primary, *units]).writeto(to / path.name)


def test_amplifiers_in_extensions_give_the_same_pixels(reduced: Bench, tmp_path: Path) -> None:
    for name in ("raw", "instruments"):
        (tmp_path / name).mkdir()
    for path in reduced.raw.glob("*.fits"):
        split(path, tmp_path / "raw")
    (tmp_path / "instruments" / "split.yaml").write_text(INSTRUMENT)
    (tmp_path / PROJECT_FILE).write_text("instruments: [instruments]\n")
    space = open_workspace(tmp_path)
    report = reduce_now(space, [tmp_path / "raw"], Request(), quiet=True)
    assert report.exit_code == 0, report.problems
    made = {(one.category, one.obsdate): one.path for one in space.registry.read(find_products)}
    known = {(one.category, one.obsdate): one.path for one in reduced.space.registry.read(find_products)}
    assert made.keys() == known.keys()
    for name, path in made.items():
        with (
            fits.open(space.store.absolute(path)) as ours,
            fits.open(reduced.space.store.absolute(known[name])) as theirs,
        ):
            for plane in ("PRIMARY", "MASK", "UNCERT"):
                np.testing.assert_array_equal(ours[plane].data, theirs[plane].data)
            for keyword in ("CRPIX1", "CRVAL1", "CD1_1", "RDNOISE"):
                assert ours[0].header.get(keyword) == theirs[0].header.get(keyword), (name, keyword)
