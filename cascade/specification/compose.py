"""A cascade made of others, as they are written down: it extends some, and holds some as subworkflows.

All functions take and give plain mappings, as YAML has them; what they make is validated as any cascade is.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ccdflow.cascade.specification.expressions import renamed

Written = dict[str, Any]

# How far merging goes is counted in `depth`. At 2 stand the entries of a section: a task that both cascades have is
# merged. At 1 stand its keys: of those of `BY_ENTRY` the entries are merged, all others are replaced as a whole. At 0
# stand the entries of those: an input, a parameter, which are replaced as a whole. Null takes out what has a name of
# its own (2 and 0); a key (1) can be null itself, as a relay's recipe is.
#
#     tasks:                 depth 2: bias is in both, and is merged
#       bias:
#         condition: ...     depth 1: replaced
#         parameters:        depth 1, BY_ENTRY: merged
#           sigma: 4         depth 0: replaced

SECTIONS = ("parameters", "parameter_sets", "recipes", "sources", "tasks")
"""What a cascade holds by name."""
BY_ENTRY = ("inputs", "parameters", "dynamic", "groups", "workflow", "tasks")
"""Parts of such a thing that are changed entry by entry; all others are replaced as a whole."""
_NAME = re.compile(r"[A-Za-z_]\w*")


def extended(own: Mapping[str, Any], others: Sequence[tuple[str, Mapping[str, Any]]]) -> Written:
    """Return a cascade with all that it leaves out taken from others.

    What has the same name as something of another cascade changes it: key by key, and its inputs, parameters,
    dynamic parameters and groups entry by entry. Null takes something out.

    Parameters
    ----------
    own : mapping
        The cascade that extends.
    others : sequence of (str, mapping)
        Where each of the others is written, and what it says.

    Returns
    -------
    dict
        One cascade, which extends nothing.

    Raises
    ------
    ValueError
        If two of the others have something of one name, and this one does not say what holds.
    """
    own = with_full_parameters(own)
    merged: Written = {"description": "", **_first(others, "description"), **own}
    for section in SECTIONS:
        mine = own.get(section) or {}
        if not isinstance(mine, Mapping):
            continue  # which is refused with its line, once all is validated
        base: Written = {}
        told: dict[str, str] = {}
        for where, other in others:
            for name, entry in (other.get(section) or {}).items():
                # The same entry in both is no contradiction: both may extend the same third cascade.
                if name in base and name not in mine and base[name] != entry:
                    kind = section.rstrip("s").replace("_", " ")
                    raise ValueError(
                        f"{kind} {name!r} stands in {told[name]} and in {where}; give it here to say which"
                    )
                base[name], told[name] = entry, where
        merged[section] = _changed(base, mine, depth=2)
    return merged


def with_full_parameters(written: Mapping[str, Any]) -> Written:
    """Return a cascade in which each workflow parameter says ``default: VALUE`` where it was VALUE alone.

    Parameters
    ----------
    written : mapping
        The cascade as it is written down.

    Returns
    -------
    dict
        The same otherwise; null, which takes a parameter out, stays.
    """
    parameters = written.get("parameters")
    if not isinstance(parameters, Mapping):
        return dict(written)
    full = {
        name: entry if entry is None or isinstance(entry, Mapping) else {"default": entry}
        for name, entry in parameters.items()
    }
    return {**written, "parameters": full}


def _first(others: Sequence[tuple[str, Mapping[str, Any]]], key: str) -> Written:
    return {key: others[0][1][key]} if others and key in others[0][1] else {}


def _changed(base: Mapping[str, Any], mine: Mapping[str, Any], depth: int) -> Written:
    """Return `base` with the entries of `mine`; null takes an entry out where entries have names."""
    merged = dict(base)
    for name, entry in mine.items():
        before = base.get(name)
        if entry is None and depth != 1:
            if name not in base:
                raise ValueError(
                    f"{name!r} can't be taken out: there is none; known: {', '.join(base) or 'none'}"
                )
            del merged[name]
        elif isinstance(entry, Mapping) and isinstance(before, Mapping) and depth == 2:
            merged[name] = _changed(before, entry, depth=1)
        elif isinstance(entry, Mapping) and isinstance(before, Mapping) and depth == 1 and name in BY_ENTRY:
            merged[name] = _changed(before, entry, depth=0)
        else:
            merged[name] = entry
    return merged


def with_subworkflow(
    own: Mapping[str, Any],
    name: str,
    inner: Mapping[str, Any],
    bind: Mapping[str, str],
    parameters: Mapping[str, Any],
) -> Written:
    """Return a cascade with another inside it, whose sources, tasks and recipes are called ``name.theirs``.

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

    Returns
    -------
    dict
        One cascade without subworkflows.

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
    # A bound source is not taken over: whatever takes it takes what it is bound to, by that one's own name.
    own_names = {key: f"{name}.{key}" for section in ("sources", "tasks") for key in inside[section]}
    nodes = own_names | dict(bind)
    recipes = {key: f"{name}.{key}" for key in inside["recipes"]}
    values = {key: f"{name}_{key}" for key in inside["parameters"]}
    renaming = _Renaming(nodes, recipes, values)
    unbound = {key: source for key, source in inside["sources"].items() if key not in bind}
    renamed_inside = {
        "parameters": {values[key]: parameter for key, parameter in inside["parameters"].items()},
        "recipes": {recipes[key]: recipe for key, recipe in inside["recipes"].items()},
        "sources": {nodes[key]: renaming.source(source) for key, source in unbound.items()},
        "tasks": {nodes[key]: renaming.task(task) for key, task in inside["tasks"].items()},
    }
    outer: Written = with_full_parameters(own)
    for section, entries in renamed_inside.items():
        outer[section] = _changed(entries, dict(outer.get(section) or {}), depth=2)
    # Parameter sets keep their names: `--set quick` is quick for the inner cascade too.
    sets = dict(outer.get("parameter_sets") or {})
    for key, parameter_set in inside["parameter_sets"].items():
        sets[key] = _changed(renaming.parameter_set(parameter_set), sets.get(key) or {}, depth=1)
    return outer | {"parameter_sets": sets}


