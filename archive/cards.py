"""FITS header cards into values, whatever programs have written there.

astropy's own cards warn or raise at text outside of ASCII, unquoted words and broken quotes, which all occur
in headers that observers own; here such a card is text.
"""

import re
from collections.abc import Iterator

from ccdflow.cascade.records import Value

CARD = 80
_QUOTED = re.compile(r"'((?:[^']|'')*)(?:'|$)(.*)")
_INTEGER = re.compile(r"[-+]?\d+")
_REAL = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([EDed][-+]?\d+)?")


def read_cards(block: bytes) -> tuple[dict[str, Value], dict[str, str]]:
    """Values and comments by keyword, of the bytes of a header.

    Keywords are in upper case, and of several alike the first counts. Text is stripped; a card without value
    is left out, as are ``COMMENT``, ``HISTORY`` and blank ones.
    """
    values: dict[str, Value] = {}
    comments: dict[str, str] = {}
    for keyword, value, comment in _joined(block):
        if value is not None and keyword not in values:
            values[keyword] = value.strip() if isinstance(value, str) else value
            comments[keyword] = comment
    return values, comments


def _joined(block: bytes) -> Iterator[tuple[str, Value | None, str]]:
    """Cards, with long text put together again from its ``CONTINUE`` cards."""
    pending: tuple[str, Value | None, str] | None = None
    for start in range(0, len(block), CARD):
        card = block[start : start + CARD].replace(b"\0", b" ").decode("latin-1")
        if card.rstrip() == "END":
            break
        long = pending is not None and isinstance(pending[1], str) and pending[1].endswith("&")
        if pending and isinstance(pending[1], str) and long and card.startswith("CONTINUE"):
            more, comment = _value(card[8:])
            pending = pending[0], pending[1][:-1] + str(more or ""), pending[2] + comment
            continue
        if pending:
            yield pending
        pending = _card(card)
    if pending:
        yield pending


def _card(card: str) -> tuple[str, Value | None, str] | None:
    if card.upper().startswith("HIERARCH ") and "=" in card:
        keyword, _, rest = card[9:].partition("=")
    elif card[8:9] == "=":
        keyword, rest = card[:8], card[9:]
    else:
        return None
    if keyword.strip().upper() in ("", "COMMENT", "HISTORY", "CONTINUE"):
        return None
    return (" ".join(keyword.upper().split()), *_value(rest))


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
