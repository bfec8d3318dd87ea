"""Raw files are held against what they were when they were registered, and against their own checks."""

import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ccdflow.archive.digest import file_digest
from ccdflow.archive.fits.integrity import DAMAGED, read_whole
from ccdflow.archive.fits.rawfile import RawFile, open_raw
from ccdflow.archive.foreignfile import NotReadError, UnreadableFrameError, own_fault, unread
from ccdflow.archive.patience import in_time
from ccdflow.archive.registry.frames.checks import RegisteredRaw, note_check, raws_by_age_of_check
from ccdflow.cascade.headers.classify import FileFacts, describe
from ccdflow.cascade.records import Doubt
from ccdflow.tasks.workspace import Workspace

State = Literal["ok", "missing", "unread", "changed", "damaged"]


@dataclass(frozen=True)
class RawCheck:
    """The state in which a raw file was found.

    Parameters
    ----------
    frame : int
        Id of its frame.
    path : str
        The file.
    state : {"ok", "missing", "unread", "changed", "damaged"}
        Unread is a file whose bytes the system can't give now (a server that does not answer, another user's file):
        that says nothing of its content. Changed is one that somebody has touched and that holds something else now:
        the next run registers that.
        Damaged is one that nobody has touched and that is not what it was, or that contradicts its own checks.
    reason : str
        What is wrong; empty for a file that is whole.
    """

    frame: int
    path: str
    state: State
    reason: str = ""


def check_raws(space: Workspace, most_bytes: float | None = None, *, note: bool = True) -> Iterator[RawCheck]:
    """Read raw files whole, those first that nobody has looked at for longest, and note what was found.

    Parameters
    ----------
    space : Workspace
        The project.
    most_bytes : float, optional
        No further file is begun once so many bytes were read; without, all files are read.
    note : bool
        Whether the registry learns what was found: a damaged file is then used no more.

    Yields
    ------
    RawCheck
        One for each file.
    """
    read = 0
    for raw in space.registry.read(raws_by_age_of_check):
        if most_bytes is not None and read >= most_bytes:
            return
        state, reason = _state(space, raw)
        # A file that is away, on a disk that is not mounted, is no damage, and is looked at again the next time; it
        # must not use up what is read of others.
        if note and state in ("ok", "damaged"):
            space.registry.write(note_check, raw.id, reason if state == "damaged" else "")
        read += raw.size if state not in ("missing", "unread") else 0
        yield RawCheck(raw.id, raw.path, state, reason)


def _state(space: Workspace, raw: RegisteredRaw) -> tuple[State, str]:
    try:
        with own_fault(Path(raw.path)):
            return in_time(Path(raw.path), lambda: _judged(space, raw, Path(raw.path)))
    except (FileNotFoundError, NotADirectoryError):
        return "missing", "there is no such file"
    except (OSError, NotReadError) as error:
        told = unread(Path(raw.path), error) if isinstance(error, OSError) else error
        return "unread", f"{told}; it is looked at again the next time"
    except UnreadableFrameError as error:
        return "damaged", str(error)


def _judged(space: Workspace, raw: RegisteredRaw, path: Path) -> tuple[State, str]:
    """As `_state`, of a file that can be read."""
    facts = path.stat()
    if not stat.S_ISREG(facts.st_mode):
        return "missing", "there is something else of its name, no file"
    file = _opened(path)
    # One reading for the digest, the sums and, of a compressed file, its tiles.
    digest, faults = (file_digest(path), ()) if file is None else read_whole(file, tiles=True)
    if digest != raw.sha256:
        told = f"its sha256 is {digest[:16]}..., was {raw.sha256[:16]}... when it was registered"
        touched = (facts.st_size, facts.st_ctime_ns) != (raw.size, raw.changed_ns)
        return ("changed", f"{told}; the next run registers it anew") if touched else ("damaged", told)
    counted = [] if file is None else _counted(space, file, faults)
    return ("damaged", "; ".join(counted)) if counted else ("ok", "")


def _opened(path: Path) -> RawFile | None:
    """The file; None for what is no raw frame: it was refused when it was registered, or is another file now."""
    try:
        return open_raw(path)
    except NotReadError:
        raise
    except UnreadableFrameError:
        return None


def _counted(space: Workspace, file: RawFile, faults: Sequence[Doubt]) -> Sequence[str]:
    """What a file's own checks say of it, but for what its instrument file passes over."""
    damaged = [fault for fault in faults if fault.kind == DAMAGED]
    if not damaged:
        return ()
    refused = describe(file.header, file.shape, space.instruments, FileFacts(faults=damaged)).refused
    return [fault.text for fault in damaged if fault.text in refused]
