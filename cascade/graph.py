"""A cascade, or the jobs of a plan, as a graph: Mermaid, DOT, or SVG that needs no other program."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

from ccdflow.cascade.model import Association, Cascade, Step
from ccdflow.cascade.plan import Plan

Kind = Literal["source", "task", "relay", "new", "reused", "incomplete", "missing", "more"]

FILLS: dict[Kind, str] = {
    "source": "#e8eef4",
    "task": "#fff4dd",
    "relay": "#f4f4f4",
    "new": "#dcebfa",
    "reused": "#dff2df",
    "incomplete": "#fbe0dd",
    "missing": "#ffffff",
    "more": "#f4f4f4",
}
INK, PALE = "#222222", "#8a8a8a"
LINE, MARGIN, GAP_X, GAP_Y, LETTER = 16, 16, 28, 56, 6.7
SWEEPS = 8
MOST_JOBS = 12
"""Jobs of one step and state that are drawn one by one; more of them are one node."""


@dataclass(frozen=True)
class Node:
    """A box: lines of text, of which the first is its name."""

    key: str
    lines: tuple[str, ...]
    kind: Kind


@dataclass(frozen=True)
class Edge:
    """An arrow; `main` from a main input, else dashed where it is optional."""

    start: str
    end: str
    label: str = ""
    main: bool = False
    optional: bool = False


@dataclass(frozen=True)
class Graph:
    """Boxes and arrows; arrows lead from what is taken to what takes it."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]


def cascade_graph(cascade: Cascade, *, detailed: bool = False) -> Graph:
    """Data sources and steps; detailed, also recipes, conditions, grouping and numbers."""
    nodes = [
        Node(name, (name, *([f"class {one.frame_class}"] if detailed else ())), "source")
        for name, one in cascade.sources.items()
    ]
    edges: list[Edge] = []
    for name, step in cascade.tasks.items():
        nodes.append(Node(name, (name, *_about(step) if detailed else ()), "task" if step.recipe else "relay"))
        edges.append(Edge(step.main, name, step.product if detailed else "", main=True))
        for role, association in step.inputs.items():
            edges += _ways(name, role, association, detailed=detailed)
    return Graph(tuple(nodes), tuple(edges))


def _about(step: Step) -> Iterable[str]:
    if step.recipe:
        yield f"recipe {step.recipe}"
    if step.group:
        yield f"by {step.group}"
    if step.condition:
        yield f"if {step.condition}"
    if step.tags:
        yield f"tags {', '.join(step.tags)}"


def _ways(name: str, role: str, association: Association, *, detailed: bool) -> Iterable[Edge]:
    for number, way in enumerate(association.ways, 1):
        words = [] if role == way.source else [role]
        if detailed:
            words += [f"{number}."] if len(association.ways) > 1 else []
            most = "*" if way.max is None else way.max
            words += [f"{way.min}..{most}"] if (way.min, way.max) != (1, 1) else []
            words += [f"if {one}" for one in (association.condition, way.condition) if one][:1]
            words += [f"without {' or '.join(way.when_missing)}"] if way.when_missing else []
        free = bool(association.optional or association.condition or association.when_missing)
        yield Edge(way.source, name, " ".join(words), optional=free)


def plan_graph(plan: Plan) -> Graph:
    """Jobs of a plan by state; many jobs of one step and state that none of the others tells apart are one box."""
    count: dict[tuple[str, str], int] = {}
    for job in plan.jobs:
        count[job.step, job.state] = count.get((job.step, job.state), 0) + 1
    named = {
        job.key: f"{job.step} {job.state}" if count[job.step, job.state] > MOST_JOBS else job.key for job in plan.jobs
    }
    nodes: dict[str, Node] = {}
    edges: dict[tuple[str, str], Edge] = {}
    for job in plan.jobs:
        key = named[job.key]
        several = key != job.key
        lines = (f"{count[job.step, job.state]} {job.step}",) if several else (job.name, job.key[:8])
        nodes[key] = Node(key, (*lines, job.state), job.state)
        for one in job.inputs:
            if one.job is not None and one.job in named:
                start = named[one.job]
                label = "" if one.role == "main" else one.role
                edges[start, key] = Edge(start, key, label, main=one.role == "main")
        for missing in job.missing:
            lack = f"{missing.input} of {key}"
            nodes[lack] = Node(lack, (f"no {missing.input}",), "missing")
            edges[lack, key] = Edge(lack, key)
    return Graph(tuple(nodes.values()), tuple(edges.values()))


