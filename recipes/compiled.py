"""Machine code from Python functions, kept on disk, so that only the first run after installation compiles.

numba takes a third of a second to import, and commands that only ask never need it: modules with compiled functions
(``*_kernels``) are imported where they are used, inside functions.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from numba import njit, types

Function = TypeVar("Function", bound=Callable[..., object])



def array(dtype: Any, dimensions: int) -> Any:
    """Type of a C-contiguous array that a kernel writes."""
    return types.Array(dtype, dimensions, "C")


def constant(dtype: Any, dimensions: int) -> Any:
    """Type of a C-contiguous array that a kernel only reads; it takes writable arrays too."""
    return types.Array(dtype, dimensions, "C", readonly=True)


def compiled(*signature: Any) -> Callable[[Function], Function]:
    """Decorator: function as machine code that lets go of the interpreter while it runs.

    With types of its arguments it is compiled once, for these, else for each combination that it is called
    with. IEEE arithmetic as written, no fused or reordered sums: the same pixels on every machine. Division by
    zero gives infinity or NaN as in numpy.
    """
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "boundscheck": False}
    if not signature:
        return lambda function: njit(no_cpython_wrapper=True, no_cfunc_wrapper=True, **options)(function)
    arguments = (signature,)

    def decorate(function: Function) -> Function:
        try:
            return njit(*arguments, cache=True, **options)(function)  # type: ignore[no-any-return]
        except RuntimeError:  # nowhere may a cache be written
            return njit(*arguments, **options)(function)  # type: ignore[no-any-return]

    return decorate
