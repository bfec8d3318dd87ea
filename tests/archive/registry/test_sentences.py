"""What went wrong, in one line."""

from ccdflow.archive.registry.database import LONGEST_SENTENCE, sentence, typed_sentence


def test_a_sentence_is_one_line_that_is_not_too_long() -> None:
    assert sentence(ValueError("two\n lines")) == "two lines"
    assert sentence(KeyError()) == "KeyError"
    told = sentence(ValueError("begin " + "x" * 10**6 + " end"))
    assert told.startswith("begin ") and told.endswith(" end") and len(told) < LONGEST_SENTENCE + 10


def test_a_sentence_can_be_written_into_either_database() -> None:
    error = FileNotFoundError(2, "No such file", "M\udce931\0.fits")
    assert sentence(error) == r"[Errno 2] No such file: 'M\udce931\x00.fits'"
    assert sentence(ValueError("M\udce931\0.fits: Ω")) == r"M\udce931.fits: Ω"
    assert typed_sentence(SystemExit("M\udce931\0.fits")) == r"SystemExit: M\udce931.fits"
