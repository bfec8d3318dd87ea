import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

import pytest

from ccdflow.archive.registry.jobs.products import ProductRecord
from ccdflow.archive.store import ProductLocation, Store

KEY, OTHER = "0123456789abcdef" * 4, "fedcba9876543210" * 4
PATH = "science/2026-03-01/T-C1/m13-01234567.fits"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def put(store: Store, path: str = PATH, content: bytes = b"pixels", key: str = KEY) -> ProductRecord:
    stored = store.write(path, key, lambda stream: stream.write(content) and None)
    return record(path, stored.sha256, stored.size)


def record(path: str, sha256: str, size: int) -> ProductRecord:
    place = {
        name: "" for name in ("night", "telescope", "camera", "instrument", "filter", "object", "obsdate")
    }
    return ProductRecord(
        id=1,
        job_key=KEY,
        category="science",
        path=path,
        sha256=sha256,
        size=size,
        changed_ns=None,
        state="done",
        exptime=None,
        cards=None,
        **place,
    )


def files(store: Store) -> set[str]:
    return {path.relative_to(store.root).as_posix() for path in store.root.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("location", "path"),
    [
        (
            ProductLocation("stack", "2026-03-01", "T", "C1", "m13", KEY),
            "stack/2026-03-01/T-C1/m13-01234567.fits",
        ),
        (
            ProductLocation("stack", "2026-03-01", "", "C1", "m13", KEY),
            "stack/2026-03-01/C1/m13-01234567.fits",
        ),
        (ProductLocation("stack", "", "", "", "", KEY), "stack/unknown/unknown/01234567.fits"),
        (
            ProductLocation("stack", "2026-03-01", "../../etc", "a/b c", "NGC 7000: été\n", KEY),
            "stack/2026-03-01/etc-a_b_c/NGC_7000_ete-01234567.fits",
        ),
        (
            ProductLocation("stack", "..", ".", "星", "x" * 300, KEY),
            f"stack/unknown/unknown/{'x' * 100}-01234567.fits",
        ),
    ],
)
def test_paths_say_what_and_are_fit_for_any_file_system(
    store: Store, location: ProductLocation, path: str
) -> None:
    assert store.path_for(location) == path


def test_template_may_be_another(tmp_path: Path) -> None:
    store = Store(tmp_path, "{telescope}/{category}-{name}-{key8}.fits")
    assert store.path_for(ProductLocation("bias", "n", "T", "C", "m", KEY)) == "T/bias-m-01234567.fits"


@pytest.mark.parametrize("path", ["/etc/passwd", "../x.fits", "a/../../x.fits", ""])
def test_paths_out_of_the_store_are_refused(store: Store, path: str) -> None:
    with pytest.raises(ValueError, match="no path below the store"):
        store.write(path, KEY, lambda stream: None)


def test_written_file_is_whole_and_known_by_its_digest(store: Store) -> None:
    stored = store.write(PATH, KEY, lambda stream: stream.write(b"pixels\n") and None)
    assert store.absolute(PATH).read_bytes() == b"pixels\n"
    assert (stored.path, stored.size, stored.sha256) == (PATH, 7, hashlib.sha256(b"pixels\n").hexdigest())
    assert files(store) == {PATH}


def test_written_again_it_is_replaced(store: Store) -> None:
    put(store)
    put(store, content=b"other")
    assert store.absolute(PATH).read_bytes() == b"other"


def test_file_keeps_its_old_content_when_writing_fails(store: Store) -> None:
    def broken(stream: BinaryIO) -> None:
        stream.write(b"half")
        raise ZeroDivisionError

    put(store)
    with pytest.raises(ZeroDivisionError):
        store.write(PATH, KEY, broken)
    assert store.absolute(PATH).read_bytes() == b"pixels"
    assert files(store) == {PATH}


KILLED = """
import sys, time
from pathlib import Path
from ccdflow.archive.store import Store

def write(stream):
    stream.write(b"half a product")
    stream.flush()
    print("written", flush=True)
    time.sleep(60)

Store(Path(sys.argv[1])).write(sys.argv[2], sys.argv[3], write)
"""


def kill_while_writing(store: Store, key: str = KEY) -> None:
    command = [sys.executable, "-c", KILLED, str(store.root), PATH, key]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        os.kill(process.pid, signal.SIGKILL)


