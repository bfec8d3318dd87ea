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
    """Give each parameter of a flow what its numpydoc says of it; Prefect itself reads Google's style alone.

    Parameters
    ----------
    function : callable
        The flow's function.

    Returns
    -------
    callable
        The same one, its annotations with descriptions.
    """
    # Prefect makes a flow's form of the JSON schema that pydantic makes of the annotations.
    for name, text in descriptions(function.__doc__ or "").items():
        function.__annotations__[name] = Annotated[function.__annotations__[name], Described(text)]
    return function


def descriptions(docstring: str) -> dict[str, str]:
    """Return what the section "Parameters" of a numpydoc says.

    Parameters
    ----------
    docstring : str
        The docstring.

    Returns
    -------
    dict of str to str
        Sentences by parameter, each in one line.
    """
    texts: dict[str, str] = {}
    for section in parse(Docstring(docstring), Parser.numpy):
        if section.kind is DocstringSectionKind.parameters:
            texts |= {parameter.name: " ".join(parameter.description.split()) for parameter in section.value}
    return texts
