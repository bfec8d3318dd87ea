"""Graphs of a cascade and of the jobs of a plan."""

import re
from collections.abc import Callable
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from tests.cascade.planning.test_planner import night
from tests.cascade.specification.test_cascade import SKY, cascade, planned

from ccdflow.cascade.planning.graph import Edge, Graph, Node, cascade_graph, dot, mermaid, plan_graph, svg
from ccdflow.cascade.records import FrameRecord

SVG = "{http://www.w3.org/2000/svg}"


def test_a_cascade_has_a_box_for_each_source_and_step_and_an_arrow_for_each_input() -> None:
    found = cascade_graph(cascade({}))
    assert [node.key for node in found.nodes if node.kind == "source"][:2] == ["raw_bias", "raw_dark"]
    into_science = {(edge.start, edge.main, edge.optional) for edge in found.edges if edge.end == "science"}
    assert into_science == {
        ("raw_science", True, False),
        ("bias", False, True),
        ("dark", False, True),
        ("dark_with_bias", False, True),
        ("flat", False, True),
        ("gain", False, True),
    }


def test_a_detailed_one_says_recipe_ways_and_numbers() -> None:
    changes = {**SKY, "tasks.science.inputs.dark": {"source": "dark", "min": 0, "condition": "exptime > 10"}}
    (science,) = [
        node for node in cascade_graph(cascade(changes), detailed=True).nodes if node.key == "science"
    ]
    assert science.lines == (
        "science",
        "recipe science",
        "bias: 1. bias",
        "bias: 2. dark_with_bias if exptime > 0",
        "bias: 3. without, if no raw_bias if overscan",
        "dark: dark 0..1 if exptime > 10",
        "flat: 1. sky_flat",
        "flat: 2. flat",
        "gain: gain 0..1 without gain or read_noise",
        "tags science",
    )


def test_jobs_are_coloured_by_state_and_what_is_missing_has_a_box() -> None:
    frames = [one for one in night() if one.frame_class != "flat"]
    found = plan_graph(planned({"tasks.science.inputs.flat": {"source": "flat"}}, "science", frames=frames))
    kinds = [node.kind for node in found.nodes]
    assert kinds.count("incomplete") == 3 and kinds.count("new") == 2 and kinds.count("missing") == 3
    assert {node.lines for node in found.nodes if node.kind == "missing"} == {("no flat",)}


def test_many_jobs_of_one_step_are_one_box() -> None:
    frames = [one for number in range(4) for one in night_number(number)]
    found = plan_graph(planned({}, "science", frames=frames))
    assert [node.lines for node in found.nodes if "science" in node.lines[0]] == [("12 science", "new")]


def night_number(number: int) -> list[FrameRecord]:
    day = f"2026-03-{number + 1:02d}"
    return [
        replace(
            one,
            id=one.id + 100 * number,
            night=day,
            obsdate=one.obsdate.replace("2026-03-01", day),
            sha256=f"{one.id + 100 * number:064d}",
        )
        for one in night()
    ]


@pytest.mark.parametrize("draw", [mermaid, dot, svg])
def test_each_box_and_arrow_is_drawn(draw: Callable[[Graph], str]) -> None:
    graph = cascade_graph(cascade({}), detailed=True)
    text = draw(graph)
    for node in graph.nodes:
        assert node.lines[0] in text
    arrows = {mermaid: r"==>|-\.->|-->", dot: "->", svg: "marker-end"}[draw]
    assert len(re.findall(arrows, text)) == len(graph.edges)


def test_what_would_break_the_text_is_escaped() -> None:
    graph = Graph(
        (Node("a", ('exptime < 3 & "x"',), "task"), Node("b", ("b",), "task")), (Edge("a", "b", "<&"),)
    )
    assert "exptime &lt; 3 &amp; " in mermaid(graph) and '"x"' not in mermaid(graph)
    assert '\\"x\\"' in dot(graph)
    ElementTree.fromstring(svg(graph))


def test_no_box_of_the_drawing_lies_on_another_and_no_line_leaves_it() -> None:
    graph = cascade_graph(cascade(SKY), detailed=True)
    root = ElementTree.fromstring(svg(graph))
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    boxes = [
        tuple(float(one.attrib[name]) for name in ("x", "y", "width", "height"))
        for one in root.findall(f"{SVG}rect")
        if "x" in one.attrib
    ]
    assert len(boxes) == len(graph.nodes)
    for number, (x, y, w, h) in enumerate(boxes):
        assert x >= 0 and y >= 0 and x + w <= width and y + h <= height
        for x1, y1, w1, h1 in boxes[:number]:
            assert x + w <= x1 or x1 + w1 <= x or y + h <= y1 or y1 + h1 <= y
    for path in root.findall(f"{SVG}path"):
        numbers = [float(one) for one in re.findall(r"-?\d+", path.attrib["d"])]
        assert all(0 <= x <= width for x in numbers[::2]) and all(0 <= y <= height for y in numbers[1::2])


def test_nothing_is_a_drawing_too() -> None:
    ElementTree.fromstring(svg(Graph((), ())))