# --- text ---------------------------------------------------------------------------------------------------


def mermaid(graph: Graph) -> str:
    """A flowchart in Mermaid's language."""
    ids = {node.key: f"n{number}" for number, node in enumerate(graph.nodes)}
    lines = ["flowchart TD"]
    for node in graph.nodes:
        text = "<br/>".join(escape(one).replace('"', "#quot;") for one in node.lines)
        left, right = ('[("', '")]') if node.kind == "source" else ('["', '"]')
        lines.append(f"    {ids[node.key]}{left}{text}{right}:::{node.kind}")
    for edge in graph.edges:
        arrow = "==>" if edge.main else "-.->" if edge.optional else "-->"
        label = f'|"{escape(edge.label)}"|' if edge.label else ""
        lines.append(f"    {ids[edge.start]} {arrow}{label} {ids[edge.end]}")
    for kind in dict.fromkeys(node.kind for node in graph.nodes):
        lines.append(f"    classDef {kind} fill:{FILLS[kind]},stroke:{PALE},color:{INK}")
    return "\n".join(lines) + "\n"


def dot(graph: Graph) -> str:
    """A digraph in Graphviz's language."""
    lines = ["digraph cascade {", '    node [shape=box style="rounded,filled" fontname="Helvetica"];']
    for node in graph.nodes:
        shape = " shape=cylinder" if node.kind == "source" else ""
        lines.append(f'    {_quoted(node.key)} [label={_quoted(node.lines)} fillcolor="{FILLS[node.kind]}"{shape}];')
    for edge in graph.edges:
        style = "bold" if edge.main else "dashed" if edge.optional else "solid"
        label = f" label={_quoted(edge.label)}" if edge.label else ""
        lines.append(f"    {_quoted(edge.start)} -> {_quoted(edge.end)} [style={style}{label}];")
    return "\n".join([*lines, "}"]) + "\n"


def _quoted(text: str | Sequence[str]) -> str:
    lines = [text] if isinstance(text, str) else text
    return '"' + "\\n".join(one.replace("\\", "\\\\").replace('"', '\\"') for one in lines) + '"'


# --- SVG ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Box:
    """Where a node stands."""

    x: float
    y: float
    width: float
    height: float

    @property
    def middle(self) -> float:
        return self.x + self.width / 2


def svg(graph: Graph) -> str:
    """A drawing: what is taken stands above what takes it."""
    layers = _layers(graph)
    boxes = _places(graph, layers)
    width = max((box.x + box.width for box in boxes.values()), default=0.0) + MARGIN
    height = max((box.y + box.height for box in boxes.values()), default=0.0) + MARGIN
    drawn = [_arrow(edge, boxes) for edge in graph.edges] + [_drawn(node, boxes[node.key]) for node in graph.nodes]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
            f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="Helvetica, Arial, sans-serif" font-size="12">',
            '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
            f'orient="auto-start-reverse"><path d="M0 0L10 5L0 10z" fill="{PALE}"/></marker></defs>',
            '<rect width="100%" height="100%" fill="white"/>',
            *drawn,
            "</svg>\n",
        ]
    )


