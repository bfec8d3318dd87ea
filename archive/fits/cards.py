"""FITS header cards into values, whatever programs have written there.

astropy's own cards warn or raise at text outside of ASCII, unquoted words and broken quotes, which all occur
in headers that observers own; here such a card is text.
"""

import re
from collections.abc import Iterator
from functools import lru_cache

from ccdflow.cascade.records import Value

CARD = 80
Card = tuple[str, Value | None, str]
"""Keyword, value (None for a blank) and comment."""
Stated = tuple[str, Value, str]

_REMEMBERED = 8192  # cards; the frames of a night differ in few of theirs
_NO_KEYWORD = frozenset({"", "COMMENT", "HISTORY", "CONTINUE"})
# A keyword of eight columns, a value of one of four kinds, perhaps a comment, and nothing odd.
_USUAL = re.compile(
    r"(?=.{8}=)([A-Z0-9_-]+) *(?<=.{8})= *"
    r"(?:'([^']*)'|([-+]?\d+)|([-+]?(?:\d+\.\d*|\.\d+)(?:[Ee][-+]?\d+)?)|([TF])) *(?:/(.*))?\Z"
)
_QUOTED = re.compile(r"'((?:[^']|'')*)(?:'|$)(.*)")
_INTEGER = re.compile(r"[-+]?\d+")
_REAL = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([EDed][-+]?\d+)?")


def find_end(block: bytes | bytearray, start: int = 0) -> int:
    """Where the card ``END`` begins in the bytes of a header, at `start` or behind it; -1 where there is none."""
    at = block.find(b"END", start)
    while at >= 0:
        if at % CARD == 0 and _decoded(block[at : at + CARD]).rstrip() == "END":
            return at
        at = block.find(b"END", at + 1)
    return -1


def read_cards(block: bytes) -> tuple[dict[str, Value], dict[str, str]]:
    """Values and comments by keyword, of the bytes of a header.

    Keywords are in upper case, and of several alike the first counts. Text is stripped; a card without value
    is left out, as are ``COMMENT``, ``HISTORY`` and blank ones.
    """
    end = find_end(block)
    text = _decoded(block if end < 0 else block[:end])
    cards: Iterator[Stated | None] = map(_card, (text[at : at + CARD] for at in range(0, len(text), CARD)))
    if "CONTINUE" in text:
        cards = _joined(text)
    values: dict[str, Value] = {}
    comments: dict[str, str] = {}
    for card in cards:
        if card is not None and card[0] not in values:
            keyword, value, comment = card
            values[keyword] = value
            comments[keyword] = comment
    return values, comments


def forget_cards() -> None:
    """Forget the cards that were read, as a new process has not read any."""
    _card.cache_clear()


def _decoded(block: bytes | bytearray) -> str:
    return block.replace(b"\0", b" ").decode("latin-1")


@lru_cache(_REMEMBERED)
def _card(card: str) -> Stated | None:
    """Card whose text is whole; None for one without keyword or value."""
    usual = _USUAL.match(card)
    if usual is None:
        return _stated(_read(card))
    keyword, quoted, integer, real, truth, comment = usual.groups()
    if keyword in _NO_KEYWORD:
        return None
    said = comment.strip() if comment else ""
    if quoted is not None:
        return keyword, quoted.strip(), said
    if real is not None:
        return keyword, float(real), said
    return keyword, truth == "T" if integer is None else int(integer), said


def _stated(card: Card | None) -> Stated | None:
    if card is None:
        return None
    keyword, value, comment = card
    return None if value is None else (keyword, value.strip() if isinstance(value, str) else value, comment)


def _joined(text: str) -> Iterator[Stated | None]:
    """Cards, with long text put together again from its ``CONTINUE`` cards."""
    pending: Card | None = None
    for start in range(0, len(text), CARD):
        card = text[start : start + CARD]
        long = pending is not None and isinstance(pending[1], str) and pending[1].endswith("&")
        if pending and isinstance(pending[1], str) and long and card.startswith("CONTINUE"):
            more, comment = _value(card[8:])
            pending = pending[0], pending[1][:-1] + str(more or ""), pending[2] + comment
            continue
        if pending:
            yield _stated(pending)
        pending = _read(card)
    if pending:
        yield _stated(pending)


def _read(card: str) -> Card | None:
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


def _value(written: str) -> tuple[Value | None, str]:
    """Value and comment of what stands behind the equals sign; text where it is no valid FITS value."""
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
