"""Contradictions between a cascade and its recipes, said before anything is planned."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches

from ccdflow.cascade.planning.associate import AssociationRule
from ccdflow.cascade.records import CLASSES, STATIC
from ccdflow.cascade.sequences.grouping import GroupSpec
from ccdflow.cascade.sequences.statemachine import SequenceRules
from ccdflow.cascade.specification.expressions import names
from ccdflow.cascade.specification.model import Association, Cascade, Step
from ccdflow.cascade.specification.parameters import Layer, grouping, recipe_parameters
from ccdflow.cascade.wording import unknown
from ccdflow.recipes.core.recipe import Input, Recipe


class ContractError(ValueError):
    """A cascade that can't work; the message holds one sentence for each reason."""


def check(cascade: Cascade, recipes: Mapping[str, Recipe], classes: Collection[str] = CLASSES) -> None:
    """Refuse a cascade whose steps and recipes contradict each other.

    Parameters
    ----------
    cascade : Cascade
        What is to be planned.
    recipes : mapping
        Recipes by name.
    classes : collection of str
        What raw frames can be; categories of products are known from the recipes.

    Raises
    ------
    ContractError
        With one sentence for each contradiction.
    """
    # All of them at once, each once: who writes a cascade mends it in one go.
    problems = list(dict.fromkeys(_problems(cascade, recipes, classes)))
    if problems:
        raise ContractError("; ".join(problems))


def _problems(cascade: Cascade, recipes: Mapping[str, Recipe], classes: Collection[str]) -> Iterator[str]:
    used = {step.recipe for step in cascade.tasks.values() if step.recipe}
    products = {category for name in used if name in recipes for category in recipes[name].outputs}
    categories = products | {*STATIC}
    # A source may be raw frames of a class, or products that were made elsewhere, in other projects or by hand.
    for name, source in cascade.sources.items():
        if source.frame_class not in {*classes, *categories}:
            known = [*classes, *sorted(categories)]
            yield f"source {name!r}: {unknown('class', source.frame_class, known)}; no frame will ever be one"
    for name, step in cascade.tasks.items():
        # A relay runs nothing, so there is nothing that it could contradict.
        if step.recipe is None:
            continue
        if step.recipe not in recipes:
            yield f"task {name!r}: {unknown('recipe', step.recipe, list(recipes))}"
            continue
        yield from _of_step(cascade, recipes, name, step)


def _of_step(cascade: Cascade, recipes: Mapping[str, Recipe], name: str, step: Step) -> Iterator[str]:
    recipe = recipes[step.recipe or ""]
    for role in step.inputs:
        if role not in recipe.inputs or role == "main":
            known = [name for name in recipe.inputs if name != "main"]
            yield f"task {name!r}: recipe {recipe.name!r} takes {unknown('input', role, known)}"
    for role, wanted in recipe.inputs.items():
        if role == "main":
            yield from _of_source(cascade, recipes, f"task {name!r}", step.main, step.product, wanted)
            yield from _of_main(cascade, name, step, wanted)
        elif role in step.inputs:
            yield from _of_input(cascade, recipes, (name, role), step.inputs[role], wanted)
        elif wanted.minimum:
            yield f"task {name!r}: recipe {recipe.name!r} needs {role!r}, which the task does not have"
    for output in step.outputs or ():
        if output not in recipe.outputs:
            yield f"task {name!r}: recipe {recipe.name!r} makes {unknown('output', output, recipe.outputs)}"
    yield from _of_parameters(cascade, name, step, recipe)


def keyword_problems(cascade: Cascade, known: Collection[str]) -> Iterator[str]:
    """Yield a sentence for each keyword in rules, groups and conditions that no frame can have.

    A misspelt keyword is a blank for every frame, and a blank matches everything.

    Parameters
    ----------
    cascade : Cascade
        What is to be planned.
    known : collection of str
        Keywords that frames can have: columns, and what the instruments keep.

    Yields
    ------
    str
        Where it stands, the keyword, and what was perhaps meant.
    """
    # In conditions more names are known than keywords: parameters, `count`, `found`, what the step works out.
    words = {*known, *cascade.parameters, "count", "found", "handed"}
    for name, source in cascade.sources.items():
        yield from _strange(f"source {name!r}, group", _group_names(source.group), known)
        yield from _strange(f"source {name!r}, condition", _named(source.condition), words)
        yield from _of_rules(f"source {name!r}", source.rules, known)
    for name, step in cascade.tasks.items():
        own = {*words, *step.dynamic}
        texts = [
            step.condition,
            step.masters,
            *step.dynamic.values(),
            *(port.condition for port in step.inputs.values()),
        ]
        texts += [way.condition for port in step.inputs.values() for way in port.ways]
        for text in dict.fromkeys(texts):
            yield from _strange(f"task {name!r}, {text!r}", _named(text), own)
        for group in step.groups.values():
            yield from _strange(f"task {name!r}, group", _group_names(group), known)
        for role, association in step.inputs.items():
            for way in association.ways:
                yield from _of_rules(f"task {name!r}, input {role!r}", way.rules or (), known)
                yield from _strange(
                    f"task {name!r}, input {role!r}, per", [way.per] if way.per else [], known
                )