def _layers(graph: Graph) -> list[list[str]]:
    """Keys of the nodes row by row: each below all that it takes, in an order with few crossings."""
    above: dict[str, list[str]] = {node.key: [] for node in graph.nodes}
    below: dict[str, list[str]] = {node.key: [] for node in graph.nodes}
    for edge in graph.edges:
        above[edge.end].append(edge.start)
        below[edge.start].append(edge.end)
    depth: dict[str, int] = {}

    def deep(key: str) -> int:
        if key not in depth:
            depth[key] = max((deep(one) + 1 for one in above[key]), default=0)
        return depth[key]

    for key in above:
        deep(key)
    for key in above:  # what takes nothing stands just above the first that takes it
        if not above[key] and below[key]:
            depth[key] = min(depth[one] for one in below[key]) - 1
    rows: list[list[str]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for key, row in depth.items():
        rows[row].append(key)
    for sweep in range(SWEEPS):
        _sort_rows(rows, above if sweep % 2 == 0 else below, down=sweep % 2 == 0)
    return rows


def _sort_rows(rows: list[list[str]], near: Mapping[str, Sequence[str]], *, down: bool) -> None:
    """Put each node of a row where its neighbours are on average (Sugiyama's barycentres)."""
    place = {key: (i + 0.5) / len(row) for row in rows for i, key in enumerate(row)}
    for row in rows if down else rows[::-1]:
        row.sort(key=lambda key: sum(place[one] for one in near[key]) / len(near[key]) if near[key] else place[key])
        place |= {key: (i + 0.5) / len(row) for i, key in enumerate(row)}


def _places(graph: Graph, layers: Sequence[Sequence[str]]) -> dict[str, _Box]:
    lines = {node.key: node.lines for node in graph.nodes}
    sizes = {
        key: (max(len(one) for one in text) * LETTER + 20, len(text) * LINE + 12) for key, text in lines.items()
    }
    wide = [sum(sizes[key][0] for key in row) + GAP_X * (len(row) - 1) for row in layers]
    boxes: dict[str, _Box] = {}
    y = float(MARGIN)
    for row, width in zip(layers, wide, strict=True):
        x = MARGIN + (max(wide) - width) / 2
        for key in row:
            boxes[key] = _Box(x, y, *sizes[key])
            x += sizes[key][0] + GAP_X
        y += max((sizes[key][1] for key in row), default=0.0) + GAP_Y
    return boxes


def _arrow(edge: Edge, boxes: Mapping[str, _Box]) -> str:
    start, end = boxes[edge.start], boxes[edge.end]
    x0, y0, x1, y1 = start.middle, start.y + start.height, end.middle, end.y
    bend = max((y1 - y0) / 2, 20.0)
    look = 'stroke-width="2.2"' if edge.main else 'stroke-dasharray="5 4"' if edge.optional else ""
    path = f"M{x0:.0f} {y0:.0f}C{x0:.0f} {y0 + bend:.0f} {x1:.0f} {y1 - bend:.0f} {x1:.0f} {y1:.0f}"
    drawn = f'<path d="{path}" fill="none" stroke="{PALE}" {look} marker-end="url(#tip)"/>'
    if edge.label:
        x, y = (x0 + 3 * x1) / 4, (y0 + 3 * y1) / 4
        halo = 'paint-order="stroke" stroke="white" stroke-width="4"'
        text = escape(edge.label)
        drawn += (
            f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="middle" font-size="10.5" fill="{INK}" {halo}>{text}</text>'
        )
    return drawn


def _drawn(node: Node, box: _Box) -> str:
    dashed = ' stroke-dasharray="4 3"' if node.kind in ("missing", "relay") else ""
    parts = [
        f'<rect x="{box.x:.0f}" y="{box.y:.0f}" width="{box.width:.0f}" height="{box.height:.0f}" '
        f'rx="{14 if node.kind == "source" else 4}" fill="{FILLS[node.kind]}" stroke="{PALE}"{dashed}/>'
    ]
    for number, line in enumerate(node.lines):
        weight = ' font-weight="bold"' if number == 0 else ""
        y = box.y + 6 + (number + 0.75) * LINE
        parts.append(
            f'<text x="{box.middle:.0f}" y="{y:.0f}" text-anchor="middle" fill="{INK}"{weight}>{escape(line)}</text>'
        )
    return "".join(parts)
