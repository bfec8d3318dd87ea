"""A cascade, or the jobs of a plan, as a graph: Mermaid, DOT, or SVG that needs no other program."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape
from itertools import pairwise
from typing import Literal

from ccdflow.cascade.planning.jobs import Job
from ccdflow.cascade.planning.plans import Plan
from ccdflow.cascade.specification.model import Association, Cascade, Step

Kind = Literal["source", "task", "relay", "subworkflow", "new", "reused", "incomplete", "missing", "more"]

FILLS: dict[Kind, str] = {
    "source": "#e8eef4",
    "task": "#fff4dd",
    "relay": "#f4f4f4",
    "subworkflow": "#ffd9a0",
    "new": "#dcebfa",
    "reused": "#dff2df",
    "incomplete": "#fbe0dd",
    "missing": "#ffffff",
    "more": "#f4f4f4",
}
INK, PALE = "#222222", "#8a8a8a"
LINE, MARGIN, GAP_X, GAP_Y = 16, 16, 24, 52
"""Pixels of a drawing: height of a line of text, margin, gaps between boxes of a row and between rows."""
LETTER, BOLD = 6.2, 7.2
"""Width of a letter in pixels, on average, of Helvetica of 12 pixels: nothing measures text here."""
BEND = 6.0
"""Width in pixels of the place where a line passes a row."""
SWEEPS = 8
"""How often the rows are put in order, down and up in turn; more hardly change anything."""
MOST_JOBS = 8
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
    """Return the data sources and tasks of a cascade as a graph.

    Parameters
    ----------
    cascade : Cascade
        What is made from what.
    detailed : bool, optional
        With recipes, conditions, grouping and numbers; else each subworkflow is one box.

    Returns
    -------
    Graph
    """
    nodes = [
        Node(name, (name, *([f"class {source.frame_class}"] if detailed else ())), "source")
        for name, source in cascade.sources.items()
    ]
    edges: list[Edge] = []
    for name, step in cascade.tasks.items():
        lines = (name, *(_about(step) if detailed else ()))
        nodes.append(Node(name, lines, "task" if step.recipe else "relay"))
        edges.append(Edge(step.main, name, step.product if detailed else "", main=True))
        for role, association in step.inputs.items():
            edges += _ways(name, role, association)
    graph = Graph(tuple(nodes), tuple(edges))
    return graph if detailed else _folded(graph)


def _folded(graph: Graph) -> Graph:
    """Return the same with each subworkflow as one box."""
    boxes: dict[str, Node] = {}
    for node in graph.nodes:
        name, dot, _ = node.key.partition(".")
        boxes.setdefault(name, Node(name, (name,), "subworkflow") if dot else node)
    edges: dict[tuple[str, str, str], Edge] = {}
    # Arrows that become the same are drawn once; main ones come first, so that such an arrow is drawn as a main one.
    for edge in sorted(graph.edges, key=lambda edge: not edge.main):
        start, end = edge.start.partition(".")[0], edge.end.partition(".")[0]
        folded = "." in edge.start or "." in edge.end
        # Arrows within a subworkflow are inside its box.
        if start != end:
            label = "" if folded else edge.label
            edges.setdefault((start, end, label), replace(edge, start=start, end=end, label=label))
    return Graph(tuple(boxes.values()), tuple(edges.values()))


def _about(step: Step) -> Iterator[str]:
    """Give the lines that a detailed box has below its name."""
    if step.recipe:
        yield f"recipe {step.recipe}"
    if step.group:
        yield f"by {step.group}"
    if step.condition:
        yield f"if {step.condition}"
    for role, association in step.inputs.items():
        for number, way in enumerate(association.ways, 1):
            words = [f"{role}:", f"{number}." if len(association.ways) > 1 else ""]
            words += ["without, if no" if way.absent else "", way.source]
            words += [
                "" if (way.min, way.max) == (1, 1) else f"{way.min}..{'*' if way.max is None else way.max}"
            ]
            words += [f"if {text}" for text in (association.condition, way.condition) if text][:1]
            words += [f"without {' or '.join(way.when_missing)}" if way.when_missing else ""]
            yield " ".join(word for word in words if word)
    if step.tags:
        yield f"tags {', '.join(step.tags)}"


def _ways(name: str, role: str, association: Association) -> Iterator[Edge]:
    """Give the arrows of an input, labelled where the role is not called like its source."""
    # Dashed where a job may be done without: of several ways, too, none is sure to be gone.
    free = bool(association.optional or association.condition or association.when_missing)
    for way in association.ways:
        # What must not be there for a job to go without is no input of it.
        if way.absent:
            continue
        label = "" if role == way.source.rpartition(".")[2] else role
        yield Edge(way.source, name, label, optional=free or len(association.ways) > 1)


def plan_graph(plan: Plan) -> Graph:
    """Return the jobs of a plan as a graph, by state.

    Parameters
    ----------
    plan : Plan
        Any plan.

    Returns
    -------
    Graph
        More than `MOST_JOBS` jobs of one step and state are one box, and so are their arrows. What incomplete jobs
        lack has boxes of its own.
    """
    count = Counter((job.step, job.state) for job in plan.jobs)
    # A night has hundreds of science jobs that differ in nothing that a drawing shows.
    box = {
        job.key: f"{job.step} {job.state}" if count[job.step, job.state] > MOST_JOBS else job.key
        for job in plan.jobs
    }
    steps = {job.key: job.step for job in plan.jobs}
    nodes: dict[str, Node] = {}
    edges: dict[tuple[str, str], Edge] = {}
    for job in plan.jobs:
        key = box[job.key]
        nodes[key] = _job_node(job, key, count[job.step, job.state])
        for item in job.inputs:
            if item.job is not None and item.job in box:
                start = box[item.job]
                label = "" if item.role in ("main", steps[item.job]) else item.role
                edges[start, key] = Edge(start, key, label, main=item.role == "main")
        for missing in job.missing:
            lack = f"{missing.input} of {key}"
            nodes[lack] = Node(lack, (f"no {missing.input}",), "missing")
            edges[lack, key] = Edge(lack, key)
    return Graph(tuple(nodes.values()), tuple(edges.values()))


def _job_node(job: Job, key: str, count: int) -> Node:
    """Return the box of a job, or the one that stands for all `count` jobs of its step and state."""
    if key != job.key:
        return Node(key, (f"{count} {job.step}", job.state), job.state)
    name = (job.name,) if job.name.startswith(job.step) else (job.step, job.name)
    return Node(key, (*name, job.key[:8], job.state), job.state)


# --- text ---------------------------------------------------------------------------------------------------


def mermaid(graph: Graph) -> str:
    """Write a graph as a flowchart in Mermaid's language.

    Parameters
    ----------
    graph : Graph
        Boxes and arrows.

    Returns
    -------
    str
        Text that pages of Markdown draw.
    """
    # Mermaid allows few characters in the name of a node, so nodes are numbered.
    ids = {node.key: f"n{number}" for number, node in enumerate(graph.nodes)}
    lines = ["flowchart TD"]
    for node in graph.nodes:
        text = "<br/>".join(escape(line).replace('"', "#quot;") for line in node.lines)
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
    """Write a graph as a digraph in Graphviz's language.

    Parameters
    ----------
    graph : Graph
        Boxes and arrows.

    Returns
    -------
    str
        Text for ``dot``.
    """
    lines = ["digraph cascade {", '    node [shape=box style="rounded,filled" fontname="Helvetica"];']
    for node in graph.nodes:
        shape = " shape=cylinder" if node.kind == "source" else ""
        lines.append(
            f'    {_quoted(node.key)} [label={_quoted(node.lines)} fillcolor="{FILLS[node.kind]}"{shape}];'
        )
    for edge in graph.edges:
        style = "bold" if edge.main else "dashed" if edge.optional else "solid"
        label = f" label={_quoted(edge.label)}" if edge.label else ""
        lines.append(f"    {_quoted(edge.start)} -> {_quoted(edge.end)} [style={style}{label}];")
    return "\n".join([*lines, "}"]) + "\n"


def _quoted(text: str | Sequence[str]) -> str:
    lines = [text] if isinstance(text, str) else text
    return '"' + "\\n".join(line.replace("\\", "\\\\").replace('"', '\\"') for line in lines) + '"'


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
    """Draw a graph.

    Parameters
    ----------
    graph : Graph
        Boxes and arrows.

    Returns
    -------
    str
        A document that needs no other program: what is taken stands above what takes it.
    """
    layout = _Layout(graph)
    # Arrows first: boxes and their texts lie above them.
    drawn = [layout.arrow(number) for number in range(len(graph.edges))]
    drawn += [_drawn(node, layout.boxes[node.key]) for node in graph.nodes]
    width, height = layout.size
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
            f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="Helvetica, Arial, sans-serif" font-size="12">',
            '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
            f'markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0L10 5L0 10z" fill="{PALE}"/></marker></defs>',
            '<rect width="100%" height="100%" fill="white"/>',
            *drawn,
            "</svg>\n",
        ]
    )


class _Layout:
    """Boxes in rows, each below all that it takes, and lines that run between them (Sugiyama's method).

    1. Each box gets a row (`_rows`).
    2. A line that passes rows gets a place of its own in each, a bend, so that it does not run through a box. From
       here on every piece of a line joins neighbouring rows.
    3. The rows are sorted so that few lines cross: each box goes where its neighbours are on average, in the row above
       while going down, in the row below while going up, `SWEEPS` times.
    4. Widths of texts make coordinates.

    References
    ----------
    Sugiyama, Tagawa & Toda (1981), Methods for Visual Understanding of Hierarchical System Structures, IEEE
    Transactions on Systems, Man, and Cybernetics 11, 109.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.rows = _rows(graph)
        self.routes = self._routes()
        self.above: dict[str, list[str]] = {key: [] for keys in self.rows for key in keys}
        self.below: dict[str, list[str]] = {key: [] for keys in self.rows for key in keys}
        for route in self.routes:
            for upper, lower in pairwise(route):
                self.above[lower].append(upper)
                self.below[upper].append(lower)
        for sweep in range(SWEEPS):
            self._sort(down=sweep % 2 == 0)
        self.boxes = self._boxes()

    def _routes(self) -> list[list[str]]:
        """Return for each edge the places that its line goes through, and put the bends into the rows."""
        row = {key: number for number, keys in enumerate(self.rows) for key in keys}
        routes: list[list[str]] = []
        for number, edge in enumerate(self.graph.edges):
            bends = [f"bend {number} {at}" for at in range(row[edge.start] + 1, row[edge.end])]
            for at, bend in enumerate(bends, row[edge.start] + 1):
                self.rows[at].append(bend)
            routes.append([edge.start, *bends, edge.end])
        return routes

    def _sort(self, *, down: bool) -> None:
        """Put each node of a row where its neighbours are on average."""
        near = self.above if down else self.below
        # Places are fractions of a row, so that rows of different lengths compare.
        place = {key: (i + 0.5) / len(row) for row in self.rows for i, key in enumerate(row)}
        for row in self.rows if down else self.rows[::-1]:
            row.sort(key=lambda key: _mean([place[neighbour] for neighbour in near[key]], place[key]))
            place |= {key: (i + 0.5) / len(row) for i, key in enumerate(row)}

    def _boxes(self) -> dict[str, _Box]:
        """Return where each node and bend stands: rows below one another, each centred."""
        sizes = self._sizes()
        widths = [sum(sizes[key][0] for key in row) + GAP_X * (len(row) - 1) for row in self.rows]
        boxes: dict[str, _Box] = {}
        y = float(MARGIN)
        for row, row_width in zip(self.rows, widths, strict=True):
            x = MARGIN + (max(widths) - row_width) / 2
            row_height = max((sizes[key][1] for key in row), default=0.0)
            for key in row:
                width, height = sizes[key]
                boxes[key] = _Box(x, y, width, height or row_height)  # a bend runs through its whole row
                x += width + GAP_X
            y += row_height + GAP_Y
        return boxes

    def _sizes(self) -> dict[str, tuple[float, float]]:
        """Return width and height of each node in pixels, from its text; a bend has no height of its own."""
        sizes = {key: (BEND, 0.0) for row in self.rows for key in row}
        for node in self.graph.nodes:
            widest = max(
                len(line) * (BOLD if number == 0 else LETTER) for number, line in enumerate(node.lines)
            )
            sizes[node.key] = widest + 24, len(node.lines) * LINE + 12
        return sizes

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the drawing."""
        right = max((box.x + box.width for box in self.boxes.values()), default=0.0)
        bottom = max((box.y + box.height for box in self.boxes.values()), default=0.0)
        return right + MARGIN, bottom + MARGIN

    def _port(self, number: int, *, end: bool) -> float:
        """Return where a line leaves its first box or enters its last: lines of one box stand side by side.

        They stand in the order of the places that they come from or go to, so that they do not cross at the box.
        """
        at, toward = (-1, -2) if end else (0, 1)
        key = self.routes[number][at]
        lines = [i for i, route in enumerate(self.routes) if route[at] == key]
        lines.sort(key=lambda i: (self.boxes[self.routes[i][toward]].middle, i))
        box = self.boxes[key]
        return box.x + box.width * (lines.index(number) + 1) / (len(lines) + 1)

    def arrow(self, number: int) -> str:
        """Draw the line of an edge, with its label near its end."""
        edge, route = self.graph.edges[number], self.routes[number]
        start, end = self.boxes[route[0]], self.boxes[route[-1]]
        points = [(self._port(number, end=False), start.y + start.height)]
        for key in route[1:-1]:
            box = self.boxes[key]
            points += [(box.middle, box.y), (box.middle, box.y + box.height)]
        points.append((self._port(number, end=True), end.y))
        look = 'stroke-width="2.2"' if edge.main else 'stroke-dasharray="5 4"' if edge.optional else ""
        drawn = f'<path d="{_path(points)}" fill="none" stroke="{PALE}" {look} marker-end="url(#tip)"/>'
        return drawn + (_label(edge.label, points[-1]) if edge.label else "")


def _path(points: Sequence[tuple[float, float]]) -> str:
    """Write the way through some points for SVG: curves between rows, in turn with straight lines through rows.

    A curve (Bezier's, cubic) has its two handles half way down, above and below its ends, so it leaves and enters
    vertically.
    """
    path = f"M{points[0][0]:.0f} {points[0][1]:.0f}"
    for leg, ((x0, y0), (x1, y1)) in enumerate(pairwise(points)):
        middle = (y0 + y1) / 2
        through_row = leg % 2 == 1
        path += (
            f"L{x1:.0f} {y1:.0f}"
            if through_row
            else f"C{x0:.0f} {middle:.0f} {x1:.0f} {middle:.0f} {x1:.0f} {y1:.0f}"
        )
    return path


def _label(label: str, tip: tuple[float, float]) -> str:
    x, y = tip
    # White around the letters: a label lies on lines.
    halo = 'paint-order="stroke" stroke="white" stroke-width="4"'
    place = f'x="{x + 4:.0f}" y="{y - 12:.0f}" font-size="10.5" fill="{INK}"'
    return f"<text {place} {halo}>{escape(label)}</text>"


def _mean(numbers: Sequence[float], without: float) -> float:
    return sum(numbers) / len(numbers) if numbers else without


def _rows(graph: Graph) -> list[list[str]]:
    """Return the keys of the nodes row by row; what takes nothing stands just above the first that takes it."""
    above: dict[str, list[str]] = {node.key: [] for node in graph.nodes}
    below: dict[str, list[str]] = {node.key: [] for node in graph.nodes}
    for edge in graph.edges:
        above[edge.end].append(edge.start)
        below[edge.start].append(edge.end)
    row: dict[str, int] = {}

    # The row of a node is the length of the longest chain above it; a cascade has no cycles.
    def row_of(key: str) -> int:
        if key not in row:
            row[key] = max((row_of(upper) + 1 for upper in above[key]), default=0)
        return row[key]

    for key in above:
        row_of(key)
    # Data sources would all stand in row 0, with long lines to what takes them far below.
    for key in above:
        if not above[key] and below[key]:
            row[key] = min(row[lower] for lower in below[key]) - 1
    rows: list[list[str]] = [[] for _ in range(max(row.values(), default=-1) + 1)]
    for key, number in row.items():
        rows[number].append(key)
    return rows


def _drawn(node: Node, box: _Box) -> str:
    """Draw a box and its lines of text, the first in bold."""
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
