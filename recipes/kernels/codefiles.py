"""Files of machine code: made once for this kind of processor, found again by every later start.

A file is one line of JSON and an object file as a linker takes it. Its name holds a digest of all that decides what
is in it: the source of the kernels, their constants, how they are compiled, the versions of numba and llvmlite, and the
processor. To run it needs llvmlite only. Whatever is wrong with a file, it is made anew.
"""

import ctypes
import json
import os
import subprocess
import sys
from functools import cache
from hashlib import sha256
from importlib import import_module, metadata
from threading import BoundedSemaphore, Lock
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from ccdflow.recipes.kernels.threads import cores

FOLDER = "CCDFLOW_CACHE_DIR"
"""Environment variable that says where files of machine code are kept."""
TESTED = {"numba": ">=0.62,<0.69", "llvmlite": ">=0.45,<0.51"}
"""Versions that compile kernels, as pyproject.toml demands them.

Kernels are compiled by parts of numba that it does not promise to keep, so a newer one is tried by tests first.
"""

HOW = (
    "ccdflow.recipes.kernels.compiled",
    "ccdflow.recipes.kernels.codefiles",
    "ccdflow.recipes.kernels.compiling",
)
"""Modules that decide what is made of a function."""

LENT = "sqrt", "sqrtf", "exp", "log", "sin", "cos", "sincos", "memset", "memcpy", "memmove"
"""What kernels use of the C library; LLVM ends a process that links what it does not find."""

Entries = dict[str, tuple[int, int]]
"""Name of a kernel to where it begins, and how many numbers (int64) it gives back."""


class UnfitKernelError(TypeError):
    """A kernel gives back what no kernel may, whatever compiles it."""


@cache
def versions() -> dict[str, str]:
    """Return the versions of numba and llvmlite that are installed; numba itself is not imported for that."""
    return {name: metadata.version(name) for name in TESTED}


def _tools() -> str:
    """Say in a message what compiles kernels, and which versions should."""
    installed = " and ".join(f"{name} {version}" for name, version in versions().items())
    tested = " and ".join(f"{name}{bounds}" for name, bounds in TESTED.items())
    return f"{installed} (tested with {tested}; if yours are others, install these)"


def linked(module: str) -> Entries:
    """Kernels of a module, ready to be called; compiled first where no file of them is found."""
    name = f"{module.rpartition('.')[2]}-{_digest(module)}.o"
    for folder in _folders(module):
        try:
            with open(os.path.join(folder, name), "rb") as stream:
                return link(stream.read())
        except (OSError, ValueError, RuntimeError):
            continue
    content = _compiled(module)
    _keep(_folders(module), name, content)
    return link(content)


def packed(entries: dict[str, int], code: bytes) -> bytes:
    """Content of a file: names of kernels and how many numbers they give back, and the object."""
    head = {"entries": entries, "sha256": sha256(code).hexdigest()}
    return json.dumps(head).encode() + b"\n" + code


def target_machine() -> Any:
    """Processor of this machine, as LLVM compiles for it; whoever links with it owns it."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    name, features = _processor()
    target = llvm.Target.from_default_triple()
    reloc = "static" if target.name.startswith("x86") else "default"
    return target.create_target_machine(
        cpu=name, features=features, opt=3, reloc=reloc, codemodel="jitdefault", jit=True
    )


def _processor() -> tuple[str, str]:
    return llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()


def _digest(module: str) -> str:
    found = sha256(repr((versions(), sys.platform, *_processor())).encode())
    for name in (module, *HOW):
        loader, path = _source(name)
        found.update(loader.get_data(path))
    constants = vars(import_module(module)).items()
    found.update(
        repr([one for one in constants if isinstance(one[1], int | float | tuple | np.number)]).encode()
    )
    return found.hexdigest()[:20]


def _source(name: str) -> tuple[Any, str]:
    from importlib.util import find_spec

    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise RuntimeError(f"no source of {name} is found, and without it its kernels can't be compiled")
    return spec.loader, spec.origin


def _folders(module: str) -> list[str]:
    """Where files may lie: beside the source where that may be written, else with what the user's programs keep."""
    if os.environ.get(FOLDER):
        return [os.environ[FOLDER]]
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return [os.path.join(os.path.dirname(_source(module)[1]), "__pycache__"), os.path.join(home, "ccdflow")]


def _keep(folders: list[str], name: str, content: bytes) -> None:
    """Write a file whole or not at all, in the first folder that takes it; in none, it is made again next time."""
    for folder in folders:
        temporary = os.path.join(folder, f".{name}.{os.getpid()}")
        try:
            os.makedirs(folder, exist_ok=True)
            with open(temporary, "wb") as stream:
                stream.write(content)
            os.replace(temporary, os.path.join(folder, name))
        except OSError:
            continue
        return


_LOCK = Lock()
_ENGINES: list[Any] = []
"""They own the code that they have linked, and live as long as the process."""


def _lend() -> None:
    """Tell LLVM where functions of the C library are, as far as the process itself does not show them."""
    missing = [one for one in LENT if not llvm.address_of_symbol(one)]
    if missing:
        # numpy is linked with them.
        numbers = import_module("numpy._core._multiarray_umath")
        library = ctypes.CDLL("ucrtbase" if sys.platform == "win32" else numbers.__file__)
        for name in missing:
            if hasattr(library, name):
                llvm.add_symbol(name, ctypes.cast(getattr(library, name), ctypes.c_void_p).value)


def link(content: bytes) -> Entries:
    """Put a file's code where it can be run.

    Raises
    ------
    ValueError
        If it is damaged.
    """
    line, _, code = content.partition(b"\n")
    head = json.loads(line)
    if sha256(code).hexdigest() != head["sha256"]:
        raise ValueError("the machine code is not what was written")
    with _LOCK:
        _lend()
        engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target_machine())
        engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        engine.finalize_object()
        found = {
            name: (engine.get_function_address(name), number) for name, number in head["entries"].items()
        }
        _ENGINES.append(engine)
    return found


_AT_ONCE = BoundedSemaphore(cores())


def _compiled(module: str) -> bytes:
    """Content of a module's file, made in a process of its own, so that several are made at once.

    Where there can be none, or it fails, it is made in this one, and says why it can't be.
    """
    # What numba would optimise, function by function and then again, is optimised once, when all is together.
    environment = {**os.environ, "NUMBA_OPT": "0", "NUMBA_DISABLE_JIT": "0"}
    environment["PYTHONPATH"] = os.pathsep.join(folder for folder in sys.path if folder)
    command = [sys.executable, "-P", "-m", HOW[2], module]
    try:
        with _AT_ONCE:
            process = subprocess.run(command, env=environment, capture_output=True, check=False)
    except OSError:
        return _compiled_here(module)
    if process.returncode < 0:  # LLVM has ended it, as it would end this one
        said = process.stderr.decode(errors="replace").strip()
        raise RuntimeError(f"{module} can't be compiled by {_tools()}: signal {-process.returncode}; {said}")
    return process.stdout if process.returncode == 0 else _compiled_here(module)


def _compiled_here(module: str) -> bytes:
    try:
        from ccdflow.recipes.kernels.compiling import compile_module

        return compile_module(module)
    except UnfitKernelError:
        raise
    except Exception as error:  # whatever has changed in a newer numba
        message = f"{module} can't be compiled by {_tools()}: {type(error).__name__}: {error}"
        raise RuntimeError(message) from error
