"""Gain and read noise of each amplifier, and who says so."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ccdflow.recipes.core.recipe import Card, InputProduct
from ccdflow.recipes.detector.amplifiers import Detector, RawFrame

Origin = Literal["header", "measured", "assumed"]


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
        """Header cards that say which numbers were used."""
        cards: dict[str, Card] = {"GAINSRC": (self.gain_from, "who says the gain: header, measured, assumed")}
        cards["RDNSRC"] = (self.noise_from, "who says the read noise")
        for number, (gain, noise) in enumerate(zip(self.gains, self.read_noises, strict=True), start=1):
            cards[f"GAIN{number:02d}"] = (gain, f"[electron/adu] gain used, amplifier {number}")
            cards[f"RDNOIS{number:02d}"] = (noise, f"[electron] read noise used, amplifier {number}")
        return cards

    @property
    def warnings(self) -> list[str]:
        """One sentence for each number that nobody knew."""
        found = []
        if self.gain_from == "assumed":
            found.append("gain is neither in the header nor measured: 1 electron/adu is assumed")
        if self.noise_from == "assumed":
            found.append("read noise is neither in the header nor measured: variance lacks it")
        return found


def resolve_readout(
    detector: Detector, gain_table: InputProduct | None = None, master_bias: InputProduct | None = None
) -> Readout:
    """Gain and read noise by the detector; else by a gain table; else read noise as a master bias had it.

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
        if gain_from == "measured" and not gain_table.table["pairs"].all():
            gain_from = "assumed"
    if master_bias is not None:
        known = _numbers(master_bias.header, "RDNOIS", len(noises))
        noises, noise_from = _filled(noises, known, noise_from)
    gains, gain_from = _filled(gains, [1.0] * len(gains), gain_from, "assumed")
    noises, noise_from = _filled(noises, [0.0] * len(noises), noise_from, "assumed")
    return Readout(
        tuple(float(gain or 1) for gain in gains),
        tuple(float(noise or 0) for noise in noises),
        gain_from,
        noise_from,
    )


def readouts(
    frames: Sequence[RawFrame],
    gain_table: InputProduct | None = None,
    master_bias: InputProduct | None = None,
) -> list[Readout]:
    """Gain and read noise of each frame, as `resolve_readout` finds them."""
    return [resolve_readout(frame.detector, gain_table, master_bias) for frame in frames]


def gains_disagree(master: InputProduct, readout: Readout) -> str:
    """Sentence that says so, if a master was made with other gains than those of the frame; else ``""``."""
    theirs = _numbers(master.header, "GAIN", len(readout.gains))
    for number, (found, wanted) in enumerate(zip(theirs, readout.gains, strict=True), start=1):
        if found is not None and abs(found / wanted - 1) > 1e-3:
            return (
                f"{master.name or 'a master'} was made with a gain of {found:g} electron/adu "
                f"in amplifier {number}, the frame has {wanted:g}"
            )
    return ""


def _filled(
    known: Sequence[float | None], found: Sequence[float | None], before: Origin, origin: Origin = "measured"
) -> tuple[list[float | None], Origin]:
    """Numbers with their gaps filled, and the least trusted origin of any of them."""
    filled = [new if old is None else old for old, new in zip(known, found, strict=True)]
    changed = any(old is None and new is not None for old, new in zip(known, found, strict=True))
    return filled, origin if changed else before


def _column(table: InputProduct, name: str, n: int) -> list[float | None]:
    values = [float(value) for value in (table.table or {})[name]]
    if len(values) != n:
        raise ValueError(f"gain table {table.name} has {len(values)} amplifiers, the detector has {n}")
    return [value if value > 0 else None for value in values]


def _numbers(header: Mapping[str, Any], stem: str, n: int) -> list[float | None]:
    """Positive numbers in the cards ``{stem}01``, ``{stem}02``, ..."""
    found = [header.get(f"{stem}{number:02d}") for number in range(1, n + 1)]
    return [float(value) if isinstance(value, int | float) and value > 0 else None for value in found]
