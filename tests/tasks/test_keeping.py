"""Whether a store is there, and what of its products: who asks changes nothing, who works notes it."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from ccdflow.archive.digest import file_digest
from ccdflow.archive.registry.backup import back_up, restore
from ccdflow.archive.registry.doors import Registry
from ccdflow.archive.registry.frames.files import NewFrame
from ccdflow.archive.registry.frames.stages import StageState, set_stages, stage_states
from ccdflow.archive.registry.identity import archive_id, keep_archive_id
from ccdflow.archive.registry.jobs.leases import claim
from ccdflow.archive.registry.jobs.lifecycle import plan_jobs
from ccdflow.archive.registry.jobs.planned import PlannedJob
from ccdflow.archive.registry.jobs.productchanges import Made, finish_job
from ccdflow.archive.registry.jobs.products import ProductFilter, find_products
from ccdflow.archive.registry.jobs.records import find_jobs
from ccdflow.archive.registry.transactions import add_catalogue
from ccdflow.archive.storemark import MARK, StoreAwayError, read_mark, write_mark
from ccdflow.cascade.planning.jobs import JobInput
from ccdflow.tasks.again import make_again
from ccdflow.tasks.draining import Drain
from ccdflow.tasks.keeping.audit import audit, repair
from ccdflow.tasks.keeping.marking import adopt_store
from ccdflow.tasks.keeping.stock import kept_keys, whole_keys
from ccdflow.tasks.workspace import Workspace

KEYS = [f"{number:064x}" for number in range(8)]
TWO = ("science", "bad_pixel_mask")
"""Of each job two products."""


@pytest.fixture
def made(space: Workspace) -> Workspace:
    """A project of eight jobs, done, with two products each, as if somebody had written its files before marks."""
    night = [
        NewFrame(telescope="T", obsdate=f"2026-03-01T20:0{n}:00", frame_class="science") for n in range(8)
    ]
    add_catalogue(space.registry, night)
    for number in range(8):
        make(space, number)
    return space


@pytest.fixture
def kept(made: Workspace) -> Workspace:
    """The same, with its mark."""
    made.claim_store()
    return made


def make(space: Workspace, number: int) -> None:
    """Do a job, as a worker does it."""
    paths = [f"{name}/n{number % 2}/{number}.fits" for name in TWO]
    inputs = [JobInput("main", f"sha{number}", frame=number + 1)]
    outputs = list(zip(TWO, paths, strict=True))
    space.registry.write(plan_jobs, [PlannedJob(KEYS[number], "science", "science", "1", inputs, outputs)])
    assert space.registry.write(claim, KEYS[number], "worker", 60.0) is not None
    files = [write(space, name, path) for name, path in outputs]
    space.registry.write(finish_job, KEYS[number], "worker", files)
    space.registry.write(set_stages, [StageState(number + 1, "science", "done")])


def write(space: Workspace, name: str, path: str) -> Made:
    file = space.store.absolute(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(path)
    return Made(name, path, file_digest(file), file.stat().st_size, space.store.changed_ns(path))


def products(space: Workspace, number: int = 0) -> list[Path]:
    """The files of a job."""
    rows = space.registry.read(find_products, ProductFilter(states=None, job_keys=[KEYS[number]]))
    return [space.store.absolute(row.path) for row in rows]


def states(space: Workspace) -> list[str]:
    return [product.state for product in space.registry.read(find_products, ProductFilter(states=None))]


def away(space: Workspace) -> str:
    """What a question says; it changes nothing."""
    before = states(space), space.registry.read(archive_id), read_mark(space.store.root)
    with pytest.raises(StoreAwayError) as told:
        whole_keys(space)
    with pytest.raises(StoreAwayError, match=r"away|not there"):
        kept_keys(space)
    assert (states(space), space.registry.read(archive_id), read_mark(space.store.root)) == before
    assert "\n" not in str(told.value)
    return str(told.value)


# --- the mark -----------------------------------------------------------------------------------------------------


def test_a_new_project_marks_its_store_with_the_archive_s_id(space: Workspace) -> None:
    assert whole_keys(space) == set() and not space.store.root.exists(), "a question marks nothing"
    space.claim_store()
    assert read_mark(space.store.root) == space.registry.read(archive_id) != ""
    space.claim_store()
    assert audit(space).foreign == []


def nothing_there(store: Path) -> None:
    store.rename(store.with_name("away"))


def an_empty_folder(store: Path) -> None:
    nothing_there(store)
    store.mkdir()


def no_mark(store: Path) -> None:
    (store / MARK).unlink()


def another_s(store: Path) -> None:
    write_mark(store, "11111111-other")


def an_empty_mark(store: Path) -> None:
    (store / MARK).write_text("")


def a_file(store: Path) -> None:
    nothing_there(store)
    store.write_text("")


@pytest.mark.parametrize(
    ("happens", "found"),
    [
        (nothing_there, "there is no such folder"),
        (an_empty_folder, "bears no mark"),
        (no_mark, "bears no mark"),
        (an_empty_mark, "bears no mark"),
        (another_s, "store of another archive, 11111111"),
        (a_file, "there is no such folder"),
    ],
)
def test_without_the_archive_s_mark_a_store_is_not_there(
    kept: Workspace, happens: Callable[[Path], None], found: str
) -> None:
    happens(kept.store.root)
    told = away(kept)
    assert found in told and "wanted the store of archive" in told and "'ccdflow adopt' says so" in told


def test_a_store_of_before_there_were_marks_is_taken_over_where_its_products_are_there(
    made: Workspace,
) -> None:
    for number in range(3):
        products(made, number)[0].unlink()
    assert kept_keys(made) == set(KEYS[3:])
    assert read_mark(made.store.root) == made.registry.read(archive_id) != ""


@pytest.mark.parametrize("happens", [nothing_there, an_empty_folder])
def test_it_is_not_where_they_are_not(made: Workspace, happens: Callable[[Path], None]) -> None:
    happens(made.store.root)
    assert "0 of 16 products of the registry were found in it" in away(made)


def test_a_new_registry_does_not_take_the_store_of_another_archive(
    kept: Workspace, new_project: Callable[[str], Workspace]
) -> None:
    other = new_project("other")
    kept.store.root.rename(other.store.root)
    assert "holds its products" in away(other)
    # What an earlier registry of the same project has left, which never made anything, is no other's.
    for folder in TWO:
        for path in (other.store.root / folder).rglob("*.fits"):
            path.unlink()
    other.claim_store()
    assert other.registry.read(archive_id) == kept.registry.read(archive_id)


def test_somebody_may_say_that_this_is_the_store(kept: Workspace) -> None:
    another_s(kept.store.root)
    assert adopt_store(kept.registry, kept.store) == read_mark(kept.store.root)
    assert whole_keys(kept) == set(KEYS)


def test_a_store_behind_a_link_to_a_disk_that_is_away_is_not_made_anew(
    kept: Workspace, tmp_path: Path
) -> None:
    kept.store.root.rename(tmp_path / "away")
    kept.store.root.symlink_to(tmp_path / "disk")
    for ask in (kept.find_store, kept.claim_store, lambda: adopt_store(kept.registry, kept.store)):
        with pytest.raises(StoreAwayError, match=r"is a link to .*disk, which is not there"):
            ask()
    assert not (tmp_path / "disk").exists()


def test_a_mark_that_is_no_file_keeps_nobody_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / MARK)
    assert read_mark(tmp_path) == ""
    (tmp_path / MARK).unlink()
    (tmp_path / MARK).symlink_to("/dev/zero")
    assert read_mark(tmp_path) == ""


def test_a_mark_that_is_a_folder_is_told_and_stays(kept: Workspace) -> None:
    (kept.store.root / MARK).unlink()
    (kept.store.root / MARK).mkdir()
    with pytest.raises(StoreAwayError, match="is a folder, wanted the file that marks a store"):
        adopt_store(kept.registry, kept.store)
    assert [path.name for path in kept.store.root.glob(f"{MARK}*")] == [MARK]


def test_two_that_give_an_archive_its_id_get_the_same(space: Workspace) -> None:
    assert space.registry.write(keep_archive_id) == space.registry.write(keep_archive_id, "other")


# --- products that are gone, and come back ------------------------------------------------------------------------


def test_a_file_that_is_gone_is_noted_by_who_works_alone(kept: Workspace) -> None:
    products(kept)[0].unlink()
    assert whole_keys(kept) == set(KEYS[1:])
    assert set(states(kept)) == {"done"}, "a question changes nothing"
    assert kept_keys(kept) == set(KEYS[1:])
    assert states(kept).count("missing") == 1


def test_a_file_that_comes_back_is_known_again_by_its_content(kept: Workspace) -> None:
    (first, _), (other, _) = products(kept), products(kept, 1)
    content = first.read_bytes()
    for file in (first, other):
        file.unlink()
    assert kept_keys(kept) == set(KEYS[2:])
    kept.registry.write(set_stages, [StageState(1, "science", "waiting", "its product is gone")])
    first.write_bytes(content)
    other.write_bytes(b"something else")
    assert whole_keys(kept) == set(KEYS) - {KEYS[1]}
    found = audit(kept)
    assert [product.job_key for product in found.back] == [KEYS[0]]
    assert found.foreign == [other.relative_to(kept.store.root).as_posix()]
    assert kept_keys(kept) == set(KEYS) - {KEYS[1]}
    (job, *_) = kept.registry.read(find_jobs)
    assert (job.key, job.state, job.reason) == (KEYS[0], "done", "")
    assert kept.registry.read(stage_states, "science", [1]) == {1: "done"}
    assert states(kept).count("missing") == 1


def test_a_job_is_done_again_only_once_all_that_it_made_is_back(kept: Workspace) -> None:
    files = products(kept)
    contents = [file.read_bytes() for file in files]
    for file in files:
        file.unlink()
    kept_keys(kept)
    files[0].write_bytes(contents[0])
    assert KEYS[0] not in whole_keys(kept) and KEYS[0] not in kept_keys(kept)
    files[1].write_bytes(contents[1])
    assert KEYS[0] in whole_keys(kept) and KEYS[0] in kept_keys(kept)


def test_what_is_to_be_made_again_does_not_count_though_its_file_is_there(kept: Workspace) -> None:
    make_again(kept, [KEYS[0]])
    assert whole_keys(kept) == kept_keys(kept) == set(KEYS[1:])
    found = audit(kept)
    assert not found.back and not found.foreign and not found.problems


# --- much of a store ----------------------------------------------------------------------------------------------


def files_of(space: Workspace, jobs: int, each: int = 2) -> list[Path]:
    return [file for number in range(jobs) for file in products(space, number)[:each]]


@pytest.mark.parametrize(
    ("jobs", "each", "told"),
    [(1, 2, ""), (5, 1, ""), (3, 2, "a part"), (4, 2, "half"), (7, 2, "most"), (8, 2, "all")],
)
def test_much_that_is_away_at_once_is_one_sentence(kept: Workspace, jobs: int, each: int, told: str) -> None:
    files = files_of(kept, jobs, each)
    for file in files:
        file.unlink()
    if not told:
        assert kept_keys(kept) == set(KEYS[jobs:])
        return
    said = away(kept)
    assert said.startswith(f"{told} of the store") and f"{len(files)} of 16 products have no file" in said
    found = audit(kept)
    with pytest.raises(StoreAwayError, match="--gone"):
        repair(kept, found)
    assert set(states(kept)) == {"done"}
    assert whole_keys(kept, gone=True) == set(KEYS[jobs:])
    repair(kept, found, gone=True)
    assert states(kept).count("missing") == len(files)
    assert kept_keys(kept) == set(KEYS[jobs:]), "what is known to be missing is not away"


@pytest.mark.parametrize("path", ["../../etc/passwd", "x" * 300])
def test_a_row_with_a_path_that_is_none_keeps_nobody_from_the_others(kept: Workspace, path: str) -> None:
    # As another program's SQL may leave it: its job is to be done again, and all else goes on.
    with kept.registry.database.write() as connection:
        connection.execute(text("UPDATE product SET path = :path WHERE id = 1"), {"path": path})
    found = audit(kept)
    assert [check.product for check in found.problems] == [1]
    repair(kept, found)
    assert whole_keys(kept) == set(KEYS[1:])


def test_a_folder_that_is_gone_is_a_disk_rather_than_files(kept: Workspace) -> None:
    (kept.store.root / "science" / "n0").rename(kept.store.root.with_name("n0"))
    assert "4 of 16 products have no file, for instance science/n0/0.fits" in away(kept)


def test_damaged_files_are_never_a_disk_that_is_away(kept: Workspace) -> None:
    for file in files_of(kept, 8):
        file.write_text("damaged")
    assert kept_keys(kept) == set()
    assert set(states(kept)) == {"missing"}


# --- restored -----------------------------------------------------------------------------------------------------


@pytest.fixture(params=["sqlite", "postgresql"])
def elsewhere(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/restored.sqlite"
    return str(request.getfixturevalue("new_database"))


def restored(space: Workspace, url: str, file: Path) -> Workspace:
    restore(url, file)
    return replace(space, registry=Registry(url))


def test_a_registry_older_than_its_store_makes_again_what_it_does_not_know(
    kept: Workspace, elsewhere: str, tmp_path: Path
) -> None:
    kept_keys(kept)
    make_again(kept, KEYS[6:])
    back_up(kept.project.registry, tmp_path / "copy")
    for number in (6, 7):
        make(kept, number)
    with kept.registry.database.write() as connection:
        connection.exec_driver_sql("UPDATE product SET path = path || '.new' WHERE job_key = ?", (KEYS[7],))
    for name in TWO:
        file = kept.store.absolute(f"{name}/n1/7.fits")
        file.rename(f"{file}.new")
    older = restored(kept, elsewhere, tmp_path / "copy")
    assert audit(older).foreign == [f"{name}/n1/7.fits.new" for name in sorted(TWO)]
    assert kept_keys(older) == set(KEYS[:6])
    for number in (6, 7):
        make(older, number)
    assert kept_keys(older) == set(KEYS) and audit(older).problems == []
    older.registry.close()


def test_a_store_older_than_its_registry_lacks_what_is_made_again(
    kept: Workspace, elsewhere: str, tmp_path: Path
) -> None:
    back_up(kept.project.registry, tmp_path / "copy")
    newer = restored(kept, elsewhere, tmp_path / "copy")
    for file in files_of(newer, 4):
        file.unlink()
    found = audit(newer)
    assert {check.state for check in found.problems} == {"missing"} and "half of the store" in away(newer)
    repair(newer, found, gone=True)
    assert kept_keys(newer) == set(KEYS[4:])
    for number in range(4):
        make(newer, number)
    assert kept_keys(newer) == set(KEYS) and audit(newer).problems == audit(newer).foreign == []
    newer.registry.close()


# --- near-live ----------------------------------------------------------------------------------------------------


def test_a_drain_waits_for_its_store_says_so_once_and_goes_on(
    kept: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ccdflow.tasks.draining.STORE_LOOK_S", 0.01)
    nothing_there(kept.store.root)
    told: list[str] = []
    looks: list[int] = []

    def may_go_on() -> bool:
        looks.append(len(told))
        if len(looks) == 4:
            kept.store.root.with_name("away").rename(kept.store.root)
        return True

    # It ends by itself, since nothing is due of nights so long ago.
    Drain(kept, lambda jobs: {}, may_go_on=may_go_on, say=told.append).run(linger=0.0)
    assert len(told) == 2 and len(looks) > 4
    assert "there is no such folder" in told[0] and "waits for it" in told[0]
    assert told[1].endswith("is there again")
    assert set(states(kept)) == {"done"}
