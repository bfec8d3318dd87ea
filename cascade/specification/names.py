"""Lists of keywords as YAML writes them: what an anchor names may stand in a list, and is taken apart."""

from typing import Annotated, Any

from pydantic import BeforeValidator


def _flat(written: Any) -> Any:
    """Take lists apart that stand in a list: YAML can't join ``[*as_read, night]`` itself."""
    if not isinstance(written, list | tuple):
        return written
    parts = (_flat(part) if isinstance(part, list | tuple) else (part,) for part in written)
    return tuple(name for part in parts for name in part)


Names = Annotated[tuple[str, ...], BeforeValidator(_flat)]
"""Keywords; a list in the list counts as its members."""
