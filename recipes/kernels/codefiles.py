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

TOOLCHAIN = (
    "ccdflow.recipes.kernels.compiled",
    "ccdflow.recipes.kernels.codefiles",
    "ccdflow.recipes.kernels.compiling",
)
"""Modules that decide what becomes of a function: their source is part of the key of a file. The last one compiles."""

LENT = "sqrt", "sqrtf", "exp", "log", "sin", "cos", "sincos", "memset", "memcpy", "memmove"
"""What kernels use of the C library.

LLVM ends the whole process where it links code that needs a function which it does not find: so it is shown all of them
beforehand.
"""

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
    """Put the kernels of a module where they can be called; compile them first where no file of them is found.

    Parameters
    ----------
    module : str
        Dotted name of a module that has been imported.

    Returns
    -------
    Entries
        Its kernels, by name.

    Raises
    ------
    TypeError
        If a kernel gives back something else than whole numbers.
    RuntimeError
        If it can't be compiled; the message names the installed versions and those that were tested.
    """
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
    """Return the content of a file of machine code.

    Parameters
    ----------
    entries : dict
        Names of kernels to how many numbers they give back.
    code : bytes
        Object file, as a linker takes it.

    Returns
    -------
    bytes
        One line of JSON with `entries` and a checksum, and `code`.
    """
    head = {"entries": entries, "sha256": sha256(code).hexdigest()}
    return json.dumps(head).encode() + b"\n" + code


def target_machine() -> Any:
    """Return the processor of this machine, as LLVM compiles for it; whoever links with it owns it."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    name, features = _processor()
    target = llvm.Target.from_default_triple()
    # The options of numba's own just-in-time compiler.
    reloc = "static" if target.name.startswith("x86") else "default"
    return target.create_target_machine(
        cpu=name, features=features, opt=3, reloc=reloc, codemodel="jitdefault", jit=True
    )


def _processor() -> tuple[str, str]:
    return llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()


def _digest(module: str) -> str:
    digest = sha256(repr((versions(), sys.platform, *_processor())).encode())
    for name in (module, *TOOLCHAIN):
        loader, path = _source(name)
        digest.update(loader.get_data(path))
    # Constants may come from other modules (as DQ's bits do), and numba writes their values into the code.
    names = vars(import_module(module)).items()
    constants = [item for item in names if isinstance(item[1], int | float | tuple | np.number)]
    digest.update(repr(constants).encode())
    return digest.hexdigest()[:20]


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
    missing = [name for name in LENT if not llvm.address_of_symbol(name)]
    if missing:
        # numpy's own library is linked with the mathematical ones, and a handle of a library finds what that is
        # linked with.
        numbers = import_module("numpy._core._multiarray_umath")
        library = ctypes.CDLL("ucrtbase" if sys.platform == "win32" else numbers.__file__)
        for name in missing:
            if hasattr(library, name):
                llvm.add_symbol(name, ctypes.cast(getattr(library, name), ctypes.c_void_p).value)


def link(content: bytes) -> Entries:
    """Put a file's code where it can be run.

    Parameters
    ----------
    content : bytes
        As `packed` gives it.

    Returns
    -------
    Entries
        The kernels, by name.

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
        entries = {
            name: (engine.get_function_address(name), number) for name, number in head["entries"].items()
        }
        _ENGINES.append(engine)
    return entries


_AT_ONCE = BoundedSemaphore(cores())
"""One process that compiles for each core: more would take memory and gain nothing."""


def _compiled(module: str) -> bytes:
    """Return the content of a module's file, made in a process of its own, so that several are made at once.

    Where there can be none, or it fails, it is made in this one, and says why it can't be.
    """
    # NUMBA_OPT=0: numba would optimise function by function and then again; we do it once, when all is together.
    environment = {**os.environ, "NUMBA_OPT": "0", "NUMBA_DISABLE_JIT": "0"}
    environment["PYTHONPATH"] = os.pathsep.join(folder for folder in sys.path if folder)
    command = [sys.executable, "-P", "-m", TOOLCHAIN[2], module]
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
