import pytest

from ccdflow.cascade.headers.doubts import KINDS
from ccdflow.cascade.records import Doubt
from ccdflow.tasks.productdoubts import doubt_cards, kind_of, product_doubts

GAIN = "gain is neither in the header nor measured: 1 electron/adu is assumed"
OTHER = "a moth sat on the window"


@pytest.mark.parametrize(
    ("sentence", "kind"),
    [
        (GAIN, "gain_assumed"),
        ("amplifier 2: no pair of alike flats; a gain of 1 electron/adu is assumed", "gain_assumed"),
        ("read noise is neither in the header nor measured: variance lacks it", "read_noise_unknown"),
        ("amplifier 1: fewer than 2 biases; read noise is not known", "read_noise_unknown"),
        (
            "the header's gain of 4 electron/adu in amplifier 1 is 2 by the photon noise of the flats",
            "gain_conflict",
        ),
        ("bias.fits was made with a gain of 1 electron/adu in amplifier 1, the frame has 2", "gain_conflict"),
        ("scatter between the frames is 2.00 times the stated noise: outliers were clipped", "scatter"),
        ("flat1.fits is left out: 20.0% of its pixels are saturated", "left_out"),
        ("frame1.fits: registered by cross-correlation to whole pixels", "registration"),
        (OTHER, "recipe"),
    ],
)
def test_the_kind_of_a_warning_is_told_from_its_words(sentence: str, kind: str) -> None:
    assert kind_of(sentence) == kind
    assert kind in KINDS


def test_warnings_become_doubts_once_each_by_the_instrument_files_word() -> None:
    doubts = product_doubts([GAIN, OTHER, GAIN], {})
    assert doubts == (Doubt("gain_assumed", GAIN), Doubt("recipe", OTHER))
    assert product_doubts([GAIN, OTHER], {"gain_assumed": "ignore"}) == doubts[1:]
    with pytest.raises(ValueError, match=r"is assumed \(doubts: gain_assumed: refuse\)"):
        product_doubts([GAIN], {"gain_assumed": "refuse"})


def test_the_header_of_a_product_counts_its_doubts_and_tells_each() -> None:
    assert doubt_cards(()) == {}
    cards = doubt_cards(product_doubts([GAIN, OTHER], {}))
    assert cards["NDOUBTS"][0] == 2
    assert cards["DOUBT001"][0] == f"gain_assumed: {GAIN}"
    assert cards["DOUBT002"][0] == f"recipe: {OTHER}"
