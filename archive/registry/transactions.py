"""Work that takes several transactions: many rows in batches, streams page by page, and a look before a write."""

from collections.abc import Collection, Iterable, Iterator, Sequence

from sqlalchemy import Connection

from ccdflow.archive.registry.bulk import batches
from ccdflow.archive.registry.doors import Registry
from ccdflow.archive.registry.frames.catalogue import add_catalogue_rows
from ccdflow.archive.registry.frames.exposures import FIRST_PAGE, exposure_page
from ccdflow.archive.registry.frames.files import NewFrame
from ccdflow.archive.registry.sets import counts as setcounts
from ccdflow.archive.registry.sets.settling import Settling, is_unsettled, settle_changed
from ccdflow.cascade.sequences.exposures import Exposure, OrderKey, SequenceRules, Stream


def add_catalogue(registry: Registry, rows: Iterable[NewFrame], *, batch: int = 2000) -> int:
    """Register frames without files.

    Parameters
    ----------
    registry : Registry
        Where to.
    rows : iterable of NewFrame
        The rows. One of an exposure that is there, as a row or with its file, is passed over.
    batch : int
        Rows for each transaction.

    Returns
    -------
    int
        How many were new.
    """
    return sum(registry.write(add_catalogue_rows, part) for part in batches(rows, batch))


def exposures_in_stream(
    registry: Registry,
    stream: Stream,
    rules: SequenceRules,
    classes: Collection[str],
    after: OrderKey | None = None,
    *,
    batch: int = 5000,
    until: int | None = None,
) -> Iterator[Exposure]:
    """Read the frames of a stream in order, and of each only what the rules look at.

    Parameters
    ----------
    registry : Registry
        Where from.
    stream : tuple of str
        Telescope, camera, instrument.
    rules : SequenceRules
        The rules, which name the columns and keywords that are read.
    classes : collection of str
        The classes of frames that sets are made of.
    after : OrderKey, optional
        Where to begin: behind the frame with this key.
    batch : int
        Frames for each transaction. The first transactions are smaller: who regroups a late frame needs few.
    until : int, optional
        As `exposure_page` has it.

    Yields
    ------
    Exposure
        The next frame.
    """
    # Each page is a transaction, so that reading a long stream holds up nobody. Pages grow by four: who stops early has
    # read little too much, and who reads all soon reads in large pages.
    size = min(FIRST_PAGE, batch)
    while True:
        page = registry.read(exposure_page, stream, (rules, classes), after, size, until)
        yield from page.frames
        if page.length < size:
            return
        after, size = page.last, min(4 * size, batch)


def settle_sets(registry: Registry, steps: Sequence[Settling]) -> None:
    """Let the sets of those frames become ready whose states have changed since that was done last.

    Parameters
    ----------
    registry : Registry
        Where.
    steps : sequence of Settling
        How the sets of each step become ready. The change is settled afterwards, so all steps that look at one stage
        have to be named together.
    """
    # First a look: a transaction that writes would hold up all others, mostly for nothing.
    if any(registry.read(is_unsettled, step) for step in steps):
        registry.write(_settle_alone, steps)


def _settle_alone(connection: Connection, steps: Sequence[Settling]) -> None:
    setcounts.alone(connection)
    settle_changed(connection, steps)
