"""Define the nights that can be simulated, as tables."""

from datetime import datetime, timedelta

from ccdflow.simulate.schedule import Calibrations, Camera, Clouds, Programme, Target, Twilight

Sequences = tuple[tuple[str, int, float], ...]


def _once(first: Sequences, others: str, count: int, exptime: float) -> Sequences:
    """Return the sequences `first`, then `count` exposures in each of the filters `others`."""
    return first + tuple((name, count, exptime) for name in others)


# Three frames that make one set, and four that pass as they are.
_FIELD: Sequences = _once((("L", 3, 120.0),), "BVGR", 1, 120.0)
# Three sequences of two, back to back: never to be taken for one of six.
_THREE_VISITS: Sequences = _once((("L", 2, 120.0),) * 3, "BVGR", 1, 120.0)

_GOTO_TARGETS = (
    Target("GRB", 262.0, 35.0, _once((("L", 3, 180.0),), "BVGR", 1, 180.0)),
    # More frames than are ever combined (MAXSEQ, 12).
    Target("Cepheid", 280.5, 12.4, (("R", 20, 15.0),)),
    # Six frames, of which four make a set and two another.
    Target("GW123456", 271.3, 22.8, _once((("L", 6, 120.0),), "BGVR", 2, 120.0)),
    Target("Field23", 285.0, 5.0, _FIELD),
    Target("Field44", 290.0, 15.0, _FIELD),
    Target("Field56", 295.0, 25.0, _FIELD),
    Target("Field79", 300.0, 35.0, _FIELD),
    # As many frames as may be combined: three sets of four.
    Target("And123", 10.7, 41.3, (("L", 12, 80.0),)),
    Target("Peg54", 340.1, 20.2, (("L", 3, 120.0),)),
    Target("Cas54", 9.3, 58.9, (("L", 4, 80.0),)),
    Target("Field88", 320.0, 10.0, _THREE_VISITS),
    Target("Field123", 325.0, 20.0, _THREE_VISITS),
    Target("Field135", 330.0, 30.0, _THREE_VISITS),
    Target("Field77", 335.0, 40.0, _THREE_VISITS),
)

GOTO = Programme(
    name="goto",
    cameras=(
        *(Camera("GOTO1", f"UT{unit}", "GOTO", ("L", "B", "V", "R", "I")) for unit in (1, 2, 3, 4)),
        *(Camera("GOTO2", f"UT{unit}", "GOTO", ("L", "G", "R", "I")) for unit in (1, 2, 4)),
    ),
    targets=_GOTO_TARGETS,
    start=datetime(2018, 9, 9, 19, 35, 30),
    readout=12.0,
    calibrations=Calibrations(
        biases=5,
        darks=3,
        dark_exptime=120.0,
        flats=3,
        bias_start=datetime(2018, 9, 9, 17, 0, 0),
        dark_start=datetime(2018, 9, 9, 17, 10, 0),
        flat_start=datetime(2018, 9, 9, 19, 15, 0),
        twilight=Twilight(level=26_000.0, first=3.0, decay=120.0),
    ),
    clouds=Clouds(datetime(2018, 9, 9, 21, 13, 0), timedelta(minutes=90)),
    shape=(256, 256),
    site={"OBSERVAT": "La Palma", "SITELAT": 28.7606, "SITELONG": -17.8792, "SITEELEV": 2344.0},
)
"""GOTO's night of 2018-09-09.

The clock: every exposure takes its exposure time plus 12 s, changes of filter and of target included. GOTO1's
cameras so begin field 79 at 21:09:42 (GRB 1152 s, Cepheid 540 s, GW123456 1584 s, fields 23, 44 and 56 792 s
each), and its second L frame at 21:11:54, which is being exposed at 21:13. It is finished, the third is never
begun: 2 frames of 3. At 22:43 the sequence is taken again, and what was to follow it follows. GOTO2's cameras
lack B and V, are ahead, and have at 21:13 begun the fifth of And123's 12 frames.

117 frames for each camera of GOTO1 and 106 for each of GOTO2 make 786 without clouds; the 2 frames of the cut
sequence make 788 (``first``), and 4 cameras × 2 + 3 cameras × 5 frames make 809 (``all``).

Calibrations come before, where they can't disturb a sequence: biases and darks in the afternoon, flats in the
twilight.
"""

SMALL = Programme(
    name="small",
    cameras=(
        Camera("SIM1", "CAM1", "SIMCAM", ("L", "R")),
        Camera("SIM1", "CAM2", "SIMCAM", ("L", "G")),
    ),
    targets=(
        Target("Field12", 80.0, 20.0, _once((("L", 3, 60.0),), "RG", 1, 60.0)),
        Target("Field34", 95.0, 30.0, (("L", 3, 60.0),)),
        Target("Nebula", 110.0, 10.0, (("L", 6, 60.0),)),
        Target("Variable", 125.0, 25.0, (("R", 13, 15.0),)),
    ),
    start=datetime(2026, 3, 1, 20, 0, 0),
    readout=12.0,
    calibrations=Calibrations(
        biases=5,
        darks=3,
        dark_exptime=60.0,
        flats=4,
        bias_start=datetime(2026, 3, 1, 17, 0, 0),
        dark_start=datetime(2026, 3, 1, 17, 10, 0),
        flat_start=datetime(2026, 3, 1, 19, 15, 0),
        twilight=Twilight(level=26_000.0, first=3.0, decay=120.0),
    ),
    clouds=Clouds(datetime(2026, 3, 1, 20, 6, 30), timedelta(minutes=90)),
    shape=(512, 512),
    site={"OBSERVAT": "Simulated", "SITELAT": 28.3, "SITELONG": -16.5, "SITEELEV": 2390.0},
)
"""A night small enough for a demonstration: sequences of 3, 1, 6 and 13 frames, and one that clouds cut.

CAM1 has the filters L and R, CAM2 has L and G: each skips what it lacks. The clouds cut field 34 after 2 of
3 frames; the 13 short exposures are too long a sequence to be combined.
"""

NIGHTS = {programme.name: programme for programme in (SMALL, GOTO)}
"""Every night by its name."""
