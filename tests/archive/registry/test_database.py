import threading
import warnings
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text
from sqlalchemy.exc import DatabaseError, DBAPIError, IntegrityError

from ccdflow.archive.registry.database import MIGRATIONS, Database, DatabaseVersionError, again, sentence
from ccdflow.archive.registry.doors import Registry
from ccdflow.archive.registry.events import deliver_events, find_events
from ccdflow.archive.registry.frames.files import NewFrame, add_frame
from ccdflow.archive.registry.frames.queries import find_frames
from ccdflow.archive.registry.instrumentevents import (
    InstrumentChange,
    add_instrument_event,
    find_instrument_events,
)
from ccdflow.archive.registry.jobs.leases import claim
from ccdflow.archive.registry.jobs.lifecycle import plan_jobs
from ccdflow.archive.registry.jobs.planned import PlannedJob
from ccdflow.archive.registry.jobs.productchanges import Made, finish_job
from ccdflow.archive.registry.sets.changes import Change, NewSet, apply_set_changes
from ccdflow.archive.registry.sets.news import read_news
from ccdflow.archive.registry.sets.records import find_sets
from ccdflow.archive.registry.tables import Base
from ccdflow.archive.registry.transactions import add_catalogue

NEWEST = max(path.name[1:5] for path in (MIGRATIONS / "versions").glob("v*.py"))
ON_EXPRESSIONS = {"ix_frame_stream", "ix_frame_ungrouped", "uq_frame_catalogue"}


def test_migration_makes_what_the_models_say(registry: Registry) -> None:
    def comparable(_object: object, name: str | None, *_: object) -> bool:
        return name not in ON_EXPRESSIONS  # they are not read back as they were written

    with registry.database.engine.connect() as connection, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*expression-based index.*")
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "include_object": comparable}
        )
        assert compare_metadata(context, Base.metadata) == []


def test_migration_makes_the_indexes_on_expressions(registry: Registry) -> None:
    catalogue = "sqlite_master" if registry.database.sqlite else "pg_indexes"
    column = "name" if registry.database.sqlite else "indexname"
    with registry.database.read() as connection:
        indexes = set(connection.execute(text(f"SELECT {column} FROM {catalogue}")).scalars())
    assert indexes >= ON_EXPRESSIONS


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a database without tables."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/deep/down/registry.sqlite"
    return str(request.getfixturevalue("new_database"))


def test_upgrade_is_harmless_when_many_do_it_at_once(empty: str) -> None:
    errors: list[Exception] = []

    def upgrade() -> None:
        database = Database(empty)
        try:
            database.upgrade()
        except Exception as error:
            errors.append(error)
        finally:
            database.close()

    threads = [threading.Thread(target=upgrade) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    database = Database(empty)
    with database.read() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).all() == [(NEWEST,)]
        if database.sqlite:
            assert connection.execute(text("PRAGMA journal_mode")).all() == [("wal",)]
    database.close()


def test_a_database_of_the_first_version_is_brought_up_to_date_with_its_rows(registry: Registry) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with registry.database.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0001")
    assert "ix_frame_calibration" not in indexes(registry)
    with registry.database.write() as connection:  # as the statements of that version did
        connection.execute(text("INSERT INTO frame (telescope, class) VALUES ('T', 'flat')"))
    registry.upgrade()
    assert indexes(registry) >= {"ix_frame_calibration", "ix_frame_calibration_night", "ix_product_made"}
    assert [record.telescope for record in registry.read(find_frames)] == ["T"]


def test_a_database_goes_back_to_where_a_time_had_one_row(registry: Registry) -> None:
    rows = [NewFrame(telescope="T", obsdate="2026-03-01T20:00:00", filter=name) for name in "BVR"]
    add_catalogue(registry, [*rows, replace(rows[0], obsdate="2026-03-01T21:00:00")])
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with registry.database.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0014")
        left = connection.execute(text("SELECT filter FROM frame ORDER BY id")).scalars().all()
    registry.upgrade()
    assert left == ["B", "B"]
    assert add_catalogue(registry, rows) == 2


def indexes(registry: Registry) -> set[str | None]:
    with registry.database.engine.connect() as connection, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*expression-based index.*")
        inspector = inspect(connection)
        return {index["name"] for table in ("frame", "product") for index in inspector.get_indexes(table)}


