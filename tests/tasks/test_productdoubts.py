import numpy as np
import pytest

from ccdflow.cascade.headers.doubts import KINDS
from ccdflow.cascade.records import Doubt
from ccdflow.recipes import bias
from ccdflow.recipes.core import doubts as kinds
from ccdflow.recipes.core.recipe import InputProduct, LeftOut, Result
from ccdflow.recipes.detector.amplifiers import Amplifier, Detector, RawFrame, Section
from ccdflow.recipes.detector.readout import Readout, gains_disagree, stated_gain_conflicts
from ccdflow.tasks.productdoubts import doubt_cards, product_doubts

UNKNOWN = Readout((1.0,), (0.0,), "assumed", "assumed")
GAIN, NOISE = UNKNOWN.warnings
OTHER = "a moth sat on the window"


def single_bias() -> RawFrame:
    counts = np.random.default_rng(1).normal(300, 4, (40, 60)).astype(np.float32)
    whole = Section.whole(counts.shape)
    return RawFrame(counts, Detector(counts.shape, (Amplifier(whole, whole, gain=1.0),)), 0.0, "b.fits")


@pytest.mark.parametrize(
    ("warnings", "kind"),
    [
        ([GAIN], "gain_assumed"),
        ([NOISE], "read_noise_unknown"),
        (stated_gain_conflicts(Readout((4.0,), (5.0,)), [2.0]), "gain_conflict"),
        (
            gains_disagree(InputProduct(None, header={"GAIN01": 1.0}), Readout((2.0,), (5.0,))),
            "gain_conflict",
        ),
        # Measured after a fashion, by neighbouring pixels: neither unknown nor to be refused as that.
        (bias.run({"main": [single_bias()]}, bias.BiasParameters()).warnings, "recipe"),
        ([OTHER], "recipe"),
        (["read noise is not known to the moth"], "recipe"),
    ],
)
def test_a_warning_is_of_the_kind_that_its_recipe_says(warnings: list[Doubt | str], kind: str) -> None:
    (doubt,) = product_doubts(Result({}, tuple(warnings)), {})
    assert doubt.kind == kind in KINDS


def test_all_kinds_of_recipes_are_known() -> None:
    own = {value for name, value in vars(kinds).items() if name.isupper()}
    assert len(own) == 7 and own <= set(KINDS)


def test_warnings_become_doubts_once_each_by_the_instrument_files_word() -> None:
    result = Result({}, (GAIN, OTHER, GAIN))
    doubts = product_doubts(result, {})
    assert doubts == (GAIN, Doubt("recipe", OTHER))
    assert product_doubts(result, {"gain_assumed": "ignore"}) == doubts[1:]
    with pytest.raises(ValueError, match=r"is assumed \(doubts: gain_assumed: refuse\)"):
        product_doubts(result, {"gain_assumed": "refuse"})


def test_what_is_left_out_is_told_elsewhere_and_may_be_refused() -> None:
    result = Result({}, left_out=(LeftOut(1, "flat1.fits", "it is burnt"),))
    assert product_doubts(result, {}) == ()
    with pytest.raises(ValueError, match=r"flat1.fits is left out: it is burnt \(doubts: left_out: refuse\)"):
        product_doubts(result, {"left_out": "refuse"})


def test_the_header_of_a_product_counts_its_doubts_and_tells_each() -> None:
    assert doubt_cards(()) == {}
    cards = doubt_cards(product_doubts(Result({}, (GAIN, OTHER)), {}))
    assert cards["NDOUBTS"][0] == 2
    assert cards["DOUBT001"][0] == f"gain_assumed: {GAIN.text}"
    assert cards["DOUBT002"][0] == f"recipe: {OTHER}"
