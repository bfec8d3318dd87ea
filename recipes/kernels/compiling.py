"""Kernels to an object file.

``python -m ccdflow.recipes.kernels.compiling MODULE`` writes that of a module to its standard output. This is done in
four steps:

1. numba works out the types of each kernel and of its parts, and writes them in LLVM's language (`_lowered`).
2. Beside each kernel comes a function that is called from Python by ctypes: it takes an address and a shape where numba
   takes seven or more values for an array (`_entry`).
3. All functions of a module are put together and optimised (`_optimise`), once instead of one by one.
4. LLVM turns them into an object file.

Only here is numba imported. Steps 1 and 2 rest on what it does not promise to keep: how a function's code is got, and
in which order it takes its arguments. So its versions are bounded, see `ccdflow.recipes.kernels.codefiles.TESTED`.
"""

import gc
import sys
from importlib import import_module
from typing import Any

import llvmlite.binding as llvm
import numba
from numba import types
from numba.core import cgutils, codegen
from numba.extending import intrinsic
from numba.np import arrayobj

from ccdflow.recipes.kernels.codefiles import UnfitKernelError, link, packed, target_machine
from ccdflow.recipes.kernels.compiled import (
    Array,
    Kernel,
    Kind,
    Part,
    Scalar,
    Several,
    kernel_module,
    stretch,
)

OPTIONS: dict[str, Any] = {
    "error_model": "numpy",
    "boundscheck": False,
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
    "_nrt": False,
}
"""Without numba's run-time library, which makes and counts arrays: the code then needs nothing of numba."""

INLINED = 100
"""LLVM's measure of a function (about its instructions) above which it is called rather than copied into its callers.

Larger parts stay functions of their own: in one large one LLVM makes fewer loops vector instructions.
"""


def compile_module(name: str) -> bytes:
    """Compile the kernels of a module.

    Parameters
    ----------
    name : str
        Dotted name of the module.

    Returns
    -------
    bytes
        Content of its file, see `ccdflow.recipes.kernels.codefiles`.

    Raises
    ------
    UnfitKernelError
        If a kernel gives back something else than whole numbers.
    """
    module = import_module(name)
    # Kernels find their parts among the globals of their module, where numba looks for what it can call.
    for key, value in list(vars(module).items()):
        if isinstance(value, Part):
            setattr(module, key, _stretch if value is stretch else _jit(value.function))
    joined = llvm.parse_assembly("")
    entries = {}
    for key, kernel in kernel_module(name).kernels.items():
        library, symbol, entries[key] = _lowered(kernel)
        code = llvm.parse_assembly(library)
        arguments = [str(argument.type) for argument in code.get_function(symbol).arguments]
        joined.link_in(code)
        joined.link_in(llvm.parse_assembly(_entry(kernel, key, symbol, arguments)))
        # Called by its entry alone, so that LLVM may put it there.
        joined.get_function(symbol).linkage = "internal"
    machine = target_machine()
    joined.triple, joined.data_layout = machine.triple, str(machine.target_data)
    _optimise(joined, machine)
    return packed(entries, machine.emit_object(joined))


def _jit(function: Any) -> Any:
    jit: Any = numba.njit
    return jit(**OPTIONS)(function)


_CODE: Any = cgutils
_ARRAYS: Any = arrayobj


@intrinsic
def _stretch(_context: Any, plane: Any, i: Any, start: Any, w: Any) -> Any:
    """Compile `ccdflow.recipes.kernels.compiled.stretch`: an array that begins within another, nothing checked.

    numba calls this with types. It gives back the signature, and a function that appends LLVM's instructions.
    """
    row_type = types.Array(plane.dtype, 1, "C", readonly=not plane.mutable)

    def generate(context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        array = context.make_array(plane)(context, builder, values[0])
        _, row, first, size = values
        width = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(plane.dtype)))
        strides = _CODE.unpack_tuple(builder, array.strides)
        offset = builder.add(builder.mul(row, strides[0]), builder.mul(first, width))
        result = context.make_array(row_type)(context, builder)
        at = _CODE.pointer_add(builder, array.data, offset)
        known = {"shape": (size,), "strides": (width,), "itemsize": width, "meminfo": None}
        _ARRAYS.populate_array(result, data=at, **known)
        return result._getvalue()

    return row_type(plane, types.intp, types.intp, types.intp), generate


