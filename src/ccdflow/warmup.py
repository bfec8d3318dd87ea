"""All kernels compiled beforehand: ``python -m ccdflow.warmup``, as the last step of an installation.

Without it the first run compiles them beside its other work, which takes some seconds.
"""

from importlib import import_module
from importlib.util import find_spec
from pkgutil import iter_modules

PACKAGES = ("ccdflow.archive", "ccdflow.recipes")


def compile_kernels() -> None:
    """Import the modules that hold compiled functions: those that are not on disk yet are compiled."""
    for package in PACKAGES:
        spec = find_spec(package)
        for found in iter_modules(spec.submodule_search_locations or () if spec else ()):
            if found.name.endswith("_kernels"):
                import_module(f"{package}.{found.name}")


if __name__ == "__main__":
    compile_kernels()
