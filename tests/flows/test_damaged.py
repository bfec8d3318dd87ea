"""A raw file that is found damaged only where a job reads it costs that frame, and nothing else."""

import fitsio
import numpy as np
from astropy.io import fits
from tests.flows.conftest import Bench

from ccdflow.archive.fits.rawfile import open_raw
from ccdflow.archive.registry.frames.queries import list_frames
from ccdflow.archive.registry.jobs.lineage import main_frames
from ccdflow.archive.registry.jobs.products import ProductFilter, find_products
from ccdflow.flows.housekeeping import housekeeping


def test_a_job_goes_on_without_a_frame_whose_tiles_are_broken(fresh: Bench, server: str) -> None:
    plain = fresh.frames("bias")[1]
    path = plain.with_suffix(".fits.fz")
    cards = [
        {"name": card.keyword, "value": card.value, "comment": card.comment}
        for card in fits.getheader(plain).cards
        if card.keyword not in ("SIMPLE", "BITPIX", "EXTEND", "COMMENT", "HISTORY", "", "CHECKSUM", "DATASUM")
        and not card.keyword.startswith(("NAXIS", "BSCALE", "BZERO"))
    ]
    pixels = np.asarray(open_raw(plain).pixels)
    fitsio.write(str(path), pixels, header=cards, compress="RICE", tile_dims=(1, pixels.shape[1]))
    plain.unlink()
    content, end = bytearray(path.read_bytes()), open_raw(path).images[0].end
    content[end - 600 : end] = b"\xff" * 600  # Rice has no sum of its own: ingest sees nothing of it
    path.write_bytes(content)
    report = fresh.run(fresh.raw, targets=("bias",))
    assert (report.jobs["new"], report.jobs["failed"], report.exit_code) == (1, 1, 1)
    assert any(f"{path} is damaged: it can't be decompressed" in problem for problem in report.problems)
    registry = fresh.space.registry
    (row,) = [row for row in registry.read(list_frames) if row["path"] == str(path)]
    assert (row["status"], row["reason"].startswith("it can't be decompressed")) == ("refused", True)
    (master,) = registry.read(find_products, ProductFilter(category="master_bias"))
    assert len(registry.read(main_frames, master.job_key)) == 2
    again = fresh.run(fresh.raw, targets=("bias",))
    assert (again.jobs["new"], again.jobs["failed"]) == (0, 0)
    # Housekeeping reads raw files in turn: it names the one, and finds the others whole.
    assert housekeeping(str(fresh.project)) == 1
    assert housekeeping(str(fresh.project), raw_gigabytes=0) == 0