def _lowered(kernel: Kernel) -> tuple[str, str, int]:
    """Return LLVM's text of a kernel and its parts, its symbol there, and how many numbers it gives back."""
    dispatcher = _jit(kernel.function)
    dispatcher.compile(tuple(_numba_type(kind) for kind in kernel.kinds))
    (result,) = dispatcher.overloads.values()
    returned = result.signature.return_type
    several = isinstance(returned, types.UniTuple)
    numbers = [] if returned == types.none else [str(kind) for kind in (returned if several else [returned])]
    if set(numbers) - {"int64"}:
        message = f"{kernel.function.__name__} gives back {returned}, signed whole numbers are needed"
        raise UnfitKernelError(message)
    return result.library.get_llvm_str(), result.fndesc.llvm_func_name, len(numbers)


def _entry(kernel: Kernel, name: str, symbol: str, arguments: list[str]) -> str:
    """Return LLVM's text of a function that takes addresses, shapes and numbers, and calls a kernel as numba does.

    `arguments` are the types that the kernel takes.
    """
    lines: list[str] = []
    # numba's functions write what they give back, and what went wrong, through their first two arguments.
    taken, handed = ["ptr %returned", "ptr %error"], ["ptr %returned", "ptr %error"]
    for number, leaf in enumerate(Several(kernel.kinds).leaves):
        value = f"%a{number}"
        if isinstance(leaf, Array):
            taken += [f"ptr {value}", *(f"i64 {value}.shape.{axis}" for axis in range(leaf.dimensions))]
            handed += _array_arguments(value, leaf, lines)
        else:
            taken.append(f"{_llvm_type(leaf)} {value}")
            handed.append(taken[-1])
    kinds = [argument.split()[0] for argument in handed]
    # LLVM would link a call with other types without a word, and the kernel would read rubbish.
    if kinds != arguments:
        raise RuntimeError(
            f"{name} takes {arguments}, not {kinds}: numba hands arguments over in another way"
        )
    body = "".join(f"  {line}\n" for line in lines)
    return (
        f'declare i32 @"{symbol}"({", ".join(kinds)})\n'
        f'define i32 @"{name}"({", ".join(taken)}) {{\n{body}'
        f'  %status = call i32 @"{symbol}"({", ".join(handed)})\n  ret i32 %status\n}}\n'
    )


def _array_arguments(name: str, array: Array, lines: list[str]) -> list[str]:
    """Return what numba tells a function of an array: owners, size, bytes per value, where it lies, shape, strides.

    What must be worked out for that is appended to `lines`.
    """
    # The owners (numba's counter of references, and Python's object) are none: a kernel makes and keeps no array.
    # Strides are in bytes. That of the last axis is the size of a value; that of an axis before it is the stride of
    # the next one times its length, since arrays have no gaps.
    shape = [f"{name}.shape.{axis}" for axis in range(array.dimensions)]
    size, strides = "1", [str(array.dtype.itemsize)]
    for axis, length in enumerate(shape):
        lines.append(f"{name}.size.{axis} = mul i64 {size}, {length}")
        size = f"{name}.size.{axis}"
    for axis in range(array.dimensions - 1, 0, -1):
        lines.append(f"{name}.stride.{axis - 1} = mul i64 {strides[0]}, {shape[axis]}")
        strides.insert(0, f"{name}.stride.{axis - 1}")
    sizes = [f"i64 {number}" for number in (size, array.dtype.itemsize)]
    return [
        "ptr null",
        "ptr null",
        *sizes,
        f"ptr {name}",
        *(f"i64 {number}" for number in (*shape, *strides)),
    ]


def _llvm_type(scalar: Scalar) -> str:
    size = scalar.dtype.itemsize
    return {4: "float", 8: "double"}[size] if scalar.dtype.kind == "f" else f"i{8 * size}"


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
    """Optimise each function, then, once it is inlined, all together, as numba does it."""
    for function in module.functions:
        if not function.is_declaration:
            builder = _builder(machine)
            builder.getFunctionPassManager().run(function, builder)
    builder = _builder(machine)
    builder.getModulePassManager().run(module, builder)


def _builder(machine: Any) -> Any:
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = True
    options.inlining_threshold = INLINED
    return llvm.create_pass_builder(machine, options)


def _make_no_code_of_parts() -> None:
    """Keep numba from making machine code of each function as it stands: a tenth of the time, for nothing."""
    library: Any = codegen.JITCodeLibrary
    library._finalize_specific = lambda _: None
    library.get_pointer_to_function = lambda code, _: code._ensure_finalized() or 0
    machine: Any = codegen.JITCPUCodegen
    machine.set_env = lambda *_: None


if __name__ == "__main__":
    gc.disable()  # the process ends soon, and numba makes many small objects
    _make_no_code_of_parts()
    content = compile_module(sys.argv[1])
    link(content)  # better here than in a process that works
    sys.stdout.buffer.write(content)
