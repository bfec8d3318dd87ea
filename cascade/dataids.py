"""What tells exposures apart (night, camera, number) as one whole number, and back: for catalogues of many rows.

A packing states its fields with how many values each may have. The first field is the highest in the number, so that
numbers are in order of the fields.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ccdflow.cascade.wording import unknown

DATE = "date"
"""Word for a field that is a night."""
FIRST_DATE = np.datetime64("2000-01-01")
_DATES = 1 << 16
"""Nights from the first one on: until the year 2179."""
MOST_BITS = 63
"""So that signed numbers of 64 bits hold it, which all databases and FITS have."""


class _Field(Protocol):
    size: int

    def codes(self, name: str, values: Any) -> NDArray[np.int64]: ...
    def values(self, codes: NDArray[np.int64]) -> NDArray[Any]: ...


class _Whole:
    """Whole numbers from 0 on."""

    def __init__(self, size: int) -> None:
        self.size = size

    def codes(self, name: str, values: Any) -> NDArray[np.int64]:
        given = np.asarray(values)
        codes = given.astype(np.int64)
        if not (np.issubdtype(given.dtype, np.number) and np.array_equal(codes, given)):
            raise ValueError(f"{name} is of whole numbers, found {given.reshape(-1)[:1].tolist()}")
        return codes

    def values(self, codes: NDArray[np.int64]) -> NDArray[Any]:
        return codes


class _Dates:
    """Nights, as ISO dates or dates of numpy."""

    size = _DATES

    def codes(self, name: str, values: Any) -> NDArray[np.int64]:
        try:
            dates = np.asarray(values).astype("datetime64[D]")
        except ValueError as error:
            raise ValueError(f"{name} is of dates: {error}") from None
        return (dates - FIRST_DATE).astype(np.int64)

    def values(self, codes: NDArray[np.int64]) -> NDArray[Any]:
        dates: NDArray[Any] = FIRST_DATE + codes.astype("timedelta64[D]")
        return dates.astype(str)


class _Names:
    """Some texts, by their place in a list: further ones may be added at its end."""

    def __init__(self, names: list[str]) -> None:
        self.names = np.array(names)
        self.size = len(names)
        self._order = np.argsort(self.names)

    def codes(self, name: str, values: Any) -> NDArray[np.int64]:
        given = np.asarray(values).astype(str)
        places = np.searchsorted(self.names, given, sorter=self._order).clip(max=self.size - 1)
        codes: NDArray[np.int64] = self._order[places].astype(np.int64)
        if strange := given[self.names[codes] != given].reshape(-1)[:1].tolist():
            raise ValueError(unknown(name, strange[0], self.names.tolist()))
        return codes

    def values(self, codes: NDArray[np.int64]) -> NDArray[Any]:
        named: NDArray[Any] = self.names[codes]
        return named


class Packer:
    """Data ids as numbers.

    Parameters
    ----------
    fields : mapping
        By name of a column what it may be: a whole number n for 0 to n - 1, a list of texts, or ``date`` for nights
        from 2000-01-01 to 2179-06-05.

    Raises
    ------
    ValueError
        If a field is none of these, or they take more than 63 bits.

    Examples
    --------
    >>> packer = Packer({"night": "date", "camera": ["C1", "C2"], "number": 4096})
    >>> packer.n_bits
    29
    >>> packed = packer.pack({"night": "2026-03-01", "camera": ["C1", "C2"], "number": 7})
    >>> packed.tolist()
    [78282759, 78286855]
    >>> {name: values.tolist() for name, values in packer.unpack(packed).items()}
    {'night': ['2026-03-01', '2026-03-01'], 'camera': ['C1', 'C2'], 'number': [7, 7]}
    """

    def __init__(self, fields: Mapping[str, Any]) -> None:
        if not fields:
            raise ValueError("a data id has at least one field")
        self._fields = {name: _field(name, stated) for name, stated in fields.items()}
        if self.n_bits > MOST_BITS:
            raise ValueError(
                f"the fields {', '.join(fields)} take {self.n_bits} bits; wanted {MOST_BITS} at most"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the fields, the highest first."""
        return tuple(self._fields)

    @property
    def n_bits(self) -> int:
        """Bits that every number fits into."""
        return sum(_bits(field) for field in self._fields.values())

    def pack(self, values: Mapping[str, Any]) -> NDArray[np.int64]:
        """Return numbers.

        Parameters
        ----------
        values : mapping of array_like
            By name of each field one value or many; a `Table` with such columns will do. Others are not looked at.

        Returns
        -------
        int64 array
            Of the shape to which the values broadcast.

        Raises
        ------
        ValueError
            If a field is missing, or a value is none that it may have; it names the first one.
        """
        given = [name for name in self._fields if name in _names(values)]
        if missing := [name for name in self._fields if name not in given]:
            raise ValueError(
                f"a data id has the fields {', '.join(self._fields)}; {missing[0]!r} is not there"
            )
        packed: NDArray[np.int64] = np.zeros((), np.int64)
        for name, field in self._fields.items():
            codes = field.codes(name, values[name])
            outside = codes[(codes < 0) | (codes >= field.size)].reshape(-1)
            if outside.size:
                raise ValueError(f"{name} has {field.size} values, from 0 on; found {outside[0]}")
            packed = (packed << _bits(field)) | codes
        return packed

    def unpack(self, numbers: Any) -> dict[str, NDArray[Any]]:
        """Return the values that were packed.

        Parameters
        ----------
        numbers : array_like of int
            As `pack` gave them.

        Returns
        -------
        dict of arrays
            By name of a field its values, of the shape of the numbers: texts, dates as ISO texts, int64.

        Raises
        ------
        ValueError
            If one is no number of this packing.
        """
        rest = np.asarray(numbers).astype(np.int64)
        strange = rest[(rest < 0) | (rest >> self.n_bits > 0)].reshape(-1)
        if strange.size:
            raise ValueError(f"{strange[0]} is no data id of {self.n_bits} bits")
        values: dict[str, NDArray[Any]] = {}
        for name, field in reversed(self._fields.items()):
            bits = _bits(field)
            codes, rest = rest & ((1 << bits) - 1), rest >> bits
            if (codes >= field.size).any():
                raise ValueError(f"{name} has {field.size} values, found number {codes.max()}")
            values[name] = field.values(codes)
        return {name: values[name] for name in self._fields}


def _names(values: Mapping[str, Any]) -> Any:
    return getattr(values, "colnames", values)


def _bits(field: _Field) -> int:
    return max(1, (field.size - 1).bit_length())


def _field(name: str, stated: Any) -> _Field:
    if stated == DATE:
        return _Dates()
    if isinstance(stated, int) and not isinstance(stated, bool) and stated > 0:
        return _Whole(stated)
    if isinstance(stated, list | tuple) and stated and len({*map(str, stated)}) == len(stated):
        return _Names([str(text) for text in stated])
    raise ValueError(
        f"{name}: {stated!r} is no field; wanted how many numbers, a list of different names, or {DATE!r}"
    )
