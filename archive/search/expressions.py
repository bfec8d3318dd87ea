"""The small language in which frames and products are asked for: ``filter = 'R' and ccd_temperature < -20``.

An expression is read into a tree here, without a database; `ccdflow.archive.search.statements` makes conditions of it.
It never becomes text of an SQL statement: names are looked up, and values are bound.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

LONGEST = 10_000
"""Characters of an expression."""
DEEPEST = 50
"""Parentheses and ``not`` within each other."""

Value = str | float | bool


class ExpressionError(ValueError):
    """An expression that is none, or asks for what there is not; the message says where and what was wanted."""


@dataclass(frozen=True)
class Quantity:
    """A number with the unit that stands behind it.

    Parameters
    ----------
    number : float
        The number.
    unit : str
        As it was written; blank without one.
    """

    number: float
    unit: str = ""

    def __str__(self) -> str:
        return f"{self.number:g} {self.unit}".rstrip()


Operand = str | bool | Quantity


@dataclass(frozen=True)
class Comparison:
    """What a column or keyword is compared with.

    Parameters
    ----------
    name : str
        As it was written.
    operator : str
        ``=``, ``!=``, ``<``, ``<=``, ``>``, ``>=``, ``like``, ``in``, ``between`` or ``unknown``.
    operands : tuple of str, bool or Quantity
        One; two for ``between``, any number for ``in``, none for ``unknown``.
    place : int
        Where it begins in the expression, from 0.
    """

    name: str
    operator: str
    operands: tuple[Operand, ...]
    place: int


@dataclass(frozen=True)
class Not:
    """What does not hold."""

    part: "Expression"


@dataclass(frozen=True)
class All:
    """What holds together: ``and``."""

    parts: "tuple[Expression, ...]"


@dataclass(frozen=True)
class Any_:
    """Of which one holds at least: ``or``."""

    parts: "tuple[Expression, ...]"


Expression = Comparison | Not | All | Any_

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*")
    | (?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?![\w.:-])
    | (?P<bare>\d[\w.:-]*)
    | (?P<name>[^\W\d][\w.]*(?:-[A-Za-z]\w*)*)
    | (?P<sign><=|>=|!=|<>|==|=|<|>|\(|\)|,|%)
    )""",
    re.VERBOSE,
)
_SIGNS = {"==": "=", "<>": "!="}
_COMPARED = ("=", "!=", "<", "<=", ">", ">=")
_WORDS = ("and", "or", "not", "in", "between", "like", "is", "known", "unknown", "null", "true", "false")


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    place: int

    @property
    def word(self) -> str:
        """The word in small letters, where it is one of the language's own."""
        lower = self.text.lower()
        return lower if self.kind == "name" and lower in _WORDS else ""


def parse_expression(text: str) -> Expression:
    """Read an expression.

    Parameters
    ----------
    text : str
        Comparisons of a name with values, put together with ``and``, ``or``, ``not`` and parentheses. Texts stand in
        quotes, of either kind; numbers may have a unit behind them. ``in (...)``, ``between ... and ...``, ``like``
        (% for any letters), ``is known`` and ``is unknown``.

    Returns
    -------
    Expression
        Its tree.

    Raises
    ------
    ExpressionError
        If it is none; with the place, and what was wanted there.

    Examples
    --------
    >>> parse_expression("exptime > 1 min").operands
    (Quantity(number=1.0, unit='min'),)
    """
    if len(text) > LONGEST:
        raise ExpressionError(f"an expression of {len(text)} characters, wanted {LONGEST} at most")
    reader = _Reader(text)
    if reader.ahead is None:
        raise ExpressionError(
            "an empty expression; wanted one such as filter = 'R' and night >= '2026-03-01'"
        )
    tree = reader.alternatives(0)
    if reader.ahead is not None:
        raise reader.fault("'and', 'or' or the end")
    return tree


