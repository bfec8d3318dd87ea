"""Expressions find what they say, on both databases; what is none says where and what was wanted."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, insert

from ccdflow.archive.registry.doors import Registry
from ccdflow.archive.registry.tables import FrameKeywordRow, FrameRow, table
from ccdflow.archive.search.expressions import (
    All,
    Any_,
    Comparison,
    Expression,
    ExpressionError,
    Not,
    Quantity,
    parse_expression,
)
from ccdflow.archive.search.finding import Question, find_rows

FRAMES: list[dict[str, Any]] = [
    {
        "filter": filter_,
        "object": name,
        "exptime": exptime,
        "night": night,
        "obsdate": f"{night}T20:0{number}:00",
    }
    for number, (filter_, name, exptime, night) in enumerate(
        [
            ("R", "M 13", 60.0, "2026-02-28"),
            ("R", "M 3", 120.0, "2026-03-01"),
            ("V", "o'Brien 50%", 60.0, "2026-03-01"),
            ("V", "M 13", None, "2026-03-02"),
            ("", "", 0.0, "2026-03-02"),
        ]
    )
]
KEYWORDS: list[dict[str, Any]] = [
    {"ccd_temperature": -25.0, "observer": "Ada", "AIRMASS": 1.1},
    {"ccd_temperature": -10.0, "observer": "Bo", "AIRMASS": 1.9},
    {"ccd_temperature": -20.0, "observer": "12"},
    {"observer": "Ada"},
    {},
]


def fill(connection: Connection) -> None:
    """Frames 1 to 5, and what they have kept of their headers."""
    rows = [
        {
            "class": "science",
            "camera": "C1",
            "path": f"/raw/{number}.fits",
            "iobs": None,
            "nobs": None,
            **frame,
        }
        for number, frame in enumerate(FRAMES, 1)
    ]
    connection.execute(insert(table(FrameRow)), rows)
    kept = [
        {
            "frame_id": number,
            "name": name,
            "value": value if isinstance(value, str) else repr(value),
            "number": None if isinstance(value, str) else value,
        }
        for number, keywords in enumerate(KEYWORDS, 1)
        for name, value in keywords.items()
    ]
    connection.execute(insert(table(FrameKeywordRow)), kept)


@pytest.fixture
def filled(registry: Registry) -> Registry:
    registry.write(fill)
    return registry


def ids(registry: Registry, expression: str, **more: Any) -> list[int]:
    return [
        row["id"]
        for row in registry.read(find_rows, Question(expression=expression, columns=("id",), **more))
    ]


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ("", [1, 2, 3, 4, 5]),
        ("filter = 'R'", [1, 2]),
        ('FILTER == "R"', [1, 2]),
        ("filter = 'R' and ccd_temperature < -20 and night >= '2026-02-01'", [1]),
        ("ccd_temperature <= -20", [1, 3]),
        ("ccd_temperature<-20 or exptime > 1.5 min", [1, 2]),
        ("exptime between 1 s and 90 s", [1, 3]),
        ("exptime >= 1 min", [1, 2, 3]),
        ("not (filter in ('R', 'V'))", [5]),
        ("filter not in ('R', 'V')", [5]),
        ("object like 'M%'", [1, 2, 4]),
        ("object = 'o''Brien 50%'", [3]),
        (r"object like '%50\%'", [3]),
        ("exptime is unknown", [4]),
        ("exptime is known and filter is known", [1, 2, 3]),
        ("filter is null", [5]),
        ("airmass is not null", [1, 2]),
        ("airmass > 1.5", [2]),
        # Of what is not known neither is true, nor its contrary.
        ("not (airmass > 1.5)", [1]),
        ("observer = 'Ada' or observer = '12'", [1, 3, 4]),
        ("night = '20260301'", [2, 3]),
        ("obsdate > '2026-03-01T20:01:00'", [3, 4, 5]),
        ("id in (1, 5)", [1, 5]),
        ("filter != 'R'", [3, 4, 5]),
    ],
)
def test_what_is_described_is_found(filled: Registry, expression: str, wanted: list[int]) -> None:
    assert ids(filled, expression) == wanted


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("filter = R", r"'R' behind 'filter =': wanted a number, or a text in quotes, as 'R'|as 'R'"),
        ("night >= 2026-03-01", "a text in quotes, as '2026-03-01'"),
        ("filtr = 'R'", r"unknown column or keyword 'filtr'.*did you mean 'filter'\?"),
        ("ccd_temp = 1", "did you mean 'ccd_temperature'"),
        ("exptime > 'long'", "exptime is a number of s: wanted a number, found 'long'"),
        ("exptime > 5 m", "exptime is in s, found 5 m"),
        ("exptime > 5 parsnips", "exptime is in s, found 5 parsnips"),
        ("airmass > 5 s", "airmass has no unit here, found 5 s"),
        ("filter = 5", "filter is text: wanted '5' in quotes, found 5"),
        ("night > 'soon'", "^night 'soon' is no date; wanted"),
        ("observer in ('Ada', 5)", "observer is compared with numbers and texts at once"),
        ("filter", "ends too early: wanted one of ="),
        ("filter = 'R' filter = 'V'", "wanted 'and', 'or' or the end"),
        ("(filter = 'R'", r"ends too early: wanted '\)'"),
        ("filter = 'R", "a text without its closing quote"),
        ("filter = 'R'; drop table frame", "';', which means nothing here"),
        ("(" * 60 + "id = 1" + ")" * 60, "more than 50 parentheses within each other"),
        ("id = 1 or " * 2000 + "id = 1", "an expression of 20006 characters, wanted 10000 at most"),
    ],
)
def test_what_is_no_expression_is_told(filled: Registry, expression: str, told: str) -> None:
    with pytest.raises(ExpressionError, match=told):
        ids(filled, expression)


def test_columns_keywords_order_and_limit_are_those_that_are_wanted(filled: Registry) -> None:
    question = Question(
        columns=("object", "ccd_temperature", "observer"), sort=("-ccd_temperature",), limit=2
    )
    assert filled.read(find_rows, question) == [
        {"object": "M 3", "ccd_temperature": -10.0, "observer": "Bo"},
        {"object": "o'Brien 50%", "ccd_temperature": -20.0, "observer": "12"},
    ]


# --- any expression means what it says ----------------------------------------------------------------------------

TEXTS = st.sampled_from(["filter", "object", "observer", "night"])
NUMBERS = st.sampled_from(["exptime", "ccd_temperature", "id"])
SIGNS = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])
WORDS = st.sampled_from(["R", "V", "M 13", "Ada", "2026-03-01", "2026-02-28"])
LEAVES = st.one_of(
    st.builds(lambda name, sign, word: f"{name} {sign} '{word}'", TEXTS.filter("night".__ne__), SIGNS, WORDS),
    st.builds(
        lambda sign, night: f"night {sign} '{night}'", SIGNS, st.sampled_from(["2026-03-01", "2026-02-28"])
    ),
    st.builds(
        lambda name, sign, number: f"{name} {sign} {number}", NUMBERS, SIGNS, st.sampled_from([-20, 1, 3, 60])
    ),
    st.builds(lambda name, known: f"{name} is {known}", NUMBERS, st.sampled_from(["known", "unknown"])),
    st.builds(
        lambda name, low: f"{name} between {low} and {low + 40}", NUMBERS, st.sampled_from([-30, 1, 50])
    ),
    st.builds(
        lambda words: f"filter in ({', '.join(map(repr, words))})", st.lists(WORDS, min_size=1, max_size=3)
    ),
)
EXPRESSIONS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds("({} and {})".format, inner, inner),
        st.builds("({} or {})".format, inner, inner),
        st.builds("not {}".format, inner.map("({})".format)),
    ),
    max_leaves=6,
)


def truth(tree: Expression, values: dict[str, Any]) -> bool | None:
    """True, false, or None where it is not known: the logic of SQL."""
    if isinstance(tree, Not):
        inner = truth(tree.part, values)
        return None if inner is None else not inner
    if isinstance(tree, All | Any_):
        parts = [truth(part, values) for part in tree.parts]
        decisive = isinstance(tree, Any_)
        return decisive if decisive in parts else None if None in parts else not decisive
    return compared(tree, values.get(tree.name))


def compared(comparison: Comparison, value: Any) -> bool | None:
    if comparison.operator == "unknown":
        return value in (None, "")
    if value is None:
        return None
    operands = [part.number if isinstance(part, Quantity) else part for part in comparison.operands]
    if comparison.operator == "in":
        return value in operands
    if comparison.operator == "between":
        return operands[0] <= value <= operands[1]
    (operand,) = operands
    answers = {"=": value == operand, "!=": value != operand, "<": value < operand, "<=": value <= operand}
    return (answers | {">": value > operand, ">=": value >= operand})[comparison.operator]


@given(expression=EXPRESSIONS)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_expression_finds_what_it_says(filled: Registry, expression: str) -> None:
    tree = parse_expression(expression)
    rows = [
        {"id": number, **frame, **keywords}
        for number, (frame, keywords) in enumerate(zip(FRAMES, KEYWORDS, strict=True), 1)
    ]
    assert ids(filled, expression) == [row["id"] for row in rows if truth(tree, row)]