def test_database_of_a_newer_version_is_left_alone(empty: str) -> None:
    database = Database(empty)
    database.upgrade()
    with database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseVersionError, match=f"at version 9999, this ccdflow knows up to {NEWEST}"):
        database.upgrade()
    with database.read() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).all() == [("9999",)]
    database.close()


def test_other_databases_are_refused() -> None:
    with pytest.raises(ValueError, match="neither sqlite:///FILE nor postgresql://"):
        Database("mysql://user@host/name")
    with pytest.raises(ValueError, match="has no file"):
        Database("sqlite://")


@pytest.mark.parametrize(
    "url", ["postgresql://user:secret@host/name", "postgresql://host/name?password=secret"]
)
def test_password_does_not_show(url: str) -> None:
    registry = Registry(url)
    assert "secret" not in registry.url + repr(registry.database.url) + repr(registry.database.engine)
    assert registry.database.url.password == "secret"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql//user:secret@host/name",
        "mysql://user:secret@host/name",
        "postgresql://user:secret@host:port/name",
    ],
)
def test_a_url_that_is_wrong_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ValueError, match=r"postgresql://USER@HOST/NAME") as error:
        Database(url)
    assert "secret" not in str(error.value) and error.value.__cause__ is None


def test_failed_transaction_leaves_nothing(registry: Registry) -> None:
    with pytest.raises(ZeroDivisionError), registry.database.write() as connection:
        connection.execute(text("INSERT INTO frame (telescope) VALUES ('T')"))
        raise ZeroDivisionError
    assert registry.read(find_frames) == []


def test_who_reads_sees_one_state_whatever_is_committed_meanwhile(registry: Registry) -> None:
    add_catalogue(registry, [NewFrame(telescope="T", obsdate="2026-03-01T20:00:00")])
    with registry.database.read() as connection:
        count = text("SELECT count(*) FROM frame")
        before = connection.execute(count).scalar_one()
        other = threading.Thread(
            target=add_catalogue,
            args=(registry, [NewFrame(telescope="T", obsdate="2026-03-01T21:00:00")]),
        )
        other.start()
        other.join()
        assert connection.execute(count).scalar_one() == before == 1
    assert len(registry.read(find_frames)) == 2


def test_foreign_keys_hold(registry: Registry) -> None:
    add_catalogue(registry, [NewFrame(telescope="T")])
    (frame,) = registry.read(find_frames)
    with pytest.raises(IntegrityError, match=r"(?i)foreign key"):
        registry.write(apply_set_changes, [NewSet("a", "stack", ("T", "", ""), [frame.id, 99])])
    assert registry.read(find_sets) == []


def test_frame_inserted_with_plain_sql_is_a_frame_and_an_event(registry: Registry) -> None:
    with registry.database.write() as connection:
        connection.execute(
            text(
                "INSERT INTO frame (telescope, camera, class, obsdate, night) "
                "VALUES ('T', 'C1', 'science', '2026-03-01T20:00:00', '2026-03-01')"
            )
        )
    (record,) = registry.read(find_frames)
    assert (record.frame_class, record.object) == ("science", "")
    assert registry.read(read_news, ()).ids == [record.id]
    (event,) = registry.read(find_events, undelivered=True)
    assert (event.kind, event.subject) == ("frame.registered", f"frame/{record.id}")
    assert event.payload["obsdate"] == "2026-03-01T20:00:00"
    assert len(event.created) == len("2026-03-01T20:00:00.000000")
    with registry.database.read() as connection:
        registered_at = connection.execute(text("SELECT registered_at FROM frame")).scalar_one()
    assert len(registered_at) == len(event.created)


