"""A job as a document: all that a recipe by hand has to be told to make the same bytes as the job did."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from ccdflow.archive.fits.productheader import InputNote
from ccdflow.cascade.records import Value
from ccdflow.cascade.wording import unknown

FIELDS = (
    *("key", "recipe", "version", "task", "level", "worst_level", "parameters", "inputs", "compromises"),
    "software",
)
NOTE_FIELDS = ("role", "name", "identity", "kind", "level")
INPUT_FIELDS = (*NOTE_FIELDS, "category", "amended")


@dataclass(frozen=True)
class Told:
    """A correction as a document tells it; as a text the sentence that headers have of it."""

    name: str
    value: Value | None
    said: Value | None = None
    who: str = ""
    why: str = ""
    made: str = ""

    def __str__(self) -> str:
        shown = ["unknown" if value in (None, "") else str(value) for value in (self.said, self.value)]
        told = f"{self.name} {shown[0]} -> {shown[1]}"
        return f"{told} ({self.why})" if self.why else told


@dataclass(frozen=True)
class JobFile:
    """One input of a job.

    `note` names it. `category` is that of a master of another program, else blank; `amended` is what was corrected.
    """

    note: InputNote
    category: str = ""
    amended: tuple[Told, ...] = ()

    def document(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        told: dict[str, Any] = {name: getattr(self.note, name) for name in NOTE_FIELDS}
        told |= {"category": self.category} if self.category else {}
        return told | ({"amended": [vars(one) for one in self.amended]} if self.amended else {})

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Self:
        """Read one from its document."""
        _refuse_unknown(document, INPUT_FIELDS)
        values: dict[str, Any] = {name: document[name] for name in NOTE_FIELDS}
        note = InputNote(**values)
        return cls(
            note, document.get("category", ""), tuple(Told(**one) for one in document.get("amended", ()))
        )


@dataclass(frozen=True)
class JobDocument:
    """A job, told whole.

    `parameters` has value and origin of each by name, `software` the versions of the programs that did it.
    """

    key: str
    recipe: str
    version: str
    task: str
    level: int
    worst_level: int
    parameters: Mapping[str, Mapping[str, Any]]
    inputs: Sequence[JobFile]
    compromises: str = ""
    software: str = ""

    def document(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        told = {name: getattr(self, name) for name in FIELDS if name not in ("parameters", "inputs")}
        inputs = [file.document() for file in self.inputs]
        return told | {
            "parameters": {name: dict(value) for name, value in self.parameters.items()},
            "inputs": inputs,
        }

    @classmethod
    def read(cls, document: Any) -> Self:
        """Read one from its document.

        Parameters
        ----------
        document : object
            As JSON holds it.

        Returns
        -------
        JobDocument

        Raises
        ------
        ValueError
            If it is none; one line says what was found.
        """
        if not isinstance(document, Mapping):
            raise ValueError("a job's document is a JSON object")
        _refuse_unknown(document, FIELDS)
        try:
            values = {name: document[name] for name in FIELDS if name in document}
            return cls(**values | {"inputs": [JobFile.read(file) for file in document["inputs"]]})
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"a job's document lacks something: {error}") from None


def _refuse_unknown(document: Mapping[str, Any], known: Sequence[str]) -> None:
    for name in document:
        if name not in known:
            raise ValueError(unknown("field of a job's document", str(name), known))