def _named(text: str) -> list[str]:
    return sorted(names(text)) if text else []


def _group_names(group: GroupSpec | SequenceRules) -> Iterator[str]:
    yield from group.by if isinstance(group, GroupSpec) else group.same
    yield from group.tolerance
    yield from group.ratio if isinstance(group, GroupSpec) else ()


def _of_rules(where: str, rules: Sequence[AssociationRule], known: Collection[str]) -> Iterator[str]:
    for number, rule in enumerate(rules, 1):
        keywords = [*rule.match, *rule.equal, *rule.tolerance, *rule.ratio]
        yield from _strange(f"{where}, rule {number}", keywords, known)


def _strange(where: str, keywords: Iterable[str], known: Collection[str]) -> Iterator[str]:
    for name in keywords:
        if name not in known:
            near = get_close_matches(name, list(known), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            yield f"{where}: no frame has a keyword {name!r}{hint}"


def _of_main(cascade: Cascade, name: str, step: Step, wanted: Input) -> Iterator[str]:
    """Yield what is wrong with the size of the sets that the recipe is given."""
    source = cascade.relayed(step.main)
    own = step.groups.get(step.group or "")
    group = own or cascade.sources[source].group if source in cascade.sources else own
    # The sequence rules make sets of any size from 1 to their max_stack, and pass on single frames without the recipe.
    if not isinstance(group, GroupSpec):
        return
    # How large sets may become is known only where each frame is alone or a size is written.
    alone = group.how == "each" or group.max_size == 1
    if wanted.maximum == 1 and not alone:
        yield f"task {name!r}: the recipe takes 1 as main, its sets may be larger (group: each, or max_size: 1)"
    most = 1 if alone else group.max_size
    if most is not None and most < wanted.minimum:
        yield f"task {name!r}: the recipe takes {wanted.minimum} as main at least, its sets are of {most} at the most"


def _of_input(
    cascade: Cascade,
    recipes: Mapping[str, Recipe],
    port: tuple[str, str],
    association: Association,
    wanted: Input,
) -> Iterator[str]:
    name, role = port
    where = f"task {name!r}, input {role!r}"
    unhanded = not association.handed or any(way.absent or not way.handed for way in association.ways)
    free = association.condition or association.when_missing or unhanded
    # A step that may go without an input, or has it only under a condition, can't run a recipe that needs it.
    if wanted.minimum and (association.optional or free):
        yield f"{where}: the recipe can't do without it, the task can"
    for way in association.ways:
        if not cascade.rules(way):
            yield f"{where}: {way.source!r} has no rules that say which of it fits"
        # Of what is only looked for, to be sure that there is none, the recipe gets nothing.
        if way.absent:
            continue
        # On both sides means so many before and as many after.
        several = 2 if way.side == "both" else 1
        if way.max is not None and way.max * several < wanted.minimum:
            yield f"{where}: the recipe takes {wanted.minimum} at least, the task gives {way.max * several} at the most"
        # `max` counts sets: one set of raw frames may hold any number, while each product counts by itself.
        raw = cascade.main_source(way.source) == cascade.relayed(way.source)
        most = None if way.max is None or raw or way.per else way.max * several
        handed = association.handed and way.handed
        if wanted.maximum is not None and handed and not raw and (most is None or most > wanted.maximum):
            said = "any number" if most is None else str(most)
            yield f"{where}: the recipe takes {wanted.maximum} at the most, the task may give {said}"
        yield from _of_source(cascade, recipes, where, way.source, way.product, wanted)


def _of_source(
    cascade: Cascade, recipes: Mapping[str, Recipe], where: str, source: str, product: str, wanted: Input
) -> Iterator[str]:
    """Yield what is wrong with a source: raw frames for products or the reverse, a product that is not handed on."""
    name = cascade.relayed(source)
    if name in cascade.sources:
        kind = "raw" if cascade.sources[name].frame_class in CLASSES else "product"
        if product:
            yield f"{where}: {source!r} are frames and have no product {product!r}"
    else:
        step, kind = cascade.tasks[name], "product"
        recipe = recipes.get(step.recipe or "")
        handed = step.outputs if step.outputs is not None else recipe.outputs if recipe else ()
        if recipe and not handed:
            yield f"{where}: task {name!r} hands nothing on (outputs: [])"
        elif recipe and product and product not in handed:
            yield f"{where}: task {name!r} hands on {unknown('product', product, handed)}"
    if kind != wanted.kind:
        words = {"raw": "raw frames", "product": "products"}
        yield f"{where}: the recipe takes {words[wanted.kind]}, {source!r} gives {words[kind]}"


def _of_parameters(cascade: Cascade, name: str, step: Step, recipe: Recipe) -> Iterator[str]:
    # Without any set, and with each of them: a mistake in a set that nobody has asked for yet is said now.
    choices: list[list[Layer]] = [[]]
    choices += [
        [(f"set {origin}", values.tasks.get(name, {})) for origin, values in cascade.lineage(known)]
        for known in cascade.parameter_sets
    ]
    for layers in choices:
        try:
            recipe_parameters(name, step, recipe, layers)
            if step.groups:
                grouping(name, step, layers)
        except ValueError as error:
            origin = f" ({layers[-1][0]})" if layers else ""
            yield f"{error}{origin}"
