"""The instrument files of some folders, read and put in the order in which they may claim a header."""

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

from ccdflow.cascade.headers.instrument import Instrument, inherit
from ccdflow.cascade.specification.dotted import validation_context
from ccdflow.config.yamlfile import ConfigError, load_model


def load_instruments(directories: Iterable[Path], folder: Path | None = None) -> tuple[Instrument, ...]:
    """Return every instrument of the folders, in the order of the folders, then of the files' names.

    Of two instruments of one name the first counts, so that a folder may put its own in the place of a later
    one's. What an instrument `extends` is filled in.

    Parameters
    ----------
    directories : iterable of Path
        Folders with ``.yaml`` or ``.yml`` files.
    folder : Path, optional
        Folder of the project, absolute, where functions that the files name by dotted path are looked for first.

    Returns
    -------
    tuple of Instrument
        In the order in which they may claim a header.

    Raises
    ------
    ConfigError
        If a folder is missing, a file is not understood, two files of one folder have one name, or an
        instrument extends one that is not there, or itself.
    """
    known: dict[str, tuple[Instrument, Path]] = {}
    for directory in directories:
        for name, instrument in _folder(Path(directory), folder).items():
            known.setdefault(name, instrument)
    return tuple(_filled(name, known, ()) for name in known)


def _folder(directory: Path, project: Path | None) -> dict[str, tuple[Instrument, Path]]:
    if not directory.is_dir():
        raise ConfigError(f"{directory}: no such folder of instrument files")
    read: dict[str, tuple[Instrument, Path]] = {}
    for path in sorted([*directory.glob("*.yaml"), *directory.glob("*.yml")]):
        instrument = load_model(path, Instrument, context=validation_context(project))
        if instrument.name in read:
            raise ConfigError(
                f"{path}: instrument {instrument.name!r} stands in {read[instrument.name][1]} already"
            )
        read[instrument.name] = instrument, path
    return read


def _filled(name: str, known: dict[str, tuple[Instrument, Path]], above: tuple[str, ...]) -> Instrument:
    """Return an instrument with what it extends filled in; `above` are those that extend it."""
    instrument, path = known[name]
    parent = instrument.extends
    if parent is None:
        return instrument
    if parent in (*above, name):
        raise ConfigError(f"{path}: instruments extend each other: {' -> '.join([*above, name, parent])}")
    if parent not in known:
        near = get_close_matches(parent, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"{path}: extends unknown instrument {parent!r}{hint}; known: {', '.join(known)}")
    return inherit(instrument, _filled(parent, known, (*above, name)))
