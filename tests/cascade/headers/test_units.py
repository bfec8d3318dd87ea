"""Units of numbers as programs spell them."""

import pytest

from ccdflow.cascade.headers.units import Unit, read_unit

SPELLINGS = {
    Unit(
        "count"
    ): "adu|ADU|counts|Count|DN|digital numbers|Data Value|analog-digital units|ADU/PIXEL|none|counts pix-1"
    "|data number|raw counts|A/D",
    Unit("electron"): "electron|electrons|e-|e|E-|el|photon|ph|photo-electrons|e-/pix|electron pixel-1|elec",
    Unit("count", 1.0): "adu/s|ADU / s|counts per second|adu s-1|adu.s-1|adu s^-1|adu s**-1|adu / (s)|cts/sec"
    "|DN/s/pixel|adu*s^-1",
    Unit(
        "electron", 1.0
    ): "electron/s|e-/s|electron / s|e/s|electrons per second|electron / (s pix)|electron s-1"
    "|ph / s|electron.s-1|e- s^-1|electrons/sec/pixel|e-/s/pix|electron s^{-1}",
    Unit("electron", 3600.0): "e-/h|electron/hour|electrons per hour",
    Unit("count", 60.0): "adu/min",
    Unit("flux"): "Jy|mJy|MJy/sr|erg/s/cm2|mag|nanomaggy|W/m2|normalized|relative|mag/arcsec2",
    Unit("other"): "kadu|10**2 adu|adu2|electron2|ke|K|V|adu s|adu/s2|1/s|m/s|foo|electron adu|1e-3 adu",
    Unit(""): " |",
}


@pytest.mark.parametrize(
    ("written", "wanted"),
    [(written, unit) for unit, several in SPELLINGS.items() for written in several.split("|")],
)
def test_a_unit_is_what_is_meant(written: str, wanted: Unit) -> None:
    told = read_unit(written)
    assert (told.kind, told.seconds if told.kind != "other" else None) == (wanted.kind, wanted.seconds)
