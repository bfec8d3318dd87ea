"""What others have written shows on a page as it is, and a page does not grow with the night."""

import pytest

from ccdflow.tasks.pages.markdown import LISTED_ROWS, LONGEST_CELL, cell, code, plain, shortened, table


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<script>alert(1)</script>", r"\<script\>alert(1)\</script\>"),
        ("[click](javascript:alert(1))", r"\[click\](javascript:alert(1))"),
        ("![x](http://a.b/c.png)", r"!\[x\](http\://a.b/c.png)"),
        ("www.example.org", r"www\.example.org"),
        ("me@example.org", r"me\@example.org"),
        ("a*b*c **d** _e_", r"a\*b\*c \*\*d\*\* \_e\_"),
        ("0001_science_R.fits", "0001_science_R.fits"),
        ("`rm -rf`", r"\`rm -rf\`"),
        ("a|b", r"a\|b"),
        ("&lt;b&gt;", r"\&lt;b\&gt;"),
        ("two\n\nlines\tand tab", "two lines and tab"),
        ("# M13", r"\# M13"),
        ("- M13", r"\- M13"),
        ("1. M13", r"1\. M13"),
        ("GRB 260301A", "GRB 260301A"),
        ("20:03:36", "20:03:36"),
        ("bidi\u202egnp.exe, bell\x07", "bidi\ufffdgnp.exe, bell\ufffd"),
        ("\\", r"\\"),
        ("NGC 7000 \N{GREEK SMALL LETTER ALPHA}", "NGC 7000 \N{GREEK SMALL LETTER ALPHA}"),
    ],
)
def test_text_of_others_means_nothing_to_markdown(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_code_is_fenced_by_more_backticks_than_it_holds() -> None:
    assert code("a/b.fits") == "`a/b.fits`"
    assert code("a``b") == "``` a``b ```"


def test_a_cell_is_short_and_never_empty() -> None:
    assert cell("") == " "
    assert cell(-1.5) == "-1.5"
    long = "x" * 5000 + " no such file"
    assert len(cell(long)) <= LONGEST_CELL and cell(long).endswith("no such file")
    assert shortened("short") == "short"


def test_a_table_shows_the_first_rows_and_says_how_many_there_are() -> None:
    rows = [(number, "a sentence") for number in range(LISTED_ROWS + 2300)]
    lines = table("a | b", rows, "`ccdflow list jobs`")
    assert len(lines) == LISTED_ROWS + 5
    assert lines[-2] == "... and 2300 more: `ccdflow list jobs`"
    assert table("a | b", rows[:1]) == ["a | b", "--- | ---", "0 | a sentence", ""]
