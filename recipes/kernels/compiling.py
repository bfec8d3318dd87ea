"""Kernels to an object file.

``python -m ccdflow.recipes.kernels.compiling MODULE`` writes that of a module to its output:
numba works out the types and says it in LLVM's language; all functions of a module are then optimised together.
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
from ccdflow.recipes.kernels.compiled import Array, Kernel, Kind, Part, Scalar, Several, stretch, unit

OPTIONS: dict[str, Any] = {
    "error_model": "numpy",
    "boundscheck": False,
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
    "_nrt": False,
}
"""Without numba's run-time library, which makes and counts arrays: the code then needs nothing of numba."""

INLINED = 100
"""Larger parts stay functions of their own: in one large one LLVM makes fewer loops vector instructions."""


def compile_module(name: str) -> bytes:
    """Content of the file of a module's kernels, see `ccdflow.recipes.kernels.codefiles`."""
    module = import_module(name)
    for key, value in list(vars(module).items()):
        if isinstance(value, Part):
            setattr(module, key, _stretch if value is stretch else _jit(value.function))
    whole = llvm.parse_assembly("")
    entries = {}
    for key, kernel in unit(name).kernels.items():
        library, symbol, entries[key] = _lowered(kernel)
        code = llvm.parse_assembly(library)
        arguments = [str(argument.type) for argument in code.get_function(symbol).arguments]
        whole.link_in(code)
        whole.link_in(llvm.parse_assembly(_entry(kernel, key, symbol, arguments)))
        whole.get_function(symbol).linkage = "internal"
    machine = target_machine()
    whole.triple, whole.data_layout = machine.triple, str(machine.target_data)
    _optimise(whole, machine)
    return packed(entries, machine.emit_object(whole))


def _jit(function: Any) -> Any:
    jit: Any = numba.njit
    return jit(**OPTIONS)(function)


_CODE: Any = cgutils
_ARRAYS: Any = arrayobj


@intrinsic
def _stretch(_context: Any, of: Any, i: Any, start: Any, w: Any) -> Any:
    """`ccdflow.recipes.kernels.compiled.stretch`, as numba understands it."""
    found = types.Array(of.dtype, 1, "C", readonly=not of.mutable)

    def generate(context: Any, builder: Any, _signature: Any, given: Any) -> Any:
        array = context.make_array(of)(context, builder, given[0])
        _, row, first, size = given
        width = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(of.dtype)))
        strides = _CODE.unpack_tuple(builder, array.strides)
        offset = builder.add(builder.mul(row, strides[0]), builder.mul(first, width))
        made = context.make_array(found)(context, builder)
        at = _CODE.pointer_add(builder, array.data, offset)
        known = {"shape": (size,), "strides": (width,), "itemsize": width, "meminfo": None}
        _ARRAYS.populate_array(made, data=at, **known)
        return made._getvalue()

    return found(of, types.intp, types.intp, types.intp), generate


def _lowered(kernel: Kernel) -> tuple[str, str, int]:
    """LLVM's text of a kernel and its parts, its symbol there, and how many numbers it gives back."""
    dispatcher = _jit(kernel.function)
    dispatcher.compile(tuple(_numba_type(one) for one in kernel.kinds))
    (result,) = dispatcher.overloads.values()
    returned = result.signature.return_type
    several = isinstance(returned, types.UniTuple)
    found = [] if returned == types.none else [str(one) for one in (returned if several else [returned])]
    if set(found) - {"int64"}:
        message = f"{kernel.function.__name__} gives back {returned}, signed whole numbers are needed"
        raise UnfitKernelError(message)
    return result.library.get_llvm_str(), result.fndesc.llvm_func_name, len(found)


def _entry(kernel: Kernel, name: str, symbol: str, arguments: list[str]) -> str:
    """LLVM's text of a function that takes addresses, shapes and numbers, and calls a kernel as numba does.

    `arguments` are the types that the kernel takes. LLVM would link a call with others without a word.
    """
    lines: list[str] = []
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
    """What numba tells a function of an array: no owners, size, bytes per value, where it lies, shape, strides.

    Strides are in bytes. That of the last axis is the size of a value, that of an axis before it the stride of
    the next one times its length.
    """
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
    """Make it fast: each function, then, once it is inlined, all together, as numba does it."""
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
    library.get_pointer_to_function = lambda one, _: one._ensure_finalized() or 0
    machine: Any = codegen.JITCPUCodegen
    machine.set_env = lambda *_: None


if __name__ == "__main__":
    gc.disable()
    _make_no_code_of_parts()
    content = compile_module(sys.argv[1])
    link(content)  # better here than in a process that works
    sys.stdout.buffer.write(content)
