"""The project file."""

from pathlib import Path

import pytest

from ccdflow.config.project import PROJECT_FILE, load_project
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
