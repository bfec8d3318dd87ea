"""Compile all kernels beforehand: ``python -m ccdflow.warmup``, as the last step of an installation.

Without it the first run compiles those that it needs, which takes some seconds.
"""

from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pkgutil import walk_packages

from ccdflow.recipes.kernels.compiled import kernel_module

SUFFIX = "_kernels"
"""How the name of a module ends that holds compiled functions."""


def kernel_modules() -> list[str]:
    """Return the dotted names of all modules of ccdflow that hold compiled functions."""
    package = import_module("ccdflow")
    modules = walk_packages(package.__path__, "ccdflow.")
    return [module.name for module in modules if module.name.endswith(SUFFIX)]


def compile_kernels() -> None:
    """Load all kernels: those that are not on disk yet are compiled, as many modules at once as there are cores."""
    modules = kernel_modules()
    for module in modules:
        import_module(module)
    # LLVM works outside of Python's lock, so that threads compile side by side.
    with ThreadPoolExecutor(len(modules)) as pool:
        list(pool.map(lambda module: kernel_module(module).load(), modules))


if __name__ == "__main__":
    compile_kernels()
