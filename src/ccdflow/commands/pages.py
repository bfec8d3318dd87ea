"""Pages of HTML from templates: the only place that knows Jinja2."""

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def render(template: str, **values: Any) -> str:
    """Return a page as text.

    Parameters
    ----------
    template : str
        File name of a template in the folder ``templates``.
    **values
        What the template calls by name. Whatever is put into the page is escaped: names of objects and files come
        from headers, and may hold anything.

    Raises
    ------
    jinja2.UndefinedError
        If the template names something that is not there.
    """
    return _environment().get_template(template).render(values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("ccdflow.commands"),
        autoescape=True,  # by default only files called .html are, and ours end in .j2
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["number"] = _number
    return environment


def _number(value: float | None) -> str:
    """Six digits of a number; nothing where it is not known."""
    return "" if value is None else f"{value:.6g}"
