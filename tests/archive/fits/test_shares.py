"""Shares in 8 bits: right within half a step, whatever one pixel says."""

import numpy as np
import pytest

from ccdflow.archive.fits.shares import LEAST, coded_shares, share_of_code


def back(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    coded = coded_shares(part, whole)
    return share_of_code(coded.step, coded.zero)[coded.codes]


@pytest.mark.parametrize("odd", [1e-30, 0.0, np.inf, np.nan, 1e30])
def test_one_odd_variance_spoils_no_other_pixel(odd: float) -> None:
    whole = np.full((8, 9), 100.0, np.float32)
    part = whole * np.float32(0.01)
    whole[3, 4] = odd
    with np.errstate(all="ignore"):
        shares = back(part, whole)
    shares[3, 4] = 0.01
    np.testing.assert_allclose(shares, 0.01, rtol=0.023)


def test_shares_of_five_decades_are_right_and_smaller_ones_count_as_the_least() -> None:
    shares = np.logspace(-12, 0, 200, dtype=np.float32).reshape(10, 20)
    found = back(shares, np.ones_like(shares))
    kept = shares >= LEAST
    np.testing.assert_allclose(found[kept], shares[kept], rtol=0.024)
    np.testing.assert_allclose(found[~kept], LEAST, rtol=0.024)
