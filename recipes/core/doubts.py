"""Doubts: what is odd about a frame or a product that can be used all the same, each with its kind.

Whoever finds something odd knows what kind it is: no reader has to guess it from the words of a sentence.
"""

from dataclasses import dataclass

GAIN_ASSUMED = "gain_assumed"
GAIN_CONFLICT = "gain_conflict"
READ_NOISE_UNKNOWN = "read_noise_unknown"
SCATTER = "scatter"
LEFT_OUT = "left_out"
REGISTRATION = "registration"
OTHER = "recipe"
"""Kinds of what recipes doubt; `ccdflow.cascade.headers.doubts.KINDS` says of each what it is."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """One thing about a frame or a product that is not as it should be, though it can be used.

    Parameters
    ----------
    kind : str
        Which kind it is, one word: ``exptime_conflict``; `ccdflow.cascade.headers.doubts.KINDS` has them all.
    text : str
        One sentence with what was found: ``EXPTIME says 60 s, EXPOSURE 41.7 s``.
    """

    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


def as_doubt(warning: Doubt | str) -> Doubt:
    """Return a recipe's warning as a doubt.

    Parameters
    ----------
    warning : Doubt or str
        A recipe of a project may say a sentence alone: that is of the kind `OTHER`.
    """
    return warning if isinstance(warning, Doubt) else Doubt(OTHER, warning)
