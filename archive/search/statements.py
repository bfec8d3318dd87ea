"""Conditions of SQL for expressions: names are looked up among columns and kept keywords, values are bound."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, not_, or_

from ccdflow.archive.search.expressions import (
    All,
    Any_,
    Comparison,
    Expression,
    ExpressionError,
    Not,
    Operand,
    Quantity,
)
from ccdflow.cascade.wording import unknown


@dataclass(frozen=True)
class Column:
    """Something that can be compared.

    Parameters
    ----------
    text, number : ColumnElement or None
        What holds it as text, and as a number; a keyword has both, a column one of them.
    unit : str
        Of the number; blank without one.
    read : callable
        Makes the stored text of a text that somebody writes: a night, a time.
    kind : str
        What it holds, for messages.
    """

    text: ColumnElement[Any] | None = None
    number: ColumnElement[Any] | None = None
    unit: str = ""
    read: Callable[[str], str] = str
    kind: str = "text"


@dataclass(frozen=True)
class Subject:
    """What is asked for: frames or products.

    Parameters
    ----------
    columns : mapping of str to Column
        By name.
    further : callable
        Gives the column of a name that is none of these (a keyword, a quality number), or None where nothing has it.
    names : callable
        Gives the names that `further` knows.
    """

    columns: Mapping[str, Column]
    further: Callable[[Connection, str], Column | None]
    names: Callable[[Connection], list[str]]


def condition(connection: Connection, expression: Expression, subject: Subject) -> ColumnElement[bool]:
    """Return what an expression stands for.

    Parameters
    ----------
    connection : Connection
        A transaction that reads: keywords are looked up.
    expression : Expression
        As `parse_expression` gives it.
    subject : Subject
        What is asked for.

    Returns
    -------
    ColumnElement of bool
        True, false, or unknown where what is compared is not known; only what is true is found.

    Raises
    ------
    ExpressionError
        If there is no such name, or the value is not of its kind or has a unit that can't be converted.
    """
    if isinstance(expression, Not):
        return not_(condition(connection, expression.part, subject))
    if isinstance(expression, All | Any_):
        together = and_ if isinstance(expression, All) else or_
        return together(*(condition(connection, part, subject) for part in expression.parts))
    column = in_bytes(connection, column_of(connection, expression.name, subject))
    return _compared(expression, column)


def in_bytes(connection: Connection, column: Column) -> Column:
    """Return a column whose texts are in order byte by byte, as Python and SQLite have them.

    Parameters
    ----------
    connection : Connection
        PostgreSQL would go by the language of its machine.
    column : Column
        A column.

    Returns
    -------
    Column
        The same, or one that is collated.
    """
    if column.text is None or connection.dialect.name != "postgresql":
        return column
    return replace(column, text=column.text.collate("C"))


def column_of(connection: Connection, name: str, subject: Subject) -> Column:
    """Return what a name stands for.

    Parameters
    ----------
    connection : Connection
        A transaction that reads.
    name : str
        In any case.
    subject : Subject
        What is asked for.

    Returns
    -------
    Column
        A column, keyword or quality number.

    Raises
    ------
    ExpressionError
        If there is none; with the nearest.
    """
    column = subject.columns.get(name.lower()) or subject.further(connection, name)
    if column is None:
        raise ExpressionError(
            unknown("column or keyword", name, [*subject.columns, *subject.names(connection)])
        )
    return column


def _compared(comparison: Comparison, column: Column) -> ColumnElement[bool]:
    name, operator, operands = comparison.name, comparison.operator, comparison.operands
    if operator == "unknown":
        return _unknown(column)
    if operator == "like":
        held, pattern = _text(name, column, operands[0])
        return held.ilike(pattern, escape="\\")
    values = [_value(name, column, operand) for operand in operands]
    # Of a keyword a number is compared with numbers, a text with texts; all of one comparison are of one kind.
    holders = {id(holder): holder for holder, _ in values}
    if len(holders) > 1:
        raise ExpressionError(f"{name} is compared with numbers and texts at once")
    (holder,) = holders.values()
    numbers = [value for _, value in values]
    if operator == "in":
        return holder.in_(numbers)
    if operator == "between":
        return and_(holder >= numbers[0], holder <= numbers[1])
    return _OPERATORS[operator](holder, numbers[0])


_OPERATORS: Mapping[str, Callable[[Any, Any], ColumnElement[bool]]] = {
    "=": lambda holder, value: holder == value,
    "!=": lambda holder, value: holder != value,
    "<": lambda holder, value: holder < value,
    "<=": lambda holder, value: holder <= value,
    ">": lambda holder, value: holder > value,
    ">=": lambda holder, value: holder >= value,
}


def _unknown(column: Column) -> ColumnElement[bool]:
    if column.text is None:
        assert column.number is not None
        return column.number.is_(None)
    # Unknown text of a column is blank, that of a keyword has no row.
    return or_(column.text.is_(None), column.text == "")


def _value(name: str, column: Column, operand: Operand) -> tuple[ColumnElement[Any], Any]:
    """What holds the value, and the value as it is stored."""
    if isinstance(operand, str):
        return _text(name, column, operand)
    if column.number is None:
        raise ExpressionError(f"{name} is {column.kind}: wanted '{operand}' in quotes, found {operand}")
    if isinstance(operand, bool):
        return column.number, float(operand)
    return column.number, _in_unit(name, column, operand)


def _text(name: str, column: Column, operand: Operand) -> tuple[ColumnElement[Any], str]:
    if not isinstance(operand, str) or column.text is None:
        wanted = (
            f"text in quotes, found {operand}" if column.text is not None else f"a number, found {operand!r}"
        )
        raise ExpressionError(f"{name} is {column.kind}: wanted {wanted}")
    try:
        return column.text, column.read(operand)
    except ValueError as error:
        told = str(error)
        raise ExpressionError(told if told.startswith(name) else f"{name}: {told}") from None


def _in_unit(name: str, column: Column, quantity: Quantity) -> float:
    if quantity.unit in ("", column.unit):
        return quantity.number
    if not column.unit:
        raise ExpressionError(f"{name} has no unit here, found {quantity}")
    # A tenth of a second to import, and few write a unit.
    from astropy import units

    try:
        return float((quantity.number * units.Unit(quantity.unit)).to_value(units.Unit(column.unit)))
    except (ValueError, TypeError, units.UnitConversionError):
        raise ExpressionError(f"{name} is in {column.unit}, found {quantity}") from None
