"""Compiling all kernels beforehand, beside something else that takes its time."""

from importlib import import_module
from importlib.util import find_spec
from pkgutil import iter_modules


def compile_kernels(*packages: str) -> None:
    """Import the modules of these packages that hold compiled functions, which compiles or loads them."""
    for package in packages:
        spec = find_spec(package)
        for found in iter_modules(spec.submodule_search_locations or () if spec else ()):
            if found.name.endswith("_kernels"):
                import_module(f"{package}.{found.name}")
