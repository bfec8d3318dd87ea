"""What a night came to, as Markdown for the dashboard."""

from collections import Counter

from ccdflow.archive.registry.products import ProductFilter, find_products
from ccdflow.archive.registry.queries import FrameFilter, find_frames, list_frames
from ccdflow.cascade.planning.request import Request
from ccdflow.tasks.markdown import table
from ccdflow.tasks.workspace import Workspace, open_workspace


def night_summaries(project: str, request: Request) -> dict[str, str]:
    """For each night that the request selects, its frames, states, products and what failed or is missing."""
    space = open_workspace(project)
    wanted = FrameFilter(
        night=request.night, camera=request.camera, since=request.since, until=request.until, keywords=()
    )
    nights = {
        one.night for one in space.registry.read(find_frames, wanted) if one.night and request.selects(one)
    }
    return {night: _summary(space, night) for night in sorted(nights)}


def _summary(space: Workspace, night: str) -> str:
    frames = space.registry.read(list_frames, FrameFilter(night=night))
    states = Counter((one["stage"], one["status"]) for one in frames)
    products = Counter(one.category for one in space.registry.read(find_products, ProductFilter(night=night)))
    bad = [one for one in frames if one["status"] in ("failed", "refused", "waiting") and one["reason"]]
    lines = [f"# {space.project.directory.name}, night {night}", "", f"{len(frames)} frames", ""]
    lines += table("stage | state | frames", [(*key, number) for key, number in sorted(states.items())])
    lines += table("product | number", [*sorted(products.items())])
    if bad:
        rows: list[tuple[object, ...]] = [
            (one["id"], one["object"], one["status"], one["reason"]) for one in bad
        ]
        lines += ["## Not done", "", *table("frame | object | state | reason", rows)]
    return "\n".join(lines)
