"""Machine code from Python functions, kept on disk, so that only the first run after installation compiles.

numba takes a third of a second to import, and commands that only ask never need it: modules with compiled functions
(``*_kernels``) are imported where they are used, inside functions.
"""

from collections.abc import Callable
from typing import Any

import numba
from numba import types

Function = Callable[..., Any]
Decorator = Callable[[Function], Function]


def array(dtype: Any, dimensions: int) -> Any:
    """Type of a C-contiguous array that a kernel writes."""
    return types.Array(dtype, dimensions, "C")


def constant(dtype: Any, dimensions: int) -> Any:
    """Type of a C-contiguous array that a kernel only reads; it takes writable arrays too."""
    return types.Array(dtype, dimensions, "C", readonly=True)


def compiled(*signature: Any) -> Decorator:
    """Decorator: function as machine code that lets go of the interpreter while it runs.

    With the types of its arguments it is compiled at once, for these, and kept on disk. Without it is a part of
    others, compiled with them; as what is kept is told by the file of the whole alone, parts stand in the same
    file. IEEE arithmetic as written, no fused or reordered sums: the same pixels on every machine. Division by
    zero gives infinity or NaN as in numpy.
    """
    jit: Any = numba.njit
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "boundscheck": False}
    if not signature:
        part: Decorator = jit(no_cpython_wrapper=True, no_cfunc_wrapper=True, **options)
        return part

    def decorate(function: Function) -> Function:
        try:
            made: Function = jit(signature, cache=True, **options)(function)
        except RuntimeError:  # nowhere may a cache be written
            made = jit(signature, **options)(function)
        return made

    return decorate
