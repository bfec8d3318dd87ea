"""What has been typed finds values and ids that begin so, on both databases."""

from sqlalchemy import insert

from ccdflow.archive.registry.doors import Registry
from ccdflow.archive.registry.suggestions import MOST, suggested_ids, suggested_values
from ccdflow.archive.registry.tables import FrameRow, table


def test_values_and_ids_that_begin_so(registry: Registry) -> None:
    rows = [{"class": "flat", "night": f"2026-{n % 9 + 1:02d}-01", "object": f"M{n}"} for n in range(150)]
    registry.write(lambda connection: connection.execute(insert(table(FrameRow)), rows))
    assert registry.read(suggested_values, "night", "2026-0")[:2] == ["2026-09-01", "2026-08-01"]
    assert registry.read(suggested_values, "object", "M14") == ["M14", *(f"M14{n}" for n in range(10))]
    assert len(registry.read(suggested_values, "object", "")) == MOST
    assert registry.read(suggested_values, "filter", "") == []
    assert registry.read(suggested_ids, "f15") == ["f150", "f15"]
    assert registry.read(suggested_ids, "f")[0] == "f150" and registry.read(suggested_ids, "p1") == []
