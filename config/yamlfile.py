"""YAML into pydantic models, with errors that name file, line and what would have worked."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

M = TypeVar("M", bound=BaseModel)
Location = tuple[int | str, ...]
Content = dict[str, Any]


class ConfigError(Exception):
    """A configuration file that is not understood; the message is one line that names file and line."""


# Plain YAML without the traps of version 1.1: ``no``, ``12:30:00`` and ``2026-03-01`` stay text. What libyaml reads is
# the same, ten times as fast; whether PyYAML was built with it is only known when it runs.
_Loader: Any = type("_Loader", (getattr(yaml, "CSafeLoader", yaml.SafeLoader),), {})
_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _starts in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?(0|[1-9][0-9]*)|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_starts))


def load_model(
    source: Path | str,
    model: type[M],
    name: str = "",
    prepare: Callable[[Content], Content] | None = None,
    context: Mapping[str, Any] | None = None,
) -> M:
    """Return the model that a YAML file, or a YAML text, describes.

    Keys at the top that begin with ``x-`` are left out: they are the place for anchors.

    Parameters
    ----------
    source : Path or str
        A path is read as a file, a str is the text itself.
    model : type of BaseModel
        What it must be.
    name : str
        Name of the source in messages; the file's path where it is one.
    prepare : callable, optional
        Makes of the file's content what the model is to validate; a ValueError is told with the file's name.
    context : mapping, optional
        Handed to the model's validators.

    Returns
    -------
    BaseModel
        A `model`.

    Raises
    ------
    ConfigError
        If the file can't be read, is no YAML, or is not what the model wants.
    """
    called = name or (str(source) if isinstance(source, Path) else "configuration")
    # The tree of nodes is kept besides the content: only nodes know their lines.
    node = _compose(_read(source, called) if isinstance(source, Path) else source, called)
    if node is None:
        node = yaml.MappingNode("tag:yaml.org,2002:map", [])
    if not isinstance(node, yaml.MappingNode):
        kind = "a list" if isinstance(node, yaml.SequenceNode) else "a single value"
        raise ConfigError(f"{called}, line {_line(node)}: found {kind}, wanted keys with values")
    _refuse_duplicates(node, called)
    try:
        content = _construct(node)
    except yaml.YAMLError as error:
        raise ConfigError(_yaml_message(called, error)) from None
    content = {key: value for key, value in content.items() if not str(key).startswith("x-")}
    if prepare is not None:
        try:
            content = prepare(content)
        except ValueError as error:
            raise ConfigError(f"{called}: {error}") from None
    try:
        return model.model_validate(content, context=context)
    except ValidationError as error:
        raise ConfigError(_message(called, node, model, error)) from None


def _read(path: Path, called: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{called}: not a text in UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{called}: {(error.strerror or str(error)).lower()}") from None


def _compose(content: str, called: str) -> yaml.Node | None:
    try:
        node: yaml.Node | None = yaml.compose(content, _Loader)
        return node
    except yaml.YAMLError as error:
        raise ConfigError(_yaml_message(called, error)) from None


def _construct(node: yaml.Node) -> Any:
    # Of the tree that there is, instead of reading the text again; a loader wants some text, so it gets none.
    loader = _Loader("")
    try:
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _yaml_message(called: str, error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    where = f", line {mark.line + 1}" if mark else ""
    return f"{called}{where}: not YAML: {getattr(error, 'problem', None) or ' '.join(str(error).split())}"


def _refuse_duplicates(node: yaml.Node, called: str, above: tuple[int, ...] = ()) -> None:
    # YAML lets an anchor stand inside of what it names, which would have no end.
    if id(node) in above:
        raise ConfigError(f"{called}, line {_line(node)}: an anchor holds itself")
    # Of a key written twice YAML keeps the last, without a word.
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise ConfigError(f"{called}, line {_line(key)}: a key must be a word")
            if key.value in seen and key.value != "<<":
                raise ConfigError(
                    f"{called}, line {_line(key)}: key {key.value!r} stands in line {seen[key.value]} already"
                )
            seen[key.value] = _line(key)
            _refuse_duplicates(value, called, (*above, id(node)))
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_duplicates(value, called, (*above, id(node)))


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1 if node.start_mark else 1


def _message(called: str, node: yaml.Node, model: type[BaseModel], error: ValidationError) -> str:
    """Return the first error that names an unknown key, else the first; and how many more there are."""
    # The deepest of several goes first: of a union that fits nowhere, the member that got farthest was meant.
    problems = error.errors(include_url=False)
    chosen = min(problems, key=lambda problem: (_rank(problem["type"]), -_depth(node, problem["loc"])))
    line, path = _position(node, chosen["loc"])
    if chosen["type"] == "extra_forbidden":
        # Of a union each member complains: what any of them knows would have worked.
        alike = [
            problem["loc"][:-1] for problem in problems if _position(node, problem["loc"]) == (line, path)
        ]
        known = dict.fromkeys(key for location in alike for key in _keys_at(model, location))
        said = _unknown_key(str(chosen["loc"][-1]), list(known))
        path = path[:-1]
    elif chosen["type"] == "literal_error":
        said = _unknown_word(chosen["input"], str(chosen.get("ctx", {}).get("expected", "")))
    elif chosen["type"] == "missing":
        said = f"key {str(chosen['loc'][-1])!r} is missing"
    else:
        said = f"{chosen['msg'].removeprefix('Value error, ')}{_found(chosen)}"
    where = ".".join(str(part) for part in path)
    rest = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{called}, line {line}: {f'{where}: ' if where else ''}{said}{rest}"


def _rank(kind: str) -> int:
    """Unknown keys first, since what is missing was often only misspelt."""
    return {"extra_forbidden": 0, "missing": 2}.get(kind, 1)


def _found(problem: Mapping[str, Any]) -> str:
    # Our own messages say what they have found; a whole mapping or list would fill the screen.
    value = problem["input"]
    if problem["type"] == "value_error" or (
        isinstance(value, Mapping | Sequence) and not isinstance(value, str)
    ):
        return ""
    return f"; found {value!r}"


def _unknown_key(key: str, known: Sequence[str]) -> str:
    near = get_close_matches(key, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"unknown key {key!r}{hint}" + (f"; known: {', '.join(known)}" if known and not near else "")


def _unknown_word(word: Any, expected: str) -> str:
    # Pydantic tells what a Literal allows as a sentence: 'a', 'b' or 'c'.
    known = re.findall(r"'([^']*)'", expected)
    near = get_close_matches(str(word), known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known) or expected}"
    return f"unknown value {word!r}; {hint}"


def _nodes_along(node: yaml.Node, location: Location) -> Iterator[tuple[int | str, yaml.Node, yaml.Node]]:
    """Yield the parts of a pydantic location that exist in the file, with the nodes of key and value.

    Parts that pydantic adds itself (names of the members of a union) are passed over.
    """
    # Pydantic's path and the file's part where it validates unions (a member's name is put in) and validators that make
    # something else of what is written: a word where a mapping is meant has no keys to go down by.
    for part in location:
        if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            yield part, node, node
        elif isinstance(node, yaml.MappingNode):
            for key, value in reversed(node.value):  # of merged keys the last counts
                if str(key.value) == str(part):
                    node = value
                    yield part, key, value
                    break


def _depth(node: yaml.Node, location: Location) -> int:
    return len(list(_nodes_along(node, location)))


def _position(node: yaml.Node, location: Location) -> tuple[int, list[int | str]]:
    parts = list(_nodes_along(node, location))
    return (_line(parts[-1][1]) if parts else _line(node)), [part for part, _, _ in parts]


def _keys_at(model: type[BaseModel], location: Location) -> Iterator[str]:
    """Yield the keys that the model knows at a location, aliases before names."""
    # All types that may stand there are followed: a field of a union has several. Where pydantic names the member that
    # it has tried, only that one is.
    kinds: list[Any] = [model]
    for part in location:
        named = [kind for kind in kinds if getattr(kind, "__name__", None) == part]
        if named:
            kinds = named
            continue
        below = [inner for kind in kinds for inner in _below(kind, part)]
        kinds = below or kinds
    for kind in kinds:
        if _is_model(kind):
            yield from (info.alias or name for name, info in kind.model_fields.items())


def _below(kind: Any, part: int | str) -> Iterator[Any]:
    if _is_model(kind):
        for name, info in kind.model_fields.items():
            if part in (name, info.alias):
                yield from _members(info.annotation)
    else:
        for argument in get_args(kind):
            yield from _members(argument)


def _members(annotation: Any) -> Iterator[Any]:
    """Yield the models and containers that an annotation allows, out of unions and ``Annotated``."""
    if _is_model(annotation) or getattr(annotation, "__origin__", None) in (list, tuple, dict):
        yield annotation
    else:
        for argument in get_args(annotation):
            yield from _members(argument)


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
