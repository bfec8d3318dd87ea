"""A cascade made of others, as they are written down: it extends some, and holds some as subworkflows.

All functions take and give plain mappings, as YAML has them; what they make is validated as any cascade is.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ccdflow.cascade.specification.expressions import renamed

Written = dict[str, Any]

SECTIONS = ("parameters", "parameter_sets", "recipes", "sources", "tasks")
"""What a cascade holds by name."""
BY_ENTRY = ("inputs", "parameters", "dynamic", "groups", "workflow", "tasks")
"""Parts of such a thing that are changed entry by entry; all others are given anew."""
_NAME = re.compile(r"[A-Za-z_]\w*")


def extended(own: Mapping[str, Any], others: Sequence[tuple[str, Mapping[str, Any]]]) -> Written:
    """A cascade with all that it leaves out taken from others.

    What has the same name as something of another cascade changes it: key by key, and its inputs, parameters,
    dynamic parameters and groups entry by entry. Null takes something out.

    Parameters
    ----------
    own : mapping
        The cascade that extends.
    others : sequence of (str, mapping)
        Where each of the others is written, and what it says.

    Raises
    ------
    ValueError
        If two of the others have something of one name, and this one does not say what holds.
    """
    made: Written = {"description": "", **_first(others, "description"), **own}
    for section in SECTIONS:
        mine = own.get(section) or {}
        if not isinstance(mine, Mapping):
            continue  # which is refused with its line, once all is validated
        base: Written = {}
        told: dict[str, str] = {}
        for where, other in others:
            for name, one in (other.get(section) or {}).items():
                if name in base and name not in mine and base[name] != one:
                    kind = section.rstrip("s").replace("_", " ")
                    raise ValueError(
                        f"{kind} {name!r} stands in {told[name]} and in {where}; give it here to say which"
                    )
                base[name], told[name] = one, where
        made[section] = _changed(base, mine, depth=2)
    return made


def _first(others: Sequence[tuple[str, Mapping[str, Any]]], key: str) -> Written:
    return {key: others[0][1][key]} if others and key in others[0][1] else {}


def _changed(base: Mapping[str, Any], mine: Mapping[str, Any], depth: int) -> Written:
    """`base` with the entries of `mine`; null takes an entry out where entries have names."""
    made = dict(base)
    for name, one in mine.items():
        before = base.get(name)
        if one is None and depth != 1:
            if name not in base:
                raise ValueError(
                    f"{name!r} can't be taken out: there is none; known: {', '.join(base) or 'none'}"
                )
            del made[name]
        elif isinstance(one, Mapping) and isinstance(before, Mapping) and depth == 2:
            made[name] = _changed(before, one, depth=1)
        elif isinstance(one, Mapping) and isinstance(before, Mapping) and depth == 1 and name in BY_ENTRY:
            made[name] = _changed(before, one, depth=0)
        else:
            made[name] = one
    return made


def with_subworkflow(
    own: Mapping[str, Any],
    name: str,
    inner: Mapping[str, Any],
    bind: Mapping[str, str],
    parameters: Mapping[str, Any],
) -> Written:
    """A cascade with another one inside it, whose sources, tasks and recipes are called ``name.theirs``.

    What the outer cascade says under such a name changes the inner one's, as in `extended`.

    Parameters
    ----------
    own : mapping
        The outer cascade.
    name : str
        Name of the subworkflow; workflow parameters of the inner cascade become ``name_theirs``, since conditions
        name them.
    inner : mapping
        The inner cascade.
    bind : mapping
        Inner data source to the outer data source or task that takes its place.
    parameters : mapping
        Values of workflow parameters of the inner cascade.

    Raises
    ------
    ValueError
        If a name is not known.
    """
    inside = {section: dict(inner.get(section) or {}) for section in SECTIONS}
    _refuse_unknown(f"subworkflow {name!r} binds", bind, inside["sources"], "source")
    _refuse_unknown(f"subworkflow {name!r}", parameters, inside["parameters"], "workflow parameter")
    if not _NAME.fullmatch(name):
        raise ValueError(f"subworkflow {name!r}: a name has letters, digits and _ only")
    for parameter, value in parameters.items():
        inside["parameters"][parameter] = {**inside["parameters"][parameter], "default": value}
    places = {one: f"{name}.{one}" for section in ("sources", "tasks") for one in inside[section]} | dict(
        bind
    )
    recipes = {one: f"{name}.{one}" for one in inside["recipes"]}
    values = {one: f"{name}_{one}" for one in inside["parameters"]}
    renaming = _Renaming(places, recipes, values)
    unbound = {one: found for one, found in inside["sources"].items() if one not in bind}
    made = {
        "parameters": {values[one]: found for one, found in inside["parameters"].items()},
        "recipes": {recipes[one]: found for one, found in inside["recipes"].items()},
        "sources": {places[one]: renaming.source(found) for one, found in unbound.items()},
        "tasks": {places[one]: renaming.task(found) for one, found in inside["tasks"].items()},
    }
    outer: Written = dict(own)
    for section, found in made.items():
        outer[section] = _changed(found, dict(outer.get(section) or {}), depth=2)
    sets = dict(outer.get("parameter_sets") or {})
    for one, found in inside["parameter_sets"].items():
        sets[one] = _changed(renaming.parameter_set(found), sets.get(one) or {}, depth=1)
    return outer | {"parameter_sets": sets}


class _Renaming:
    """New names of what an inner cascade speaks of: sources and tasks, recipes, workflow parameters."""

    def __init__(
        self, places: Mapping[str, str], recipes: Mapping[str, str], parameters: Mapping[str, str]
    ) -> None:
        self.places, self.recipes, self.parameters = places, recipes, parameters

    def values(self, found: Any) -> Any:
        """The same with ``$name`` under the parameter's new name."""
        if isinstance(found, Mapping):
            return {key: self.values(value) for key, value in found.items()}
        if isinstance(found, list | tuple):
            return [self.values(value) for value in found]
        if isinstance(found, str) and found.startswith("$"):
            return f"${self.parameters.get(found[1:], found[1:])}"
        return found

    def condition(self, text: Any) -> Any:
        """An expression with the new names of parameters."""
        return renamed(text, self.parameters) if isinstance(text, str) and text else text

    def source(self, found: Any) -> Any:
        """A data source."""
        made = self.values(found)
        if isinstance(made, dict) and made.get("condition"):
            made["condition"] = self.condition(made["condition"])
        return made

    def association(self, found: Any) -> Any:
        """An input, or a way to get one."""
        if not isinstance(found, Mapping):
            return found
        made = dict(self.values(found))
        if "source" in made:
            made["source"] = self.places.get(made["source"], made["source"])
        if "condition" in made:
            made["condition"] = self.condition(made["condition"])
        if isinstance(made.get("any_of"), list):
            made["any_of"] = [self.association(one) for one in made["any_of"]]
        return made

    def task(self, found: Any) -> Any:
        """A task."""
        if not isinstance(found, Mapping):
            return found
        made = dict(self.values(found))
        made["main"] = self.places.get(made.get("main", ""), made.get("main"))
        if made.get("recipe") in self.recipes:
            made["recipe"] = self.recipes[made["recipe"]]
        made["condition"] = self.condition(made.get("condition", ""))
        made["dynamic"] = {name: self.condition(text) for name, text in (made.get("dynamic") or {}).items()}
        made["inputs"] = {role: self.association(one) for role, one in (made.get("inputs") or {}).items()}
        return made

    def parameter_set(self, found: Any) -> Written:
        """A parameter set."""
        workflow = {
            self.parameters.get(one, one): value for one, value in (found.get("workflow") or {}).items()
        }
        tasks = {self.places.get(one, one): value for one, value in (found.get("tasks") or {}).items()}
        return {**found, "workflow": workflow, "tasks": tasks}


def _refuse_unknown(where: str, given: Mapping[str, Any], known: Mapping[str, Any], kind: str) -> None:
    for name in given:
        if name not in known:
            raise ValueError(f"{where}: unknown {kind} {name!r}; known: {', '.join(known) or 'none'}")
