"""Copies of exposures: files that differ, and hold the same pixels."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from stat import S_IFREG

from ccdflow.archive.fits.pixeldigest import RawPixels, pixel_digest, same_pixels
from ccdflow.archive.fits.rawfile import open_raw
from ccdflow.archive.foreignfile import UnreadableFrameError, is_not_read, own_fault, spelled
from ccdflow.archive.registry.frames.files import (
    NewFrame,
    Registered,
    keep_pixels,
    twin_path,
    without_pixels,
)
from ccdflow.archive.registry.frames.queries import FrameFilter, find_frames
from ccdflow.tasks.rawfiles.places import is_kind
from ccdflow.tasks.workspace import Workspace

COMPARED = (
    "class",
    "telescope",
    "camera",
    "instrument",
    "filter",
    "object",
    "exptime",
    "obsdate",
    "iobs",
    "nobs",
)
"""What a copy's header may say otherwise than that of the original."""


UNREAD = (OSError, UnreadableFrameError)
"""What is raised for damaged content; whoever checks the file says what is wrong with it."""


def digest_of(pixels: RawPixels) -> str | None:
    """Return by what pixels are known.

    Parameters
    ----------
    pixels : PlainPixels, TiledPixels or JoinedPixels
        Of a file.

    Returns
    -------
    str or None
        The digest; blank where the pixels tell nothing, or are damaged; None where they can't be read now.
    """
    try:
        with own_fault(Path()):
            return pixel_digest(pixels)
    except UNREAD as error:
        return None if is_not_read(error) else ""


def confirmed(space: Workspace, path: Path, pixels: RawPixels, digest: str | None) -> str | None:
    """Return the digest of a file's pixels, if what it says of them holds for all of them.

    Parameters
    ----------
    space : Workspace
        The project.
    path : Path
        The file.
    pixels : PlainPixels, TiledPixels or JoinedPixels
        Its pixels.
    digest : str or None
        As `digest_of` gives it.

    Returns
    -------
    str or None
        Blank where the pixels only begin as those of another frame do; None where they can't be read now.
    """
    other = space.registry.read(twin_path, digest, str(path)) if digest else None
    # The original may be damaged, or on a disk that is away: then the noise of its first rows is proof enough.
    if other is None or not is_kind(Path(other), S_IFREG):
        return digest
    try:
        with own_fault(path):
            return digest if same_pixels(open_raw(Path(other)).pixels, pixels) else ""
    except UNREAD as error:
        return None if is_not_read(error) else digest


@dataclass
class Copies:
    """Files that turned out to be of exposures that are known, and what is said of them."""

    alike: list[tuple[Path, str]] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)

    def add(self, space: Workspace, path: Path, new: NewFrame, registered: Registered) -> None:
        """Take note of a file that is a duplicate.

        Parameters
        ----------
        space : Workspace
            The project.
        path : Path
            The file.
        new : NewFrame
            What it says.
        registered : Registered
            What became of it.
        """
        wanted = FrameFilter(status=None, ids=[registered.of or 0], keywords=())
        for original in space.registry.read(find_frames, wanted):
            name = f"f{original.id} ({Path(original.path or '').name})"
            # What a person has corrected of the original, its copies say as it did.
            compared = [column for column in COMPARED if column not in original.amended]
            ours = {column: new.value(column) for column in compared}
            differs = {column: value for column, value in ours.items() if value != original.value(column)}
            if not differs:
                self.alike.append((path, name))
                continue
            said = ", ".join(
                f"{column} {value if value is not None else 'unknown'} instead of {_or_unknown(original.value(column))}"
                for column, value in differs.items()
            )
            mended = " ".join(
                quote(f"{column}={value}") for column, value in differs.items() if value is not None
            )
            advice = f"; if that is right: ccdflow amend f{original.id} {mended} --why ..." if mended else ""
            self.differing.append(
                f"{path} is a duplicate of {name}: the same pixels, though its header says {said}{advice}"
            )

    def lines(self) -> Iterator[str]:
        """Say which files are duplicates.

        Yields
        ------
        str
            A line for each whose header differs, and one for all others.
        """
        yield from map(spelled, self.differing)
        if self.alike:
            path, name = map(spelled, self.alike[0])
            if len(self.alike) == 1:
                yield f"{path} is a duplicate of {name}"
            else:
                yield f"{len(self.alike)} files are duplicates of known frames, for instance {path} of {name}"


def _or_unknown(value: object) -> object:
    return "unknown" if value is None else value


def compare_known(space: Workspace, limit: int = 500) -> list[str]:
    """Compare the pixels of frames that came before that was done.

    Parameters
    ----------
    space : Workspace
        The project.
    limit : int
        The most frames that are looked at this time; the rest comes the next time, and so do those whose files can't be
        read now.

    Returns
    -------
    list of str
        A line for each frame that turned out to be a duplicate.
    """
    lines, looks, last = [], 0, 0
    # In portions, each behind the last one: files on a disk that is away must not keep the others from their turn.
    while looks < limit and (frames := space.registry.read(without_pixels, limit - looks, last)):
        last = frames[-1][0]
        for frame, name in frames:
            digest = _digest(space, Path(name))
            if digest is None:
                continue
            looks += 1
            for copy, original in space.registry.write(keep_pixels, frame, digest).items():
                told = name if copy == frame else f"f{copy}"
                lines.append(f"{told} is a duplicate of f{original}: the same pixels")
    return lines


def _digest(space: Workspace, path: Path) -> str | None:
    """By what the pixels of a known frame are known; None where its file can't be read now."""
    try:
        with own_fault(path):
            pixels = open_raw(path).pixels
    except UNREAD as error:
        return None if is_not_read(error) else ""
    return confirmed(space, path, pixels, digest_of(pixels))
