"""What people correct, with our command or with SQL of their own, stays apart from headers, and outlives them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from ccdflow.archive.registry.choices import choose
from ccdflow.archive.registry.doors import Registry
from ccdflow.archive.registry.events import find_events
from ccdflow.archive.registry.frames.amendmentchecks import (
    let_nights_follow,
    settle_amendments,
    unsettled_frames,
)
from ccdflow.archive.registry.frames.amendments import Amendment, amend, find_amendments, undo
from ccdflow.archive.registry.frames.doubts import find_doubts
from ccdflow.archive.registry.frames.files import NewFrame, add_frame
from ccdflow.archive.registry.frames.queries import FrameFilter, find_frames, list_frames
from ccdflow.archive.registry.sets.changes import NewSet, apply_set_changes
from ccdflow.archive.registry.sets.news import read_news
from ccdflow.archive.registry.sets.records import SetFilter, find_sets
from ccdflow.archive.registry.transactions import add_catalogue
from ccdflow.cascade.headers.keywords import plain_value
from ccdflow.cascade.planning.jobs import amended_digest
from ccdflow.cascade.records import FrameRecord

ALL = FrameFilter(status=None)


@pytest.fixture
def science(tmp_path: Path) -> Callable[..., NewFrame]:
    """Makes a frame with a file."""

    def made(name: str = "a", **changes: Any) -> NewFrame:
        path = tmp_path / f"{name}.fits"
        path.write_text(name)
        known = NewFrame(
            path=str(path),
            sha256=name * 64,
            size=1,
            changed_ns=1,
            frame_class="science",
            telescope="T",
            camera="C",
            instrument="I",
            filter="V",
            object="M13",
            exptime=60.0,
            obsdate="2026-03-01T20:00:00",
            night="2026-03-01",
            keywords={"gain": 1.5, "OBSERVER": "Ada", "binning": "1x1"},
        )
        return replace(known, **changes)

    return made


def sql(registry: Registry, statement: str) -> None:
    """What anybody may do with the database."""
    with registry.database.write() as connection:
        connection.execute(text(statement))


def frame(registry: Registry, number: int = 1) -> FrameRecord:
    (known,) = registry.read(find_frames, FrameFilter(status=None, ids=[number]))
    return known


def told(registry: Registry, *, undone: bool = False) -> list[tuple[Any, ...]]:
    return [
        (amendment.name, amendment.said, amendment.value)
        for amendment in registry.read(find_amendments, undone=undone)
    ]


def settled(registry: Registry) -> None:
    """All frames have been seen by grouping."""
    sql(registry, "UPDATE frame SET ungrouped = false")


def unseen(registry: Registry) -> list[int]:
    return sorted(registry.read(read_news, []).ids)


def kinds(registry: Registry) -> list[str]:
    return [event.kind for event in registry.read(find_events)]


# --- with the command ---------------------------------------------------------------------------------------------


def test_a_correction_outlives_every_ingest_until_it_is_undone(
    registry: Registry, science: Callable[..., NewFrame]
) -> None:
    registry.write(add_frame, science())
    settled(registry)
    (made,) = registry.write(amend, {1: {"filter": "R"}}, "ada", "wheel stuck")
    assert (made.name, made.said, made.value, made.who, made.why) == (
        "filter",
        "V",
        "R",
        "ada",
        "wheel stuck",
    )
    assert (frame(registry).filter, frame(registry).amended) == ("R", {"filter": "R"})
    assert unseen(registry) == [1]
    registry.write(add_frame, science())
    registry.write(
        add_frame, science(filter="B")
    )  # the header was read otherwise: by another instrument file
    assert frame(registry).filter == "R"
    assert told(registry) == [("filter", "B", "R")]
    registry.write(undo, [1])
    assert (frame(registry).filter, frame(registry).amended) == ("B", {})
    assert told(registry) == [] and told(registry, undone=True) == [("filter", "B", "R")]


def test_what_is_so_already_is_no_correction(registry: Registry, science: Callable[..., NewFrame]) -> None:
    registry.write(add_frame, science())
    settled(registry)
    assert registry.write(amend, {1: {"filter": "V", "exptime": 60.0, "gain": 1.5}}, "", "") == []
    assert unseen(registry) == []


def test_the_last_correction_holds_and_one_to_what_the_header_says_ends_it(
    registry: Registry, science: Callable[..., NewFrame]
) -> None:
    registry.write(add_frame, science())
    for name in ("R", "I"):
        registry.write(amend, {1: {"filter": name}}, "", "")
    assert told(registry) == [("filter", "V", "I")]
    registry.write(amend, {1: {"filter": "V"}}, "", "was right")
    assert (told(registry), frame(registry).amended) == ([], {})
    assert len(told(registry, undone=True)) == 3


def test_keywords_numbers_and_what_is_not_known(registry: Registry, science: Callable[..., NewFrame]) -> None:
    registry.write(add_frame, science())
    changes = {
        "gain": 2.5,
        "OBSERVER": None,
        "SEEING": 1.2,
        "exptime": None,
        "object": None,
        "iobs": 2,
        "nobs": 3,
    }
    registry.write(amend, {1: changes}, "", "")
    registry.write(add_frame, science())
    known = frame(registry)
    assert known.keywords == {"gain": 2.5, "SEEING": 1.2, "binning": "1x1"}
    assert (known.exptime, known.object, known.iobs, known.nobs) == (None, "", 2, 3)
    registry.write(undo, [1], ["gain", "OBSERVER", "SEEING", "exptime"])
    known = frame(registry)
    assert known.keywords == {"gain": 1.5, "OBSERVER": "Ada", "binning": "1x1"}
    assert (known.exptime, known.object) == (60.0, "")
    assert known.amended == {"object": None, "iobs": 2, "nobs": 3}


def test_a_frame_that_is_not_there_is_named(registry: Registry) -> None:
    with pytest.raises(ValueError, match="there is no frame f7"):
        registry.write(amend, {7: {"filter": "R"}}, "", "")


def test_a_new_version_and_a_copy_that_takes_over_keep_it(
    registry: Registry, science: Callable[..., NewFrame], tmp_path: Path
) -> None:
    registry.write(add_frame, science())
    registry.write(amend, {1: {"filter": "R"}}, "ada", "wheel stuck")
    version = registry.write(add_frame, science(sha256="b" * 64, object="M 13"))
    assert (frame(registry, version.id).filter, frame(registry, version.id).object) == ("R", "M 13")
    copy = registry.write(add_frame, science("c", sha256="b" * 64))
    assert copy.outcome == "duplicate" and frame(registry, copy.id).filter == "V"
    (tmp_path / "a.fits").unlink()
    registry.write(add_frame, science("c", sha256="b" * 64))
    assert frame(registry, copy.id).filter == "R"
    holding = registry.read(find_amendments, [copy.id])
    assert [(amendment.who, amendment.why) for amendment in holding] == [("ada", "wheel stuck")]


def test_a_row_of_a_catalogue_keeps_it_when_its_file_comes_and_when_the_catalogue_comes_again(
    registry: Registry, science: Callable[..., NewFrame]
) -> None:
    planned = replace(science(), path=None, sha256=None, keywords={})
    add_catalogue(registry, [planned])
    registry.write(amend, {1: {"filter": "R", "obsdate": "2026-03-01T21:00:00"}}, "", "")
    assert add_catalogue(registry, [planned]) == 0
    assert registry.write(add_frame, science()).id == 1
    known = frame(registry)
    assert (known.filter, known.obsdate, known.path) == ("R", "2026-03-01T21:00:00", science().path)
    assert add_catalogue(registry, [planned]) == 0


def test_a_missing_time_that_was_corrected_makes_a_frame_usable(
    registry: Registry, science: Callable[..., NewFrame]
) -> None:
    def reads(values: Any) -> NewFrame:
        return science(obsdate=values["obsdate"], night="2026-03-02")

    lost = science(obsdate="", night="", refused="when it was taken is not known")
    lost = replace(lost, read_with=reads)
    registry.write(add_frame, lost)
    assert frame(registry).refused
    registry.write(amend, {1: {"obsdate": "2026-03-02T20:00:00"}}, "", "")
    registry.write(add_frame, lost)
    assert (frame(registry).refused, frame(registry).night) == ("", "2026-03-02")


def test_what_others_have_done_to_a_frame_stays(registry: Registry, science: Callable[..., NewFrame]) -> None:
    registry.write(add_frame, science())
    registry.write(choose, ["f1"], "banned", "clouds")
    registry.write(amend, {1: {"filter": "R"}}, "", "")
    registry.write(add_frame, science())
    assert frame(registry).refused == "banned: clouds"


def test_two_rows_of_a_catalogue_can_not_become_one(
    registry: Registry, science: Callable[..., NewFrame]
) -> None:
    planned = replace(science(), path=None, sha256=None)
    add_catalogue(registry, [planned, replace(planned, filter="R")])
    with pytest.raises(IntegrityError):
        registry.write(amend, {2: {"filter": "V"}}, "", "")
    assert (told(registry), frame(registry, 2).filter) == ([], "R")


@pytest.mark.parametrize(
    ("stated", "corrected", "night"),
    [
        ("2026-03-01", "2026-03-02T20:00:00", "2026-03-02"),  # as we reckon it, 20:00 UTC at Greenwich
        ("2026-03-01", "2026-03-02T13:00:00", "2026-03-02"),
        ("2026-02-28", "2026-03-01T21:00:00", "2026-02-28"),  # another longitude, that the catalogue knows
        ("2026-02-28", "2026-03-02T21:00:00", "2026-03-01"),
    ],
)
def test_the_night_of_a_row_without_a_file_follows_its_time_and_comes_back(
    registry: Registry, science: Callable[..., NewFrame], stated: str, corrected: str, night: str
) -> None:
    add_catalogue(registry, [science(path=None, sha256=None, night=stated)])
    registry.write(amend, {1: {"obsdate": corrected}}, "ada", "clock")
    for _ in range(2):
        registry.write(let_nights_follow, None)
        assert frame(registry).night == night
    registry.write(undo, [1], ["obsdate"])
    registry.write(let_nights_follow, None)
    assert (frame(registry).night, told(registry)) == (stated, [])


def test_a_night_that_somebody_has_said_stays(registry: Registry, science: Callable[..., NewFrame]) -> None:
    add_catalogue(registry, [science(path=None, sha256=None)])
    registry.write(amend, {1: {"night": "2026-02-20", "filter": "R"}}, "ada", "log")
    registry.write(amend, {1: {"obsdate": "2026-03-05T20:00:00"}}, "ada", "clock")
    registry.write(let_nights_follow, None)
    assert frame(registry).night == "2026-02-20"


def test_a_filter_that_is_corrected_moves_no_night(
    registry: Registry, science: Callable[..., NewFrame]
) -> None:
    add_catalogue(registry, [science(path=None, sha256=None, night="2026-02-28")])
    registry.write(amend, {1: {"filter": "R"}}, "ada", "log")
    registry.write(let_nights_follow, None)
    assert frame(registry).night == "2026-02-28"


def test_once_its_file_is_there_the_header_tells_the_night(
    registry: Registry, science: Callable[..., NewFrame]
) -> None:
    add_catalogue(registry, [science(path=None, sha256=None, keywords={})])
    registry.write(amend, {1: {"obsdate": "2026-03-02T20:00:00"}}, "ada", "clock")
    registry.write(let_nights_follow, None)
    reads = science(read_with=lambda values: science(obsdate=values["obsdate"], night="2026-03-03"))
    registry.write(add_frame, reads)
    assert (frame(registry).night, list(frame(registry).amended)) == ("2026-03-03", ["obsdate"])


# --- with SQL -----------------------------------------------------------------------------------------------------


def test_a_plain_update_counts_as_a_correction(registry: Registry, science: Callable[..., NewFrame]) -> None:
    registry.write(add_frame, science())
    settled(registry)
    before = len(kinds(registry))
    sql(registry, "UPDATE frame SET filter = 'R', exptime = 30, iobs = 2 WHERE path LIKE '%a.fits'")
    assert sorted(told(registry)) == [("exptime", 60.0, 30.0), ("filter", "V", "R"), ("iobs", None, 2)]
    assert kinds(registry)[before:] == ["frame.changed"]
    assert unseen(registry) == [1]
    registry.write(add_frame, science())
    known = frame(registry)
    assert (known.filter, known.exptime, known.iobs) == ("R", 30.0, 2)
    assert isinstance(known.amended["iobs"], int)
    assert registry.read(find_amendments)[0].who


def test_a_second_update_and_one_back_to_the_header(
    registry: Registry, science: Callable[..., NewFrame]
) -> None:
    registry.write(add_frame, science())
    sql(registry, "UPDATE frame SET filter = 'R'")
    sql(registry, "UPDATE frame SET filter = 'I', object = 'M13'")
    assert told(registry) == [("filter", "V", "I")]
    sql(registry, "UPDATE frame SET filter = 'V'")
    assert told(registry) == []
    registry.write(add_frame, science())
    assert frame(registry).filter == "V"


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("value = '2.5'", 2.5),
        ("number = 2.5", 2.5),
        ("value = '2.5', number = 2.5", 2.5),
    ],
)
def test_a_keyword_that_is_updated_is_a_correction_whichever_column_changed(
    registry: Registry, science: Callable[..., NewFrame], change: str, value: Any
) -> None:
    registry.write(add_frame, science())
    settled(registry)
    sql(registry, f"UPDATE frame_keyword SET {change} WHERE name = 'gain'")
    assert told(registry) == [("gain", 1.5, value)]
    assert frame(registry).keywords["gain"] == value
    assert unseen(registry) == [1]
    registry.write(add_frame, science())
    assert frame(registry).keywords["gain"] == value
    registry.write(undo, [1])
    assert frame(registry).keywords["gain"] == 1.5


@pytest.mark.parametrize("value", ["2", "2.", "-3", "+4", "0.5", "1e5", "1.5E-3", "12345678901234567"])
def test_a_keyword_is_a_number_where_it_is_written_as_one(
    registry: Registry, science: Callable[..., NewFrame], value: str
) -> None:
    registry.write(add_frame, science())
    sql(registry, f"UPDATE frame_keyword SET value = '{value}' WHERE name = 'OBSERVER'")
    assert told(registry) == [("OBSERVER", "Ada", plain_value(value))]
    assert isinstance(plain_value(value), int | float)


@pytest.mark.parametrize(
    "value",
    ["2026-03-01", "2-3", "1e", "1e5e", "007", "--5", ".5", " 5", "0x10", "1_000", "1e999", "nan", "-"],
)
def test_a_keyword_that_only_looks_like_a_number_is_a_name(
    registry: Registry, science: Callable[..., NewFrame], value: str
) -> None:
    registry.write(add_frame, science())
    sql(registry, f"UPDATE frame_keyword SET value = '{value}' WHERE name = 'OBSERVER'")
    assert told(registry) == [("OBSERVER", "Ada", value)] and plain_value(value) == value


def test_the_same_correction_is_the_same_work_on_each_database_and_by_command(
    registry: Registry, science: Callable[..., NewFrame]
) -> None:
    registry.write(add_frame, science())
    sql(registry, "UPDATE frame SET exptime = 30")
    assert type(frame(registry).amended["exptime"]) is float
    digest = amended_digest(frame(registry).amended)
    assert digest == amended_digest({"exptime": 30.0}) == amended_digest({"exptime": 30})


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("obsdate", "'garbage'", "obsdate=garbage is no time, wanted ISO (UTC)"),
        ("obsdate", "'9999-99-99T00:00:00'", "is no time"),
        ("obsdate", "'0001-01-01T00:00:00+05:00'", "is no time"),
        ("obsdate", "'2026-03-01'", "is no time"),
        ("night", "'tonight'", "night=tonight is no date, wanted the evening's"),
        ("class", "'lights'", "unknown class 'lights'; known: bias"),
        ("exptime", "-3", "exptime=-3.0 can't be, wanted a number from 0 on"),
        ("iobs", "-1", "iobs=-1 is no place in a sequence"),
    ],
)
def test_what_others_correct_to_something_that_can_not_be_is_a_doubt_of_that_frame_alone(
    registry: Registry, science: Callable[..., NewFrame], column: str, value: str, words: str
) -> None:
    registry.write(add_frame, science())
    registry.write(add_frame, science("b", obsdate="2026-03-01T20:01:00"))
    before = frame(registry)
    sql(registry, f"UPDATE frame SET {column} = {value} WHERE id = 1")
    sql(registry, "UPDATE frame SET filter = 'R' WHERE id = 2")
    assert registry.read(unsettled_frames) == {1}
    registry.write(settle_amendments)
    assert replace(frame(registry), amended={}) == before and told(registry) == [("filter", "V", "R")]
    (doubt,) = registry.read(find_doubts, [1, 2])[1]
    assert doubt.kind == "amendment" and words in doubt.text and "counts, as before" in doubt.text
    registry.write(add_frame, science())
    assert registry.read(find_doubts, [1])[1] == (doubt,) and registry.read(unsettled_frames) == set()
    # Who says it once more, as the header has it, has cleared that up.
    name = "frame_class" if column == "class" else column
    registry.write(amend, {1: {column: getattr(before, name)}}, "ada", "it was right")
    registry.write(settle_amendments, registry.read(unsettled_frames))
    assert registry.read(find_doubts, [1]) == {} and registry.read(unsettled_frames) == set()


@pytest.mark.parametrize("written", ["21:00:00Z", "21:00:00+00:00", "22:00:00+01:00", "21:00"])
def test_a_time_with_a_zone_is_understood(
    registry: Registry, science: Callable[..., NewFrame], written: str
) -> None:
    registry.write(add_frame, science())
    sql(registry, f"UPDATE frame SET obsdate = '2026-03-01T{written}'")
    registry.write(add_frame, science())
    assert (frame(registry).obsdate, frame(registry).amended) == (
        "2026-03-01T21:00:00",
        {"obsdate": "2026-03-01T21:00:00"},
    )
    assert registry.read(find_doubts, [1]) == {}


def test_blanks_around_a_text_mean_nothing(registry: Registry, science: Callable[..., NewFrame]) -> None:
    registry.write(add_frame, science())
    sql(registry, "UPDATE frame SET filter = ' R ', object = 'M13 '")
    registry.write(settle_amendments)
    assert (frame(registry).filter, frame(registry).amended) == ("R", {"filter": "R"})


def test_a_zone_that_would_make_two_rows_of_a_catalogue_one_stops_nobody(
    registry: Registry, science: Callable[..., NewFrame]
) -> None:
    rows = [science(path=None, sha256=None, obsdate=f"2026-03-01T2{hour}:00:00") for hour in range(2)]
    add_catalogue(registry, rows)
    sql(registry, "UPDATE frame SET obsdate = '2026-03-01T21:00:00Z' WHERE id = 1")
    registry.write(settle_amendments)
    assert frame(registry).obsdate == "2026-03-01T21:00:00Z"


def test_text_where_a_number_belongs_is_a_doubt_too(tmp_path: Path, science: Callable[..., NewFrame]) -> None:
    registry = Registry(f"sqlite:///{tmp_path}/registry.sqlite")
    registry.upgrade()
    registry.write(add_frame, science())
    sql(registry, "UPDATE frame SET exptime = 'long', iobs = 'x'")
    sql(registry, "UPDATE frame_keyword SET value = 'high' WHERE name = 'gain'")
    registry.write(settle_amendments)
    assert (frame(registry).exptime, frame(registry).iobs, frame(registry).keywords["gain"]) == (
        60.0,
        None,
        1.5,
    )
    assert [doubt.text.split(" ")[0] for doubt in registry.read(find_doubts, [1])[1]] == [
        "exptime=long",
        "iobs=x",
        "gain=high",
    ]
    registry.close()


def test_our_own_writing_is_no_correction(
    registry: Registry, science: Callable[..., NewFrame], tmp_path: Path
) -> None:
    sql(registry, f"INSERT INTO frame (path) VALUES ('{tmp_path}/a.fits')")
    registry.write(add_frame, science())  # fills the row in
    registry.write(add_frame, science(filter="R", keywords={"gain": 3.0}))  # reads it otherwise
    registry.write(add_frame, science(sha256="b" * 64, filter="B"))
    add_catalogue(registry, [science(path=None, sha256=None, obsdate="2026-03-01T22:00:00")])
    registry.write(add_frame, science("c", obsdate="2026-03-01T22:00:00.5"))
    assert told(registry, undone=True) == []


def test_what_a_program_says_of_a_row_before_its_file_is_read_is_none_either(
    registry: Registry, science: Callable[..., NewFrame], tmp_path: Path
) -> None:
    sql(registry, f"INSERT INTO frame (path) VALUES ('{tmp_path}/a.fits')")
    settled(registry)
    sql(registry, "UPDATE frame SET filter = 'R', object = 'M 31'")
    assert (told(registry), unseen(registry)) == ([], [1])
    registry.write(add_frame, science())
    assert frame(registry).filter == "V"


def test_a_corrected_time_lets_the_file_be_read_again(
    registry: Registry, science: Callable[..., NewFrame]
) -> None:
    registry.write(add_frame, science())
    sql(registry, "UPDATE frame SET obsdate = '2026-03-02T23:00:00'")
    with registry.database.read() as connection:
        assert connection.execute(text("SELECT changed_ns FROM frame")).scalar_one() is None


# --- frames that are deleted --------------------------------------------------------------------------------------


def sets(registry: Registry, *frames: tuple[int, ...]) -> None:
    new = [NewSet(f"s{number}", "stack", ("T", "C", "I"), members) for number, members in enumerate(frames)]
    registry.write(apply_set_changes, new, grouped=[number for members in frames for number in members])


def test_a_frame_that_is_deleted_leaves_its_set_to_be_cut_anew_and_an_event(
    registry: Registry, science: Callable[..., NewFrame]
) -> None:
    for number, name in enumerate("abc"):
        registry.write(add_frame, science(name, obsdate=f"2026-03-01T20:0{number}:00"))
    registry.write(amend, {2: {"filter": "R"}}, "", "")
    registry.write(choose, ["f2"], "pinned", "good")
    sets(registry, (1, 2), (3,))
    sql(registry, "DELETE FROM frame WHERE id = 2")
    first, second = registry.read(find_sets, SetFilter(status=None))
    assert (first.frames, first.lost) == ((1,), True)
    assert (second.frames, second.lost) == ((3,), False)
    assert first.id in {unsure.id for unsure in registry.read(read_news, []).unsure}
    event = registry.read(find_events)[-1]
    assert (event.kind, event.subject, event.payload["camera"]) == ("frame.deleted", "frame/2", "C")
    assert told(registry, undone=True) == []
    with registry.database.read() as connection:
        for name in ("frame_keyword", "amendment"):
            rows = connection.execute(text(f"SELECT count(*) FROM {name} WHERE frame_id = 2")).scalar_one()
            assert rows == 0


def test_the_copies_of_a_frame_that_is_deleted_hold_its_exposure(
    registry: Registry, science: Callable[..., NewFrame], tmp_path: Path
) -> None:
    registry.write(add_frame, science("a", sha256="b" * 64))
    for name in "bcd":
        (tmp_path / f"{name}.fits").write_text("copy")
        registry.write(add_frame, science(name, sha256="b" * 64))
    sql(registry, "DELETE FROM frame WHERE id = 1")
    rows = registry.read(list_frames, ALL)
    assert [(row["id"], row["status"], row["duplicate_of"]) for row in rows] == [
        (2, "done", None),
        (3, "duplicate", 2),
        (4, "duplicate", 2),
    ]


@pytest.mark.parametrize("gone", ["1", "1, 2", "1, 2, 3"])
def test_a_copy_that_takes_the_place_of_a_deleted_frame_inherits_its_corrections(
    registry: Registry, science: Callable[..., NewFrame], gone: str
) -> None:
    header = {"keywords": {"gain": 1.5, "OBSERVER": "Ada"}}
    for name in "bcde":
        registry.write(add_frame, science(name, sha256="b" * 64, **header))
    changes = {"filter": "R", "exptime": 30.0, "iobs": 2, "gain": 2.5, "OBSERVER": None, "SEEING": 1.2}
    registry.write(amend, {1: changes}, "ada", "wheel stuck")
    registry.write(amend, {1: {"object": "M 92"}}, "", "")
    registry.write(undo, [1], ["object"])
    sql(registry, f"DELETE FROM frame WHERE id IN ({gone})")
    heir = frame(registry, len(gone.split(", ")) + 1)
    assert (heir.filter, heir.exptime, heir.iobs, heir.object) == ("R", 30.0, 2, "M13")
    assert heir.keywords == {"gain": 2.5, "SEEING": 1.2} and heir.amended == changes
    assert {amendment.who for amendment in registry.read(find_amendments)} == {"ada"}
    assert sorted(told(registry)) == sorted(told(registry, undone=True))  # nothing that held no longer
    # Its own header comes back when they are undone.
    registry.write(undo, [heir.id])
    again = frame(registry, heir.id)
    assert (again.filter, again.exptime, again.iobs, again.keywords) == ("V", 60.0, None, header["keywords"])


def test_of_several_copies_one_that_can_be_used_takes_the_place(
    registry: Registry, science: Callable[..., NewFrame]
) -> None:
    registry.write(add_frame, science("b", sha256="b" * 64))
    registry.write(add_frame, science("c", sha256="b" * 64, refused="no time"))
    registry.write(add_frame, science("d", sha256="b" * 64, frame_class="unclassified"))
    registry.write(add_frame, science("e", sha256="b" * 64))
    sql(registry, "DELETE FROM frame WHERE id = 1")
    rows = {row["id"]: row["duplicate_of"] for row in registry.read(list_frames, ALL)}
    assert rows == {2: 4, 3: 4, 4: None}


def test_all_frames_can_be_deleted_at_once(registry: Registry, science: Callable[..., NewFrame]) -> None:
    registry.write(add_frame, science())
    registry.write(add_frame, science(sha256="b" * 64))
    sets(registry, (2,))
    sql(registry, "DELETE FROM frame")
    assert registry.read(list_frames, ALL) == []


def test_a_correction_reads_as_a_sentence() -> None:
    known = Amendment(1, 12, "filter", "R", None, "ada", "wheel stuck", "", "")
    assert str(known) == "filter unknown -> R (wheel stuck)"
