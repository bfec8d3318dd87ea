"""Programs beside us: however one ends, or does not, we hear of it in time, and nothing of it is left running."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccdflow.tasks.processes.children import TimeLimitError, run_program, status_in_words
from ccdflow.tasks.processes.output import HEAD_BYTES, TAIL_BYTES, Kept, clean
from ccdflow.tasks.processes.stopping import STOP, StoppedError, stoppable


@pytest.fixture(autouse=True)
def goes_on() -> Iterator[None]:
    yield
    STOP.forget()


def run(folder: Path, program: str, limit: float = 20.0) -> tuple[int, Kept]:
    kept = Kept()
    return run_program([sys.executable, "-S", "-c", program], folder, limit, kept), kept


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def gone(pid: int) -> bool:
    end = time.monotonic() + 5
    while is_running(pid) and time.monotonic() < end:
        time.sleep(0.02)
    return not is_running(pid)


def test_both_outputs_are_kept_and_the_last_error_is_the_reason(tmp_path: Path) -> None:
    program = "import sys; print('one', flush=True); sys.stderr.write('first\\nlast  \\n\\n'); sys.exit(4)"
    status, kept = run(tmp_path, program)
    assert (status, kept.last_line) == (4, "last")
    assert "one\n" in kept.text and "first\n" in kept.text


def test_bytes_that_are_no_text_are_kept_as_text(tmp_path: Path) -> None:
    _, kept = run(tmp_path, "import os; os.write(1, bytes(range(256)))")
    kept.text.encode("utf-8")
    assert "\x00" not in kept.text and "\x1b" not in kept.text and "ABC" in kept.text


def test_of_much_output_head_and_tail_are_kept(tmp_path: Path) -> None:
    program = "import os\nos.write(1, b'begin\\n')\nfor _ in range(200): os.write(1, b'x' * 20000)\n"
    program += "os.write(1, b'\\nend')"
    _, kept = run(tmp_path, program)
    assert kept.text.startswith("begin\n") and kept.text.endswith("\nend")
    assert len(kept.text) < HEAD_BYTES + TAIL_BYTES + 100
    assert f"[... {4_000_010 - HEAD_BYTES - TAIL_BYTES} bytes left out ...]" in kept.text


@pytest.mark.parametrize(
    ("written", "text"),
    [
        (b"10%\r20%\rdone\r\n", "10%\n20%\ndone\n"),
        (b"\x1b[1;31mred\x1b[0m \x1b]0;title\x07x", "red x"),
        ("übel\n".encode("latin-1"), "\ufffdbel\n"),
        (b"a\tb\x00\x08\n", "a\tb\n"),
    ],
)
def test_a_log_is_clean(written: bytes, text: str) -> None:
    assert clean(written) == text


def test_a_grandchild_that_holds_the_pipe_holds_up_nothing(tmp_path: Path) -> None:
    begun = time.monotonic()
    status, kept = run(
        tmp_path, "import subprocess; p = subprocess.Popen(['sleep', '300']); print(p.pid, flush=True)"
    )
    assert status == 0 and time.monotonic() - begun < 10
    assert gone(int(kept.text))


def test_a_grandchild_that_left_the_group_holds_up_nothing(tmp_path: Path) -> None:
    program = (
        "import subprocess; p = subprocess.Popen(['sleep', '300'], start_new_session=True); print(p.pid)"
    )
    begun = time.monotonic()
    _, kept = run(tmp_path, program)
    assert time.monotonic() - begun < 10
    os.kill(int(kept.text), signal.SIGKILL)


def test_at_the_limit_the_whole_group_ends_though_it_ignores_to_be_asked(tmp_path: Path) -> None:
    program = (
        "import os, signal, subprocess, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "p = subprocess.Popen(['sleep', '300']); print(os.getpid(), p.pid, flush=True); time.sleep(300)"
    )
    kept = Kept()
    with pytest.raises(TimeLimitError, match=r"took longer than 0.5 s \(time_limit\), and was ended"):
        run_program([sys.executable, "-S", "-c", program], tmp_path, 0.5, kept)
    assert all(gone(int(pid)) for pid in kept.text.split())


def test_a_program_that_asks_gets_no_answer_and_no_terminal(tmp_path: Path) -> None:
    status, kept = run(tmp_path, "print(repr(input()))")
    assert status == 1 and kept.last_line.startswith("EOFError")
    status, kept = run(tmp_path, "open('/dev/tty')")
    assert status == 1 and kept.last_line.startswith("OSError")


@pytest.mark.parametrize(
    ("status", "words"),
    [(3, "ended with 3"), (-11, "was killed by SIGSEGV"), (-99, "was killed by signal 99")],
)
def test_how_a_process_ended_is_said_in_words(status: int, words: str) -> None:
    assert status_in_words(status) == words


def test_a_program_ends_when_we_are_told_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(STOP, "exit", lambda status: None)
    threading.Timer(0.3, STOP.tell, [signal.SIGTERM]).start()
    begun = time.monotonic()
    with pytest.raises(StoppedError, match="stopped by SIGTERM"):
        run(tmp_path, "import time; time.sleep(300)")
    assert time.monotonic() - begun < 5


def test_a_signal_calls_what_handled_it_before_and_ends_us_by_force_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard: list[object] = []
    monkeypatch.setattr("ccdflow.tasks.processes.stopping.PATIENCE_S", 0.1)
    monkeypatch.setattr(STOP, "exit", heard.append)
    monkeypatch.setattr(STOP, "_last_acts", [heard.append])
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append("before"))
    try:
        with stoppable(), stoppable():  # one handler of ours in a row
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.3)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == ["before", "stopped by SIGTERM", 143]


def test_without_a_handler_before_a_signal_interrupts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(STOP, "exit", lambda status: None)
    with pytest.raises(KeyboardInterrupt, match="stopped by SIGTERM"), stoppable():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)


def test_a_signal_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stoppable():
            os.kill(os.getpid(), signal.SIGINT)
        assert not STOP.is_told
    finally:
        signal.signal(signal.SIGINT, before)
