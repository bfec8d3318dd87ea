"""What went wrong, in one line."""

from ccdflow.archive.registry.database import LONGEST_SENTENCE, sentence


def test_a_sentence_is_one_line_that_is_not_too_long() -> None:
    assert sentence(ValueError("two\n lines")) == "two lines"
    assert sentence(KeyError()) == "KeyError"
    told = sentence(ValueError("begin " + "x" * 10**6 + " end"))
    assert told.startswith("begin ") and told.endswith(" end") and len(told) < LONGEST_SENTENCE + 10
