"""All kernels compiled beforehand: ``python -m ccdflow.warmup``, as the last step of an installation.

Without it the first run compiles those that it needs, which takes some seconds.
"""

from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from importlib.util import find_spec
from pkgutil import iter_modules

from ccdflow.recipes.compiled import unit

PACKAGES = ("ccdflow.archive", "ccdflow.recipes")


def kernel_modules() -> list[str]:
    """Modules that hold compiled functions."""
    found = []
    for package in PACKAGES:
        spec = find_spec(package)
        folders = spec.submodule_search_locations if spec else None
        found += [f"{package}.{one.name}" for one in iter_modules(folders) if one.name.endswith("_kernels")]
    return found


def compile_kernels() -> None:
    """Load all kernels: those that are not on disk yet are compiled, as many modules at once as there are cores."""
    modules = kernel_modules()
    for module in modules:
        import_module(module)
    with ThreadPoolExecutor(len(modules)) as pool:
        list(pool.map(lambda one: unit(one).load(), modules))


if __name__ == "__main__":
    compile_kernels()
