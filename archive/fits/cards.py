"""Parse FITS header cards into values, whatever programs have written there.

astropy's own cards warn or raise at text outside of ASCII, unquoted words and broken quotes, which all occur
in headers that observers own; here such a card is text.

References
----------
FITS Standard 4.0, section 4.1 (keyword records) and 4.2 (values). ``HIERARCH`` cards are ESO's convention,
registered but not part of the standard.
"""

import re
from collections.abc import Iterator
from functools import lru_cache

from ccdflow.cascade.records import Value

CARD = 80
"""Bytes of a card (FITS 4.0, section 4.1)."""
BLOCK = 2880
"""Bytes of a block: headers and data are filled up to whole ones (FITS 4.0, section 3.1)."""

CardValue = Value | None
"""Value that a card may state; None for a card without value."""

ParsedCard = tuple[str, CardValue, str]
"""Keyword, value (None for a blank) and comment."""
ValuedCard = tuple[str, Value, str]
"""Keyword, value and comment of a card that states a value."""

_REMEMBERED = 8192  # cards; the frames of a night differ in few of theirs
_NO_KEYWORD = frozenset({"", "COMMENT", "HISTORY", "CONTINUE"})
"""Keywords whose cards hold text for people, or go on with the text before, and state no value of their own."""

# A keyword of eight columns, a value of one of four kinds, perhaps a comment, and nothing odd. Nearly all cards
# of nearly all files are of this form, and one match is much cheaper than the way through `_parsed`. Its groups:
# keyword; text without quotes in it, integer, real, truth; comment.
_USUAL = re.compile(
    r"(?=.{8}=)([A-Z0-9_-]+) *(?<=.{8})= *"
    r"(?:'([^']*)'|([-+]?\d+)|([-+]?(?:\d+\.\d*|\.\d+)(?:[Ee][-+]?\d+)?)|([TF])) *(?:/(.*))?\Z"
)
# Section 4.2.1.1: a quote within a text is written as two. The closing quote may be missing.
_QUOTED = re.compile(r"'((?:[^']|'')*)(?:'|$)(.*)")
_INTEGER = re.compile(r"[-+]?\d+")
# Section 4.2.4: the exponent of a real number begins with E, or with D as Fortran writes it.
_REAL = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([EDed][-+]?\d+)?")


def find_end(block: bytes | bytearray, start: int = 0) -> int:
    """Return where the card ``END`` begins in the bytes of a header.

    Parameters
    ----------
    block : bytes or bytearray
        Header from its first byte on, perhaps with what follows it.
    start : int
        Byte from which on to look.

    Returns
    -------
    int
        Byte at which the card begins, a multiple of 80; -1 where there is none.
    """
    at = block.find(b"END", start)
    while at >= 0:
        # "END" also stands within texts and begins other keywords: the card holds it alone, at its beginning.
        if at % CARD == 0 and _decoded(block[at : at + CARD]).rstrip() == "END":
            return at
        at = block.find(b"END", at + 1)
    return -1


def read_cards(block: bytes) -> tuple[dict[str, Value], dict[str, str]]:
    """Return values and comments of a header, by keyword.

    Keywords are in upper case, and of several alike the first counts. Text is stripped; a card without value
    is left out, as are ``COMMENT``, ``HISTORY`` and blank ones.

    Parameters
    ----------
    block : bytes
        Bytes of the header. What follows the card ``END`` is not looked at; there may be no such card.

    Returns
    -------
    values : dict
        Keyword to value: text, truth, integer or real number.
    comments : dict
        Keyword to comment, for the same keywords.

    Examples
    --------
    >>> cards = [b"EXPTIME =                 60.0 / [s] exposure time", b"END"]
    >>> read_cards(b"".join(card.ljust(80) for card in cards))
    ({'EXPTIME': 60.0}, {'EXPTIME': '[s] exposure time'})
    """
    values, comments, _ = read_all_cards(block)
    return values, comments


def read_all_cards(block: bytes) -> tuple[dict[str, Value], dict[str, str], dict[str, Value]]:
    """Return what `read_cards` does, and other values of keywords that stand there again.

    Parameters
    ----------
    block : bytes
        Bytes of the header, as for `read_cards`.

    Returns
    -------
    values, comments : dict
        See `read_cards`.
    repeated : dict
        Keyword to the first value that is not the one that counts.
    """
    end = find_end(block)
    text = _decoded(block if end < 0 else block[:end])
    cards: Iterator[ValuedCard | None] = map(
        _card, (text[at : at + CARD] for at in range(0, len(text), CARD))
    )
    if "CONTINUE" in text:
        cards = _joined(text)
    values: dict[str, Value] = {}
    comments: dict[str, str] = {}
    repeated: dict[str, Value] = {}
    for card in cards:
        if card is None:
            continue
        keyword, value, comment = card
        if keyword not in values:
            values[keyword] = value
            comments[keyword] = comment
        elif values[keyword] != value:
            repeated.setdefault(keyword, value)
    return values, comments, repeated


