"""Conditions of a cascade: a small part of Python's expressions, or a function by dotted path.

A cascade's file may come from somebody else, so an expression must be able to do nothing but give a value. It is never
given to ``eval``: it is parsed, every node of its tree is held against a list of the kinds that are allowed, and the
tree is worked out here. There are no attributes, by which everything in Python can be reached, no subscripts, lambdas
or comprehensions, no names but those of `Context.value`, and no calls but of a few functions that make a number, a
truth or a text. What is left to do is waste memory (``'a' * 999999999``). A function by dotted path may do anything
that Python can: it is code of the user's own.
"""

import ast
import operator
import re
from collections.abc import Callable, Collection, Mapping, Sequence
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
    ast.In: lambda value, several: value in several,
    ast.NotIn: lambda value, several: value not in several,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
}
_ORDERED = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)
"""Comparisons in which a blank, which is neither less nor greater than anything, makes the answer false."""
_UNARY: dict[type[ast.AST], Callable[[Any], Any]] = {
    ast.Not: operator.not_,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    builtin.__name__: builtin for builtin in (abs, bool, float, int, len, max, min, round, str)
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
    handed : collection of str
        Roles of which the recipe gets something.
    """

    group: Group
    parameters: Mapping[str, Any] = field(default_factory=dict)
    associated: Mapping[str, Sequence[Group]] = field(default_factory=dict)
    handed: Collection[str] = ()

    def value(self, name: str) -> Any:
        """Return what a name in an expression stands for.

        Parameters
        ----------
        name : str
            ``count`` (of frames), ``found`` (roles with an input), ``handed`` (those that the recipe gets), a
            parameter, or a keyword: the first of these.

        Returns
        -------
        object
            None for a blank.
        """
        if name == "count":
            return len(self.group.frames)
        if name == "found":
            return tuple(role for role, groups in self.associated.items() if groups)
        if name == "handed":
            return tuple(sorted(self.handed))
        return self.parameters[name] if name in self.parameters else self.group.value(name)


def evaluate(text: str, context: Context) -> Any:
    """Return the value of an expression, or what the function gives back for the context.

    In an expression a name is what `Context.value` says, and nothing is less or greater than a blank.

    Parameters
    ----------
    text : str
        The expression, or the dotted path of a function of a `Context`.
    context : Context
        What it may look at.

    Returns
    -------
    object
        Of conditions, only whether it is true matters.

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

    Parameters
    ----------
    text : str
        The expression, or the dotted path of a function.

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
    """Return the names that an expression looks at.

    Parameters
    ----------
    text : str
        The expression, or the dotted path of a function.

    Returns
    -------
    set of str
        Empty for a function, which may look at anything.
    """
    if _DOTTED.fullmatch(text):
        return set()
    return {node.id for node in ast.walk(_parsed(text)) if isinstance(node, ast.Name)} - _FUNCTIONS.keys()


def renamed(text: str, new: Mapping[str, str]) -> str:
    """Return the same expression with other names.

    Parameters
    ----------
    text : str
        The expression, or the dotted path of a function, which stays as it is.
    new : mapping of str to str
        Name to the name that takes its place; all others stay.

    Returns
    -------
    str
        The very text where none of the names stands in it.
    """
    if _DOTTED.fullmatch(text) or not names(text) & new.keys():
        return text
    return ast.unparse(_Renamer(new).visit(ast.parse(text.strip(), mode="eval")))


class _Renamer(ast.NodeTransformer):
    # On the tree, not by replacing words: a name also stands inside of texts and of longer names.
    def __init__(self, new: Mapping[str, str]) -> None:
        self.new = new

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.Name(self.new.get(node.id, node.id), node.ctx)


@cache
def _parsed(text: str) -> ast.expr:
    # What is allowed is decided once for each text, when the cascade is read; it is then worked out for every frame.
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except SyntaxError as error:
        raise ValueError(f"{text!r} is no expression: {error.msg}") from None
    for node in ast.walk(tree):
        # `_NODES` knows neither ast.keyword nor ast.Starred, so calls have plain arguments only.
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
            # True or false, not the last value as in Python; what decides nothing any more is not worked out.
            every = isinstance(node.op, ast.And)
            return (all if every else any)(_value(part, context) for part in node.values)
        case ast.UnaryOp():
            return _UNARY[type(node.op)](_value(node.operand, context))
        case ast.BinOp():
            return _BINARY[type(node.op)](_value(node.left, context), _value(node.right, context))
        case ast.Compare():
            return _compared(node, context)
        case ast.Call(func=ast.Name(id=name)):
            return _FUNCTIONS[name](*(_value(argument, context) for argument in node.args))
        case ast.IfExp():
            return _value(node.body if _value(node.test, context) else node.orelse, context)
        case ast.Tuple() | ast.List():
            return tuple(_value(element, context) for element in node.elts)
    raise AssertionError(node)


def _compared(node: ast.Compare, context: Context) -> bool:
    # A chain, 1 < count < 5, holds where each pair of neighbours does.
    left = _value(node.left, context)
    for sign, comparator in zip(node.ops, node.comparators, strict=True):
        right = _value(comparator, context)
        if isinstance(sign, _ORDERED) and (left is None or right is None):
            return False
        if not _BINARY[type(sign)](left, right):
            return False
        left = right
    return True
