"""Forms for people: what the docstring of a flow says of its parameters stands beside them in the browser."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from griffe import Docstring, DocstringSectionKind, Parser, parse

Called = TypeVar("Called", bound=Callable[..., Any])


@dataclass(frozen=True)
class Described:
    """A description in the JSON schema of a parameter."""

    text: str

    def __get_pydantic_json_schema__(
        self, schema: Any, handler: Callable[[Any], dict[str, Any]]
    ) -> dict[str, Any]:
        """The schema, with the description."""
        return {**handler(schema), "description": self.text}


def form(function: Called) -> Called:
    """The function, each parameter with what its numpydoc says of it; Prefect itself reads Google's style alone."""
    told = descriptions(function.__doc__ or "")
    for name, text in told.items():
        function.__annotations__[name] = Annotated[function.__annotations__[name], Described(text)]
    return function


def descriptions(docstring: str) -> dict[str, str]:
    """What the section "Parameters" of a numpydoc says, by parameter."""
    found: dict[str, str] = {}
    for section in parse(Docstring(docstring), Parser.numpy):
        if section.kind is DocstringSectionKind.parameters:
            found |= {one.name: " ".join(one.description.split()) for one in section.value}
    return found
