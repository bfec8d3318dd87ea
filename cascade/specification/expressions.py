"""Conditions of a cascade: a small part of Python's expressions, or a function by dotted path."""

import ast
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from ccdflow.cascade.planning.jobs import Group
from ccdflow.cascade.specification.dotted import called, function

_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")

_BINARY: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda one, many: one in many,
    ast.NotIn: lambda one, many: one not in many,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
}
_ORDERED = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)
_UNARY: dict[type[ast.AST], Callable[[Any], Any]] = {
    ast.Not: operator.not_,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    one.__name__: one for one in (abs, bool, float, int, len, max, min, round, str)
}
_NODES = (
    *(ast.Expression, ast.Constant, ast.Name, ast.Load, ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.BinOp),
    *(ast.Compare, ast.Call, ast.IfExp, ast.Tuple, ast.List),
    *_BINARY,
    *_UNARY,
)


@dataclass(frozen=True)
class Context:
    """What a condition, dynamic parameter or hook may look at.

    Parameters
    ----------
    group : Group
        Frames of the main input; of products, those that they were made from.
    parameters : mapping
        Workflow parameters and dynamic parameters, name to value.
    associated : mapping
        Role to the groups of the inputs that have been found.
    """

    group: Group
    parameters: Mapping[str, Any] = field(default_factory=dict)
    associated: Mapping[str, Sequence[Group]] = field(default_factory=dict)

    def value(self, name: str) -> Any:
        """``count`` (of frames), ``found`` (roles with an input), a parameter, or a keyword; None for a blank."""
        if name == "count":
            return len(self.group.frames)
        if name == "found":
            return tuple(role for role, groups in self.associated.items() if groups)
        return self.parameters[name] if name in self.parameters else self.group.value(name)


def evaluate(text: str, context: Context) -> Any:
    """Value of an expression, or what the function gives back for the context.

    In an expression a name is what `Context.value` says, and nothing is less or greater than a blank.

    Raises
    ------
    ValueError
        If the expression is none, or can't be worked out; the message holds it.
    """
    if _DOTTED.fullmatch(text):
        return called(text, context)
    try:
        return _value(_parsed(text), context)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError) as error:
        raise ValueError(f"{text!r} can't be worked out: {error}") from None


def check(text: str) -> None:
    """Refuse what `evaluate` could never work out.

    Raises
    ------
    ValueError
        If the text is neither an expression nor the path of a function.
    """
    if _DOTTED.fullmatch(text):
        function(text)
    else:
        _parsed(text)


def names(text: str) -> set[str]:
    """Names that an expression looks at; none for a function."""
    if _DOTTED.fullmatch(text):
        return set()
    return {node.id for node in ast.walk(_parsed(text)) if isinstance(node, ast.Name)} - _FUNCTIONS.keys()


def renamed(text: str, new: Mapping[str, str]) -> str:
    """The same expression with other names; the path of a function as it is."""
    if _DOTTED.fullmatch(text) or not names(text) & new.keys():
        return text
    return ast.unparse(_Renamer(new).visit(ast.parse(text.strip(), mode="eval")))


class _Renamer(ast.NodeTransformer):
    def __init__(self, new: Mapping[str, str]) -> None:
        self.new = new

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.Name(self.new.get(node.id, node.id), node.ctx)


@cache
def _parsed(text: str) -> ast.expr:
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except SyntaxError as error:
        raise ValueError(f"{text!r} is no expression: {error.msg}") from None
    for node in ast.walk(tree):
        if not isinstance(node, _NODES):
            raise ValueError(f"{text!r}: {type(node).__name__} is not allowed in a condition")
        if isinstance(node, ast.Call) and not (
            isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS
        ):
            raise ValueError(f"{text!r}: only {', '.join(_FUNCTIONS)} may be called in a condition")
    return tree.body


def _value(node: ast.expr, context: Context) -> Any:
    match node:
        case ast.Constant():
            return node.value
        case ast.Name():
            return context.value(node.id)
        case ast.BoolOp():
            every = isinstance(node.op, ast.And)
            return (all if every else any)(_value(one, context) for one in node.values)
        case ast.UnaryOp():
            return _UNARY[type(node.op)](_value(node.operand, context))
        case ast.BinOp():
            return _BINARY[type(node.op)](_value(node.left, context), _value(node.right, context))
        case ast.Compare():
            return _compared(node, context)
        case ast.Call(func=ast.Name(id=name)):
            return _FUNCTIONS[name](*(_value(one, context) for one in node.args))
        case ast.IfExp():
            return _value(node.body if _value(node.test, context) else node.orelse, context)
        case ast.Tuple() | ast.List():
            return tuple(_value(one, context) for one in node.elts)
    raise AssertionError(node)


def _compared(node: ast.Compare, context: Context) -> bool:
    left = _value(node.left, context)
    for sign, comparator in zip(node.ops, node.comparators, strict=True):
        right = _value(comparator, context)
        if isinstance(sign, _ORDERED) and (left is None or right is None):
            return False
        if not _BINARY[type(sign)](left, right):
            return False
        left = right
    return True
