"""Pages: templates escape what is put into them, and fail where something is missing."""

import pytest
from jinja2 import UndefinedError

from ccdflow.commands.pages import render


def page(**values: object) -> str:
    return render("report.html.j2", **{"title": "p1", "project": "goto", "sections": [], **values})


def test_a_name_cannot_become_markup() -> None:
    assert "<h1>M&lt;13&gt; &amp; co</h1>" in page(project="M<13> & co")


def test_a_page_needs_no_other_file() -> None:
    assert page().startswith('<!doctype html>\n<meta charset="utf-8">\n<title>p1</title>')
    assert not any(word in page() for word in ("<link", "<script", "url(", "http"))


def test_a_template_that_lacks_something_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="'title' is undefined"):
        render("report.html.j2", project="goto", sections=[])
