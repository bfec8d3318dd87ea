import re
import warnings

import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from ccdflow.archive.fits.cards import find_end, read_all_cards, read_cards

# Without a quote before a slash: astropy takes it for the end of the text, though in the card it is doubled.
PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=150).filter(
    lambda text: not re.search("' */", text)
)
# Without a quote: behind an empty text astropy takes one in the comment for the end of the text.
COMMENTS = st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="'"), max_size=60)
KEYWORDS = st.text("ABCXYZ0123456789_-", min_size=1, max_size=8)
LONG_KEYWORDS = st.lists(st.text("ABCXYZ", min_size=1, max_size=6), min_size=2, max_size=4).map(
    lambda words: f"HIERARCH ESO {' '.join(words)}"
)
VALUES = st.one_of(
    PRINTABLE,
    st.booleans(),
    st.integers(-(10**18), 10**18),
    st.floats(allow_nan=False, allow_infinity=False),
)


def block(*cards: str) -> bytes:
    return b"".join(card.ljust(80).encode("latin-1") for card in cards)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.one_of(KEYWORDS, LONG_KEYWORDS), st.tuples(VALUES, COMMENTS), max_size=8))
def test_cards_are_read_as_astropy_reads_them(stated: dict[str, tuple[object, str]]) -> None:
    header = fits.Header()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # comments that don't fit are cut, which is what this is about too
        for keyword, (value, comment) in stated.items():
            try:
                header[keyword] = (value, comment.strip())
                header[keyword]
                str(header)
            except ValueError:  # longer than a card, with a keyword that can't be continued
                header.remove(keyword, ignore_missing=True)
        written = fits.Header.fromstring(header.tostring())
        wanted = {
            name: value for name, value in written.items() if not isinstance(value, fits.card.Undefined)
        }
    values, _ = read_cards(header.tostring().encode("latin-1"))
    assert values == {
        name.upper(): value.strip() if isinstance(value, str) else value for name, value in wanted.items()
    }
    assert {name: type(value) for name, value in values.items()} == {
        name.upper(): type(value) for name, value in wanted.items()
    }


@pytest.mark.parametrize(
    ("card", "value", "comment"),
    [
        ("KEY     = 'it''s'           / it is", "it's", "it is"),
        ("KEY     = 'it''/s'          / it is", "it'/s", "it is"),
        ("KEY     = '  x  '", "x", ""),
        ("KEY     = ''", "", ""),
        ("KEY     = 'a / b' / c / d", "a / b", "c / d"),
        ("KEY     = 'open / all of it", "open / all of it", ""),
        ("KEY     =                    T / yes", True, "yes"),
        ("KEY     =F", False, ""),
        ("KEY     = -7/seven", -7, "seven"),
        ("KEY     = 1.5E+03", 1500.0, ""),
        ("KEY     = 1.5D3 / old", 1500.0, "old"),
        ("KEY     = 2E3", 2000.0, ""),
        ("KEY     = .5", 0.5, ""),
        ("KEY     = 12:30:00 / time", "12:30:00", "time"),
        ("KEY     = T2", "T2", ""),
        ("key     = 1", 1, ""),
        ("K Y     = 1", None, ""),
        ("A=B     = 1", None, ""),
        ("HIERARCH key = 1 / x", 1, "x"),
        ("KEY     = 'caf\xe9' / \xe9t\xe9", "caf\xe9", "\xe9t\xe9"),
    ],
)
def test_forms_of_cards(card: str, value: object, comment: str) -> None:
    values, comments = read_cards(block(card, "END"))
    name = {"K Y ": "K Y", "A=B ": "A=B"}.get(card[:4], "KEY")
    assert values[name] == (1 if value is None else value)
    assert type(values[name]) is type(1 if value is None else value)
    assert comments[name] == comment


def test_cards_without_value_are_left_out() -> None:
    cards = [
        "",
        "COMMENT = 'x'",
        "HISTORY  done",
        "KEY     =",
        "KEY     = / blank",
        "NOEQUAL 1",
        "CONTINUE  'x'",
    ]
    assert read_cards(block(*cards)) == ({}, {})


def test_of_cards_alike_the_first_with_a_value_counts() -> None:
    cards = block("KEY     =", "KEY     = 1", "KEY     = 1", "KEY     = 2", "KEY     = 3")
    assert read_cards(cards)[0] == {"KEY": 1}
    assert read_all_cards(cards)[2] == {"KEY": 2}


def test_text_is_continued() -> None:
    cards = block(
        "KEY     = 'one &'   / first", "CONTINUE  'two&' / second", "CONTINUE  'three'", "NEXT    = 1"
    )
    assert read_cards(cards) == ({"KEY": "one twothree", "NEXT": 1}, {"KEY": "firstsecond", "NEXT": ""})


def test_what_was_read_belongs_to_who_read_it() -> None:
    card = block("KEY     = 'x' / c", "END")
    values, comments = read_cards(card)
    values["KEY"], comments["KEY"] = "other", "other"
    assert read_cards(card) == ({"KEY": "x"}, {"KEY": "c"})


@pytest.mark.parametrize("end", ["END", "END\0\0", "END\t"])
def test_the_end_is_a_card_of_its_own(end: str) -> None:
    cards = block("TEXT    = 'END'", "ENDLESS = 1", "  END", end, "AFTER   = 1")
    assert find_end(cards) == 240
    assert set(read_cards(cards)[0]) == {"TEXT", "ENDLESS"}
    assert find_end(cards, 241) == -1
