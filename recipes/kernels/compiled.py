"""Machine code from Python functions, kept on disk, so that only the first run after installation compiles.

Modules with compiled functions (``*_kernels``) are written in what numba understands of Python. numba is asked once, in
a process of its own (`ccdflow.recipes.kernels.compiling`). What it makes is kept by
`ccdflow.recipes.kernels.codefiles` and linked by LLVM alone, so that a later start needs neither the time to import
numba (a third of a second) nor its memory.
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

        Parameters
        ----------
        value : array
            C-contiguous, of this dtype and number of axes. It must live until the kernel has returned.
        flat : list
            Arguments of the machine code so far; appended to.

        Raises
        ------
        TypeError
            If it has another type or number of axes, has gaps, or is read-only and the kernel writes to it.
        """
        flags = value.flags
        if value.dtype != self.dtype or value.ndim != self.dimensions or not flags.c_contiguous:
            raise TypeError(f"a kernel takes {self}, found {value.dtype} of shape {value.shape}")
        if flags.writeable:
            # A quarter of the time that `value.ctypes.data` takes, but not for read-only memory.
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
        """Append the number.

        Parameters
        ----------
        value : number
            ctypes turns it into one of this dtype.
        flat : list
            Arguments of the machine code so far; appended to.
        """
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
        """Append all that the tuple holds.

        Parameters
        ----------
        value : tuple
            As many arrays, numbers and tuples as there are `kinds`.
        flat : list
            Arguments of the machine code so far; appended to.
        """
        for kind, member in zip(self.kinds, value, strict=True):
            kind.flatten(member, flat)

    @property
    def leaves(self) -> "list[Array | Scalar]":
        """Arrays and numbers that it holds, those of tuples within it too, in order."""
        return [leaf for kind in self.kinds for leaf in kind.leaves]


Kind = Array | Scalar | Several


def array(dtype: Any, dimensions: int) -> Array:
    """Return the type of a C-contiguous array that a kernel writes.

    Parameters
    ----------
    dtype : numpy dtype or type
        In the machine's byte order.
    dimensions : int
        Number of axes.

    Returns
    -------
    Array
        For the signature of `compiled`.
    """
    return Array(np.dtype(dtype), dimensions, readonly=False)


def constant(dtype: Any, dimensions: int) -> Array:
    """Return the type of a C-contiguous array that a kernel only reads; it takes writable arrays too.

    Parameters
    ----------
    dtype : numpy dtype or type
        In the machine's byte order.
    dimensions : int
        Number of axes.

    Returns
    -------
    Array
        For the signature of `compiled`.
    """
    return Array(np.dtype(dtype), dimensions, readonly=True)


def _kind(stated: Any) -> Kind:
    if isinstance(stated, tuple):
        return Several(tuple(_kind(member) for member in stated))
    return stated if isinstance(stated, Array | Scalar | Several) else Scalar(np.dtype(stated))


@dataclass(frozen=True)
class Part:
    """A function that is compiled with those of its module that call it."""

    function: Function


stretch: Any = Part(lambda plane, i, start, w: plane[i, start : start + w])
"""``stretch(plane, i, start, w)`` within kernels: `w` pixels of row `i` from `start` on, which must be there.

A slice would say the same, but looks whether they are there, and takes a hundredth of a second to compile.
"""


class Kernel:
    """A function as machine code that lets go of the interpreter while it runs.

    Parameters
    ----------
    function : callable
        Its Python source, as numba understands it.
    signature : sequence
        Types of its arguments, see `compiled`.
    """

    def __init__(self, function: Function, signature: Sequence[Any]) -> None:
        self.function = function
        self.kinds = tuple(_kind(stated) for stated in signature)
        self.__doc__ = function.__doc__
        self._module = kernel_module(function.__module__)
        self._module.kernels[function.__name__] = self
        self._linked: tuple[Any, Any, int] | None = None

    def __call__(self, *arguments: Any) -> Any:
        """Run it; gives nothing, a whole number or a tuple of them."""
        entry, room, number = self._linked or self._link()
        flat: list[Any] = []
        for kind, argument in zip(self.kinds, arguments, strict=True):
            kind.flatten(argument, flat)
        # numba's convention: results through the first pointer, what was raised through the second, and a status.
        returned, error = room(), ctypes.c_void_p()
        if entry(ctypes.byref(returned), ctypes.byref(error), *flat):
            raise ValueError(f"{self.function.__name__} was given what it can't work on")
        return tuple(returned) if number > 1 else returned[0] if number else None

    def _link(self) -> tuple[Any, Any, int]:
        address, number = self._module.entry(self.function.__name__)
        types = [argument for leaf in Several(self.kinds).leaves for argument in leaf.arguments]
        # CFUNCTYPE, unlike PYFUNCTYPE, lets go of the interpreter's lock during the call.
        prototype = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, *types)
        room = ctypes.c_int64 * max(number, 1)
        self._linked = prototype(address), room, number
        return self._linked


class KernelModule:
    """The kernels of one module: compiled, kept and linked together, when the first is called."""

    def __init__(self, module: str) -> None:
        self.module = module
        self.kernels: dict[str, Kernel] = {}
        self._lock = Lock()
        self._entries: codefiles.Entries = {}

    def entry(self, name: str) -> tuple[int, int]:
        """Return where a kernel begins in memory, and how many numbers it gives back.

        Parameters
        ----------
        name : str
            The kernel's function.

        Returns
        -------
        address, number : int
            The module is linked first, and compiled where no file of its machine code is found.
        """
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


_MODULES: dict[str, KernelModule] = {}


def kernel_module(name: str) -> KernelModule:
    """Return the kernels of a module.

    Parameters
    ----------
    name : str
        Dotted name of the module.

    Returns
    -------
    KernelModule
        The same one for the same name.
    """
    return _MODULES.setdefault(name, KernelModule(name))


def prepare(*modules: str) -> None:
    """Begin to load the kernels of modules, in threads that nobody waits for.

    Parameters
    ----------
    *modules : str
        Dotted names, loaded in this order. Those that are not on disk are compiled side by side.
    """
    for module in modules:
        import_module(module)
    waiting = deque(modules)

    def load() -> None:
        while waiting:
            with suppress(IndexError):  # another thread was faster
                kernel_module(waiting.popleft()).load()

    for number in range(min(cores(), len(modules))):
        Thread(target=load, name=f"kernels {number}", daemon=True).start()


def compiled(*signature: Any) -> Decorator:
    """Turn a function into machine code that lets go of the interpreter while it runs (a decorator).

    Parameters
    ----------
    *signature
        Types of the arguments: `array` or `constant`, numpy's types of numbers, tuples of them. Without any the
        function is a part of others of the same module, and can be called by them only.

    Returns
    -------
    decorator
        Of a function that gives back nothing, or whole numbers (int64).

    Notes
    -----
    A kernel has no memory but what it is given: it can't make arrays.

    Arithmetic is IEEE 754 as written, without fused multiplications or reordered sums, so that pixels are the same on
    every machine. Division by zero gives infinity or NaN as in numpy. Nothing checks indices against shapes.
    """
    if not signature:
        return Part
    return lambda function: Kernel(function, signature)
