"""Machine code from Python functions, kept on disk, so that only the first run after installation compiles.

numba takes a third of a second to import, and commands that only ask never need it: modules with compiled functions
(``*_kernels``) are imported where they are used, inside functions.
"""

from collections.abc import Callable
from typing import TypeVar

from numba import njit

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """Function as machine code that lets go of the interpreter while it runs.

    IEEE arithmetic as written, no fused or reordered sums: the same pixels on every machine. Division by zero
    gives infinity or NaN as in numpy.
    """
    options = {"nogil": True, "error_model": "numpy", "boundscheck": False}
    try:
        return njit(cache=True, **options)(function)  # type: ignore[no-any-return]
    except RuntimeError:  # neither beside the source nor in the user's cache can anything be written
        return njit(**options)(function)  # type: ignore[no-any-return]
