"""Machine code from Python functions, kept on disk, so that only the first run after installation compiles.

Modules with compiled functions (``*_kernels``) are what numba understands of Python. numba is asked once, in a process
of its own (`ccdflow.recipes.kernels.compiling`); what it makes is kept by `ccdflow.recipes.kernels.codefiles` and
linked by LLVM alone, so that a later start neither imports numba (a third of a second) nor its memory.
"""

import ctypes
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from threading import Lock, Thread
from typing import Any

import numpy as np

from ccdflow.recipes.kernels import codefiles
from ccdflow.recipes.kernels.threads import cores

Function = Callable[..., Any]
Decorator = Callable[[Function], Any]

_BEGIN: Any = ctypes.c_char * 0
"""Of no length, so that it fits an array without pixels too; ctypes hands it on as the address of its first byte."""


@dataclass(frozen=True)
class Array:
    """A C-contiguous array, as a kernel takes it."""

    dtype: np.dtype[Any]
    dimensions: int
    readonly: bool

    def flatten(self, value: Any, flat: list[Any]) -> None:
        """Append where the array's pixels begin and its shape; strides follow from those.

        Raises
        ------
        TypeError
            If it has another type or number of axes, has gaps, or is read-only and the kernel writes to it.
        """
        flags = value.flags
        if value.dtype != self.dtype or value.ndim != self.dimensions or not flags.c_contiguous:
            raise TypeError(f"a kernel takes {self}, found {value.dtype} of shape {value.shape}")
        if flags.writeable:
            # A fifth of the time that `value.ctypes.data` takes, but of memory that may be written only.
            flat.append(_BEGIN.from_buffer(value))
        elif self.readonly:
            flat.append(value.ctypes.data)
        else:
            raise TypeError("a kernel writes to an array that is read-only")
        flat += value.shape

    @property
    def arguments(self) -> list[Any]:
        """Types of what `flatten` appends, as ctypes names them."""
        return [ctypes.c_void_p, *[ctypes.c_int64] * self.dimensions]

    @property
    def leaves(self) -> "list[Array | Scalar]":
        """Itself."""
        return [self]


@dataclass(frozen=True)
class Scalar:
    """A number, as a kernel takes it."""

    dtype: np.dtype[Any]

    def flatten(self, value: Any, flat: list[Any]) -> None:
        """Append the number."""
        flat.append(value)

    @property
    def arguments(self) -> list[Any]:
        """Types of what `flatten` appends, as ctypes names them."""
        return [np.ctypeslib.as_ctypes_type(self.dtype)]

    @property
    def leaves(self) -> "list[Array | Scalar]":
        """Itself."""
        return [self]


@dataclass(frozen=True)
class Several:
    """A tuple, as a kernel takes it."""

    kinds: "tuple[Kind, ...]"

    def flatten(self, value: Any, flat: list[Any]) -> None:
        """Append all that it holds."""
        for kind, one in zip(self.kinds, value, strict=True):
            kind.flatten(one, flat)

    @property
    def leaves(self) -> "list[Array | Scalar]":
        """Arrays and numbers that it holds, those of tuples within it too, in order."""
        return [leaf for kind in self.kinds for leaf in kind.leaves]


Kind = Array | Scalar | Several


def array(dtype: Any, dimensions: int) -> Array:
    """Type of a C-contiguous array that a kernel writes."""
    return Array(np.dtype(dtype), dimensions, readonly=False)


def constant(dtype: Any, dimensions: int) -> Array:
    """Type of a C-contiguous array that a kernel only reads; it takes writable arrays too."""
    return Array(np.dtype(dtype), dimensions, readonly=True)


def _kind(given: Any) -> Kind:
    if isinstance(given, tuple):
        return Several(tuple(_kind(one) for one in given))
    return given if isinstance(given, Array | Scalar | Several) else Scalar(np.dtype(given))


@dataclass(frozen=True)
class Part:
    """A function that is compiled with those of its module that call it."""

    function: Function


stretch: Any = Part(lambda of, i, start, w: of[i, start : start + w])
"""``stretch(of, i, start, w)`` within kernels: `w` pixels of row `i`, which must be there. A slice looks whether they
are, and takes a hundredth of a second to compile."""


class Kernel:
    """A function as machine code that lets go of the interpreter while it runs."""

    def __init__(self, function: Function, signature: Sequence[Any]) -> None:
        self.function = function
        self.kinds = tuple(_kind(one) for one in signature)
        self.__doc__ = function.__doc__
        self._unit = unit(function.__module__)
        self._unit.kernels[function.__name__] = self
        self._linked: tuple[Any, Any, int] | None = None

    def __call__(self, *given: Any) -> Any:
        """Run it; gives nothing, a whole number or a tuple of them."""
        entry, room, number = self._linked or self._link()
        flat: list[Any] = []
        for kind, one in zip(self.kinds, given, strict=True):
            kind.flatten(one, flat)
        returned, error = room(), ctypes.c_void_p()
        if entry(ctypes.byref(returned), ctypes.byref(error), *flat):
            raise ValueError(f"{self.function.__name__} was given what it can't work on")
        return tuple(returned) if number > 1 else returned[0] if number else None

    def _link(self) -> tuple[Any, Any, int]:
        address, number = self._unit.entry(self.function.__name__)
        types = [argument for leaf in Several(self.kinds).leaves for argument in leaf.arguments]
        prototype = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, *types)
        room = ctypes.c_int64 * max(number, 1)
        self._linked = prototype(address), room, number
        return self._linked


class Unit:
    """The kernels of one module: compiled, kept and linked together, when the first is called."""

    def __init__(self, module: str) -> None:
        self.module = module
        self.kernels: dict[str, Kernel] = {}
        self._lock = Lock()
        self._entries: codefiles.Entries = {}

    def entry(self, name: str) -> tuple[int, int]:
        """Where a kernel begins, and how many numbers it gives back."""
        with self._lock:
            if not self._entries:
                self._entries = codefiles.linked(self.module)
        return self._entries[name]

    def load(self) -> None:
        """Have it ready; what goes wrong is said when a kernel is called."""
        try:
            self.entry(next(iter(self.kernels)))
        except Exception:
            self._entries = {}


_UNITS: dict[str, Unit] = {}


def unit(module: str) -> Unit:
    """Kernels of a module."""
    return _UNITS.setdefault(module, Unit(module))


def prepare(*modules: str) -> None:
    """Begin to load the kernels of modules, in this order; those that are not on disk are compiled side by side."""
    for module in modules:
        import_module(module)
    waiting = deque(modules)

    def load() -> None:
        while waiting:
            with suppress(IndexError):  # another thread was faster
                unit(waiting.popleft()).load()

    for number in range(min(cores(), len(modules))):
        Thread(target=load, name=f"kernels {number}", daemon=True).start()


def compiled(*signature: Any) -> Decorator:
    """Decorator: function as machine code that lets go of the interpreter while it runs.

    With the types of its arguments (of arrays, numpy's of numbers, tuples of them) it can be called, and gives nothing
    or whole numbers back. Without it is a part of others of the same module. It has no memory but what it is given:
    it can't make arrays. IEEE arithmetic as written, no fused or reordered sums: the same pixels on every machine.
    Division by zero gives infinity or NaN as in numpy.
    """
    if not signature:
        return Part
    return lambda function: Kernel(function, signature)