class _Renaming:
    """New names of what an inner cascade speaks of: nodes (sources and tasks), recipes, workflow parameters.

    What is written may be of any type: it is validated only once all is together, and passes unchanged till then.
    """

    def __init__(
        self, nodes: Mapping[str, str], recipes: Mapping[str, str], parameters: Mapping[str, str]
    ) -> None:
        self.nodes, self.recipes, self.parameters = nodes, recipes, parameters

    def values(self, written: Any) -> Any:
        """Return the same with ``$name`` under the parameter's new name."""
        if isinstance(written, Mapping):
            return {key: self.values(value) for key, value in written.items()}
        if isinstance(written, list | tuple):
            return [self.values(value) for value in written]
        if isinstance(written, str) and written.startswith("$"):
            return f"${self.parameters.get(written[1:], written[1:])}"
        return written

    def condition(self, text: Any) -> Any:
        """Return an expression with the new names of parameters."""
        return renamed(text, self.parameters) if isinstance(text, str) and text else text

    def source(self, written: Any) -> Any:
        """Return a data source with the new names."""
        source = self.values(written)
        if isinstance(source, dict) and source.get("condition"):
            source["condition"] = self.condition(source["condition"])
        return source

    def association(self, written: Any) -> Any:
        """Return an input, or a way to get one, with the new names."""
        if not isinstance(written, Mapping):
            return written
        way = dict(self.values(written))
        if "source" in way:
            way["source"] = self.nodes.get(way["source"], way["source"])
        if "condition" in way:
            way["condition"] = self.condition(way["condition"])
        if isinstance(way.get("any_of"), list):
            way["any_of"] = [self.association(inner) for inner in way["any_of"]]
        return way

    def task(self, written: Any) -> Any:
        """Return a task with the new names."""
        if not isinstance(written, Mapping):
            return written
        task = dict(self.values(written))
        task["main"] = self.nodes.get(task.get("main", ""), task.get("main"))
        if task.get("recipe") in self.recipes:
            task["recipe"] = self.recipes[task["recipe"]]
        for name in ("condition", "masters"):
            task[name] = self.condition(task.get(name, ""))
        task["dynamic"] = {name: self.condition(text) for name, text in (task.get("dynamic") or {}).items()}
        task["inputs"] = {role: self.association(way) for role, way in (task.get("inputs") or {}).items()}
        return task

    def parameter_set(self, written: Any) -> Written:
        """Return a parameter set with the new names."""
        workflow = {
            self.parameters.get(key, key): value for key, value in (written.get("workflow") or {}).items()
        }
        tasks = {self.nodes.get(key, key): value for key, value in (written.get("tasks") or {}).items()}
        return {**written, "workflow": workflow, "tasks": tasks}


def _refuse_unknown(where: str, names: Mapping[str, Any], known: Mapping[str, Any], kind: str) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"{where}: unknown {kind} {name!r}; known: {', '.join(known) or 'none'}")
