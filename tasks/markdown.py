"""Markdown for dashboards."""

from collections.abc import Iterable, Sequence


def table(heads: str, rows: Iterable[Sequence[object]]) -> list[str]:
    """The lines of a table, an empty one behind it; `heads` are parted by ``|``."""
    rule = " | ".join("---" for _ in heads.split("|"))
    return [heads, rule, *(" | ".join(_cell(cell) for cell in row) for row in rows), ""]


def _cell(found: object) -> str:
    """What stands in a cell: nothing that would end it."""
    return " ".join(str(found).split()).replace("|", "\\|") or " "
