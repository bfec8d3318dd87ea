from pathlib import Path

import ccdflow
from ccdflow.warmup import kernel_modules

PACKAGE = Path(ccdflow.__file__).parent


def test_every_file_of_kernels_is_compiled_beforehand() -> None:
    files = [file for folder in PACKAGE.iterdir() if folder.is_dir() for file in folder.rglob("*_kernels.py")]
    assert len(files) >= 5
    dotted = {".".join(("ccdflow", *file.relative_to(PACKAGE).with_suffix("").parts)) for file in files}
    assert set(kernel_modules()) == dotted
