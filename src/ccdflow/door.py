"""The archive from Python: what exists, what is in it, which calibration fits, and why.

from ccdflow import Archive

archive = Archive("P")
table = archive.query("filter = 'R' and ccd_temperature < -20")
stack = archive.get("p57", section="[1:100,1:100]")
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ccdflow.cascade.plain import plain, words
from ccdflow.cascade.wording import unknown

if TYPE_CHECKING:
    from astropy.table import Table

    from ccdflow.archive.search.expressions import Expression, Operand
    from ccdflow.archive.search.finding import Kind, Question
    from ccdflow.cascade.dataids import Packer
    from ccdflow.commands.calibrations import Calibration
    from ccdflow.tasks.workspace import Workspace

Mode = Literal["r", "w"]
MODES = ("r", "w")
UNITS = {"exptime": "s", "size": "byte"}
"""Units of columns of tables."""


class Archive:
    """An archive: the registry and the store of a project.

    It holds no more than the project's folder and the mode, so that it can be pickled and sent to other processes;
    the registry is opened at the first question, read-only unless `mode` is ``w``.

    Parameters
    ----------
    project : str or Path
        Folder of the project, where its `ccdflow.yaml` is.
    mode : {'r', 'w'}
        Whether only questions are asked.

    Raises
    ------
    ValueError
        If the mode is another.

    Examples
    --------
    >>> archive = Archive("P")  # doctest: +SKIP
    >>> archive.query("class = 'flat' and exptime < 5 s", columns=["id", "filter", "path"])  # doctest: +SKIP
    """

    def __init__(self, project: str | Path = ".", mode: Mode = "r") -> None:
        if mode not in MODES:
            raise ValueError(unknown("mode", str(mode), MODES))
        self.project = Path(project).absolute()
        self.mode: Mode = mode

    def __repr__(self) -> str:
        return f"Archive({str(self.project)!r}, mode={self.mode!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Archive) and (self.project, self.mode) == (other.project, other.mode)

    def __hash__(self) -> int:
        return hash((self.project, self.mode))

    @property
    def _space(self) -> "Workspace":
        # SQLAlchemy takes a third of a second to load; who only hands an archive on does not need it.
        from ccdflow.tasks.workspace import open_workspace

        return open_workspace(self.project, read_only=self.mode == "r")

    def query(
        self,
        expression: str = "",
        kind: "Kind" = "frames",
        *,
        columns: Sequence[str] = (),
        sort: Sequence[str] = (),
        limit: int | None = None,
        every: bool = False,
    ) -> "Table":
        """Return frames or products that an expression describes.

        Parameters
        ----------
        expression : str
            See `ccdflow.archive.search.expressions.parse_expression`; blank for all.
        kind : {'frames', 'products'}
            Of what.
        columns, sort : sequence of str
            What is wanted of each, and in which order (``-name``: the largest first).
        limit : int, optional
            How many at most.
        every : bool
            Also duplicates, old versions, and products that have given way to others.

        Returns
        -------
        Table
            A row for each; masked where nothing is known.

        Raises
        ------
        ExpressionError
            If the expression is none, or a name is not known; with the nearest.
        """
        from ccdflow.archive.search.finding import Question

        asked = Question(kind, expression, words(columns), words(sort), limit, every)
        return self._answer(asked)

    def find(
        self,
        kind: "Kind" = "frames",
        *,
        columns: Sequence[str] = (),
        sort: Sequence[str] = (),
        limit: int | None = None,
        every: bool = False,
        **criteria: Any,
    ) -> "Table":
        """Return frames or products that have these values.

        Parameters
        ----------
        kind, columns, sort, limit, every
            As of `query`.
        **criteria
            Name to value, or to several of which one is right: ``filter="R"``, ``camera=["C1", "C2"]``. None for what
            is not known. A name that is a word of Python's own has an underscore behind it: ``class_="flat"``.

        Returns
        -------
        Table
            As of `query`.
        """
        from ccdflow.archive.search.expressions import All
        from ccdflow.archive.search.finding import Question

        parts = tuple(_criterion(name.rstrip("_"), value) for name, value in criteria.items())
        tree: Expression | str = All(parts) if parts else ""
        return self._answer(Question(kind, tree, words(columns), words(sort), limit, every))

    def _answer(self, question: "Question") -> "Table":
        from ccdflow.archive.search.finding import SHOWN, find_rows

        rows = self._space.registry.read(find_rows, question)
        return _table(rows, question.columns or SHOWN[question.kind])

    def get(self, identity: str, part: str = "", section: str = "") -> Any:
        """Return a frame or product, or a part of one; no more of the file is read than that.

        Parameters
        ----------
        identity : str
            ``p7``, ``f12``, or the path of its file.
        part, section : str
            As of `ccdflow.archive.search.parts.product_part` and `raw_part`.

        Returns
        -------
        CCDData, array, Header, Table, or what was put
            A `CCDData` where no part is named, or the table of a product that is one.

        Raises
        ------
        ValueError
            If nothing is called so, it has no file, or no such part.
        """
        from ccdflow.archive.search.formats import read_file
        from ccdflow.archive.search.parts import raw_part
        from ccdflow.commands.queries import find

        row = find(self._space, str(plain(identity)))
        if "path" not in row:
            raise ValueError(f"{identity} is neither a frame nor a product; wanted f12, p7 or a file")
        if not row["path"]:
            raise ValueError(f"{row['id']} is a row without a file")
        read = read_file if "category" in row else raw_part
        return read(Path(row["path"]), part, section)

    def packer(self, name: str) -> "Packer":
        """Return what makes whole numbers of data ids, and data ids of numbers.

        Parameters
        ----------
        name : str
            A kind of data id that ``ccdflow.yaml`` states under ``data_ids``.

        Returns
        -------
        Packer
            With `pack`, `unpack` and `n_bits`; see `ccdflow.cascade.dataids.Packer`.

        Raises
        ------
        ValueError
            If the project states no such kind.
        """
        from ccdflow.cascade.dataids import Packer

        stated = dict(self._space.project.data_ids)
        if name not in stated:
            raise ValueError(unknown("kind of data id (data_ids in ccdflow.yaml)", name, stated))
        return Packer(json.loads(stated[name]))

    def put(
        self,
        value: Any,
        category: str,
        inputs: Sequence[str] = (),
        *,
        name: str = "",
        form: str = "",
        parameters: Mapping[str, Any] | None = None,
    ) -> str:
        """Keep an object as a product; `get` gives it back.

        Parameters
        ----------
        value : CCDData, Table, str, what JSON holds, or of a form that a package has added
            See `ccdflow.archive.search.formats`.
        category, inputs, name, form, parameters
            As of `ccdflow.tasks.keeping.putting.put_object`.

        Returns
        -------
        str
            Its id, ``p7``; the same object of the same inputs has the same.

        Raises
        ------
        ValueError
            If the archive is read-only, the category is a recipe's, an input is not there, or no form takes the object.
        """
        if self.mode != "w":
            raise ValueError(f"{self!r} only asks; Archive(..., mode='w') may write")
        from ccdflow.tasks.keeping.putting import put_object

        number = put_object(
            self._space, value, category, words(inputs), name=name, form=form, parameters=parameters
        )
        return f"p{number}"

    def explain(self, identity: str) -> dict[str, Any]:
        """Return where something came from, or why it can't be made, as ``ccdflow explain --json`` has it.

        Parameters
        ----------
        identity : str
            ``f12``, ``s3``, ``p7``, a job's key or its beginning, or the path of a file.

        Returns
        -------
        dict of str to object
            What is known of it.
        """
        from ccdflow.commands.queries import explain

        return dict(explain(self._space, str(plain(identity))))

    def calibration(self, frame: str, role: str) -> "Calibration":
        """Return the calibration that fits a frame, as a plan of now takes it.

        Parameters
        ----------
        frame : str
            ``f12``, or the path of its file.
        role : str
            ``bias``, ``dark``, ``flat``, or an input's name in the cascade, such as ``master_flat``.

        Returns
        -------
        Calibration
            With its level, and the reasons where it is less than planned; `job` is blank and `reasons` say why where
            none fits.

        Raises
        ------
        ValueError
            If there is no such frame, or nothing that is made of it takes such a calibration.
        """
        from ccdflow.commands.calibrations import calibration_of
        from ccdflow.commands.queries import find

        row = find(self._space, str(plain(frame)))
        if not str(row["id"]).startswith("f") or "class" not in row:
            raise ValueError(f"{frame} is no frame; wanted f12, or a raw file")
        return calibration_of(self._space, int(row["id"][1:]), role)


def _criterion(name: str, value: Any) -> "Expression":
    """What a column is compared with, of a value of any type or of several."""
    from ccdflow.archive.search.expressions import Comparison

    if value is None:
        return Comparison(name, "unknown", (), 0)
    several = plain(value)
    if isinstance(several, list | tuple | set | frozenset):
        return Comparison(name, "in", tuple(_operand(item) for item in several), 0)
    return Comparison(name, "=", (_operand(several),), 0)


def _operand(value: Any) -> "Operand":
    from ccdflow.archive.search.expressions import Quantity

    if isinstance(value, bool | str):
        return value
    if isinstance(value, int | float):
        return Quantity(float(value))
    # A number with a unit, as `astropy.units` has it.
    if hasattr(value, "unit") and hasattr(value, "value"):
        return Quantity(float(value.value), str(value.unit))
    return str(value)


def _table(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> "Table":
    """A table of rows; what is not known is masked."""
    from astropy.table import MaskedColumn, Table

    columns = []
    for name in names:
        values = [row[name] for row in rows]
        known = [value for value in values if value is not None]
        filler: Any = "" if not known or isinstance(known[0], str) else type(known[0])(0)
        # Of a keyword some headers state a number, others a text.
        if any(isinstance(value, str) for value in known):
            known_as = [filler if value is None else str(value) for value in values]
        else:
            known_as = [filler if value is None else value for value in values]
        mask = [value is None for value in values]
        columns.append(MaskedColumn(known_as, name=name, mask=mask, unit=UNITS.get(name)))
    return Table(columns, masked=any(column.mask.any() for column in columns))