class _Reader:
    """Reads from left to right, one token ahead."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._tokens = _tokens(text)
        self.ahead = next(self._tokens, None)

    def fault(self, wanted: str) -> ExpressionError:
        """Say what stands here, and what was wanted."""
        if self.ahead is None:
            return ExpressionError(f"{_shown(self.text)} ends too early: wanted {wanted}")
        before = self.text[: self.ahead.place].rstrip()
        where = f"behind {_shown(before[-40:])}" if before else "at its beginning"
        return ExpressionError(f"{self.ahead.text!r} {where}: wanted {wanted}")

    def take(self) -> _Token:
        token = self.ahead
        assert token is not None
        self.ahead = next(self._tokens, None)
        return token

    def took(self, *texts: str) -> bool:
        """Take a word or sign if it stands here."""
        here = self.ahead is not None and (self.ahead.word or self.ahead.text) in texts
        if here:
            self.take()
        return here

    def want(self, text: str) -> None:
        if not self.took(text):
            raise self.fault(repr(text))

    def alternatives(self, depth: int) -> Expression:
        parts = [self.together(depth)]
        while self.took("or"):
            parts.append(self.together(depth))
        return parts[0] if len(parts) == 1 else Any_(tuple(parts))

    def together(self, depth: int) -> Expression:
        parts = [self.single(depth)]
        while self.took("and"):
            parts.append(self.single(depth))
        return parts[0] if len(parts) == 1 else All(tuple(parts))

    def single(self, depth: int) -> Expression:
        if depth > DEEPEST:
            raise ExpressionError(f"an expression with more than {DEEPEST} parentheses within each other")
        if self.took("not"):
            return Not(self.single(depth + 1))
        if self.took("("):
            inner = self.alternatives(depth + 1)
            self.want(")")
            return inner
        return self.comparison()

    def comparison(self) -> Expression:
        if self.ahead is None or self.ahead.kind != "name" or self.ahead.word:
            raise self.fault("the name of a column or keyword")
        name = self.take()
        if self.took("is"):
            negated = self.took("not")
            known = self.took("known")
            if not known and not self.took("unknown", "null"):
                raise self.fault("'known' or 'unknown'")
            unknown = Comparison(name.text, "unknown", (), name.place)
            return Not(unknown) if known != negated else unknown
        negated = self.took("not")
        compared = self.compared(name, negated)
        return Not(compared) if negated else compared

    def compared(self, name: _Token, negated: bool) -> Comparison:
        if self.took("in"):
            self.want("(")
            operands = [self.operand()]
            while self.took(","):
                operands.append(self.operand())
            self.want(")")
            return Comparison(name.text, "in", tuple(operands), name.place)
        if self.took("between"):
            low = self.operand()
            self.want("and")
            return Comparison(name.text, "between", (low, self.operand()), name.place)
        if self.took("like"):
            return Comparison(name.text, "like", (self.operand(),), name.place)
        sign = None if negated or self.ahead is None else _SIGNS.get(self.ahead.text, self.ahead.text)
        if sign not in _COMPARED:
            raise self.fault(
                "'in', 'between' or 'like'" if negated else f"one of {' '.join(_COMPARED)} in like"
            )
        self.take()
        return Comparison(name.text, str(sign), (self.operand(),), name.place)

    def operand(self) -> Operand:
        if self.ahead is None or self.ahead.kind == "sign":
            raise self.fault("a number, or a text in quotes")
        if self.ahead.word in ("true", "false"):
            return self.take().word == "true"
        if self.ahead.kind == "name":
            raise self.fault(f"a text in quotes, as '{self.ahead.text}'")
        if self.ahead.kind == "bare":
            raise self.fault(f"a number, or a text in quotes, as '{self.ahead.text}'")
        token = self.take()
        if token.kind == "text":
            quote = token.text[0]
            return token.text[1:-1].replace(2 * quote, quote)
        unit = ""
        if self.ahead is not None and (
            self.ahead.text == "%" or (self.ahead.kind == "name" and not self.ahead.word)
        ):
            unit = self.take().text
        return Quantity(float(token.text), unit)


def _tokens(text: str) -> Iterator[_Token]:
    place = 0
    while text[place:].strip():
        match = _TOKEN.match(text, place)
        if match is None:
            rest = text[place:].lstrip()
            told = (
                "a text without its closing quote"
                if rest[0] in "'\""
                else f"{rest[0]!r}, which means nothing here"
            )
            raise ExpressionError(f"{told}, in {_shown(rest[:40])}")
        kind = str(match.lastgroup)
        yield _Token(kind, match[kind], match.start(kind))
        place = match.end()


def _shown(text: str) -> str:
    return f"{text!r}" if text else "an empty expression"
