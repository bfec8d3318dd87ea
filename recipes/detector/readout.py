"""Gain and read noise of each amplifier, and who says so."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ccdflow.recipes.core.cardnumbers import positive_card
from ccdflow.recipes.core.doubts import GAIN_ASSUMED, GAIN_CONFLICT, READ_NOISE_UNKNOWN, Doubt
from ccdflow.recipes.core.recipe import Card, InputProduct
from ccdflow.recipes.detector.amplifiers import Detector, RawFrame

Origin = Literal["header", "measured", "assumed"]
"""In falling order of trust; a readout has the least trusted origin of any of its numbers."""

ASSUMED_GAIN = 1.0
"""Electron/adu where nobody knows: data keep their numbers, and a warning says that the photon noise is a guess."""
ASSUMED_READ_NOISE = 0.0
"""Electron rms where nobody knows: the variance lacks it, and a warning says so."""
MEASURED_APART = 0.1
"""Fraction by which a stated gain may differ from the one that flats measure: more than their own errors, and more
than what brighter pixels that share their light take from photon noise."""
SAME_GAIN = 1e-3
"""Gains that differ by less than this fraction are one number, written with fewer digits."""


@dataclass(frozen=True)
class Readout:
    """What turns adu into electron, amplifier by amplifier.

    Parameters
    ----------
    gains : tuple of float
        Electron per adu.
    read_noises : tuple of float
        Electron rms; 0 where nobody knows.
    gain_from, noise_from : {'header', 'measured', 'assumed'}
        The header or instrument file, pairs of flats and biases, or nothing at all.
    """

    gains: tuple[float, ...]
    read_noises: tuple[float, ...]
    gain_from: Origin = "header"
    noise_from: Origin = "header"

    @property
    def cards(self) -> dict[str, Card]:
        """Header cards that say which numbers were used, and who says them."""
        cards: dict[str, Card] = {"GAINSRC": (self.gain_from, "who says the gain: header, measured, assumed")}
        cards["RDNSRC"] = (self.noise_from, "who says the read noise")
        for number, (gain, noise) in enumerate(zip(self.gains, self.read_noises, strict=True), start=1):
            cards[f"GAIN{number:02d}"] = (gain, f"[electron/adu] gain used, amplifier {number}")
            cards[f"RDNOIS{number:02d}"] = (noise, f"[electron] read noise used, amplifier {number}")
        return cards

    @property
    def warnings(self) -> list[Doubt]:
        """One doubt for each number that nobody knew."""
        doubts = []
        if self.gain_from == "assumed":
            sentence = "gain is neither in the header nor measured: 1 electron/adu is assumed"
            doubts.append(Doubt(GAIN_ASSUMED, sentence))
        if self.noise_from == "assumed":
            sentence = "read noise is neither in the header nor measured: variance lacks it"
            doubts.append(Doubt(READ_NOISE_UNKNOWN, sentence))
        return doubts


def resolve_readout(
    detector: Detector, gain_table: InputProduct | None = None, master_bias: InputProduct | None = None
) -> Readout:
    """Return gain and read noise of a detector: by its header or instrument file; else by a gain table.

    Read noise that neither knows is that of a master bias, which may have measured it; what nobody knows is assumed.
    Numbers of different amplifiers may come from different places.

    Parameters
    ----------
    detector : Detector
        Its amplifiers' gain and read noise are None where neither header nor instrument file states them.
    gain_table : InputProduct or None
        Product of the recipe ``gain``: its columns ``gain``, ``read_noise`` (electron) and ``pairs``.
    master_bias : InputProduct or None
        Its cards ``RDNOIS01``, ... are looked at.

    Returns
    -------
    Readout
        Numbers that are not above 0 count as not known. The gain is called assumed if any amplifier's was.

    Raises
    ------
    ValueError
        If the gain table is of a detector with another number of amplifiers.
    """
    gains = [amplifier.gain for amplifier in detector.amplifiers]
    noises = [amplifier.read_noise for amplifier in detector.amplifiers]
    gain_from: Origin = "header"
    noise_from: Origin = "header"
    if gain_table is not None and gain_table.table is not None:
        gains, gain_from = _filled(gains, _column(gain_table, "gain", len(gains)), gain_from)
        noises, noise_from = _filled(noises, _column(gain_table, "read_noise", len(noises)), noise_from)
        # A row of the table without a pair of flats holds a gain of 1 that nobody measured.
        if gain_from == "measured" and not gain_table.table["pairs"].all():
            gain_from = "assumed"
    if master_bias is not None:
        # A master bias without stated read noise has measured it, and says it in the same cards.
        known = _numbers(master_bias.header, "RDNOIS", len(noises))
        noises, noise_from = _filled(noises, known, noise_from)
    gains, gain_from = _filled(gains, [ASSUMED_GAIN] * len(gains), gain_from, "assumed")
    noises, noise_from = _filled(noises, [ASSUMED_READ_NOISE] * len(noises), noise_from, "assumed")
    return Readout(
        tuple(float(gain or ASSUMED_GAIN) for gain in gains),
        tuple(float(noise or ASSUMED_READ_NOISE) for noise in noises),
        gain_from,
        noise_from,
    )


def readouts(
    frames: Sequence[RawFrame],
    gain_table: InputProduct | None = None,
    master_bias: InputProduct | None = None,
) -> list[Readout]:
    """Return gain and read noise of each frame, as `resolve_readout` finds them.

    Parameters
    ----------
    frames : sequence of RawFrame
        Each with its own detector.
    gain_table, master_bias : InputProduct or None
        As for `resolve_readout`.

    Returns
    -------
    list of Readout
        In the order of the frames.

    Raises
    ------
    ValueError
        If the gain table does not fit a frame's detector.
    """
    return [resolve_readout(frame.detector, gain_table, master_bias) for frame in frames]


def gains_disagree(master: InputProduct, readout: Readout) -> list[Doubt]:
    """Return a doubt, if a master was made with other gains than those of the frame.

    Parameters
    ----------
    master : InputProduct
        Its cards ``GAIN01``, ``GAIN02``, ... say with which gains it was made.
    readout : Readout
        Of the frame.

    Returns
    -------
    list of Doubt
        Empty if they agree to 0.1 %, or the master does not say.
    """
    # The first amplifier that differs is named; others would say the same.
    theirs = _numbers(master.header, "GAIN", len(readout.gains))
    for number, (used, wanted) in enumerate(zip(theirs, readout.gains, strict=True), start=1):
        if used is not None and abs(used / wanted - 1) > SAME_GAIN:
            made = f"{master.name or 'a master'} was made with a gain of {used:g} electron/adu"
            return [Doubt(GAIN_CONFLICT, f"{made} in amplifier {number}, the frame has {wanted:g}")]
    return []


def stated_gain_conflicts(
    readout: Readout, measured: Sequence[float | None], errors: Sequence[float] = ()
) -> list[Doubt]:
    """Return a doubt for each amplifier whose stated gain is not the one that flats measured.

    Parameters
    ----------
    readout : Readout
        Of the frame; a gain that nobody states is not looked at.
    measured : sequence of float or None
        Electron/adu of each amplifier; None where it was not measured.
    errors : sequence of float
        Their standard errors: what is within five of them is no conflict.

    Returns
    -------
    list of Doubt
        Empty where all agree to `MEASURED_APART`.
    """
    if readout.gain_from != "header":
        return []
    doubts = []
    for number, (stated, found) in enumerate(zip(readout.gains, measured, strict=True)):
        if found is None or abs(stated / found - 1) <= MEASURED_APART:
            continue
        if errors and abs(stated - found) <= 5 * errors[number]:
            continue
        told = f"the header's gain of {stated:g} electron/adu in amplifier {number + 1}"
        doubts.append(Doubt(GAIN_CONFLICT, f"{told} is {found:.3g} by the photon noise of the flats"))
    return doubts


def measured_gains(master_flat: InputProduct | None, amplifiers: int) -> list[float | None]:
    """Return the gains that the flats of a master measured.

    Parameters
    ----------
    master_flat : InputProduct or None
        Its cards ``GAINMS01``, ... tell.
    amplifiers : int
        How many there are.

    Returns
    -------
    list of float or None
        Electron/adu; None where none was measured.
    """
    return [None] * amplifiers if master_flat is None else _numbers(master_flat.header, "GAINMS", amplifiers)


def _filled(
    known: Sequence[float | None], more: Sequence[float | None], before: Origin, origin: Origin = "measured"
) -> tuple[list[float | None], Origin]:
    """Numbers with their gaps filled, and the least trusted origin of any of them."""
    filled = [new if old is None else old for old, new in zip(known, more, strict=True)]
    changed = any(old is None and new is not None for old, new in zip(known, more, strict=True))
    return filled, origin if changed else before


def _column(table: InputProduct, name: str, n: int) -> list[float | None]:
    values = [float(value) for value in (table.table or {})[name]]
    if len(values) != n:
        raise ValueError(f"gain table {table.name} has {len(values)} amplifiers, the detector has {n}")
    return [value if value > 0 else None for value in values]


def _numbers(header: Mapping[str, Any], stem: str, n: int) -> list[float | None]:
    """Positive numbers in the cards ``{stem}01``, ``{stem}02``, ..."""
    return [positive_card(header.get(f"{stem}{number:02d}")) for number in range(1, n + 1)]