def test_each_thing_that_happens_is_one_event(registry: Registry) -> None:
    registry.write(add_frame, NewFrame(path="/a.fits", sha256="a", telescope="T"))
    registry.write(add_frame, NewFrame(path="/a.fits", sha256="a", telescope="T2"))
    registry.write(add_frame, NewFrame(path="/bad.fits", sha256="b", refused="no image"))
    registry.write(plan_jobs, [PlannedJob("k", "bias", "bias", "1", (), [("master_bias", "b.fits")])])
    registry.write(claim, "k", "one", 60)
    registry.write(
        finish_job, "k", "one", [Made("master_bias", "b.fits", "c", 1), Made("extra", "x.fits", "d", 1)]
    )
    frame = registry.read(find_frames)[0].id
    sets = registry.write(
        apply_set_changes,
        [
            NewSet("a", "stack", ("T", "", ""), [frame]),
            NewSet("b", "mosaic", ("T", "", ""), [frame], status="closed"),
        ],
    )
    registry.write(apply_set_changes, [Change(sets["a"], status="closed"), Change(sets["a"], ready=True)])
    kinds = [event.kind for event in registry.read(find_events)]
    assert kinds.count("frame.registered") == 1
    assert kinds.count("product.made") == 2
    assert [event.subject for event in registry.read(find_events) if event.kind == "set.closed"] == [
        f"set/{sets['b']}",
        f"set/{sets['a']}",
    ]


def test_delivered_events_do_not_come_again(registry: Registry) -> None:
    add_catalogue(
        registry, (NewFrame(telescope="T", obsdate=f"2026-03-0{day}T00:00:00") for day in range(1, 6))
    )
    events = registry.read(find_events)
    registry.write(deliver_events, [events[0].id, events[3].id])
    assert registry.read(find_events, undelivered=True) == [events[1], events[2], events[4]]
    assert registry.read(find_events, undelivered=True, limit=2) == [events[1], events[2]]
    assert registry.read(find_events)[0].delivered is not None


def test_instrument_events_are_kept_in_order(registry: Registry) -> None:
    changes = [
        InstrumentChange("2026-03-02", "mirror coated", "T"),
        InstrumentChange("2026-01-01", "CCD new", "T", "C1"),
    ]
    for change in changes:
        registry.write(add_instrument_event, change)
    assert registry.read(find_instrument_events) == changes[::-1]


def test_all_tables_are_there(registry: Registry) -> None:
    with registry.database.engine.connect() as connection:
        assert set(Base.metadata.tables) <= set(inspect(connection).get_table_names())


def end_connections(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        others = (
            "SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()"
        )
        connection.execute(f"SELECT pg_terminate_backend(pid) FROM ({others}) AS other")


def test_a_connection_that_was_ended_is_made_anew(new_database: str) -> None:
    registry = Registry(new_database)
    registry.upgrade()
    for number in range(2):
        end_connections(new_database)
        assert add_catalogue(registry, [NewFrame(obsdate=f"2026-03-0{number + 1}T20:00:00")]) == 1
        end_connections(new_database)
        assert len(registry.read(find_frames)) == number + 1
    registry.close()


def test_a_transaction_whose_connection_is_ended_begins_anew(new_database: str) -> None:
    registry = Registry(new_database)
    registry.upgrade()
    seen: list[int] = []

    @again
    def work() -> int:
        with registry.database.write() as connection:
            seen.append(
                connection.execute(text("INSERT INTO collection (name, created) VALUES ('a', '')")).rowcount
            )
            if len(seen) == 1:
                end_connections(new_database)
            return int(connection.execute(text("SELECT count(*) FROM collection")).scalar_one())

    assert work() == 1 and seen == [1, 1]
    registry.close()


def test_a_mistake_is_told_at_once(registry: Registry) -> None:
    calls: list[int] = []

    @again
    def work() -> None:
        calls.append(1)
        with registry.database.read() as connection:
            connection.execute(text("SELECT * FROM no_such_table"))

    with pytest.raises(DBAPIError, match="no_such_table"):
        work()
    assert calls == [1]


@pytest.mark.parametrize("read_only", [False, True])
def test_what_sqlite_says_of_a_file_names_it(tmp_path: Path, read_only: bool) -> None:
    (tmp_path / "no-database.sqlite").write_text("some other file, long enough to be looked at" * 30)
    (tmp_path / "folder.sqlite").mkdir()
    for name in ("no-database.sqlite", "folder.sqlite"):
        registry = Registry(f"sqlite:///{tmp_path / name}", read_only=read_only)
        with pytest.raises(DatabaseError) as refusal:
            registry.read(lambda connection: connection.execute(text("SELECT 1")))
        assert sentence(refusal.value).startswith(f"{tmp_path / name}: ")