def test_writer_killed_before_the_rename_leaves_no_product(store: Store) -> None:
    kill_while_writing(store)
    assert not store.absolute(PATH).exists()
    ((key, left),) = store.temporaries()
    assert key == KEY
    assert store.foreign([]) == [left]
    store.clean_job(KEY, [PATH])
    assert files(store) == set()


def test_temporary_files_of_running_jobs_are_left_alone(store: Store) -> None:
    kill_while_writing(store)
    store.clean_job(OTHER, [PATH])
    assert len(files(store)) == 1
    store.clean_job(KEY, [PATH])
    assert files(store) == set()


def test_job_done_again_after_a_kill_gives_the_same_file_and_no_other(store: Store) -> None:
    kill_while_writing(store)
    store.clean_job(KEY, [PATH])
    put(store)
    assert files(store) == {PATH}
    assert store.absolute(PATH).read_bytes() == b"pixels"


def test_cleaning_touches_no_files_of_others(store: Store) -> None:
    put(store)
    hidden = store.root / "science" / ".notes.part"
    hidden.write_text("mine")
    assert list(store.temporaries()) == []
    store.clean_job(KEY, [PATH])
    assert hidden.exists()


def test_verify_tells_what_is_missing_and_what_is_damaged(store: Store) -> None:
    good, gone, longer, other = (put(store, f"science/{name}.fits") for name in "abcd")
    store.absolute(gone.path).unlink()
    with store.absolute(longer.path).open("ab") as stream:
        stream.write(b"more")
    store.absolute(other.path).write_bytes(b"pixelz")
    checks = {check.path: (check.state, check.reason) for check in store.verify([good, gone, longer, other])}
    assert [state for state, _ in checks.values()] == ["ok", "missing", "damaged", "damaged"]
    assert checks[longer.path][1] == "it has 10 bytes, was written with 6"
    assert "sha256" in checks[other.path][1]


@pytest.mark.parametrize("path", ["../other/a.fits", "/etc/passwd", "x" * 300, ".", "a\0b"])
def test_a_path_that_is_none_is_one_product_that_is_not_there(store: Store, path: str) -> None:
    good = put(store)
    states = [check.state for check in store.verify([record(path, "e" * 64, 6), good])]
    assert states[0] in ("missing", "unread") and states[1] == "ok"
    assert store.changed_ns(path) is None


def test_intact_compares_content_where_asked(store: Store) -> None:
    product = put(store)
    assert store.intact(product.path, product.size, product.sha256)
    store.absolute(PATH).write_bytes(b"pixelz")
    assert store.intact(product.path, product.size)
    assert not store.intact(product.path, product.size, product.sha256)
    assert not store.intact(product.path, 7)
    assert not store.intact("science/none.fits", 6)
    assert store.changed_ns(PATH) == store.absolute(PATH).stat().st_ctime_ns
    assert store.changed_ns("science/none.fits") is None


def test_foreign_files_are_those_the_registry_does_not_know(store: Store) -> None:
    product = put(store)
    stray = store.root / "science" / "mine.fits"
    stray.write_text("x")
    (store.root / "notes.txt").write_text("beside the folders of the categories")
    (store.root / ".results").mkdir()
    (store.root / ".results" / "record").write_text("Prefect's")
    assert store.foreign([product.path]) == ["notes.txt", "science/mine.fits"]


def test_store_can_be_moved(store: Store, tmp_path: Path) -> None:
    product = put(store)
    store.root.rename(tmp_path / "elsewhere")
    assert Store(tmp_path / "elsewhere").intact(product.path, product.size, product.sha256)


def test_who_may_write_no_more_changes_nothing(store: Store) -> None:
    put(store, content=b"theirs")
    before = (store.root / PATH).stat()

    def refuse() -> None:
        raise RuntimeError("not yours any more")

    with pytest.raises(RuntimeError, match="not yours"):
        store.write(PATH, KEY, lambda stream: stream.write(b"ours") and None, refuse)
    after = (store.root / PATH).stat()
    assert (after.st_ino, after.st_ctime_ns) == (before.st_ino, before.st_ctime_ns)
    assert files(store) == {PATH}