def read_history(block: bytes) -> tuple[str, ...]:
    """Return the texts of the ``HISTORY`` cards of a header, in their order.

    Parameters
    ----------
    block : bytes
        Bytes of the header, as for `read_cards`.

    Returns
    -------
    tuple of str
        Stripped; empty ones are left out.
    """
    if b"HISTORY" not in block:  # as in most raw frames
        return ()
    end = find_end(block)
    text = _decoded(block if end < 0 else block[:end])
    cards = (text[at : at + CARD] for at in range(0, len(text), CARD))
    written = (card[8:].strip() for card in cards if card.startswith("HISTORY "))
    return tuple(line for line in written if line)


def _decoded(block: bytes | bytearray) -> str:
    # Latin-1 gives each byte a character, so that no header is refused and columns keep their numbers. Some
    # programs fill up with zero bytes instead of blanks.
    return block.replace(b"\0", b" ").decode("latin-1")


# Most cards of a night's frames are the same in each of them, and what is parsed never changes: text and numbers.
@lru_cache(_REMEMBERED)
def _card(card: str) -> ValuedCard | None:
    """Parse a card that stands alone; None for one without keyword or value."""
    usual = _USUAL.match(card)
    if usual is None:
        return _with_value(_parsed(card))
    keyword, quoted, integer, real, truth, comment = usual.groups()
    if keyword in _NO_KEYWORD:
        return None
    remark = comment.strip() if comment else ""
    if quoted is not None:
        return keyword, quoted.strip(), remark
    if real is not None:
        return keyword, float(real), remark
    return keyword, truth == "T" if integer is None else int(integer), remark


def _with_value(card: ParsedCard | None) -> ValuedCard | None:
    """Return the card with its text stripped; None for one without value."""
    if card is None:
        return None
    keyword, value, comment = card
    return None if value is None else (keyword, value.strip() if isinstance(value, str) else value, comment)


def _joined(text: str) -> Iterator[ValuedCard | None]:
    """Parse all cards of a header, long texts put together again.

    Notes
    -----
    FITS 4.0, section 4.2.1.2: a text that ends with ``&`` goes on in the card ``CONTINUE`` behind it, which has
    no equals sign. The ``&`` of the last part stays where no such card follows: it then is part of the text.
    """
    pending: ParsedCard | None = None  # held back until it is known that the next card does not go on with it
    for start in range(0, len(text), CARD):
        card = text[start : start + CARD]
        long = pending is not None and isinstance(pending[1], str) and pending[1].endswith("&")
        if pending and isinstance(pending[1], str) and long and card.startswith("CONTINUE"):
            more, comment = _value(card[8:])
            pending = pending[0], pending[1][:-1] + str(more or ""), pending[2] + comment
            continue
        if pending:
            yield _with_value(pending)
        pending = _parsed(card)
    if pending:
        yield _with_value(pending)


def _parsed(card: str) -> ParsedCard | None:
    """Parse a card of any form; None for one that states nothing."""
    if card[8:9] == "=":
        keyword, at = card[:8], 9
    elif card[:9].upper() == "HIERARCH " and "=" in card:
        at = card.index("=", 9) + 1
        keyword = card[9 : at - 1]
    else:
        return None
    keyword = " ".join(keyword.upper().split())
    if keyword in _NO_KEYWORD:
        return None
    return (keyword, *_value(card[at:]))


def _value(written: str) -> tuple[CardValue, str]:
    """Parse value and comment behind the equals sign; what is no valid FITS value is text."""
    # A text is looked for first: the slash that begins a comment may stand within quotes.
    quoted = _QUOTED.match(written.strip())
    if quoted:
        return quoted[1].replace("''", "'").rstrip(), quoted[2].partition("/")[2].strip()
    bare, _, comment = written.partition("/")
    word = bare.strip()
    if word in ("T", "F"):
        return word == "T", comment.strip()
    if _INTEGER.fullmatch(word):
        return int(word), comment.strip()
    if _REAL.fullmatch(word):
        return float(word.upper().replace("D", "E")), comment.strip()
    return word or None, comment.strip()
