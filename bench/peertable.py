"""``make peers``: how each installed peer takes each form of a product, as a page of the manual.

Three calibrated frames whose truth is known are written in each form, and each peer uses them as its users would. A
cell says what came out: ``right`` where it is what the peer makes of the data alone (or, of peers that know
uncertainties and masks, the truth), ``stops`` where the peer says that it can't, and the number in bold where it gives
another one without a word. Only the last is harm in silence.
"""

import argparse
import datetime
import math
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.peerexports import proofs
from bench.peerforms import FORMS, made_frames, wanted_of, write_form
from bench.peeruses import USES, NotTaken, ready, version

TOLERANCE = 2e-3
"""Share by which a number may differ and still count as the same."""
ALONE = next(iter(FORMS))
"""The form that has nothing but data, which others are held against."""
ABOUT = Path(__file__).with_name("peers_head.md")
"""What the page says before what came out: what is handed out to each program, and how that takes it."""
HEAD = """\
Made by `make peers` on {date}, which fails where a cell has changed. Rows of peers that are not installed stay.

Three calibrated frames of 256x256 pixels whose truth is known are written in each form below, and each peer uses them
as its users would. `right`: what the peer makes of the data alone or, where it knows uncertainties and masks, the
truth. `stops`: it says that it can't. **A number**: what it gives without a word where another would be right, which
is harm in silence.

{versions}

Forms, each with the table `PROVENANCE` as its last HDU where nothing else is said; in brackets the bytes of its pixels,
each for one of the data:

{forms}

## What came out

"""


PROVED = "## Exports, proved by use"
PROOF_HEAD = """\
Twenty frames of 512x512 pixels of one field, 64 stars each from limited by the sky to limited by their own photons, a
column of bad pixels, a pixel without data and a saturated star, handed out by `ccdflow export --for`; each program ran
its own `run.sh`. A pull is (flux - light that was put in) / stated error, of all good stars in all frames.
"""


@dataclass(frozen=True)
class Cell:
    """What came of a use of a form: ``right``, ``stops``, or a number and what it should have been."""

    form: str
    use: str
    verdict: str
    told: str = ""


def cells(folder: Path, only: str = "") -> Iterator[Cell]:
    """What each installed peer makes of each form, those peers whose name begins with `only`."""
    frames = made_frames(folder)
    wanted = wanted_of(frames)
    uses = [use for use in USES if use.peer.lower().startswith(only.lower()) and ready(use.peer)]
    alone: dict[str, float] = {}
    for index, form in enumerate(FORMS):
        files = write_form(form, frames, folder / f"form_{index}")
        for use in uses:
            try:
                number = use.run(files, wanted)
            except NotTaken as stop:
                yield Cell(form, use.name, "stops", str(stop))
                continue
            truth = use.truth(wanted) if use.truth else alone.setdefault(use.name, number)
            same = math.isclose(number, truth, rel_tol=TOLERANCE)
            yield Cell(form, use.name, "right" if same else f"**{number:.3g}**, not {truth:.3g}")


def rows_of(found: Sequence[Cell]) -> dict[str, str]:
    """Lines of the table, by use, with a column for each form."""
    by_place = {(cell.use, cell.form): cell.verdict for cell in found}
    return {
        use: f"| {use} | {' | '.join(by_place[use, form] for form in FORMS)} |"
        for use in dict.fromkeys(cell.use for cell in found)
    }


def proved_in(page: str) -> dict[str, str]:
    """Lines of the proofs that a page holds, by peer and quantity."""
    table = page.partition(PROVED)[2].partition("\n## ")[0].splitlines()
    lines = [line for line in table if line.startswith("| ") and not line.startswith("| peer ")]
    return {_place(line): line for line in lines}


def _place(line: str) -> str:
    peer, _, quantity = (cell.strip() for cell in line.split("|")[1:4])
    return f"{peer}: {quantity}"


