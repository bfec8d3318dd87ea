"""Functions named by dotted path: those of a project's folder, and all others."""

import pickle
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ccdflow.cascade.specification.dotted import ProjectText, called, function, named, validation_context
from ccdflow.cascade.specification.expressions import check
from ccdflow.cascade.specification.model import DataSource
from ccdflow.cascade.specification.projectmodules import module_of


def folder(path: Path, **files: str) -> Path:
    """Make a folder with Python files; ``__`` in a name stands for a folder inside."""
    for name, content in files.items():
        file = path.joinpath(*name.split("__")).with_suffix(".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return path


def test_one_path_means_another_function_in_another_folder(tmp_path: Path) -> None:
    first = folder(tmp_path / "first", hooks="def who():\n    return 'first'\n")
    second = folder(tmp_path / "second", hooks="def who():\n    return 'second'\n")
    for place in (first, second, first):
        assert called(ProjectText("hooks.who", place)) == place.name
    assert "hooks" not in sys.modules and str(first) not in sys.path


def test_a_folder_without_the_module_does_not_get_that_of_another(tmp_path: Path) -> None:
    named(ProjectText("hooks.who", folder(tmp_path / "first", hooks="def who(): ...\n")))
    with pytest.raises(ValueError) as error:
        named(ProjectText("hooks.who", folder(tmp_path / "second", other="")))
    assert str(error.value) == "function 'hooks.who' can't be imported: No module named 'hooks'"


IMPORTS = {
    "from_import": "from helpers import name\ndef who():\n    return name()\n",
    "plain_import": "import helpers\ndef who():\n    return helpers.name()\n",
    "when_called": "def who():\n    from helpers import name\n    return name()\n",
    "of_a_module_in_a_folder": "import inner.deep as deep\ndef who():\n    return deep.name()\n",
    "of_a_folder": "import inner.deep\ndef who():\n    return inner.deep.name()\n",
    "from_a_folder": "from inner import deep\ndef who():\n    return deep.name()\n",
    "relative": "from .helpers import name\ndef who():\n    return name()\n",
    "of_each_other": "import back\ndef name():\n    return __file__\ndef who():\n    return back.name()\n",
}


@pytest.mark.parametrize("kind", IMPORTS)
def test_files_of_a_folder_import_each_other(tmp_path: Path, kind: str) -> None:
    tell = "def name():\n    return __file__\n"
    texts = [
        ProjectText(
            f"{kind}.who",
            folder(
                tmp_path / name,
                **{kind: IMPORTS[kind]},
                helpers=tell,
                inner__deep="from helpers import name\n",
                back=f"import {kind}\ndef name():\n    return {kind}.name()\n",
            ),
        )
        for name in ("first", "second")
    ]
    assert [Path(called(text)).parent.name for text in texts] == ["first", "second"]


def test_what_the_folder_does_not_hold_is_found_by_name(tmp_path: Path) -> None:
    (tmp_path / "json").mkdir()  # a folder of data hides no package
    here = folder(tmp_path, hooks="import json\nfrom os import path\n")
    assert function(ProjectText("json.loads", here)) is function("json.loads")
    assert named(ProjectText("hooks.json", here)) is sys.modules["json"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "hooks.absent",
            "function 'hooks.absent' can't be imported: module 'hooks' has no attribute 'absent'",
        ),
        ("hooks.NUMBER", "function 'hooks.NUMBER' is no function but int"),
        ("broken.f", "function 'broken.f' can't be imported: No module named 'no_such_module'"),
        ("wrong.f", "function 'wrong.f' can't be imported: cannot import name 'absent' from 'hooks'"),
        (
            "hooks.fails",
            "function 'hooks.fails' failed: AttributeError: module 'hooks' has no attribute 'absent'",
        ),
    ],
)
def test_messages_name_modules_as_the_user_does(tmp_path: Path, text: str, message: str) -> None:
    here = folder(
        tmp_path,
        hooks="NUMBER = 1\ndef fails():\n    import hooks\n    return hooks.absent\n",
        broken="import no_such_module\n",
        wrong="from hooks import absent\n",
    )
    with pytest.raises(ValueError) as error:
        called(ProjectText(text, here))
    assert str(error.value).startswith(message)


def test_all_threads_get_the_same_module_loaded_once(tmp_path: Path) -> None:
    here = folder(tmp_path, slow="import time\ntime.sleep(0.05)\nLOADED = object()\n")
    with ThreadPoolExecutor(8) as pool:
        loaded = list(pool.map(lambda _: named(ProjectText("slow.LOADED", here)), range(8)))
    assert len(set(map(id, loaded))) == 1


def test_a_text_keeps_its_folder_when_it_is_validated_and_copied(tmp_path: Path) -> None:
    folder(tmp_path, hooks="def is_taken(context):\n    return True\n")
    written = {"class": "bias", "condition": "hooks.is_taken"}
    source = DataSource.model_validate(written, context=validation_context(tmp_path))
    for copy in (source, pickle.loads(pickle.dumps(source)), source.model_copy(deep=True)):
        check(copy.condition)
        assert (
            copy.condition == "hooks.is_taken"
            and copy.model_dump(by_alias=True, exclude_unset=True) == written
        )
    with pytest.raises(ValueError, match="No module named 'hooks'"):
        DataSource.model_validate(written)


def test_a_projects_files_never_stand_for_python_or_ccdflow_itself(tmp_path: Path) -> None:
    (tmp_path / "random.py").write_text("")
    (tmp_path / "ccdflow" / "recipes").mkdir(parents=True)  # a clone of the repository beside ccdflow.yaml
    (tmp_path / "ccdflow" / "recipes" / "catalogue.py").write_text("RECIPES = {}")
    (tmp_path / "shapes").mkdir()
    (tmp_path / "shapes" / "deep").mkdir()
    (tmp_path / "shapes" / "deep" / "round.py").write_text("SIZE = 3")
    (tmp_path / "mine.py").write_text(
        "import random\nfrom ccdflow.recipes.catalogue import RECIPES\nfrom shapes import deep\n"
        "from shapes.deep.round import SIZE\n\n\n"
        "def numbers():\n    return random.Random(1).random() > 0, 'bias' in RECIPES, SIZE\n"
    )
    module = module_of(tmp_path, "mine")
    assert module is not None
    assert module.numbers() == (True, True, 3)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import sys\nsys.exit(3)\n", "SystemExit: 3"),
        ("1 / 0\n", "ZeroDivisionError: division by zero"),
        ("def broken(:\n", "SyntaxError: "),
        ("import no_such_module\n", "No module named 'no_such_module'"),
    ],
)
def test_a_module_that_cannot_be_loaded_is_named_with_the_reason(
    tmp_path: Path, text: str, reason: str
) -> None:
    (tmp_path / "hooks.py").write_text(text)
    with pytest.raises(ValueError, match="function 'hooks.wanted' can't be imported: " + re.escape(reason)):
        function(ProjectText("hooks.wanted", tmp_path))


def test_a_function_that_asks_to_exit_has_failed(tmp_path: Path) -> None:
    (tmp_path / "hooks.py").write_text("import sys\ndef leave(): sys.exit('no more')\n")
    with pytest.raises(ValueError, match=r"function 'hooks.leave' failed: SystemExit: no more"):
        called(ProjectText("hooks.leave", tmp_path))
