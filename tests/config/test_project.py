"""The project file."""

from pathlib import Path

import pytest

from ccdflow.config.project import PROJECT_FILE, init_project, load_project
from ccdflow.config.yamlfile import ConfigError


def test_where_products_lie_is_the_projects_choice(tmp_path: Path) -> None:
    (tmp_path / PROJECT_FILE).write_text('template: "{night}/{category}-{name}-{key8}.fits"\n')
    assert load_project(tmp_path).template == "{night}/{category}-{name}-{key8}.fits"
    (tmp_path / PROJECT_FILE).write_text("store: store\n")
    assert load_project(tmp_path).template is None


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{category}/{object}-{key8}.fits", "names object; known: camera, category, key8"),
        ("{category}/{name}.fits", "must hold"),
        ("{category}/{key8}.txt", "end in .fits"),
        ("../{category}/{key8}.fits", "out of the store"),
        ("{category/{key8}.fits", "template"),
    ],
)
def test_a_template_that_can_not_be_is_refused_with_what_would_have_worked(
    tmp_path: Path, template: str, said: str
) -> None:
    (tmp_path / PROJECT_FILE).write_text(f'template: "{template}"\n')
    with pytest.raises(ConfigError, match=said):
        load_project(tmp_path)


def test_the_home_directory_is_meant_as_in_a_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    text = "registry: sqlite:///~/r.sqlite\nstore: ~/store\ninstruments: [~/instruments]\n"
    (tmp_path / PROJECT_FILE).write_text(text)
    project = load_project(tmp_path)
    assert (project.store, project.registry) == (Path("/home/me/store"), "sqlite:////home/me/r.sqlite")
    assert project.instruments == (Path("/home/me/instruments"),)
    (tmp_path / PROJECT_FILE).write_text("store: ~nobody-here/store\n")
    with pytest.raises(ConfigError, match="home directory of '~nobody-here/store' is not known"):
        load_project(tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("store: .", "store '.' is the project's own folder"),
        ("store: store/..", "is the project's own folder"),
        ("store: ''", "store: .*is empty; wanted a path"),
        ("cascade: ' '", "cascade: .*is empty"),
        ("instruments: ['']", "instruments.*is empty"),
    ],
)
def test_a_folder_that_is_the_project_s_own_or_none_is_refused(
    tmp_path: Path, line: str, message: str
) -> None:
    init_project(tmp_path).write_text(f"{line}\n")
    with pytest.raises(ConfigError, match=message):
        load_project(tmp_path)
