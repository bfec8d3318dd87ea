"""Kernels to an object file: ``python -m ccdflow.recipes.compiling MODULE`` writes that of a module to its output.

numba works out the types and says it in LLVM's language; all functions of a module are then optimised together.
"""

import sys
from importlib import import_module
from typing import Any

import llvmlite.binding as llvm
import numba
from numba import types

from ccdflow.recipes.codefiles import link, packed, target_machine
from ccdflow.recipes.compiled import Array, Kernel, Kind, Part, Several, unit

OPTIONS: dict[str, Any] = {
    "error_model": "numpy",
    "boundscheck": False,
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
    "_nrt": False,
}
"""Without numba's run-time library, which makes and counts arrays: the code then needs nothing of numba."""


def compile_module(name: str) -> bytes:
    """Content of the file of a module's kernels, see `ccdflow.recipes.codefiles`."""
    module = import_module(name)
    for key, value in list(vars(module).items()):
        if isinstance(value, Part):
            setattr(module, key, _jit(value.function))
    whole = llvm.parse_assembly("")
    entries = {}
    for key, kernel in unit(name).kernels.items():
        library, entries[key] = _lowered(kernel)
        whole.link_in(llvm.parse_assembly(library))
    machine = target_machine()
    whole.triple, whole.data_layout = machine.triple, str(machine.target_data)
    _optimise(whole, machine)
    return packed(entries, machine.emit_object(whole))


def _jit(function: Any) -> Any:
    jit: Any = numba.njit
    return jit(**OPTIONS)(function)


def _lowered(kernel: Kernel) -> tuple[str, tuple[str, str, int]]:
    """LLVM's text of a kernel and its parts; its symbol, and the type and number of what it gives back."""
    dispatcher = _jit(kernel.function)
    dispatcher.compile(tuple(_numba_type(one) for one in kernel.kinds))
    (result,) = dispatcher.overloads.values()
    returned = result.signature.return_type
    found = (
        []
        if returned == types.none
        else list(returned)
        if isinstance(returned, types.UniTuple)
        else [returned]
    )
    whole = str(found[0]) if found else "int64"
    if whole not in ("int64", "uint64") or any(str(one) != whole for one in found):
        raise TypeError(f"{kernel.function.__name__} gives back {returned}, whole numbers are needed")
    return result.library.get_llvm_str(), (result.fndesc.llvm_func_name, whole, len(found))


def _numba_type(kind: Kind) -> Any:
    if isinstance(kind, Several):
        several: Any = types.Tuple
        return several(tuple(_numba_type(one) for one in kind.kinds))
    scalar = numba.from_dtype(kind.dtype)
    return (
        types.Array(scalar, kind.dimensions, "C", readonly=kind.readonly)
        if isinstance(kind, Array)
        else scalar
    )


def _optimise(module: Any, machine: Any) -> None:
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = True
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)


if __name__ == "__main__":
    content = compile_module(sys.argv[1])
    link(content)  # better here than in a process that works
    sys.stdout.buffer.write(content)
