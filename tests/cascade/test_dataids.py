"""A data id is a number and comes back, for any values of any fields."""

from typing import Any

import numpy as np
import pytest
from astropy.table import Table
from hypothesis import given
from hypothesis import strategies as st

from ccdflow.cascade.dataids import FIRST_DATE, Packer

NAMES = st.lists(st.text("abcXYZ 0é", min_size=1, max_size=5), min_size=1, max_size=9, unique=True)
FIELD = st.one_of(st.integers(1, 5000), NAMES, st.just("date"))
FIELDS = st.dictionaries(st.text("abcd", min_size=1, max_size=3), FIELD, min_size=1, max_size=3)


def some(field: Any, count: int, random: np.random.Generator) -> list[Any]:
    if field == "date":
        return (FIRST_DATE + random.integers(0, 65536, count)).astype(str).tolist()
    return (
        [field[n] for n in random.integers(0, len(field), count)]
        if isinstance(field, list)
        else random.integers(0, field, count).tolist()
    )


@given(FIELDS, st.integers(0, 20), st.integers(0, 2**32))
def test_what_is_packed_comes_back_in_order(fields: dict[str, Any], count: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    values = {name: some(field, count, random) for name, field in fields.items()}
    packer = Packer(fields)
    packed = packer.pack(values)
    assert packed.dtype == np.int64 and packed.shape == (count,)
    assert (packed >= 0).all() and (packed < 2**packer.n_bits).all()
    assert {name: back.tolist() for name, back in packer.unpack(packed).items()} == values
    # As the fields are ordered, names by their place.
    rank = {
        name: (field.index if isinstance(field, list) else lambda value: value)
        for name, field in fields.items()
    }
    keys = [tuple(rank[name](values[name][n]) for name in fields) for n in range(count)]
    assert np.argsort(packed, kind="stable").tolist() == sorted(range(count), key=lambda n: keys[n])


def test_a_table_a_scalar_and_numpy_types_will_do() -> None:
    packer = Packer({"camera": ["C1", "C2"], "number": 10})
    table = Table({"camera": ["C2", "C1"], "number": np.array([3, 9], np.uint8), "more": [1, 2]})
    assert packer.pack(table).tolist() == [16 + 3, 9]
    assert packer.pack({"camera": "C2", "number": np.int16(1)}) == 17
    assert packer.unpack(np.uint64(17)) == {"camera": "C2", "number": 1}
    assert packer.pack({"camera": ["C1"], "number": 4.0}).tolist() == [4]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"night": "2026-03-01", "camera": "C3", "number": 1}, "unknown camera 'C3'; known: C1, C2"),
        (
            {"night": "2026-03-01", "camera": "C1", "number": 4096},
            "number has 4096 values, from 0 on; found 4096",
        ),
        (
            {"night": "2026-03-01", "camera": "C1", "number": 1.5},
            r"number is of whole numbers, found \[1.5\]",
        ),
        ({"night": "1999-12-31", "camera": "C1", "number": 1}, "night has 65536 values, from 0 on; found -1"),
        ({"night": "tonight", "camera": "C1", "number": 1}, "night is of dates"),
        ({"night": "2026-03-01", "camera": "C1"}, "'number' is not there"),
    ],
)
def test_what_is_no_data_id_is_told(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Packer({"night": "date", "camera": ["C1", "C2"], "number": 4096}).pack(values)


@pytest.mark.parametrize("number", [-1, 1 << 29])
def test_a_number_of_something_else_is_told(number: int) -> None:
    with pytest.raises(ValueError, match="is no data id of 29 bits"):
        Packer({"night": "date", "camera": ["C1", "C2"], "number": 4096}).unpack([number])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "at least one field"),
        ({"x": 0}, "x: 0 is no field"),
        ({"x": ["a", "a"]}, "list of different names"),
        ({"x": 1 << 40, "y": 1 << 40}, "take 80 bits; wanted 63 at most"),
    ],
)
def test_fields_that_can_not_be_are_told(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Packer(fields)