def rows_in(page: str) -> dict[str, str]:
    """Lines of the table that a page holds, by use."""
    table = page.partition("## What came out")[2].partition(PROVED)[0].splitlines()
    lines = [line for line in table if line.startswith("| ")]
    found = {line.split("|")[1].strip(): line for line in lines}
    return {use.name: found[use.name] for use in USES if use.name in found}


def page_of(
    rows: Mapping[str, str], forms: Sequence[str], said: Sequence[str], proved: Sequence[str] = ()
) -> str:
    """The page, with rows in the order of the uses."""
    listed = "\n".join(f"- {form}" for form in forms)
    head = ABOUT.read_text() + HEAD.format(date=datetime.date.today(), versions=_versions(), forms=listed)
    columns = [form.partition(":")[0] for form in FORMS]
    lines = [f"| use | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    lines += [rows[use.name] for use in USES if use.name in rows]
    split = [row.split(" | ")[1:] for row in rows.values()]
    for name, sign in (("numbers that are wrong", "**"), ("stops", "stops")):
        counts = [str(sum(sign in row[index] for row in split)) for index in range(len(FORMS))]
        lines.append(f"| all: {name} | {' | '.join(counts)} |")
    table = "\n".join(["| peer | given | quantity | measured | wanted |", "|---|---|---|---|---|", *proved])
    ended = f"\n\n{PROVED}\n\n{PROOF_HEAD}\n{table}\n\n## What peers say where they stop\n\n"
    return head + "\n".join(lines) + ended + "\n".join(said) + "\n"


def _sentences(found: Sequence[Cell]) -> list[str]:
    """What each peer says where it stops, once, with the forms of which it says so."""
    forms: dict[tuple[str, str], list[str]] = {}
    for cell in found:
        if cell.told:
            letters = forms.setdefault((cell.use.partition(":")[0], cell.told), [])
            letters += [cell.form.partition(":")[0]] * (cell.form.partition(":")[0] not in letters)
    return [f"- {use} ({', '.join(letters)}): `{told}`" for (use, told), letters in forms.items()]


def _sized(folder: Path) -> list[str]:
    """The forms, each with the bytes of its pixels for each pixel of the data."""
    frame = made_frames(folder)[0]
    sized = []
    for form in FORMS:
        hdus = [hdu for hdus in FORMS[form](frame).values() for hdu in hdus]
        size = sum(hdu.size for hdu in hdus if hdu.name not in ("PROVENANCE", "PROCESS"))
        sized.append(f"{form} ({size / frame.image.data.size:.1f})")
    return sized


def _versions() -> str:
    peers = dict.fromkeys(use.peer for use in USES)
    return "Peers: " + ", ".join(f"{peer} {version(peer)}" for peer in peers if ready(peer)) + "."


def main() -> None:
    """Print the table, or write the page; exit code 1 where a cell differs from the page that was there."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("peer", nargs="?", default="", help="only peers whose name begins so, and no page")
    parser.add_argument("--page", type=Path, help="the page to write")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found, forms = list(cells(Path(folder), asked.peer)), _sized(Path(folder))
        proved = {_place(proof.row): proof.row for proof in proofs(Path(folder), asked.peer)}
    rows = rows_of(found)
    if asked.page is None or asked.peer:
        print(
            "\n".join(
                [f"| use | {' | '.join(FORMS)} |", *rows.values(), *proved.values(), *_sentences(found)]
            )
        )
        return
    page = asked.page.read_text() if asked.page.exists() else ""
    known = proved_in(page)
    asked.page.write_text(
        page_of({**rows_in(page), **rows}, forms, _sentences(found), list({**known, **proved}.values()))
    )
    before, rows = {**rows_in(page), **known}, {**rows, **proved}
    changed = [use for use in rows if before and before.get(use) != rows[use]]
    for use in changed:
        print(f"was {before.get(use, 'not there')}\nis  {rows[use]}", file=sys.stderr)
    sys.exit(1 if changed else 0)


if __name__ == "__main__":
    main()
