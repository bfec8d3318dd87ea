"""Pins and bans, and products that gave way to others, on both databases."""

import pytest
from tests.archive.registry.test_frames import frame

from ccdflow.archive.registry.choices import ChoiceRecord, choose, find_choices, withdraw
from ccdflow.archive.registry.doors import Registry
from ccdflow.archive.registry.frames.files import add_frame
from ccdflow.archive.registry.frames.queries import find_frames
from ccdflow.archive.registry.jobs.leases import claim
from ccdflow.archive.registry.jobs.lifecycle import plan_jobs
from ccdflow.archive.registry.jobs.planned import PlannedJob
from ccdflow.archive.registry.jobs.productchanges import Made, finish_job, supersede_products
from ccdflow.archive.registry.jobs.products import find_products, superseded_keys


def add(registry: Registry, letter: str, **more: object) -> str:
    registered = registry.write(add_frame, frame(path=f"/raw/{letter}.fits", content=letter, **more))
    return f"f{registered.id}"


def chosen(registry: Registry) -> dict[str, tuple[str, str]]:
    return {choice.subject: (choice.verdict, choice.reason) for choice in registry.read(find_choices)}


def refused(registry: Registry) -> dict[str, str]:
    return {f"f{record.id}": record.refused for record in registry.read(find_frames)}


def test_a_ban_refuses_a_frame_until_it_is_withdrawn(registry: Registry) -> None:
    name, other = add(registry, "a"), add(registry, "b")
    registry.write(choose, [name], "banned", "clouds")
    assert refused(registry) == {name: "banned: clouds", other: ""}
    registry.write(add_frame, frame(path="/raw/a.fits", content="a"))  # registered once more
    assert refused(registry)[name] == "banned: clouds"
    registry.write(choose, [name], "banned", "")
    assert refused(registry)[name] == "banned"
    assert registry.write(withdraw, [name, other]) == 1
    assert refused(registry) == {name: "", other: ""} and registry.read(find_choices) == []


def test_the_last_choice_counts(registry: Registry) -> None:
    name = add(registry, "a")
    registry.write(choose, [name, "k" * 64], "pinned", "good")
    assert chosen(registry) == {name: ("pinned", "good"), "k" * 64: ("pinned", "good")}
    registry.write(choose, [name], "banned", "bad")
    assert chosen(registry)[name] == ("banned", "bad")
    registry.write(choose, [name], "pinned", "good after all")
    assert refused(registry)[name] == ""
    assert isinstance(registry.read(find_choices)[0], ChoiceRecord)


def test_a_frame_that_is_unusable_anyway_keeps_its_reason(registry: Registry) -> None:
    name = add(registry, "a", refused="no date")
    registry.write(choose, [name], "banned", "clouds")
    assert refused(registry)[name] == "no date"
    registry.write(withdraw, [name])
    assert refused(registry)[name] == "no date"


def test_only_frames_that_are_there_are_chosen(registry: Registry) -> None:
    name = add(registry, "a")
    registry.write(add_frame, frame(path="/raw/copy.fits", content="a"), moves=False)
    for wrong, why in (("f99", "not there"), ("f2", "duplicate")):
        with pytest.raises(ValueError, match=f"{wrong} is {why}, wanted a frame that is registered"):
            registry.write(choose, [name, wrong], "banned", "")
    assert registry.read(find_choices) == [] and refused(registry)[name] == ""


def test_products_give_way_category_by_category(registry: Registry) -> None:
    for letter in "ab":
        outputs = [("flat", f"{letter}.fits"), ("mask", f"{letter}m.fits")][: 2 if letter == "a" else 1]
        registry.write(plan_jobs, [PlannedJob(letter * 64, "flat", "flat", "1", outputs=outputs)])
        registry.write(claim, letter * 64, "me", 60)
        registry.write(
            finish_job, letter * 64, "me", [Made(category, path, "0", 1) for category, path in outputs]
        )
    old, mask, new = (product.id for product in registry.read(find_products))
    assert registry.write(supersede_products, {"a" * 64: "b" * 64}) == 1
    assert [product.superseded_by for product in registry.read(find_products)] == [new, None, None]
    assert registry.read(superseded_keys) == {"a" * 64}
    assert registry.write(supersede_products, {"b" * 64: "a" * 64}) == 1
    assert {product.id: product.superseded_by for product in registry.read(find_products)} == {
        old: None,
        mask: None,
        new: old,
    }
